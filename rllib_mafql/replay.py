"""Replay of joint transitions in flat arrays: every agent's part of a transition stays at the same row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# What a runner returns per transition, and what the learner reads. obs and actions hold all agents side by side.
COLUMNS = ("obs", "actions", "rewards", "discounts", "next_obs", "behavior")


class Step(NamedTuple):
    """One step of one environment, as it is collected."""

    obs: np.ndarray  # (sum d_i,) joint observation
    action: np.ndarray  # (sum m_i,) joint action in [-1, 1]
    reward: float
    next_obs: np.ndarray
    terminated: bool
    ended: bool  # terminated or truncated
    behavior: bool  # whether a behaviour policy acted, so that the action is one to clone


def columns_of(steps: Sequence[Step], gamma: float, n: int) -> dict[str, np.ndarray]:
    """An environment's contiguous steps (T of them) as n-step columns (T, ...), named as in COLUMNS."""
    obs, actions, rewards, next_obs, terminated, ended, behavior = map(np.array, zip(*steps, strict=True))
    returns, discounts, last = n_step_columns(rewards, terminated, ended, gamma, n)
    return {
        "obs": obs,
        "actions": actions.astype(np.float32),
        "rewards": returns,
        "discounts": discounts,
        "next_obs": next_obs[last],
        "behavior": behavior.astype(np.float32),
    }


def n_step_columns(
    rewards: np.ndarray, terminateds: np.ndarray, ends: np.ndarray, gamma: float, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n-step returns within one environment's contiguous fragment.

    Args:
        rewards: (T,) reward of each step.
        terminateds: (T,) bool, the episode terminated with this step.
        ends: (T,) bool, the episode ended with this step, terminated or truncated.
        gamma: discount of one step.
        n: longest return; shorter where the episode or the fragment ends before.

    Returns:
        Sums of discounted rewards (T,) float32, discounts of the value that follows them (T,) float32 (0 after a
        termination), and the last step of each return (T,) int: the value that follows is that of its next observation.
    """
    steps = len(rewards)
    returns = np.zeros(steps, np.float32)
    discounts = np.zeros(steps, np.float32)
    last = np.zeros(steps, np.int64)
    for t in range(steps):
        total, factor, k = 0.0, 1.0, t
        while True:
            total += factor * rewards[k]
            factor *= gamma
            if ends[k] or k + 1 == min(t + n, steps):
                break
            k += 1
        returns[t], discounts[t], last[t] = total, 0.0 if terminateds[k] else factor, k
    return returns, discounts, last


class JointReplay:
    """Ring of joint transitions, sampled uniformly.

    Args:
        capacity: greatest number of transitions; the oldest are overwritten.
        seed: seed of the sampling.
    """

    def __init__(self, capacity: int, seed: int | None = None):
        self.capacity = capacity
        self.rng = np.random.default_rng(seed)
        self.size = 0
        self.added = 0
        self._next = 0
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return self.size

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Adds T transitions: arrays (T, ...) under the names in COLUMNS (further columns are kept alike)."""
        length = len(columns["rewards"])
        for name, values in columns.items():
            if len(values) != length:
                raise ValueError(f"column {name!r} has {len(values)} rows, but 'rewards' has {length}")
        if not self._columns:
            # Reserved, not written: the operating system hands out pages only as they fill.
            self._columns = {k: np.empty((self.capacity, *v.shape[1:]), v.dtype) for k, v in columns.items()}
        if set(columns) != set(self._columns):
            raise ValueError(f"columns {sorted(columns)} differ from those stored, {sorted(self._columns)}")
        kept = slice(max(0, length - self.capacity), length)
        rows = (self._next + np.arange(kept.stop - kept.start)) % self.capacity
        for name, values in columns.items():
            self._columns[name][rows] = values[kept]
        self._next = int((self._next + len(rows)) % self.capacity)
        self.size = min(self.size + len(rows), self.capacity)
        self.added += length

    def sample(self, batch_size: int) -> dict[str, np.ndarray]:
        """`batch_size` transitions drawn with replacement, as arrays (batch_size, ...) of their own."""
        if not self.size:
            raise ValueError("the replay is empty: nothing to sample")
        rows = self.rng.integers(0, self.size, batch_size)
        return {name: values[rows] for name, values in self._columns.items()}

    def statistics(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each component of a column, float32."""
        values = self._columns[name][: self.size]
        return values.mean(0, dtype=np.float64).astype(np.float32), values.std(0, dtype=np.float64).astype(np.float32)
