"""Environments as the runners need them: built by config.env, several agents, one Box for each one's observations and
one for its actions."""

from __future__ import annotations

import ctypes
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import ENV_CREATOR, _global_registry


def build_environment(config: Any, worker_index: int) -> MultiAgentEnv:
    """One environment.

    Args:
        config: the AlgorithmConfig; its `env` is a registered name or a class.
        worker_index: of the runner; 0 on the driver.

    Raises:
        ValueError: the name is not registered, or what it makes is no MultiAgentEnv.
    """
    context = EnvContext(config.env_config, worker_index=worker_index, num_workers=config.num_env_runners)
    if isinstance(config.env, str):
        if not _global_registry.contains(ENV_CREATOR, config.env):
            raise ValueError(f"env {config.env!r} is not registered; call tune.register_env() for it")
        env = _global_registry.get(ENV_CREATOR, config.env)(context)
    else:
        env = config.env(context)
    if not isinstance(env, MultiAgentEnv):
        raise ValueError(f"MAFQL needs a MultiAgentEnv, but env {config.env!r} made a {type(env).__name__}")
    return env


def checked_boxes(env: Any) -> dict[str, tuple[gym.spaces.Box, gym.spaces.Box]]:
    """Agent -> (its observations' Box of shape (d,), its actions' of shape (m,)), in joint order.

    Raises:
        ValueError: an agent has another kind of space, or an action without bounds.
    """
    boxes = {agent: (env.get_observation_space(agent), env.get_action_space(agent)) for agent in env.possible_agents}
    for agent, (obs, act) in boxes.items():
        for what, space in (("observation", obs), ("action", act)):
            if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
                raise ValueError(f"MAFQL needs a one-dimensional Box as the {what} space of {agent!r}, not {space}")
        if not np.isfinite([act.low, act.high]).all():
            raise ValueError(f"MAFQL needs a bounded action space for {agent!r}, not {act}")
    return boxes


def return_free_memory() -> None:
    """Gives back what building environments leaves free in the process, as far as the C library (glibc) can do that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
