"""Gives up env runners that hang, and takes those that were lost back into service, without waiting for any."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError

logger = logging.getLogger("ray.rllib")

_TAG = "recovery"  # of the requests in flight

#: Losses of every single runner, with nothing played in between, after which training stops.
MAX_LOSSES_IN_A_ROW = 5


class Recovery:
    """Keeps watch over a group's remote runners.

    A runner that was lost, by whatever end of its process or node, is started anew by Ray, where there is room for it.
    RLlib would wait for that in every training step; here the others go on, and it joins them once it answers.

    Args:
        group: the EnvRunnerGroup, which marks runners as lost.
        state: what a runner that is back takes over, asked for then.
    """

    def __init__(self, group: Any, state: Callable[[], dict[str, Any]]):
        self._manager = group._worker_manager
        self._state = state
        self._lost: dict[int, float] = {}  # when each was seen to be
        self._gone: set[int] = set()  # those that Ray has given up
        self._in_a_row: Counter[int] = Counter()
        self.losses = 0  # since the start
        self.given_up = 0  # of these, runners that hung

    @property
    def all_lost(self) -> bool:
        """Whether there are remote runners, none of which is in service."""
        return self._manager.num_actors() > 0 and self._manager.num_healthy_actors() == 0

    def played(self, runner: int) -> None:
        """A runner has delivered: what made it fail before has passed."""
        del self._in_a_row[runner]

    def give_up(self, runner: int, waited_s: float) -> None:
        """Ends a runner that does not answer; Ray starts it anew."""
        logger.warning(
            "Env runner %d has not answered for %.0f s, more than sample_timeout_s: it is given up and started anew. "
            "What it was playing is lost.",
            runner,
            waited_s,
        )
        self.given_up += 1
        ray.kill(self._manager.actors()[runner], no_restart=False)
        self._manager.set_actor_state(runner, healthy=False)

    def look(self) -> list[int]:
        """Finds out which runners are lost, and which are back since the last look; returns the latter.

        Raises:
            RuntimeError: every runner was lost time and again without having played anything, or cannot be started.
        """
        manager, now = self._manager, time.monotonic()
        lost = [runner for runner in manager.actor_ids() if not manager.is_actor_healthy(runner)]
        for runner in lost:
            if runner not in self._lost:
                self._lost[runner] = now
                self._in_a_row[runner] += 1
                self.losses += 1
        if not self._lost:
            return []
        if min(self._in_a_row[runner] for runner in manager.actor_ids()) >= MAX_LOSSES_IN_A_ROW:
            raise RuntimeError(
                f"each env runner was lost {MAX_LOSSES_IN_A_ROW} times in a row without having played anything; what "
                "its environment raised, if it did, is in the log of its worker"
            )
        if lost := [runner for runner in lost if runner not in self._gone]:
            manager.foreach_actor_async(_ping, tag=_TAG, healthy_only=False, remote_actor_ids=lost)
            for answer in manager.fetch_ready_async_reqs(tags=_TAG, timeout_seconds=0.0, mark_healthy=True):
                if not answer.ok and isinstance(answer.get(), ActorDiedError):
                    self._lose_for_good(answer.actor_id, answer.get())
        back = [runner for runner in self._lost if manager.is_actor_healthy(runner)]
        if back:
            # Not waited for: requests of one runner are served in their order.
            take_over = partial(_take_over, state=ray.put(self._state()))
            manager.foreach_actor(take_over, remote_actor_ids=back, timeout_seconds=0.0)
        for runner in back:
            logger.warning("Env runner %d is back after %.1f s.", runner, now - self._lost.pop(runner))
        return back

    def _lose_for_good(self, runner: int, error: Exception) -> None:
        self._gone.add(runner)
        logger.error("Env runner %d could not be started anew, and is done without: %s", runner, error)
        if len(self._gone) == self._manager.num_actors():
            raise RuntimeError("no env runner could be started anew") from error

    def stop(self, timeout_s: float) -> None:
        """Has runners end what they do, and ends those that do not answer in time."""
        self._manager.foreach_actor(_stop, timeout_seconds=timeout_s)
        self._manager.clear()


def _ping(runner: Any) -> str:
    return runner.ping()


def _take_over(runner: Any, state: Any) -> None:
    runner.set_state(ray.get(state))


def _stop(runner: Any) -> None:
    runner.stop()
