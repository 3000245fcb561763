"""Dispatch that is ready for outages: factors against theory and AC flows, and that the next outage finds room."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.area import Snapshot, make_areas
from grid2op_zones.dispatch import AreaPolicy
from grid2op_zones.n1 import N1Dispatcher, N1Settings
from grid2op_zones.opponent import threatened_lines
from grid2op_zones.ptdf import LinearFlow, outage_factors
from grid2op_zones.qp import QPDispatcher, QPSettings


@pytest.fixture(scope="module")
def env():
    env = ZonedGridEnv({"scenarios": {"split": "test"}, "thermal_limit_scale": 0.9})
    yield env
    env.close()


def ends(env):
    return env.simulator.line_or_to_subid.astype(int), env.simulator.line_ex_to_subid.astype(int)


def snapshot_of(env, **changed):
    obs = env.grid_observation.copy()
    for name, value in changed.items():
        setattr(obs, name, value)
    return Snapshot(obs, env.action_map, LinearFlow(env.simulator).ptdf(obs))


def dispatcher(env, threatened, *, zone=None, settings=None):
    areas = make_areas(env.simulator, env.zones, env.action_map.balance, env.config["actions"], central=zone is None)
    area = areas[0] if zone is None else areas[zone]
    return N1Dispatcher(area, threatened, ends(env), settings)


def test_factors_turn_the_transfers_into_those_without_the_line(env):
    start, end = ends(env)
    flow, closed = LinearFlow(env.simulator), np.ones(env.simulator.n_line, bool)
    ptdf = flow.of_status(closed)
    factors, outages = outage_factors(ptdf, np.arange(env.simulator.n_line), start, end)
    bridges = []
    for line in range(env.simulator.n_line):
        without = closed.copy()
        without[line] = False
        expected = flow.of_status(without)
        if expected is None:
            bridges.append(line)
            continue
        column = np.flatnonzero(outages == line)[0]
        np.testing.assert_allclose(ptdf + np.outer(factors[:, column], ptdf[line]), expected, atol=1e-9)
    assert bridges and not np.isin(bridges, outages).any(), "an outage that splits the grid has no factors"


def test_flows_after_an_outage_are_what_the_grid_then_carries(env):
    """rms error over the lines below a tenth of the rms change, for outages that change much."""
    env.reset(**env.episode_spec(0))
    obs = env.grid_observation
    start, end = ends(env)
    factors, outages = outage_factors(LinearFlow(env.simulator).ptdf(obs), np.arange(20, 60), start, end)
    for column in np.argsort(-np.abs(obs.p_or[outages]))[:5]:
        after = obs.p_or + factors[:, column] * obs.p_or[outages[column]]
        model = env.simulator.backend._grid.copy()
        line, lines = int(outages[column]), len(list(model.get_lines()))
        if line < lines:
            model.deactivate_powerline(line)
        else:
            model.deactivate_trafo(line - lines)
        assert len(model.ac_pf(np.full(model.total_bus(), 1.0 + 0j), 30, 1e-8)) > 0
        found = np.array([branch.res_p1_mw for branch in (*model.get_lines(), *model.get_trafos())])
        change = np.sqrt(np.mean((found - obs.p_or) ** 2))
        assert np.sqrt(np.mean((found - after) ** 2)) < 0.1 * change


@pytest.fixture
def threat(env):
    """A state, a line and an outage after which it would be loaded above its limit, though it is not now."""
    env.reset(**env.episode_spec(0))
    for _ in range(12):
        env.step({agent: np.zeros(size, np.float32) for agent, size in env.action_map.sizes.items()})
    lines = np.flatnonzero(env.grid_observation.rho < 0.85)
    pairs = dispatcher(env, lines)._pairs(snapshot_of(env), 1.05)
    now = env.grid_observation.rho[pairs.line]
    found = np.flatnonzero((now < 0.8) & (pairs.loading < 1.15))
    assert found.size
    return int(pairs.line[found[0]]), int(pairs.outage[found[0]])


def loading_after(env, line, outage, change=None, area=None):
    """Predicted flow over limit on a line after an outage, with changes of an area's units, MW."""
    snapshot = snapshot_of(env)
    (pair,) = _only(dispatcher(env, [outage])._pairs(snapshot, 0.0), line)
    flow = pair.flow
    if change is not None:
        effects = area.effects(snapshot.ptdf, np.array([line, outage]))
        flow += (effects[0] + pair.factor * effects[1]) @ change
    return abs(flow) / pair.limit


def _only(pairs, line):
    for k in np.flatnonzero(pairs.line == line):
        yield SimpleNamespace(flow=pairs.flow[k], limit=pairs.limit[k], factor=pairs.factor[k])


def test_room_is_made_for_an_outage_that_threatens(env, threat):
    line, outage = threat
    ready = dispatcher(env, [outage], settings=N1Settings(price_after=1e8))
    change = ready.changes(snapshot_of(env))
    before, after = (loading_after(env, line, outage, c, ready.area) for c in (None, change))
    assert before > 1.05 and after < before - 0.005
    plain = QPDispatcher(ready.area).changes(snapshot_of(env))
    assert loading_after(env, line, outage, np.zeros(ready.area.size) if plain is None else plain, ready.area) > after


def test_without_a_threat_it_is_the_plain_program(env, threat):
    snapshot = snapshot_of(env)
    plain, ready = QPDispatcher(dispatcher(env, []).area), dispatcher(env, [])
    assert ready.quiet(snapshot) == plain.quiet(snapshot)
    np.testing.assert_array_equal(ready.program(snapshot).rows, plain.program(snapshot).rows)


def test_maintenance_counts_when_it_is_near(env, threat):
    _, outage = threat
    ahead = np.full(env.simulator.n_line, -1)
    rows = {}
    for steps in (-1, 0, 24, 25):
        ahead[outage] = steps
        rows[steps] = len(dispatcher(env, []).program(snapshot_of(env, time_next_maintenance=ahead.copy())).rows)
    assert rows[24] == rows[0] > rows[-1] == rows[25]


def test_a_zone_counts_with_outages_of_its_own_lines_only(env, threat):
    _, outage = threat
    snapshot = snapshot_of(env)
    for k, zone in enumerate(env.zones):
        found = dispatcher(env, [outage], zone=k)._pairs(snapshot, 0.0)
        assert (found.line.size > 0) == (outage in zone.lines)
        assert np.isin(found.line, zone.lines).all()


def test_the_opponent_s_lines_are_threatened():
    attacked = ZonedGridEnv({"opponent": True})
    calm = ZonedGridEnv({})
    ids = threatened_lines(attacked.simulator)
    own = {line for area in attacked.simulator._opponent.list_opponents for line in area._lines_ids}
    assert set(ids) == own and len(ids) == 22
    assert threatened_lines(calm.simulator).size == 0
    attacked.close()
    calm.close()


def test_costs_by_mw_move_few_units_far(env):
    """Against costs by MW^2: the number of units in use, each weighed by its share, (sum |x|)^2 / sum x^2."""
    number = {}
    for linear_from in (None, 3.0):
        env.reset(**env.episode_spec(0))
        (area,) = make_areas(env.simulator, env.zones, env.action_map.balance, env.config["actions"], central=True)
        policy = AreaPolicy(env, [QPDispatcher(area, QPSettings(linear_from=linear_from))], noise=0.0, seed=0)
        found = []
        for _ in range(150):
            env.step(policy.act())
            used = np.abs(area.displaced(snapshot_of(env)))
            found.append(used.sum() ** 2 / max(np.square(used).sum(), 1e-9))
        number[linear_from] = np.mean(found)
    assert 1.0 < number[3.0] < 0.95 * number[None]


def test_cheap_units_move_where_prices_count(env, threat):
    """Mean price of the energy that is moved, over the mean of all units."""
    _, outage = threat
    paid = {}
    for by_price in (False, True):
        ready = dispatcher(env, [outage], settings=N1Settings(price_after=1e8, by_price=by_price))
        moved = np.abs(ready.changes(snapshot_of(env)))[: len(ready.area.redispatchable)]
        paid[by_price] = moved @ ready.area.prices / moved.sum()
    assert ready.area.prices.mean() == pytest.approx(1.0)
    assert paid[True] < 0.95 * paid[False]
