"""Planned maintenance."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from grid2op_zones.generator import GridModel, Week
from grid2op_zones.generator.maintenance import make_plan
from grid2op_zones.generator.recorded import DAY


def test_outages_keep_to_months_working_days_hours_and_number(idf: GridModel) -> None:
    rng = np.random.default_rng(0)
    assert not len(idf.maintenance.draw(rng, datetime(2035, 1, 1), 7 * DAY))
    drawn = [idf.maintenance.draw(rng, datetime(2035, 8, 6), 7 * DAY) for _ in range(30)]
    outages = np.concatenate(drawn)
    assert set(outages[:, 1] // DAY) == {0, 1, 2, 3, 4}
    assert set(outages[:, 1] % DAY) == {9 * 12} and set(outages[:, 2] % DAY) == {17 * 12}
    assert max(np.bincount(week[:, 1] // DAY).max() for week in drawn) <= 3
    # 21 lines at 6 % a day are 1.26 a day; three at most takes a little off
    assert len(outages) / 150 == pytest.approx(1.2, abs=0.2)
    possible = idf.maintenance.possible(datetime(2035, 8, 6), 7 * DAY)
    assert len(possible) == 21 * 5
    assert {tuple(outage) for outage in outages} <= {tuple(outage) for outage in possible}
    assert not len(idf.maintenance.possible(datetime(2035, 1, 1), 7 * DAY))  # no maintenance in January


def test_grids_without_a_plan_have_no_outages(case14: GridModel) -> None:
    assert case14.maintenance.draw(np.random.default_rng(0), datetime(2035, 8, 6), 7 * DAY).shape == (0, 3)
    assert case14.maintenance.possible(datetime(2035, 8, 6), 7 * DAY).shape == (0, 3)


def test_unknown_lines_are_named() -> None:
    class Env:
        name_line = ("0_1_0",)

    with pytest.raises(ValueError, match="7_8_9"):
        make_plan(Env(), {"line_to_maintenance": ["7_8_9"]})


def test_calm_rows_avoid_outages_and_overloads(summer: Week) -> None:
    rows = summer.calm_rows(rows=12)
    assert 0 < len(rows) < len(summer.load_p)
    for row in rows[::50]:
        assert summer.loading[row : row + 12].max() < 1.0
        assert not any(first - 12 < row < end for _, first, end in summer.outages)
