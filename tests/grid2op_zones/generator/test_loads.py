"""Consumption follows the recorded level, day and week."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from grid2op_zones.generator import GridModel
from grid2op_zones.generator.recorded import DAY


@pytest.mark.parametrize("month", [1, 8])
def test_a_month_lies_within_three_percent_of_the_pattern(idf: GridModel, month: int) -> None:
    rng = np.random.default_rng(month)
    starts = [datetime(2035, month, day) for day in (1, 8, 15, 22)]
    drawn = np.mean([idf.loads.draw(rng, start, 7 * DAY).sum(axis=1).mean() for start in starts])
    pattern = np.mean([idf.loads.pattern(start, 7 * DAY).mean() for start in starts]) * idf.loads.peak.sum()
    assert drawn == pytest.approx(pattern, rel=0.03)


def test_the_pattern_meets_the_recorded_levels_and_day(idf: GridModel) -> None:
    for series in idf.recorded:
        pattern = idf.loads.pattern(series.start, 2 * DAY) * idf.loads.peak.sum()
        total = series.load_p[: 2 * DAY].sum(axis=1)
        assert pattern.mean() == pytest.approx(total.mean(), rel=0.03)
        hourly = [x.reshape(2, 24, 12).mean(axis=(0, 2)) for x in (pattern, total)]
        assert np.corrcoef(*hourly)[0, 1] > 0.97


def test_weekends_and_nights_are_lower(idf: GridModel) -> None:
    days = idf.loads.pattern(datetime(2035, 1, 1), 7 * DAY).reshape(7, 24, 12).mean(axis=2)
    assert days[6].mean() < days[5].mean() < 0.95 * days[:5].mean()
    assert days[:5, 4].mean() < 0.8 * days[:5, 12].mean()


def test_a_grid_without_parameters_takes_its_own_level(case14: GridModel) -> None:
    series = case14.recorded[0]
    expected = np.mean([case14.loads.pattern(s.start, len(s.load_p)).mean() for s in case14.recorded])
    recorded = np.mean([s.load_p.mean(axis=0) for s in case14.recorded], axis=0)
    np.testing.assert_allclose(case14.loads.peak * expected, recorded, rtol=1e-6)
    assert case14.loads.q_ratio.mean() == pytest.approx(series.load_q.sum() / series.load_p.sum(), rel=0.01)
