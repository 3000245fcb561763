"""Consumption follows the recorded level, day and week."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from grid2op_zones.generator import GridModel
from grid2op_zones.generator.loads import year_curve
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
        assert pattern.mean() == pytest.approx(total.mean(), rel=0.02)
        hourly = [x.reshape(2, 24, 12).mean(axis=(0, 2)) for x in (pattern, total)]
        assert np.corrcoef(*hourly)[0, 1] > 0.96


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


@pytest.mark.parametrize("name", ["idf", "case14"])
def test_loads_ramp_as_the_recorded_ones(name: str, request: pytest.FixtureRequest) -> None:
    grid: GridModel = request.getfixturevalue(name)
    for k, series in enumerate(grid.recorded):
        drawn = [grid.loads.draw(np.random.default_rng([k, n]), series.start, len(series.load_p)) for n in range(6)]
        for q in (0.5, 0.9, 0.99):
            found = np.mean([np.quantile(np.abs(np.diff(load.sum(axis=1))), q) for load in drawn])
            assert found == pytest.approx(np.quantile(np.abs(np.diff(series.load_p.sum(axis=1))), q), rel=0.15)
        # of each load alone, too
        changes = np.mean([np.abs(np.diff(load, axis=0)).sum(axis=1).mean() for load in drawn])
        assert changes == pytest.approx(np.abs(np.diff(series.load_p, axis=0)).sum(axis=1).mean(), rel=0.15)


def test_the_year_is_highest_in_the_middle_of_february() -> None:
    days = np.arange(1, 366)
    level = year_curve(days)
    assert days[level.argmax()] == 45
    assert level.min() / level.max() == pytest.approx(4 / 7, abs=1e-4)
