"""A whole week: determinism, balance, limits of the units, likeness to the recorded series."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from grid2op_zones.generator import WEEK, DispatchError, GridModel, PowerFlowError, Week, generate
from grid2op_zones.generator.describe import Sample, statistics

SUMMER = date(2035, 8, 20)


def test_the_same_date_and_seed_give_the_same_week(case14: GridModel) -> None:
    first, second, other = (generate(case14, SUMMER, seed) for seed in (5, 5, 6))
    for name in ("load_p", "prod_p", "outages", "loading"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert np.abs(first.load_p - other.load_p).mean() > 0.1
    assert first.load_p.shape == (WEEK, 11) and first.prod_p.shape == (WEEK, 6)


def test_production_meets_load_and_losses(idf: GridModel, summer: Week) -> None:
    losses = idf.power_flow.solve(summer.prod_p, summer.load_p, summer.load_q).losses
    missing = summer.prod_p.sum(axis=1) - summer.load_p.sum(axis=1) - losses
    assert np.abs(missing).max() < 1.0
    assert 0.005 < losses.mean() / summer.load_p.sum(axis=1).mean() < 0.05


@pytest.mark.parametrize("name", ["idf", "case14"])
def test_units_keep_their_limits(name: str, request: pytest.FixtureRequest) -> None:
    grid: GridModel = request.getfixturevalue(name)
    week = generate(grid, date(2035, 11, 5), 1)
    output = week.prod_p[:, grid.dispatch.units]
    change = np.diff(output, axis=0)
    # the dispatch plans with 0.9 of the ramps; what settles the losses may use the rest
    assert (change <= grid.dispatch.ramp[:, 0] / 0.9).all() and (change >= -grid.dispatch.ramp[:, 1] / 0.9).all()
    assert (output >= grid.dispatch.pmin - 0.02).all() and (output <= grid.dispatch.pmax + 0.02).all()
    assert (week.prod_p >= 0).all() and (week.prod_p <= grid.renewables.capacity + 0.02).all()


def test_a_summer_week_is_like_the_recorded_one(idf: GridModel, summer: Week) -> None:
    recorded = next(series for series in idf.recorded if series.start.month == 8)
    own = statistics(idf, Sample(summer.start, summer.load_p, summer.load_q, summer.prod_p))
    theirs = statistics(idf, Sample(recorded.start, recorded.load_p, recorded.load_q, recorded.prod_p))
    assert own["load_mw"] == pytest.approx(theirs["load_mw"], rel=0.1)
    assert own["load_ramp_q90_mw"] == pytest.approx(theirs["load_ramp_q90_mw"], rel=0.25)
    assert own["wind_autocorrelation_30min"] == pytest.approx(theirs["wind_autocorrelation_30min"], abs=0.12)
    assert own["renewable_share"] == pytest.approx(theirs["renewable_share"], abs=0.15)
    assert own["loading_mean"] == pytest.approx(theirs["loading_mean"], rel=0.2)


def test_a_week_that_cannot_be_made_names_itself(case14: GridModel) -> None:
    loads = replace(case14.loads, peak=case14.loads.peak * 3)
    with pytest.raises((DispatchError, PowerFlowError), match="2035-08-20, seed 7"):
        generate(replace(case14, loads=loads), SUMMER, 7)
