"""Replay of joint transitions: all agents' parts of a transition lie at the same row, each observation only once.

Fragments lie in a ring of rows, one row for each observation. What follows a transition is a later row of the same
fragment, so that no second copy of next observations is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# What the learner reads; obs and actions hold all agents side by side.
COLUMNS = ("obs", "actions", "rewards", "discounts", "next_obs", "behavior", "returns")

# Beside them, if any fragment came with advice: the actions to clone.
ADVICE = "advice"


class Fragment(NamedTuple):
    """Contiguous steps (T of them) of one environment within one episode."""

    obs: np.ndarray  # (T + 1, sum d_i) float32 joint observations; the last row is what follows the last step
    actions: np.ndarray  # (T, sum m_i) float32 joint actions in [-1, 1]
    rewards: np.ndarray  # (T,) float32 team rewards
    behavior: np.ndarray  # (T,) bool: a behaviour policy acted, so that the action is one to clone
    terminated: bool  # the episode terminated with the last step
    advice: np.ndarray | None = None  # (T, sum m_i) float32 actions to clone; None: those taken

    @property
    def steps(self) -> int:
        """T."""
        return len(self.rewards)


class Returns(NamedTuple):
    """n-step returns of a fragment's transitions."""

    rewards: np.ndarray  # (T,) float32 discounted sums of up to n rewards
    discounts: np.ndarray  # (T,) float32 discount of the value that follows; 0 after a termination
    ahead: np.ndarray  # (T,) int: how many rows ahead the observation lies that this value belongs to
    to_go: np.ndarray  # (T,) float32 discounted sum of all rewards; past a cut or truncation, of the fragment's mean


class Statistics(NamedTuple):
    """Mean and standard deviation of each component, and the range of observations, float32."""

    obs_mean: np.ndarray  # (sum d_i,)
    obs_std: np.ndarray
    obs_low: np.ndarray
    obs_high: np.ndarray
    action_mean: np.ndarray  # (sum m_i,)
    action_std: np.ndarray


def n_step_returns(rewards: np.ndarray, terminated: bool, gamma: float, n: int) -> Returns:
    """Returns within one fragment.

    Args:
        rewards: (T,) reward of each step.
        terminated: the episode terminated with the last step.
        gamma: discount of one step.
        n: longest n-step return; shorter where the fragment ends before.
    """
    steps = len(rewards)
    ahead = np.minimum(n, steps - np.arange(steps))
    sums = np.zeros(steps)
    for k in range(min(n, steps)):
        sums[: steps - k] += gamma**k * rewards[k:]
    discounts = gamma**ahead
    if terminated:
        discounts[np.arange(steps) + ahead == steps] = 0.0
    # An episode that goes on, unseen, is taken to go on as it went: sums that stop there would call its end a failure.
    to_go, following = np.empty(steps), 0.0 if terminated else float(np.mean(rewards)) / (1.0 - gamma)
    for t in range(steps - 1, -1, -1):
        to_go[t] = following = rewards[t] + gamma * following
    return Returns(sums.astype(np.float32), discounts.astype(np.float32), ahead, to_go.astype(np.float32))


class JointReplay:
    """Ring of joint transitions, sampled uniformly; the oldest are overwritten.

    Args:
        capacity: rows, at least 2. A fragment of T transitions takes T + 1.
        gamma: discount of one step.
        n_step: longest n-step return, at most 255.
        seed: seed of the sampling.
    """

    def __init__(self, capacity: int, gamma: float, n_step: int, seed: int | None = None):
        if capacity < 2 or not 1 <= n_step <= 255:
            raise ValueError(f"replay: capacity must be at least 2 and n_step 1 to 255, got {capacity} and {n_step}")
        self.capacity = capacity
        self.gamma = gamma
        self.n_step = n_step
        self.rng = np.random.default_rng(seed)
        self.added = 0
        self.clear()

    def clear(self) -> None:
        """Forgets all rows."""
        self.size = 0
        self.rows = 0  # written since the start
        self.base = 0  # the row that the ring began with: row r lies at (r - base) % capacity
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return self.size

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use."""
        return sum(column[: self._filled].nbytes for column in self._columns.values())

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 before the first."""
        return sum(column.itemsize * int(np.prod(column.shape[1:])) for column in self._columns.values())

    @property
    def first(self) -> int:
        """The oldest row that is held."""
        return max(self.base, self.rows - self.capacity)

    @property
    def _filled(self) -> int:
        return min(self.rows - self.base, self.capacity)

    def add(self, fragment: Fragment) -> None:
        """Adds a fragment; of one longer than the ring, the last `capacity - 1` transitions.

        Raises:
            ValueError: the fragment is empty, its arrays do not fit each other, or not what is stored already.
        """
        self._check(fragment)
        self.added += fragment.steps
        found = n_step_returns(fragment.rewards, fragment.terminated, self.gamma, self.n_step)
        kept = min(fragment.steps, self.capacity - 1)
        # The last row is an observation without an action: nothing to sample, marked by 0 rows ahead.
        self._write("obs", fragment.obs[-kept - 1 :])
        self._write("actions", fragment.actions[-kept:])
        self._write("rewards", found.rewards[-kept:])
        self._write("discounts", found.discounts[-kept:])
        self._write("returns", found.to_go[-kept:])
        self._write("behavior", fragment.behavior[-kept:])
        if fragment.advice is not None and ADVICE not in self._columns:
            self._columns[ADVICE] = self._columns["actions"].copy()
        if ADVICE in self._columns:
            self._write(ADVICE, (fragment.actions if fragment.advice is None else fragment.advice)[-kept:])
        self.size -= int(np.count_nonzero(self._write("ahead", np.append(found.ahead[-kept:], 0))))
        self.size += kept
        self.rows += kept + 1

    def sample(self, batch_size: int) -> dict[str, np.ndarray]:
        """`batch_size` transitions drawn with replacement: the arrays (batch_size, ...) named in COLUMNS, float32,
        and ADVICE.
        """
        if not self.size:
            raise ValueError("the replay is empty: nothing to sample")
        columns = self._columns
        rows = self.rng.integers(0, self._filled, batch_size)
        while (ends := columns["ahead"][rows] == 0).any():
            rows[ends] = self.rng.integers(0, self._filled, int(ends.sum()))
        following = rows + columns["ahead"][rows]
        following[following >= self.capacity] -= self.capacity
        batch = {name: columns[name].take(rows, 0) for name in ("obs", "actions", "rewards", "discounts", "returns")}
        batch["next_obs"] = columns["obs"].take(following, 0)
        batch["behavior"] = columns["behavior"].take(rows).astype(np.float32)
        if ADVICE in columns:
            batch[ADVICE] = columns[ADVICE].take(rows, 0)
        return batch

    def statistics(self) -> Statistics:
        """Of what is held; of actions, only the behaviour policies' where there are any, as these are cloned."""
        held = slice(0, self._filled)
        transitions = self._columns["ahead"][held] > 0
        imitable = transitions & self._columns["behavior"][held]
        obs = self._columns["obs"][held]
        obs_moments = _moments(obs, np.ones(self._filled, bool))
        cloned = self._columns.get(ADVICE, self._columns["actions"])
        actions = _moments(cloned[held], imitable if imitable.any() else transitions)
        return Statistics(*obs_moments, obs.min(0), obs.max(0), *actions)

    # Saving ----------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """All but the rows."""
        return {"rng": self.rng.bit_generator.state, "added": self.added}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` gave."""
        self.rng.bit_generator.state = state["rng"]
        self.added = state["added"]

    def rows_between(self, first: int, stop: int) -> dict[str, np.ndarray]:
        """Copies of rows that are held, all columns."""
        rows = self._at(first, stop)
        return {name: column[rows] for name, column in self._columns.items()}

    def begin_at(self, rows: int, base: int, capacity: int) -> None:
        """Prepares an empty replay for rows of one of another capacity, maybe, that had come to row `rows`."""
        self.rows = rows
        # where a row lies decides when it is drawn: the same place, unless there is another number of places
        self.base = base if capacity == self.capacity else max(base, rows - min(capacity, self.capacity))

    def put(self, first: int, columns: dict[str, np.ndarray]) -> None:
        """Puts rows, as `rows_between` gave them, back; those that are not held are left out. Then call `settle`."""
        if not self._columns:
            self._reserve(columns["obs"].shape[1], columns["actions"].shape[1])
        if ADVICE in columns and ADVICE not in self._columns:
            self._columns[ADVICE] = self._columns["actions"].copy()
        start, stop = max(first, self.first), min(first + len(columns["ahead"]), self.rows)
        rows = self._at(start, max(stop, start))
        columns = {ADVICE: columns["actions"], **columns}
        for name, column in self._columns.items():
            column[rows] = columns[name][start - first : max(stop, start) - first]

    def settle(self, lost: list[tuple[int, int]]) -> None:
        """Makes what was put back ready for sampling, without the rows (from, to) that were not put back."""
        if not self._columns:
            self.rows = self.base = 0
            return
        ahead = self._columns["ahead"]
        missing = np.zeros(self.capacity, bool)
        for first, stop in lost:
            rows = self._at(max(first, self.first), min(stop, self.rows))
            missing[rows] = True
            for column in self._columns.values():
                column[rows] = 0
        following = (np.arange(self.capacity) + ahead) % self.capacity
        ahead[missing[following]] = 0
        self.size = int(np.count_nonzero(ahead[: self._filled]))

    def _at(self, first: int, stop: int) -> np.ndarray:
        """Where rows lie in the ring."""
        return (np.arange(first, stop) - self.base) % self.capacity

    def _check(self, fragment: Fragment) -> None:
        steps = fragment.steps
        if not steps:
            raise ValueError("replay: the fragment has no steps")
        wanted = {"obs": steps + 1, "actions": steps, "behavior": steps}
        if fragment.advice is not None:
            wanted[ADVICE] = steps
        for name, rows in wanted.items():
            values = getattr(fragment, name)
            if len(values) != rows:
                raise ValueError(f"replay: {name!r} has {len(values)} rows, but {steps} steps need {rows}")
        widths = fragment.obs.shape[1], fragment.actions.shape[1]
        if not self._columns:
            self._reserve(*widths)
        stored = self._columns["obs"].shape[1], self._columns["actions"].shape[1]
        if widths != stored:
            raise ValueError(
                f"replay: a fragment has {widths[0]} observation and {widths[1]} action components, those stored "
                f"{stored[0]} and {stored[1]}"
            )

    def _reserve(self, obs_size: int, action_size: int) -> None:
        # Reserved, not written: the operating system hands out pages only as they fill.
        self._columns = {
            "obs": np.empty((self.capacity, obs_size), np.float32),
            "actions": np.empty((self.capacity, action_size), np.float32),
            **{name: np.empty(self.capacity, np.float32) for name in ("rewards", "discounts", "returns")},
            "behavior": np.empty(self.capacity, bool),
            "ahead": np.zeros(self.capacity, np.uint8),
        }

    def _write(self, name: str, values: np.ndarray) -> np.ndarray:
        """Writes rows from the next one on, over the ring's end if need be; returns what they held."""
        column = self._columns[name]
        rows = self._at(self.rows, self.rows + len(values))
        old = column[rows] if name == "ahead" else values
        column[rows] = values
        return old


def _moments(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of values (T, k) over the rows (T,) marked."""
    total, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for first in range(0, len(values), 4096):  # in parts: there may be gigabytes
        part = values[first : first + 4096][rows[first : first + 4096]].astype(np.float64)
        total += part.sum(0)
        squares += np.square(part).sum(0)
    mean = total / rows.sum()
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / rows.sum() - mean**2, 0.0)).astype(np.float32)
