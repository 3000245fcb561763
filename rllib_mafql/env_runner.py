"""JointEnvRunner: steps several environments with one forward for all agents of all of them, and returns fragments.

All agents act in every step and share one reward, so a transition is one row: observations and actions of all agents
side by side. An environment may offer `behavior_policy(name, noise=, seed=)` (an object with `reset()` and `act()`),
whose play fills the replay at the warm start, `episode_spec(k)` (arguments of `reset`), which evaluation follows so
that every evaluation sees the same episodes, and `joint_reset` and `joint_step`, which are faster (see Slot).
"""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Collection
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME, EnvRunner
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, SAMPLE_TIMER, WEIGHTS_SEQ_NO

from rllib_mafql.acting import ActingPolicy
from rllib_mafql.behavior import Behaviors
from rllib_mafql.environments import build_environment, checked_boxes, return_free_memory
from rllib_mafql.metrics import log_episode, log_steps
from rllib_mafql.modules import TEACHER
from rllib_mafql.recording import Recording
from rllib_mafql.replay import Fragment
from rllib_mafql.rollout import Play, Rollout
from rllib_mafql.slots import Layout, NotFinite, Slot

logger = logging.getLogger("ray.rllib")

# An environment that fails this often without a step in between is not rebuilt any more.
MAX_FAILURES_IN_A_ROW = 5


class JointEnvRunner(EnvRunner, Checkpointable):
    """Env runner for MAFQL (set as `config.env_runner_cls`). One class serves training and evaluation."""

    config: Any
    env: Any

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any):
        # RLlib's own seeding also has torch compute deterministically, for which torch loads its compiler: 110 MB.
        unseeded = config.copy(copy_frozen=False)
        unseeded.seed = None
        super().__init__(config=unseeded, **kwargs)
        self.config.seed = config.seed
        self._slots: list[Slot] = []
        self._rng = np.random.default_rng()
        if config.seed is not None:
            self._seed_with(int(config.seed + (self.worker_index or 0) + 1_000_000 * config.in_evaluation))
            if _was_restarted():
                self.reseed()
        self.spaces: dict[str, Any] = kwargs.get("spaces") or {}
        self.module: Any = None
        self._weights_seq_no = 0
        self._behaviors = Behaviors(self.config.behavior_policies, self.config.behavior_noise, self._rng)
        self._episode = 0
        # On the driver (index 0) only where no remote runner is there to step environments.
        if self.worker_index or self.config.create_env_on_local_worker or self.config.num_env_runners == 0:
            self.make_env()
        self.make_module()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call this actor."""
        env = getattr(self.config.env, "__name__", self.config.env)
        role = ", evaluation" if self.config.in_evaluation else ""
        return f"JointEnvRunner(worker={self.worker_index or 0}, env={env}{role})"

    def _seed_with(self, seed: int) -> None:
        self._seed = seed
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - for environments that draw from it
        torch.manual_seed(seed)
        self._rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def reseed(self) -> None:
        """From now on draws what no runner drew before: one that begins anew would play its first episodes twice."""
        if self.config.seed is not None:
            self._seed_with(np.random.SeedSequence().entropy % 2**31)  # type: ignore[operator]
        for slot in self._slots:
            slot.seeded = False

    # Set-up ----------------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Builds `num_envs_per_env_runner` environments of config.env (a registered name or a class)."""
        envs = [self._build_one() for _ in range(self.config.num_envs_per_env_runner)]
        self.env = envs[0]
        self._boxes = checked_boxes(self.env)
        self._layout = Layout(self._boxes)
        name = None if self.config.in_evaluation else self.config.advisor
        advisor = None if name is None else partial(self._behaviors.advisor, name=name)
        self._slots = [Slot(env, self._layout, self.config.projected_cloning_distance, advisor) for env in envs]
        sizes = [(agent, obs.shape[0], act.shape[0]) for agent, (obs, act) in self._boxes.items()]
        self._recording = Recording(self.config, self.worker_index or 0, sizes, self.fingerprint, self.metrics)
        return_free_memory()

    def _build_one(self) -> MultiAgentEnv:
        return build_environment(self.config, self.worker_index or 0)

    def make_module(self) -> None:
        """Builds the agents' policies (and the teacher where it is the one that acts)."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        if self._slots:
            teacher = self.module[TEACHER] if self.config.execution == "centralized" else None
            self._policy = ActingPolicy([self.module[agent] for agent in self._layout.agents], teacher)

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
        if self._slots:
            with self._recording.outlasting_disks():
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
        if num_episodes is not None:
            num_timesteps = None
        elif num_timesteps is None:
            num_timesteps = self.config.get_rollout_fragment_length(self.worker_index or 0) * len(self._slots)
        play = Play(num_timesteps, num_episodes, explore, random_actions, behavior)
        with self.metrics.log_time(SAMPLE_TIMER):
            if force_reset or num_episodes is not None:
                for slot in self._slots:
                    slot.running = False
            fragments = self._roll(play)
        log_steps(self.metrics, self._layout.agents, play.steps)
        self.num_env_steps_sampled_lifetime += play.steps
        return [Rollout(fragments, play.steps, len(self._layout.agents), self._weights_seq_no)]

    def _roll(self, play: Play) -> list[Fragment]:
        collect = not self.config.in_evaluation
        self._policy.refresh()
        for slot in self._slots:
            slot.reserve(math.ceil((play.timesteps or 0) / len(self._slots)) if collect else 0)
            if not slot.running and play.begin():
                self._begin(slot, play.behavior)
        fragments: list[Fragment | None] = []
        while not play.over and (playing := [slot for slot in self._slots if slot.running]):
            for slot, action in zip(playing, self._act(playing, play), strict=True):
                if play.over:
                    break
                try:
                    terminated, truncated, info = slot.step(action, collect)
                except Exception as error:
                    fragments.append(slot.cut())
                    self._recording.end(slot)
                    self._replace(slot, error)
                    self._begin(slot, play.behavior)
                    continue
                play.steps += 1
                if terminated or truncated:
                    fragments.append(slot.cut(terminated))
                    self._recording.end(slot, terminated, truncated)
                    log_episode(self.metrics, slot, info, self._smoothing)
                    if play.begin():
                        self._begin(slot, play.behavior)
                elif slot.takeover == slot.length:
                    slot.take_over(self._behaviors, self._behaviors.draw())
        fragments += [slot.cut() for slot in self._slots]
        return [fragment for fragment in fragments if fragment is not None]

    def _act(self, slots: list[Slot], play: Play) -> np.ndarray:
        """Joint actions (n, sum m_i) in [-1, 1]: the learned policies' in one batch, then the behaviour policies'."""
        shape = len(slots), self._layout.action_size
        if play.random:
            return 2.0 * self._rng.random(shape, np.float32) - 1.0
        if all(slot.player is not None for slot in slots):
            actions = np.empty(shape, np.float32)
        else:
            obs = slots[0].obs[None] if len(slots) == 1 else np.stack([slot.obs for slot in slots])
            z = self._rng.standard_normal(shape, np.float32) if play.explore else np.zeros(shape, np.float32)
            actions = self._policy.act(torch.from_numpy(obs), torch.from_numpy(z)).numpy()
            if not np.isfinite(actions).all():
                raise FloatingPointError("a policy gave an action that is not a finite number; its weights are broken")
        for slot, action in zip(slots, actions, strict=True):
            if slot.player is not None:
                action[:] = slot.chosen()
        return actions

    # Episodes --------------------------------------------------------------------------------------------------

    def _begin(self, slot: Slot, behavior: bool) -> None:
        """Resets the environment and draws who plays the episode."""
        while True:
            try:
                self._reset(slot)
                break
            except Exception as error:
                self._replace(slot, error)
        if not self.config.in_evaluation:
            draw = self._rng.random()
            if draw < self.config.takeover_fraction:
                # Off the behaviour policies' own paths first, so that the data show how they come back.
                slot.takeover = int(self._rng.integers(1, self.config.takeover_horizon + 1))
                if behavior:
                    slot.take_over(self._behaviors, self._behaviors.random())
            elif behavior or draw < self.config.takeover_fraction + self.config.behavior_fraction:
                slot.take_over(self._behaviors, self._behaviors.draw())
        self._recording.begin(slot)

    def _reset(self, slot: Slot) -> None:
        arguments: dict[str, Any] = {}
        if self.config.in_evaluation and hasattr(slot.env, "episode_spec"):
            first, stride = max(0, (self.worker_index or 0) - 1), max(1, self.config.num_env_runners)
            arguments = slot.env.episode_spec(first + stride * self._episode)
            self._episode += 1
        elif not slot.seeded and self._seed is not None:
            arguments, slot.seeded = {"seed": int(self._rng.integers(2**31))}, True
        slot.begin(arguments)

    def behavior_problem(self) -> str | None:
        """What is wrong with the names in config.behavior_policies and config.advisor, if anything."""
        self.env.reset()
        return self._behaviors.problem(self.env, self.config.advisor)

    def _replace(self, slot: Slot, error: Exception) -> None:
        """After an environment failed: counts it and puts a new one in its place, or raises as configured."""
        self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
        slot.failures += 1
        if not self.config.restart_failed_sub_environments or slot.failures > MAX_FAILURES_IN_A_ROW:
            raise error
        logger.warning(
            "An environment failed at step %d: %s: %s. It is rebuilt, and its episode ends there.",
            slot.length,
            type(error).__name__,
            error,
            exc_info=None if isinstance(error, NotFinite) else error,  # which tells all
        )
        slot.replace_env(self._build_one())

    def flush_recording(self) -> int:
        """Writes all that is recorded and not yet in a file; returns the number of steps recorded since the start."""
        return self._recording.flush(self._slots) if self._slots else 0

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

    def forget_weights(self) -> None:
        """Takes over the next weights that come, even if they are older."""
        self._weights_seq_no = 0

    def get_play(self) -> dict[str, Any]:
        """All that decides how play goes on, besides the weights: random states, episodes under way, metrics."""
        return {
            "rng": self._rng.bit_generator.state,
            "python": random.getstate(),
            "numpy": np.random.get_state(),  # noqa: NPY002 - see __init__
            "episode": self._episode,
            "slots": [slot.get_state(episode=not self.config.in_evaluation) for slot in self._slots],
            "metrics": self.metrics.get_state(),
        }

    def set_play(self, state: dict[str, Any]) -> None:
        """Goes on from what `get_play` gave: plays episodes that were under way once more up to where they were.

        Where an environment then is somewhere else, as its play depends on more than `np_random` (Gymnasium's generator
        of an environment) and the actions, a new episode begins.
        """
        for slot, played in zip(self._slots, state["slots"], strict=False):
            if not slot.set_state(played, self._behaviors):
                logger.warning("An environment did not play its episode as before; a new one begins.")
            if slot.running:
                self._recording.begin(slot)
        self._rng.bit_generator.state = state["rng"]
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002 - see __init__
        self._episode = state["episode"]
        self.metrics.set_state(state["metrics"])

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What RLlib needs to build this runner anew."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The modules; environments are not saved."""
        return [(COMPONENT_RL_MODULE, self.module)]


def _was_restarted() -> bool:
    """Whether this process is an actor that Ray started anew, with the arguments of the one that it lost."""
    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's, of what it calls itself
        return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)
