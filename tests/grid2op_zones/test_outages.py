"""Planned outages that overload a line: against the power flow of the grid without the line."""

from __future__ import annotations

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.generator.store import read_week
from grid2op_zones.outages import EVERY, RISE, OverloadingOutages
from grid2op_zones.ptdf import LinearFlow

SCENARIOS = {"source": "generated", "weeks": 4, "split": "train"}


@pytest.fixture(scope="module")
def env():
    env = ZonedGridEnv({"scenarios": SCENARIOS})
    yield env
    env.close()


def weeks(env):
    return [read_week(path) for path in env.simulator.chronics_handler.real_data.subpaths]


def worst_rise(env, week, line, first, end):
    """Highest loading without the line, of those that are higher than with it by more than `RISE`."""
    cls, flow = type(env.simulator), LinearFlow(env.simulator)
    status = np.ones(cls.n_line, dtype=bool)
    loadings = []
    for closed in (True, False):
        status[line] = closed
        ptdf = flow.of_status(status)
        if ptdf is None:
            return 0.0
        injected = np.zeros((cls.n_sub, len(range(first, end, EVERY))))
        np.add.at(injected, cls.gen_to_subid, week.prod_p[first:end:EVERY].T)
        np.add.at(injected, cls.load_to_subid, -week.load_p[first:end:EVERY].T)
        loadings.append(np.abs(ptdf @ injected) * env.observer.references.per_limit[:, None])
    before, after = loadings
    return after[after > before + RISE].max(initial=0.0)


def test_those_that_overload_a_line_are_found(env):
    found = OverloadingOutages(env.simulator)
    worst = {}
    for k, week in enumerate(weeks(env)):
        chosen = {tuple(outage) for outage in found.among(week)}
        for outage in week.outages:
            rise = worst_rise(env, week, *outage)
            worst[(k, *outage)] = rise
            if abs(rise - 1.0) > 1e-3:
                assert (tuple(outage) in chosen) == (rise > 1.0)
    overloading = sum(rise > 1.0 for rise in worst.values())
    assert 0 < overloading < len(worst)


def test_looser_limits_leave_fewer(env):
    loose = ZonedGridEnv({"thermal_limit_scale": 3.0, "scenarios": SCENARIOS})
    assert sum(len(OverloadingOutages(loose.simulator).among(week)) for week in weeks(env)) == 0
    loose.close()


def test_episodes_begin_before_them(env):
    ahead = ZonedGridEnv({"scenarios": {**SCENARIOS, "weeks": 12, "before_outages": 1.0}})
    found, all_weeks = OverloadingOutages(ahead.simulator), weeks(ahead)
    rng = np.random.default_rng(0)
    for _ in range(30):
        episode = ahead.scenarios.draw(rng)
        firsts = found.among(all_weeks[episode.series])[:, 1]
        assert ((firsts > episode.start) & (firsts <= episode.start + 48)).any()
    ahead.close()
