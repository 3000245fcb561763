"""MAFQL, whose training step is: collect, store, sample, learn, sync."""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow.fs
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_mafql.checkpoint_format import DECLARED, FORMAT, check_checkpoint, located, write_format
from rllib_mafql.collecting import Collector
from rllib_mafql.config import MAFQLConfig
from rllib_mafql.env_runner import JointEnvRunner
from rllib_mafql.environments import build_environment
from rllib_mafql.learner import MAFQLLearner
from rllib_mafql.minibatches import Drawn, mixed
from rllib_mafql.modules import CRITIC
from rllib_mafql.recovery import Recovery
from rllib_mafql.replay import JointReplay, Statistics
from rllib_mafql.replay_files import Place
from rllib_mafql.rollout import Rollout
from rllib_mafql.sharded_replay import ShardedReplay
from rllib_mafql.stored_replay import StoredReplay

logger = logging.getLogger("ray.rllib")

FINGERPRINT = "env_fingerprint"
# Learner updates since the start; kept in checkpoints.
NUM_UPDATES = "num_learner_updates"
# Runners that are asked between two rounds answer within this many seconds; one that hangs is not waited for.
PLAY_S = 10.0
# What training_step spends its time on, for timers/share_*.
SHARES = ("sampling", "learning", "syncing")


class MAFQL(Algorithm):
    """Multi-Agent Flow-based Q-Learning for any MultiAgentEnv whose agents act together on Box spaces."""

    #: Whether the teacher can act for all agents.
    centralized_execution = True

    # RLlib declares these Optional; they are set by the time anything here runs.
    config: Any
    metrics: Any
    offline_data: Any
    env_runner_group: Any
    learner_group: Any

    @classmethod
    def get_default_config(cls) -> MAFQLConfig:
        """The defaults."""
        return MAFQLConfig()

    def setup(self, config: Any) -> None:
        """Builds runners and learners, and the replay.

        Raises:
            ValueError: the environment lacks a behaviour policy.
            Exception: what the environment raises when a runner builds it.
        """
        try:
            super().setup(config)
        except IndexError:  # RLlib's, which only logs why no runner could be built
            if self.config.num_env_runners > 0:
                # without a CPU, of which the runners' placement group may have none left
                ray.get(ray.remote(num_cpus=0)(_build_on_worker).remote(self.config))
            raise
        #: The environment's own account of itself.
        self.fingerprint: dict[str, Any] | None = next(iter(self._ask_runners(_fingerprint)), None)
        problem = next(filter(None, self._ask_runners(_behavior_problem)), None)
        if problem:
            raise ValueError(f"MAFQL config: {problem}")
        shards = self.config.num_replay_shards
        self.replay = _replay(self.config)
        self._stored: StoredReplay | None = None
        if self.config.store_buffer_in_checkpoints:
            storage = self._storage  # Tune's
            trial = None if storage is None else Place(storage.storage_filesystem, storage.trial_fs_path)
            self._stored = StoredReplay(self.replay, trial)
        if self.offline_data is not None:
            self.offline_data.load(self._agents(), self.fingerprint)
        self._rng = np.random.default_rng(self.config.seed)
        self._collector = Collector(self.env_runner_group, self.config, self.replay.reference if shards else None)
        self._recoveries = {self.env_runner_group: self._collector.recovery}
        if self.eval_env_runner_group is not None:
            state = self.env_runner.get_state
            self._recoveries[self.eval_env_runner_group] = Recovery(self.eval_env_runner_group, state)
        self._spent = dict.fromkeys(SHARES, 0.0)
        self._staleness: deque[int] = deque(maxlen=100)  # of the last rollouts
        self._updates_done = 0
        self._normalized = False

    def cleanup(self) -> None:
        """Ends runners, learners, the stream of recorded data, and the writing of the replay."""
        if self._stored is not None:
            self._stored.close()
        if self.config.num_replay_shards:
            self.replay.stop()
        if self.offline_data is not None:
            self.offline_data.close()
        for recovery in self._recoveries.values():
            recovery.stop(self.config.sample_timeout_s)  # RLlib would wait for ever for a runner that hangs
        super().cleanup()

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Takes runners that are back into service, as RLlib does, but waits for none; returns their numbers."""
        return self._recoveries[env_runner_group].look()

    def _agents(self) -> list[tuple[str, int, int]]:
        """Agents with the sizes of their observations and actions, in joint order."""
        spaces = next(iter(self._ask_runners(_spaces)))
        boxes = {k: v for k, v in spaces.items() if k not in (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES)}
        return [(agent, obs.shape[0], act.shape[0]) for agent, (obs, act) in boxes.items()]

    def _ask_runners(self, question: Callable[[JointEnvRunner], Any]) -> list[Any]:
        """The answers of the runners that have environments."""
        return _ask(self.env_runner_group, question)

    def step(self) -> dict[str, Any]:
        """An iteration of training; its timers tell the shares of its time that the parts of training_step took."""
        self._spent, began = dict.fromkeys(SHARES, 0.0), time.perf_counter()
        results = super().step()
        seconds = time.perf_counter() - began
        shares = {f"share_{part}": spent / seconds for part, spent in self._spent.items()}
        results[TIMERS] = {**results.get(TIMERS, {}), **shares}
        return results

    @contextmanager
    def _spending(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spent[part] += time.perf_counter() - began

    def training_step(self) -> None:
        """One round: rollouts (of behaviour policies until the warm start is full), updates, new weights."""
        if self._stored is not None:
            self._stored.open()
        if self._before_rollouts():
            self._improve()
            return
        recorded = 0 if self.offline_data is None else len(self.offline_data.replay)
        warm = recorded + len(self.replay) < self.config.warm_start_steps
        if warm or self._updates_done >= self.config.warm_start_updates:
            played = self._collect(behavior=warm)
            if not played and not self.config.sample_async:
                return  # every runner is lost: updates stay in step with what is played
        if recorded + len(self.replay) >= max(1, self.config.warm_start_steps):
            self._improve()

    def _improve(self) -> None:
        with self._spending("learning"):
            self._learn()
        with self._spending("syncing"), self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self._collector.publish(self.learner_group)

    def _before_rollouts(self) -> bool:
        """Whether training still is on recorded data alone."""
        updates = self.config.offline_updates
        return self.offline_data is not None and (updates is None or self._updates_done < updates)

    def _collect(self, behavior: bool) -> bool:
        """Stores what runners have played; returns whether there was anything."""
        with self._spending("sampling"), self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            # What there is to learn from is enough after the warm start: nothing is waited for any more.
            played = self._collector.collect(behavior, wait=behavior)
        rollouts = [rollout for one in played for rollout in one.rollouts]
        for rollout in rollouts:
            for fragment in rollout.fragments:
                (self._stored or self.replay).add(fragment)
        if self.config.num_replay_shards:
            self.replay.refresh()
        if played:
            self.metrics.aggregate([one.metrics for one in played], key=ENV_RUNNER_RESULTS)
        self.metrics.log_value("replay_size", len(self.replay), window=1)
        self._log_staleness(rollouts)
        recovery = self._collector.recovery
        self.metrics.log_value(("mafql", "env_runners_lost"), recovery.losses, window=1)
        self.metrics.log_value(("mafql", "env_runners_given_up"), recovery.given_up, window=1)
        return bool(played)

    def _log_staleness(self, rollouts: list[Rollout]) -> None:
        """How many learner updates the weights were behind that the last rollouts were played with, when stored."""
        newest, updates = self._collector.weights_seq_no, self.config.num_updates
        self._staleness.extend(updates * (newest - rollout.weights_seq_no) for rollout in rollouts)
        values = {"sample_requests_in_flight": float(self._collector.in_flight)}
        if self._staleness:
            values |= {"sample_staleness_mean": float(np.mean(self._staleness))}
            values |= {"sample_staleness_max": float(max(self._staleness))}
        for name, value in values.items():
            self.metrics.log_value(("mafql", name), value, window=1)

    def _learn(self) -> None:
        if not self._normalized:
            source = self.replay if self.offline_data is None else self.offline_data.replay
            self.learner_group.foreach_learner(partial(_fit_normalizers, statistics=source.statistics()))
            self._normalized = True
        size = self.config.train_batch_size_per_learner
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            if self.config.num_replay_shards:  # learners draw for themselves
                draws = self.replay.draws(size, self.config.num_updates, max(1, self.config.num_learners))
                data = TrainingData(data_iterators=draws)
            elif self.learner_group.is_local:
                drawn: Any = Drawn(partial(self._batch, size), self.config.num_updates)
                data = TrainingData(data_iterators=[drawn])
            else:  # shipped at once, which RLlib splits by learners
                batch = SampleBatch(self._batch(size * self.config.num_learners * self.config.num_updates))
                data = TrainingData(batch=MultiAgentBatch({CRITIC: batch}, env_steps=len(batch)))
            results = self.learner_group.update(
                training_data=data,
                # What schedules run over, RLlib's own of the learning rate too.
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._updates_done},
                minibatch_size=size,
                num_epochs=1,
            )
        self._updates_done += self.config.num_updates
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.metrics.log_value(NUM_UPDATES, self._updates_done, window=1)

    def _batch(self, size: int) -> dict[str, np.ndarray]:
        """`size` transitions, recorded ones and rollouts' mixed by offline_fraction in random order."""
        if self.offline_data is None:
            return self.replay.sample(size)
        if not len(self.replay):
            return self.offline_data.draw(size)
        recorded = self._rng.random(size) < self.config.offline_fraction
        number = int(recorded.sum())
        sources = (recorded, self.offline_data.draw, number), (~recorded, self.replay.sample, size - number)
        parts = [(rows, draw(count)) for rows, draw, count in sources if count]
        return mixed(parts)

    # Checkpoints -----------------------------------------------------------------------------------------------

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state, what MAFQL counts, random states, and how far the runners' play is.

        Runners that play while the learner learns (`sample_async`) are not asked: they begin new episodes.
        """
        state = super().get_state(components, not_components=not_components, **kwargs)
        state |= {FINGERPRINT: self.fingerprint, NUM_UPDATES: self._updates_done, "normalized": self._normalized}
        if components is not None:
            return state
        replays = {"replay": self.replay}
        if self.offline_data is not None and self.offline_data.replay is not None:
            replays["offline_replay"] = self.offline_data.replay
        state |= {name: replay.get_state() for name, replay in replays.items()}
        state |= {"rng": self._rng.bit_generator.state, "staleness": list(self._staleness), "play": {}}
        if not self.config.sample_async:
            state["play"] = {name: dict(_ask(group, _get_play, PLAY_S)) for name, group in self._groups().items()}
        return state

    def _groups(self) -> dict[str, Any]:
        groups = {"training": self.env_runner_group, "evaluation": self.eval_env_runner_group}
        return {name: group for name, group in groups.items() if group is not None}

    def get_metadata(self) -> dict[str, Any]:
        """RLlib's, and the format of MAFQL's checkpoints."""
        return super().get_metadata() | {DECLARED: FORMAT}

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint, and last what tells its format and whether its files are whole."""
        saved = super().save_to_path(path, **kwargs)
        filesystem, root = located(str(path or saved), kwargs.get("filesystem"))
        if self._stored is not None:
            problem = self._stored.save(Place(filesystem, root))
            if problem is not None:
                logger.warning("The checkpoint %s is without its replay: %s", root, problem)
        write_format(root, (self.fingerprint or {}).get("grid"), filesystem)
        return saved

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restores a checkpoint; ValueError if it is damaged, of another format or of another environment."""
        if kwargs.get("component") is None:
            check_checkpoint(str(path), kwargs.get("filesystem"))
        # Before any weights are loaded: those of another grid would fail by their shapes, and not say why.
        filesystem = kwargs.get("filesystem")
        root = str(path)
        if filesystem is None:
            filesystem, root = pyarrow.fs.FileSystem.from_uri(root)
        file = f"{root}/{self.STATE_FILE_NAME}.pkl"
        if filesystem.get_file_info(file).type == pyarrow.fs.FileType.File:
            with filesystem.open_input_stream(file) as stream:
                self._refuse_other_environment(pickle.load(stream))
        super().restore_from_path(path, *args, **kwargs)
        if self._stored is not None and kwargs.get("component") is None:
            self._stored.restore(Place(filesystem, root))

    def _refuse_other_environment(self, state: dict[str, Any]) -> None:
        theirs, ours = state.get(FINGERPRINT), self.fingerprint
        if theirs is not None and ours is not None and theirs != ours:
            raise ValueError(_describe_difference(theirs, ours))

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over a state; ValueError if it was trained on another environment."""
        self._refuse_other_environment(state)
        for group in self._groups().values():  # what they hold may be of a later update
            group.foreach_env_runner(JointEnvRunner.forget_weights, timeout_seconds=PLAY_S)
        super().set_state(state)
        self._collector.publish(self.learner_group)
        self._updates_done = state.get(NUM_UPDATES, 0)
        self._normalized = state.get("normalized", False)
        if "rng" in state:
            self._rng.bit_generator.state = state["rng"]
            self._staleness = deque(state["staleness"], maxlen=self._staleness.maxlen)
            self.replay.set_state(state["replay"])
            if self.offline_data is not None and "offline_replay" in state:
                self.offline_data.replay.set_state(state["offline_replay"])
            for name, group in self._groups().items():
                states = state["play"].get(name, {})
                _ask(group, partial(_set_play, states=states), self.config.sample_timeout_s)


def _ask(group: Any, question: Callable[[JointEnvRunner], Any], timeout_s: float | None = None) -> list[Any]:
    """The answers of a group's runners that have environments, as far as they come in time."""
    remote = group.num_remote_workers() > 0
    return group.foreach_env_runner(question, local_env_runner=not remote, timeout_seconds=timeout_s)


def _replay(config: Any) -> Any:
    """A JointReplay, or one in actors."""
    sizes = config.replay_capacity, config.gamma, config.n_step, config.seed
    if config.num_replay_shards:
        return ShardedReplay(config.num_replay_shards, *sizes, config.custom_resources_per_replay_shard)
    return JointReplay(*sizes)


def _get_play(runner: JointEnvRunner) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.get_play()


def _set_play(runner: JointEnvRunner, states: dict[int, dict[str, Any]]) -> None:
    if (runner.worker_index or 0) in states:
        runner.set_play(states[runner.worker_index or 0])
    elif not runner.config.in_evaluation:
        runner.reseed()


def _build_on_worker(config: MAFQLConfig) -> None:
    build_environment(config, worker_index=1)


def _fingerprint(runner: JointEnvRunner) -> dict[str, Any] | None:
    return runner.fingerprint


def _spaces(runner: JointEnvRunner) -> dict[str, Any]:
    return runner.get_spaces()


def _behavior_problem(runner: JointEnvRunner) -> str | None:
    return runner.behavior_problem()


def _fit_normalizers(learner: MAFQLLearner, statistics: Statistics) -> None:
    learner.fit_normalizers(statistics)


def _describe_difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if "grid" in keys:
        return (
            f"the checkpoint was trained on grid {theirs.get('grid')!r}, but env_config has grid {ours.get('grid')!r}; "
            f"set env_config grid to {theirs.get('grid')!r}"
        )
    short = {key: tuple(json.dumps(side.get(key), default=str)[:200] for side in (theirs, ours)) for key in keys}
    details = "; ".join(f"{key}: checkpoint {a}, here {b}" for key, (a, b) in short.items())
    return f"the checkpoint was trained on another environment: {details}"
