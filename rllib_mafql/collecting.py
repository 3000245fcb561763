"""Has env runners play and keeps them supplied with weights, waiting for them or not."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any, NamedTuple

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rllib_mafql.env_runner import JointEnvRunner
from rllib_mafql.recovery import Recovery
from rllib_mafql.rollout import Rollout
from rllib_mafql.sharded_replay import ship

_TAG = "sample"  # of the requests in flight

# How long a look for results takes where there are none yet, seconds.
_LOOK_S = 0.01


class Played(NamedTuple):
    """What a runner returns for one request."""

    rollouts: list[Rollout]
    metrics: Any


class Collector:
    """Requests rollouts of the runners of a group.

    Weights travel with the requests, so that nothing has to wait until a busy runner has taken over new ones.

    Synchronous: every runner plays once for each call, and the slowest one is waited for.

    Asynchronous: up to `max_requests_in_flight_per_env_runner` requests lie at each runner, which plays while the
    learner learns. A call takes what is ready and requests anew from the runners that are through. A request is played
    with the weights that were newest when it was made.

    Either way a runner that has not answered for `sample_timeout_s` is given up, and one that was lost plays again once
    it is back (see :mod:`rllib_mafql.recovery`).

    Args:
        group: the EnvRunnerGroup.
        config: the MAFQLConfig.
        shards: the `reference` of a ShardedReplay, to which runners then send their fragments, which the rollouts that
            come back are without; None: rollouts come back whole.
    """

    def __init__(self, group: Any, config: Any, shards: Any = None):
        self._group = group
        self._asynchronous = config.sample_async
        self._timeout_s = math.inf if config.sample_timeout_s is None else config.sample_timeout_s
        self._shards = shards
        self._weights: dict[str, Any] = {}  # the newest, as a state of runners; nothing before the first ones
        self.weights_seq_no = 0  # of the newest weights
        self.recovery = Recovery(group, lambda: group.local_env_runner.get_state())
        self._since: dict[int, float] = {}  # when each runner began with the oldest request that lies at it

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self._group.num_in_flight_async_reqs(_TAG)

    def publish(self, learner_group: Any) -> None:
        """Takes the newest weights of the modules that runners have, for all requests from now on."""
        local = self._group.local_env_runner
        parts = [f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{name}" for name in local.module.keys()]  # noqa: SIM118
        state = learner_group.get_state(components=parts, inference_only=True)[COMPONENT_LEARNER]
        weights, self.weights_seq_no = state[COMPONENT_RL_MODULE], state[WEIGHTS_SEQ_NO]
        local.set_state({COMPONENT_RL_MODULE: weights, WEIGHTS_SEQ_NO: self.weights_seq_no})
        if self._group.num_remote_workers():
            # A reference within: a runner fetches the weights only if they are newer than its own.
            self._weights = {COMPONENT_RL_MODULE: ray.put(weights), WEIGHTS_SEQ_NO: self.weights_seq_no}

    def collect(self, behavior: bool, wait: bool) -> list[Played]:
        """What runners have played; nothing where none was in service for `sample_timeout_s`.

        Args:
            behavior: episodes that begin now are played by the behaviour policies.
            wait: asynchronous only: wait until there is something.
        """
        if not self._group.num_remote_workers():
            return [_play(self._group.local_env_runner, behavior, self._weights, self._shards)]
        return self._take(behavior, wait) if self._asynchronous else self._round(behavior)

    def _round(self, behavior: bool) -> list[Played]:
        """What every runner that is in service plays now, by their numbers."""
        deadline = time.monotonic() + self._timeout_s
        while self.recovery.all_lost and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            self.recovery.look()
        self._request(behavior, once=True)
        played = sorted(self._ready(self._timeout_s), key=lambda one: one[0])
        self._give_up_hanging()
        return [result for _, result in played]

    def _take(self, behavior: bool, wait: bool) -> list[Played]:
        deadline = time.monotonic() + self._timeout_s
        played = self._ready(0.0)
        self._request(behavior)
        while wait and not played and time.monotonic() < deadline:
            played = self._ready(_LOOK_S)
            if not self.in_flight:  # every runner is down, and may be back soon
                time.sleep(_LOOK_S)
                self.recovery.look()
            self._request(behavior)
        self._give_up_hanging()
        return [result for _, result in played]

    def _ready(self, timeout_s: float) -> list[tuple[int, Played]]:
        """Results that are there, with their runners' numbers, all of them or as many as there are in time."""
        timeout = None if math.isinf(timeout_s) else timeout_s
        results = self._group.fetch_ready_async_reqs(tags=_TAG, timeout_seconds=timeout)
        for runner, _ in results:
            self.recovery.played(runner)
            self._since[runner] = time.monotonic()
        return results

    def _request(self, behavior: bool, once: bool = False) -> None:
        """Fills up what each runner in service has to do."""
        play = partial(_play, behavior=behavior, weights=self._weights, shards=self._shards)
        now, busy = time.monotonic(), set(self._busy())
        self._since |= {runner: now for runner in self._group.healthy_env_runner_ids() if runner not in busy}
        while self._group.foreach_env_runner_async(play, tag=_TAG) and not once:
            pass

    def _busy(self) -> list[int]:
        """Runners at which requests lie."""
        states = self._group._worker_manager._remote_actor_states
        return [runner for runner, state in states.items() if state.get_num_in_flight_requests(_TAG)]

    def _give_up_hanging(self) -> None:
        now = time.monotonic()
        for runner in self._busy():
            if now - self._since[runner] >= self._timeout_s:
                self.recovery.give_up(runner, now - self._since[runner])


def _play(runner: JointEnvRunner, behavior: bool, weights: dict[str, Any], shards: Any) -> Played:
    runner.set_state(weights)
    rollouts = runner.sample(behavior=behavior)
    if shards is not None:
        for rollout in rollouts:
            # another shard each time: every one then holds some of all that is played
            turn = (runner.worker_index or 0) + runner.num_env_steps_sampled_lifetime // max(1, rollout.steps)
            ship(rollout.fragments, shards, turn)
            rollout.fragments = []
    return Played(rollouts, runner.get_metrics())
