"""Replay in actors: fragments go from runners to shards, batches from shards to learners, none past the driver."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import ray

from rllib_mafql.replay import Fragment, JointReplay, Statistics

# Batches that a learner has asked for and not yet taken: the next ones travel while it computes.
PREFETCH = 4


class Held(NamedTuple):
    """What a shard holds."""

    size: int  # transitions that can be sampled
    added: int  # transitions since the start
    nbytes: int  # of the rows in use


class ReplayShard:
    """Actor with a part of the transitions. One that dies comes back empty."""

    def __init__(self, number: int, capacity: int, gamma: float, n_step: int, seed: int | None):
        self.number = number
        self.replay = JointReplay(capacity, gamma, n_step, seed)

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call this actor."""
        return f"ReplayShard(number={self.number})"

    def add(self, fragments: Sequence[Fragment]) -> int:
        """Adds fragments; returns the number of their transitions."""
        for fragment in fragments:
            self.replay.add(fragment)
        return sum(fragment.steps for fragment in fragments)

    def sample(self, size: int) -> dict[str, np.ndarray] | None:
        """A batch, see `JointReplay.sample`; None if there is nothing yet."""
        return self.replay.sample(size) if len(self.replay) else None

    def held(self) -> Held:
        """How much there is."""
        return Held(len(self.replay), self.replay.added, self.replay.nbytes)

    def statistics(self) -> Statistics | None:
        """See `JointReplay.statistics`; None if there is nothing yet."""
        return self.replay.statistics() if len(self.replay) else None


class Draws:
    """Batches for one learner, which asks the shards for them itself, a few ahead of the one that it computes with.

    Args:
        shards: all of them.
        order: which shard each batch is drawn from.
        size: transitions of a batch.

    Raises:
        ValueError: while iterating: all shards are empty.
    """

    def __init__(self, shards: Sequence[Any], order: Sequence[int], size: int):
        self._shards = list(shards)
        self._order = list(order)
        self._size = size

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        requests = (self._shards[number].sample.remote(self._size) for number in self._order)
        waiting = deque(islice(requests, PREFETCH))
        while waiting:
            batch = ray.get(waiting.popleft())
            waiting.extend(islice(requests, 1))
            yield self._from_any() if batch is None else batch

    def _from_any(self) -> dict[str, np.ndarray]:
        """In place of a batch from a shard that has come back empty."""
        batches = (ray.get(shard.sample.remote(self._size)) for shard in self._shards)
        batch = next((batch for batch in batches if batch is not None), None)
        if batch is None:
            raise ValueError("all shards of the replay are empty: nothing to sample")
        return batch


class ShardedReplay:
    """The driver's view of the shards: it places them and knows how much they hold.

    Every transition is in one shard, drawn with the same probability as any other: a batch comes from one shard, which
    is chosen in proportion to what the shards hold.

    Args:
        shards: number of actors.
        capacity: rows of all together.
        gamma, n_step, seed: see `JointReplay`.
        resources: custom resources that each actor asks for; nodes are taken in turn otherwise.
    """

    def __init__(
        self,
        shards: int,
        capacity: int,
        gamma: float,
        n_step: int,
        seed: int | None = None,
        resources: Mapping[str, float] | None = None,
    ):
        actor: Any = ray.remote(ReplayShard).options(
            num_cpus=0,
            resources=dict(resources or {}),
            # not in the placement group of Tune's trial, which has no place for them
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=-1,
        )
        each = max(2, -(-capacity // shards))
        seeds = [None if seed is None else seed + number for number in range(shards)]
        self.shards: list[Any] = [actor.remote(number, each, gamma, n_step, seeds[number]) for number in range(shards)]
        #: The shards, for runners: fetched once a node.
        self.reference = ray.put(self.shards)
        self.rng = np.random.default_rng(seed)
        self._held = [Held(0, 0, 0)] * shards
        self._added_before = 0  # by the run that is gone on with

    def __len__(self) -> int:
        """Transitions that can be sampled, at the last `refresh`."""
        return sum(held.size for held in self._held)

    @property
    def added(self) -> int:
        """Transitions since the start, at the last `refresh`."""
        return self._added_before + sum(held.added for held in self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use, at the last `refresh`."""
        return sum(held.nbytes for held in self._held)

    def refresh(self) -> None:
        """Asks the shards how much they hold."""
        self._held = ray.get([shard.held.remote() for shard in self.shards])

    def draws(self, size: int, number: int, learners: int) -> list[Draws]:
        """For each learner `number` batches of `size` transitions; ValueError if there is nothing to sample."""
        if not len(self):
            raise ValueError("the replay is empty: nothing to sample")
        shares = np.array([held.size for held in self._held]) / len(self)
        orders = self.rng.choice(len(self.shards), (learners, number), p=shares)
        return [Draws(self.shards, order.tolist(), size) for order in orders]

    def statistics(self) -> Statistics:
        """Of all shards, each weighted by what it holds; see `JointReplay.statistics`."""
        found = ray.get([shard.statistics.remote() for shard in self.shards])
        known = [(each, held.size) for each, held in zip(found, self._held, strict=True) if each is not None]
        weights = np.array([size for _, size in known], np.float64)
        weights /= weights.sum()
        obs = _pooled([(each.obs_mean, each.obs_std) for each, _ in known], weights)
        actions = _pooled([(each.action_mean, each.action_std) for each, _ in known], weights)
        low = np.min([each.obs_low for each, _ in known], 0)
        high = np.max([each.obs_high for each, _ in known], 0)
        return Statistics(*obs, low, high, *actions)

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: no transitions."""
        return {"rng": self.rng.bit_generator.state, "added": self.added}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` gave."""
        self.rng.bit_generator.state = state["rng"]
        self._added_before = state["added"] - sum(held.added for held in self._held)

    def stop(self) -> None:
        """Ends the actors."""
        for shard in self.shards:
            ray.kill(shard)


def ship(fragments: Sequence[Fragment], reference: Any, turn: int) -> None:
    """Sends fragments from this process to a shard, and waits until they are there.

    Args:
        fragments: what was played.
        reference: of a ShardedReplay.
        turn: a number; the shards are taken in turn with it.
    """
    if fragments:
        shards = ray.get(reference)
        ray.get(shards[turn % len(shards)].add.remote(fragments))


def _pooled(parts: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (k,) of parts that have these, float32, and this weight each."""
    means, deviations = (np.array(values, np.float64) for values in zip(*parts, strict=True))
    mean = weights @ means
    square = weights @ (deviations**2 + means**2)
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 0.0)).astype(np.float32)
