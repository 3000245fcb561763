"""Intervals against values known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rllib_mafql.evaluation.statistics import bootstrap_mean, wilson_share


def test_bootstrap_of_a_large_normal_sample_is_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_bootstrap_agrees_with_scipy_and_repeats() -> None:
    values = np.random.default_rng(2).exponential(size=20)
    own = bootstrap_mean(values)
    peer = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=3).confidence_interval
    assert own.low == pytest.approx(peer.low, abs=0.02)
    assert own.high == pytest.approx(peer.high, abs=0.02)
    assert own == bootstrap_mean(values)


def test_a_single_value_has_no_interval() -> None:
    assert bootstrap_mean([0.7]) == (0.7, None, None)


# Peer: scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
@pytest.mark.parametrize(("ones", "n"), [(0, 20), (20, 20), (16, 20), (1, 1), (3, 7)])
def test_wilson_agrees_with_scipy(ones: int, n: int) -> None:
    interval = wilson_share([1.0] * ones + [0.0] * (n - ones))
    peer = stats.binomtest(ones, n).proportion_ci(method="wilson")
    assert interval == pytest.approx((ones / n, peer.low, peer.high), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([]), "at least one value"),
        (lambda: bootstrap_mean([1.0, float("nan")]), "finite values, got nan at 1"),
        (lambda: bootstrap_mean([1.0], confidence=95), "between 0 and 1, got 95"),
        (lambda: wilson_share([0.0, 0.5]), "zeros and ones"),
    ],
)
def test_what_has_no_interval_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
