"""Intervals against values known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from rliable import metrics
from rliable.library import get_interval_estimates
from scipy import stats

from rllib_mafql.evaluation.statistics import Comparison, compare, run_intervals, wilson_share


def bootstrap_mean(values, **options):
    """The interval of one run's mean."""
    return run_intervals(np.reshape(values, (1, -1, 1)).astype(float), **options)[0][0]


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
    peer = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5_000, rng=3).confidence_interval
    assert own.low == pytest.approx(peer.low, abs=0.02)
    assert own.high == pytest.approx(peer.high, abs=0.03)
    assert own == bootstrap_mean(values)


def test_a_single_value_has_no_interval() -> None:
    assert bootstrap_mean([0.7]) == (0.7, None, None)


# Peer: scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
@pytest.mark.parametrize(("ones", "n"), [(0, 20), (20, 20), (16, 20), (1, 1), (3, 7)])
def test_wilson_agrees_with_scipy(ones: int, n: int) -> None:
    interval = wilson_share([1.0] * ones + [0.0] * (n - ones))
    peer = stats.binomtest(ones, n).proportion_ci(method="wilson")
    assert interval == pytest.approx((ones / n, peer.low, peer.high), abs=1e-9)


def test_runs_that_play_the_same_episodes_count_less_than_so_many_episodes() -> None:
    few, many = (wilson_share([1.0] * 40, independent=n) for n in (20, None))
    assert few == wilson_share([1.0] * 20) and few.low < many.low


def test_intervals_are_of_other_runs_and_of_other_episodes() -> None:
    rng = np.random.default_rng(3)
    episodes, noise = rng.normal(size=(1, 60, 1)), rng.normal(size=(5, 60, 1))
    alike = run_intervals(np.repeat(episodes, 5, axis=0))[0][0]  # runs that agree: only episodes differ
    one = run_intervals(episodes)[0][0]
    assert (alike.low, alike.high) == pytest.approx((one.low, one.high), abs=0.03)
    runs = run_intervals(rng.normal(size=(5, 1, 1)) + np.zeros((5, 60, 1)))[0][0]  # episodes that agree
    peer = run_intervals(rng.normal(size=(5, 60, 1)))[0][0]
    assert runs.high - runs.low > 4 * (peer.high - peer.low)
    values = 2.0 + noise
    means, middles = run_intervals(np.concatenate([values, -values], axis=2))
    assert means[0].mean == pytest.approx(values.mean()) and means[1].mean == pytest.approx(-values.mean())
    assert all(one.low < one.mean < one.high for one in (*means, *middles))


def test_rliable_agrees_where_every_episode_is_independent() -> None:
    values = np.random.default_rng(5).exponential(size=(1, 40))
    (mean,), (middle,) = run_intervals(values[..., None])

    def both(table: np.ndarray) -> np.ndarray:
        return np.array([table.mean(), metrics.aggregate_iqm(table)])

    state = np.random.RandomState(0)
    points, ends = get_interval_estimates({"one": values}, both, reps=4000, task_bootstrap=True, random_state=state)
    for own, point, low, high in zip((mean, middle), points["one"], *ends["one"], strict=True):
        assert own.mean == pytest.approx(point)
        assert (own.low, own.high) == pytest.approx((low, high), abs=0.03)
    # where a run does better or worse in all its episodes, rliable takes its luck to differ from episode to episode
    runs = np.random.default_rng(7).normal(size=(5, 1)) + np.zeros((5, 40))
    (own,), _ = run_intervals(runs[..., None])
    state = np.random.RandomState(0)
    _, ends = get_interval_estimates({"five": runs}, both, reps=1000, task_bootstrap=True, random_state=state)
    assert own.high - own.low > 2 * (ends["five"][1, 0] - ends["five"][0, 0])
    rng = np.random.default_rng(6)
    values, other = rng.random((3, 8)), rng.random((2, 8))
    assert compare(values, other).probability.mean == pytest.approx(metrics.probability_of_improvement(values, other))


def test_an_agent_beside_another_on_the_same_episodes() -> None:
    rng = np.random.default_rng(4)
    episodes = rng.normal(size=30)
    better = compare((episodes + 0.1)[None], episodes[None])
    assert better.difference == pytest.approx((0.1, 0.1, 0.1)) and better.probability == pytest.approx((1.0, 1.0, 1.0))
    apart = compare(rng.normal(size=(1, 30)) + 0.1, episodes[None])  # no longer the same luck
    assert apart.difference.high - apart.difference.low > 0.3
    same = compare(episodes[None], np.stack([episodes, episodes]))
    assert same == Comparison(difference=same.difference, probability=pytest.approx((0.5, 0.5, 0.5)))
    assert same.difference == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert compare(np.array([[1.0]]), np.array([[0.5]])) == ((0.5, None, None), (1.0, None, None))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare(np.ones((1, 3)), np.ones((1, 4))), "same episodes, got 3 and 4"),
        (lambda: bootstrap_mean([]), "at least one value"),
        (lambda: bootstrap_mean([1.0, float("nan")]), "finite values, got nan at 1"),
        (lambda: bootstrap_mean([1.0], confidence=95), "between 0 and 1, got 95"),
        (lambda: wilson_share([0.0, 0.5]), "zeros and ones"),
    ],
)
def test_what_has_no_interval_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
