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

    def aggregates(table: np.ndarray) -> np.ndarray:
        flat = table.reshape(-1, metrics)
        return np.concatenate([flat.mean(0), stats.trim_mean(flat, 0.25)])

    points = aggregates(values)
    if runs * episodes == 1:
        found = [Interval(point, None, None) for point in points.tolist()]
    else:
        rng = np.random.default_rng(seed)
        drawn = (rng.integers(runs, size=(resamples, runs)), rng.integers(episodes, size=(resamples, episodes)))
        samples = np.stack([aggregates(values[np.ix_(rows, columns)]) for rows, columns in zip(*drawn, strict=True)])
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
    samples = np.empty((2, resamples))
    for sample in samples.T:
        episodes = np.bincount(rng.integers(values.shape[1], size=values.shape[1]), minlength=values.shape[1])
        own, others = (np.bincount(rng.integers(n, size=n), minlength=n) for n in (len(values), len(other)))
        weights = episodes / episodes.sum()
        own, others = own / own.sum(), others / others.sum()
        sample[0] = own @ values @ weights - others @ other @ weights
        sample[1] = np.einsum("i,j,k,ijk", own, others, weights, better)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return Comparison(*(Interval(*one) for one in zip(points, low.tolist(), high.tolist(), strict=True)))


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
