"""Intervals over evaluation episodes and training runs.

A table of values has a row for each run of an agent and a column for each episode, the same for all runs. Estimators,
all at a stated confidence: a percentile bootstrap over runs and episodes for anything measured (score, milliseconds),
Wilson's score interval for shares (survival), because a bootstrap of 20 survivals out of 20 has no width at all, and
for two agents a bootstrap in which both play the same episodes.

rliable's stratified bootstrap draws runs anew for each episode, as if each episode had been trained for by itself. Here
one run plays them all: what its seed does to all episodes would average out, and intervals come out too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 5_000
CHUNK = 250  # resampled tables in memory at once


class Interval(NamedTuple):
    """A mean with its confidence interval, in the unit of the values; `low` and `high` are None for a single value."""

    mean: float
    low: float | None
    high: float | None


def run_intervals(
    values: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[Interval], list[Interval]]:
    """Means and interquartile means (Agarwal et al., NeurIPS 2021) with their intervals.

    Whole runs and whole episodes are drawn anew, so intervals tell of other seeds and of other episodes.

    Args:
        values: (runs, episodes, metrics), all finite.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap samples drawn.
        seed: of the resampling; the same values and seed give the same intervals.

    Returns:
        For each metric the mean, and the mean of the middle half of all values; ends are None for a single value.

    Raises:
        ValueError: no value, one that is not finite, or a confidence outside (0, 1).
    """
    runs, episodes, metrics = values.shape
    _checked(values.ravel(), confidence)

    def aggregates(tables: np.ndarray) -> np.ndarray:
        flat = tables.reshape(len(tables), -1, metrics)
        return np.concatenate([flat.mean(1), stats.trim_mean(flat, 0.25, axis=1)], axis=1)

    points = aggregates(values[None])[0]
    if runs * episodes == 1:
        found = [Interval(point, None, None) for point in points.tolist()]
    else:
        rng = np.random.default_rng(seed)
        rows, columns = rng.integers(runs, size=(resamples, runs)), rng.integers(episodes, size=(resamples, episodes))
        parts = np.array_split(np.arange(resamples), -(-resamples // CHUNK))
        drawn = (values[rows[part][:, :, None], columns[part][:, None, :]] for part in parts)
        samples = np.concatenate([aggregates(tables) for tables in drawn])
        ends = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        found = [Interval(*one) for one in zip(points.tolist(), *ends.tolist(), strict=True)]
    return found[:metrics], found[metrics:]


class Comparison(NamedTuple):
    """One agent beside another: the difference of their means, and the probability that it does better (ties: half)."""

    difference: Interval
    probability: Interval


def compare(
    values: np.ndarray, other: np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """How much better an agent does than another on the same episodes.

    Episodes are drawn anew for both together, runs for each by itself.

    Args:
        values, other: (runs, episodes) and (other's runs, episodes), all finite.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap samples drawn.
        seed: of the resampling.

    Raises:
        ValueError: no value, one that is not finite, tables of different episodes, or a confidence outside (0, 1).
    """
    for table in (values, other):
        _checked(table.ravel(), confidence)
    if values.shape[1] != other.shape[1]:
        raise ValueError(f"agents are compared on the same episodes, got {values.shape[1]} and {other.shape[1]}")
    # better[i, j, k]: whether run i does better in episode k than the other's run j
    better = (values[:, None] > other) + 0.5 * (values[:, None] == other)
    points = float(values.mean() - other.mean()), float(better.mean())
    if values.size == other.size == 1:
        return Comparison(*(Interval(point, None, None) for point in points))
    rng = np.random.default_rng(seed)
    weights, own, others = (_drawn_shares(rng, n, resamples) for n in (values.shape[1], len(values), len(other)))
    samples = np.stack(
        [
            np.einsum("ri,ik,rk->r", own, values, weights) - np.einsum("rj,jk,rk->r", others, other, weights),
            np.einsum("ri,rj,rij->r", own, others, np.tensordot(weights, better, (1, 2))),
        ]
    )
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return Comparison(*(Interval(*one) for one in zip(points, low.tolist(), high.tolist(), strict=True)))


def _drawn_shares(rng: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """(resamples, count): the share of each of `count` things among as many drawn with replacement."""
    drawn = rng.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count) / count


def wilson_share(
    values: Sequence[float] | np.ndarray, *, independent: int | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Share of ones among `values` with Wilson's score interval (JASA 22, 1927).

    Args:
        values: one 0 or 1 per episode, at least one.
        independent: how many of them count as independent, if not all: runs that play the same episodes do not.
        confidence: of the interval, in (0, 1).

    Returns:
        The interval, inside [0, 1]; it has a width even where all values agree.

    Raises:
        ValueError: no value, a value other than 0 or 1, or a confidence outside (0, 1).
    """
    array = _checked(values, confidence)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"a share is taken of zeros and ones, got {sorted(set(array.tolist()))}")
    n, share = independent or array.size, float(array.mean())
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _checked(values: Sequence[float] | np.ndarray, confidence: float) -> np.ndarray:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"an interval needs a list of at least one value, got an array of shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"an interval needs finite values, got {array[~finite][0]} at {int(np.argmin(finite))}")
    return array
