"""Intervals over evaluation episodes.

Two estimators, both at a stated confidence: a percentile bootstrap of the mean for anything measured (score,
milliseconds), and Wilson's score interval for shares (survival), because a bootstrap of 20 survivals out of 20 has no
width at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean with its confidence interval, in the unit of the values; `low` and `high` are None for a single value."""

    mean: float
    low: float | None
    high: float | None


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of `values` with its percentile-bootstrap interval (Efron, "Bootstrap methods", 1979).

    Args:
        values: one number per episode, at least one, all finite.
        confidence: share of the bootstrap distribution inside the interval, in (0, 1).
        resamples: bootstrap samples drawn.
        seed: of the resampling; the same values and seed give the same interval.

    Returns:
        The interval; with a single value its ends are None.

    Raises:
        ValueError: no value, a value that is not finite, or a confidence outside (0, 1).
    """
    array = _checked(values, confidence)
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, None)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, array.size, size=(resamples, array.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high))


def wilson_share(values: Sequence[float] | np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Share of ones among `values` with Wilson's score interval (JASA 22, 1927).

    Args:
        values: one 0 or 1 per episode, at least one.
        confidence: of the interval, in (0, 1).

    Returns:
        The interval, inside [0, 1]; it has a width even where all values agree.

    Raises:
        ValueError: no value, a value other than 0 or 1, or a confidence outside (0, 1).
    """
    array = _checked(values, confidence)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"a share is taken of zeros and ones, got {sorted(set(array.tolist()))}")
    n, share = array.size, float(array.mean())
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
