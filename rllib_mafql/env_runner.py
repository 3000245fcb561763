"""JointEnvRunner: steps several environments with one forward per agent for all of them, and returns fragments.

All agents act in every step and share one reward, so a transition is one row: observations and actions of all agents
side by side. An environment may offer `behavior_policy(name, noise=, seed=)` (an object with `reset()` and `act()`),
whose play fills the replay at the warm start, and `episode_spec(k)` (arguments of `reset`), which evaluation follows so
that every evaluation sees the same episodes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
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
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, SAMPLE_TIMER, WEIGHTS_SEQ_NO
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_mafql.behavior import Behaviors
from rllib_mafql.metrics import log_episode, log_steps
from rllib_mafql.modules import TEACHER, slices_of
from rllib_mafql.offline.recorder import Recorder, unique_prefix
from rllib_mafql.replay import Fragment
from rllib_mafql.slots import Slot

logger = logging.getLogger("ray.rllib")

# An environment that fails this often without a step in between is not rebuilt any more.
MAX_FAILURES_IN_A_ROW = 5


@dataclass
class Rollout:
    """What `sample()` returns: the transitions as fragments, none of which spans two episodes."""

    fragments: list[Fragment]
    steps: int
    agents: int

    def env_steps(self) -> int:
        """Environment steps taken (RLlib's evaluation counts them)."""
        return self.steps

    def agent_steps(self) -> int:
        """Environment steps taken times the number of agents."""
        return self.steps * self.agents


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
        self._slots: list[Slot] = []
        self._weights_seq_no = 0
        self._rng = np.random.default_rng(self._seed)
        self._behaviors = Behaviors(self.config.behavior_policies, self.config.behavior_noise, self._rng)
        self._obs = None
        self._episode = 0
        self._recorder: Recorder | None = None
        # On the driver (index 0) only where no remote runner is there to step environments.
        if self.worker_index or self.config.create_env_on_local_worker or self.config.num_env_runners == 0:
            self.make_env()
        self.make_module()

    # Set-up ----------------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Builds `num_envs_per_env_runner` environments of config.env (a registered name or a class)."""
        envs = [self._make_one_env() for _ in range(self.config.num_envs_per_env_runner)]
        self.env = envs[0]
        self.agents = list(self.env.possible_agents)
        self._slots = [Slot(env, self.agents) for env in envs]
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
        if self.config.output and not self.config.in_evaluation:
            self._recorder = self._make_recorder()

    def _make_recorder(self) -> Recorder:
        """Records what this runner plays (`config.offline_data(output=...)`)."""
        prefix = (self.config.output_config or {}).get("prefix") or unique_prefix("run")
        sizes = [(agent, obs.shape[0], act.shape[0]) for agent, (obs, act) in self._boxes.items()]
        return Recorder(
            self.config.output,
            f"{prefix}-w{self.worker_index or 0}",
            sizes,
            self.fingerprint,
            self.config.output_max_rows_per_file,
        )

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
        """Writes what is still to be recorded, and closes the environments."""
        self.flush_recording()
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
            fragments, steps = self._roll(num_timesteps, num_episodes, explore, random_actions, behavior)
        if num_episodes is not None:
            self._obs = None
        log_steps(self.metrics, self.agents, steps)
        self.num_env_steps_sampled_lifetime += steps
        return [Rollout(fragments, steps, len(self.agents))]

    def _roll(
        self, num_timesteps: int | None, num_episodes: int | None, explore: bool, random_actions: bool, behavior: bool
    ) -> tuple[list[Fragment], int]:
        collect = not self.config.in_evaluation
        fragments: list[Fragment | None] = []
        steps = episodes = 0
        while episodes < num_episodes if num_episodes is not None else steps < (num_timesteps or 0):
            actions = self._act(explore, random_actions)
            following = np.empty_like(self._obs)
            for i, slot in enumerate(self._slots):
                if num_timesteps is not None and steps >= num_timesteps:
                    following[i] = self._obs[i]
                    continue
                try:
                    obs, reward, terminated, truncated, infos = slot.step(self._by_agent(actions[i]))
                except Exception:
                    fragments.append(slot.cut(self._obs[i]))
                    following[i] = self._replace(slot, self._obs[i], behavior)
                    continue
                steps += 1
                if collect:
                    slot.collect(self._obs[i], actions[i], reward, infos)
                if terminated or truncated:
                    fragments.append(slot.cut(obs, terminated))
                    self._record(slot, obs, terminated, truncated)
                    log_episode(self.metrics, slot, infos, self._smoothing)
                    episodes += 1
                    obs = self._begin(slot, behavior)
                elif slot.takeover == slot.length:
                    slot.take_over(self._behaviors)
                following[i] = obs
            self._obs = following
        fragments += [slot.cut(obs) for slot, obs in zip(self._slots, self._obs, strict=True)]
        return [fragment for fragment in fragments if fragment is not None], steps

    def _act(self, explore: bool, random_actions: bool) -> np.ndarray:
        """Joint actions (n, sum m_i) in [-1, 1]: the learned policies' in one batch, then the behaviour policies'."""
        n, size = len(self._slots), len(self._center)
        if random_actions:
            return self._rng.uniform(-1, 1, (n, size)).astype(np.float32)
        actions = np.zeros((n, size), np.float32)
        if any(slot.player is None for slot in self._slots):
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
            if slot.player is not None:
                chosen = slot.player.act()
                actions[i] = np.concatenate([chosen[agent] for agent in self.agents])
        return actions

    def _by_agent(self, action: np.ndarray) -> dict[str, np.ndarray]:
        scaled = self._center + self._half * action
        return {agent: scaled[own] for agent, own in zip(self.agents, self._action_slices, strict=True)}

    # Episodes --------------------------------------------------------------------------------------------------

    def _begin(self, slot: Slot, behavior: bool) -> np.ndarray:
        """Resets the environment and draws who plays the episode; returns its first joint observation."""
        arguments: dict[str, Any] = {}
        if self.config.in_evaluation and hasattr(slot.env, "episode_spec"):
            first, stride = max(0, (self.worker_index or 0) - 1), max(1, self.config.num_env_runners)
            arguments = slot.env.episode_spec(first + stride * self._episode)
            self._episode += 1
        elif not slot.seeded and self._seed is not None:
            arguments, slot.seeded = {"seed": int(self._rng.integers(2**31))}, True
        obs, scenario = slot.begin(arguments)
        if not self.config.in_evaluation:
            draw = self._rng.random()
            if draw < self.config.takeover_fraction:
                # Off the behaviour policies' own paths first, so that the data show how they come back.
                slot.takeover = int(self._rng.integers(1, self.config.takeover_horizon + 1))
                if behavior:
                    slot.play_random(self._behaviors)
            elif behavior or draw < self.config.takeover_fraction + self.config.behavior_fraction:
                slot.take_over(self._behaviors)
        if self._recorder is not None:
            slot.recorded = self._recorder.begin(scenario)
        return obs

    def behavior_problem(self) -> str | None:
        """What is wrong with the names in config.behavior_policies, if anything."""
        self.env.reset()
        return self._behaviors.problem(self.env)

    def _replace(self, slot: Slot, obs: np.ndarray, behavior: bool) -> np.ndarray:
        """After an environment failed: counts it and puts a new one in its place, or raises as configured."""
        self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
        slot.failures += 1
        if not self.config.restart_failed_sub_environments or slot.failures > MAX_FAILURES_IN_A_ROW:
            raise
        logger.exception("An environment failed in step(); it is rebuilt, and its episode ends there.")
        self._record(slot, obs)
        slot.replace_env(self._make_one_env())
        return self._begin(slot, behavior)

    # Recording -------------------------------------------------------------------------------------------------

    def _record(self, slot: Slot, following: np.ndarray, terminated: bool = False, truncated: bool = False) -> None:
        if self._recorder is not None and slot.recorded is not None:
            self._recorder.end(slot.recorded, following, terminated, truncated)
            slot.recorded = None

    def flush_recording(self) -> int:
        """Writes all that is recorded and not yet in a file, episodes under way included (they go on in another
        fragment); returns the number of steps recorded since the start."""
        if self._recorder is None:
            return 0
        if self._obs is not None:
            for slot, obs in zip(self._slots, self._obs, strict=True):
                rest = slot.recorded
                if rest is not None and len(rest):
                    self._record(slot, obs)
                    slot.recorded = self._recorder.go_on(rest)
        self._recorder.flush()
        return self._recorder.steps

    # Metrics ---------------------------------------------------------------------------------------------------

    @property
    def _smoothing(self) -> int:
        """Episodes that this runner's means are taken over."""
        return max(1, math.ceil(self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1)))

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
