"""JointEnvRunner: steps several environments with one forward per agent for all of them, and returns columns.

All agents act in every step and share one reward, so a transition is one row: observations and actions of all agents
side by side. An environment may offer `behavior_policy(name, noise=, seed=)` (an object with `reset()` and `act()`),
whose play fills the replay at the warm start, and `episode_spec(k)` (arguments of `reset`), which evaluation follows so
that every evaluation sees the same episodes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME, EnvRunner
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_mafql.behavior import Behaviors
from rllib_mafql.modules import TEACHER, slices_of
from rllib_mafql.replay import Step, columns_of

logger = logging.getLogger("ray.rllib")

# An environment that fails this often without a step in between is not rebuilt any more.
MAX_FAILURES_IN_A_ROW = 5


@dataclass
class Rollout:
    """What `sample()` returns: transitions as columns (T, ...), named as in :data:`rllib_mafql.replay.COLUMNS`."""

    columns: dict[str, np.ndarray]
    steps: int
    agents: int

    def env_steps(self) -> int:
        """Environment steps taken (RLlib's evaluation counts them)."""
        return self.steps

    def agent_steps(self) -> int:
        """Environment steps taken times the number of agents."""
        return self.steps * self.agents


@dataclass
class _Slot:
    """One environment, and the episode it is in."""

    env: Any
    seeded: bool = False
    behavior: Any = None  # the policy that plays now in place of the learned one, or None
    imitable: bool = False  # whether a behaviour policy plays now, whose actions are worth cloning
    takeover: int | None = None  # the step at which a behaviour policy takes over
    own: bool = True  # whether the learned policy alone has played this episode
    total: float = 0.0
    length: int = 0
    failures: int = 0  # in a row
    steps: list[Step] = field(default_factory=list)  # collected in this call of sample()


class JointEnvRunner(EnvRunner, Checkpointable):
    """Env runner for MAFQL (set as `config.env_runner_cls`). One class serves training and evaluation."""

    config: Any
    env: Any
    _obs: Any  # (n, sum d_i) float32, or None before the first reset

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any):
        super().__init__(config=config, **kwargs)
        self.spaces: dict[str, Any] = kwargs.get("spaces") or {}
        self.module: Any = None
        self.agents: list[str] = []
        self._slots: list[_Slot] = []
        self._weights_seq_no = 0
        self._rng = np.random.default_rng(self._seed)
        self._behaviors = Behaviors(self.config.behavior_policies, self.config.behavior_noise, self._rng)
        self._obs = None
        self._episode = 0
        # On the driver (index 0) only where no remote runner is there to step environments.
        if self.worker_index or self.config.create_env_on_local_worker or self.config.num_env_runners == 0:
            self.make_env()
        self.make_module()

    # Set-up ----------------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Builds `num_envs_per_env_runner` environments of config.env (a registered name or a class)."""
        self._slots = [_Slot(self._make_one_env()) for _ in range(self.config.num_envs_per_env_runner)]
        self.env = self._slots[0].env
        self.agents = list(self.env.possible_agents)
        boxes = {a: (self.env.get_observation_space(a), self.env.get_action_space(a)) for a in self.agents}
        for agent, (obs, act) in boxes.items():
            for what, space in (("observation", obs), ("action", act)):
                if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
                    raise ValueError(f"MAFQL needs a one-dimensional Box as the {what} space of {agent!r}, not {space}")
            if not np.isfinite([act.low, act.high]).all():
                raise ValueError(f"MAFQL needs a bounded action space for {agent!r}, not {act}")
        self._boxes = boxes
        self._action_slices = slices_of([act.shape[0] for _, act in boxes.values()])
        self._obs_slices = slices_of([obs.shape[0] for obs, _ in boxes.values()])
        low = np.concatenate([act.low for _, act in boxes.values()])
        high = np.concatenate([act.high for _, act in boxes.values()])
        self._center, self._half = (high + low) / 2, (high - low) / 2
        self._obs = None

    def _make_one_env(self) -> MultiAgentEnv:
        context = EnvContext(
            self.config.env_config,
            worker_index=self.worker_index or 0,
            num_workers=self.config.num_env_runners,
        )
        if isinstance(self.config.env, str):
            if not _global_registry.contains(ENV_CREATOR, self.config.env):
                raise ValueError(f"env {self.config.env!r} is not registered; call tune.register_env() for it")
            env = _global_registry.get(ENV_CREATOR, self.config.env)(context)
        else:
            env = self.config.env(context)
        if not isinstance(env, MultiAgentEnv):
            raise ValueError(f"MAFQL needs a MultiAgentEnv, but env {self.config.env!r} made a {type(env).__name__}")
        return env

    def make_module(self) -> None:
        """Builds the agents' policies (and the teacher where it is the one that acts)."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Module id -> (observation space, action space), in joint order, and RLlib's own two entries."""
        if self.env is None:
            return self.spaces
        both = (
            gym.spaces.Dict({agent: obs for agent, (obs, _) in self._boxes.items()}),
            gym.spaces.Dict({agent: act for agent, (_, act) in self._boxes.items()}),
        )
        return {INPUT_ENV_SPACES: both, INPUT_ENV_SINGLE_SPACES: both, **self._boxes}

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the environment says it is; a checkpoint trained on another one is refused."""
        return getattr(self.env, "fingerprint", None)

    def assert_healthy(self) -> None:
        """Raises AssertionError if construction did not finish."""
        assert self.env is not None and self.module is not None

    def stop(self) -> None:
        """Closes the environments."""
        for slot in self._slots:
            slot.env.close()

    # Sampling --------------------------------------------------------------------------------------------------

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        behavior: bool = False,
        **kwargs: Any,
    ) -> list[Rollout]:
        """Steps the environments for at least `num_timesteps` steps or `num_episodes` episodes in all.

        Args:
            num_timesteps: by default rollout_fragment_length times the number of environments.
            num_episodes: whole episodes, from fresh resets.
            explore: draw the policies' noise (default: config.explore); otherwise z = 0.
            random_actions: play uniformly random actions.
            force_reset: start new episodes.
            behavior: episodes that start now are played by the behaviour policies (the warm start).

        Returns:
            One Rollout in a list, as RLlib expects.
        """
        if not self._slots:
            raise ValueError("this env runner has no environment: it is the driver's, and num_env_runners > 0")
        explore = self.config.explore if explore is None else explore
        if num_timesteps is None and num_episodes is None:
            num_timesteps = self.config.get_rollout_fragment_length(self.worker_index or 0) * len(self._slots)
        with self.metrics.log_time(SAMPLE_TIMER):
            if self._obs is None or force_reset or num_episodes is not None:
                self._obs = np.stack([self._begin(slot, behavior) for slot in self._slots])
            columns, steps = self._roll(num_timesteps, num_episodes, explore, random_actions, behavior)
        if num_episodes is not None:
            self._obs = None
        self._log_steps(steps)
        return [Rollout(columns, steps, len(self.agents))]

    def _roll(
        self, num_timesteps: int | None, num_episodes: int | None, explore: bool, random_actions: bool, behavior: bool
    ) -> tuple[dict[str, np.ndarray], int]:
        collect = not self.config.in_evaluation
        for slot in self._slots:
            slot.steps = []
        steps = episodes = 0
        while episodes < num_episodes if num_episodes is not None else steps < (num_timesteps or 0):
            actions = self._act(explore, random_actions)
            following = np.empty_like(self._obs)
            for i, slot in enumerate(self._slots):
                try:
                    obs, reward, terminated, truncated, infos = self._step(slot, actions[i])
                except Exception:
                    following[i] = self._replace(slot, behavior)
                    continue
                steps += 1
                slot.total += reward
                slot.length += 1
                slot.failures = 0
                ended = terminated or truncated
                if collect:
                    slot.steps.append(Step(self._obs[i], actions[i], reward, obs, terminated, ended, slot.imitable))
                if ended:
                    self._log_episode(slot, infos)
                    episodes += 1
                    obs = self._begin(slot, behavior)
                elif slot.takeover == slot.length:
                    self._take_over(slot)
                following[i] = obs
            self._obs = following
        return self._columns(), steps

    def _act(self, explore: bool, random_actions: bool) -> np.ndarray:
        """Joint actions (n, sum m_i) in [-1, 1]: the learned policies' in one batch, then the behaviour policies'."""
        n, size = len(self._slots), len(self._center)
        if random_actions:
            return self._rng.uniform(-1, 1, (n, size)).astype(np.float32)
        actions = np.zeros((n, size), np.float32)
        if any(slot.behavior is None for slot in self._slots):
            obs = torch.from_numpy(self._obs)
            forward = "forward_exploration" if explore else "forward_inference"
            if self.config.execution == "centralized":
                actions = getattr(self.module[TEACHER], forward)({Columns.OBS: obs})[Columns.ACTIONS].numpy()
            else:
                for agent, own, act in zip(self.agents, self._obs_slices, self._action_slices, strict=True):
                    out = getattr(self.module[agent], forward)({Columns.OBS: obs[:, own]})
                    actions[:, act] = out[Columns.ACTIONS].numpy()
            if not np.isfinite(actions).all():
                raise FloatingPointError("a policy gave an action that is not a finite number; its weights are broken")
        for i, slot in enumerate(self._slots):
            if slot.behavior is not None:
                chosen = slot.behavior.act()
                actions[i] = np.concatenate([chosen[agent] for agent in self.agents])
        return actions

    def _step(self, slot: _Slot, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        scaled = self._center + self._half * action
        actions = {agent: scaled[own] for agent, own in zip(self.agents, self._action_slices, strict=True)}
        obs, rewards, terminateds, truncateds, infos = slot.env.step(actions)
        reward = float(sum(rewards.values()) / len(rewards))
        return self._joint(obs), reward, terminateds["__all__"], truncateds["__all__"], infos

    def _joint(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([obs[agent] for agent in self.agents]).astype(np.float32, copy=False)

    # Episodes --------------------------------------------------------------------------------------------------

    def _begin(self, slot: _Slot, behavior: bool) -> np.ndarray:
        """Resets the environment and draws who plays the episode; returns its first joint observation."""
        arguments: dict[str, Any] = {}
        if self.config.in_evaluation and hasattr(slot.env, "episode_spec"):
            first, stride = max(0, (self.worker_index or 0) - 1), max(1, self.config.num_env_runners)
            arguments = slot.env.episode_spec(first + stride * self._episode)
            self._episode += 1
        elif not slot.seeded and self._seed is not None:
            arguments, slot.seeded = {"seed": int(self._rng.integers(2**31))}, True
        obs, _ = slot.env.reset(**arguments)
        slot.total, slot.length = 0.0, 0
        slot.behavior, slot.imitable, slot.takeover, slot.own = None, False, None, True
        if not self.config.in_evaluation:
            draw = self._rng.random()
            if draw < self.config.takeover_fraction:
                # Off the behaviour policies' own paths first, so that the data show how they come back.
                slot.takeover = int(self._rng.integers(1, self.config.takeover_horizon + 1))
                if behavior:
                    slot.behavior, slot.own = self._behaviors.random(slot.env), False
            elif behavior or draw < self.config.takeover_fraction + self.config.behavior_fraction:
                self._take_over(slot)
        return self._joint(obs)

    def _take_over(self, slot: _Slot) -> None:
        slot.behavior, slot.imitable, slot.own = self._behaviors.draw(slot.env), True, False

    def behavior_problem(self) -> str | None:
        """What is wrong with the names in config.behavior_policies, if anything."""
        self.env.reset()
        return self._behaviors.problem(self.env)

    def _replace(self, slot: _Slot, behavior: bool) -> np.ndarray:
        """After an environment failed: counts it and puts a new one in its place, or raises as configured."""
        self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
        slot.failures += 1
        if not self.config.restart_failed_sub_environments or slot.failures > MAX_FAILURES_IN_A_ROW:
            raise
        logger.exception("An environment failed in step(); it is rebuilt and its episode dropped.")
        if slot.length < len(slot.steps):
            del slot.steps[len(slot.steps) - slot.length :]
        else:
            slot.steps = []
        slot.env, slot.seeded = self._make_one_env(), False
        return self._begin(slot, behavior)

    def _columns(self) -> dict[str, np.ndarray]:
        """The collected steps, environment after environment; empty if nothing was collected."""
        gamma, n = self.config.gamma, self.config.n_step
        parts = [columns_of(slot.steps, gamma, n) for slot in self._slots if slot.steps]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    # Metrics ---------------------------------------------------------------------------------------------------

    def _log_steps(self, steps: int) -> None:
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum", with_throughput=True)
        self.metrics.log_value(NUM_EPISODES, 0, reduce="sum")
        for agent in self.agents:
            self.metrics.log_value((NUM_AGENT_STEPS_SAMPLED, agent), steps, reduce="sum")
            self.metrics.log_value((NUM_AGENT_STEPS_SAMPLED_LIFETIME, agent), steps, reduce="lifetime_sum")
        self.num_env_steps_sampled_lifetime += steps

    def _log_episode(self, slot: _Slot, infos: dict[str, Any]) -> None:
        """The learned policy's episodes under RLlib's names; those with a behaviour policy under behavior/."""
        share = self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1)
        window = max(1, math.ceil(share))
        own = slot.own
        group = () if own else ("behavior",)
        self.metrics.log_value(NUM_EPISODES, 1, reduce="sum")
        self.metrics.log_value(NUM_EPISODES_LIFETIME, 1, reduce="lifetime_sum")
        means = {EPISODE_RETURN_MEAN: slot.total, EPISODE_LEN_MEAN: slot.length}
        means |= infos.get(self.agents[0], {}).get("episode_metrics", {})
        for name, value in means.items():
            self.metrics.log_value((*group, name), value, window=window)
        extremes = {
            "min": {EPISODE_RETURN_MIN: slot.total, EPISODE_LEN_MIN: slot.length},
            "max": {EPISODE_RETURN_MAX: slot.total, EPISODE_LEN_MAX: slot.length},
        }
        for reduce, values in extremes.items():
            for name, value in values.items():
                self.metrics.log_value((*group, name), value, reduce=reduce, window=window)

    def get_metrics(self) -> Any:
        """Metrics since the last call."""
        return self.metrics.reduce()

    # State -----------------------------------------------------------------------------------------------------

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Lifetime counter and, unless excluded, the modules' weights."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over weights, unless those held are at least as new, and the lifetime counter."""
        if COMPONENT_RL_MODULE in state:
            number = state.get(WEIGHTS_SEQ_NO, 0)
            if number == 0 or self._weights_seq_no < number:
                weights = state[COMPONENT_RL_MODULE]
                weights = ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights
                self.module.set_state({k: v for k, v in weights.items() if k in self.module})
                self._episode = 0  # other weights, the same evaluation episodes
            if number > 0:
                self._weights_seq_no = number
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What RLlib needs to build this runner anew."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The modules; environments are not saved."""
        return [(COMPONENT_RL_MODULE, self.module)]
