"""Planned outages that overload a line: against the power flow of the grid without the line."""

from __future__ import annotations

from dataclasses import replace

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
        chosen = {tuple(outage) for outage in found.among(week, week.outages)}
        for outage in week.outages:
            rise = worst_rise(env, week, *outage)
            worst[(k, *outage)] = rise
            if abs(rise - 1.0) > 1e-3:
                assert (tuple(outage) in chosen) == (rise > 1.0)
    overloading = sum(rise > 1.0 for rise in worst.values())
    assert 0 < overloading < len(worst)


def test_looser_limits_leave_fewer(env):
    loose = ZonedGridEnv({"thermal_limit_scale": 3.0, "scenarios": SCENARIOS})
    assert sum(len(OverloadingOutages(loose.simulator).further(week)) for week in weeks(env)) == 0
    loose.close()


def test_those_that_might_be_planned_overload_too_and_are_not_planned_yet(env):
    found = OverloadingOutages(env.simulator)
    week = max(weeks(env), key=lambda week: len(found.further(week)))
    further = found.further(week)
    rises = [worst_rise(env, week, *outage) for outage in further]
    assert len(further) > 3 and min(rises) > 1.0 - 1e-3
    planned = replace(week, outages=np.concatenate([week.outages, further[:2]]))
    assert {tuple(o) for o in found.further(planned)} == {tuple(o) for o in further[2:]}


def test_episodes_begin_before_them_and_they_come():
    env = ZonedGridEnv({"scenarios": {**SCENARIOS, "before_outages": 0.7}})
    found, all_weeks, ends = OverloadingOutages(env.simulator), weeks(env), []
    for seed in range(12):
        env.reset(seed=seed)
        episode = env._episode
        own = all_weeks[episode.series].outages
        if episode.outage is None:
            continue
        line, first, _ = episode.outage
        assert list(episode.outage) in found.further(all_weeks[episode.series]).tolist()
        assert env.grid_observation.time_next_maintenance[line] == first - episode.start
        assert env.grid_observation.duration_next_maintenance[line] == episode.outage[2] - first
        ends.append((seed, episode))
        # the same start given, nothing but the week's own is planned
        env.reset(options={"scenario": episode.series, "start": episode.start})
        ahead = sorted(row - episode.start for out, row, _ in own if out == line and row >= episode.start)
        assert env.grid_observation.time_next_maintenance[line] == (ahead or [-1])[0]
    assert len(ends) > 4
    seed, episode = min(ends, key=lambda end: end[1].outage[1] - end[1].start)
    env.reset(seed=seed)
    assert env._episode == episode  # the same seed, the same outage
    while env.grid_observation.time_next_maintenance[episode.outage[0]] > 0:
        env.step({agent: np.zeros(space.shape) for agent, space in env.action_spaces.items()})
    assert not env.grid_observation.line_status[episode.outage[0]]
    env.close()
