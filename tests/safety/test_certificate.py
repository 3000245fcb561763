"""What a certificate says: the worst case, active constraints, distances, and why a policy was not heard."""

from __future__ import annotations

import numpy as np
import pytest

from grid2op_zones.measurement import Measurement
from grid2op_zones.safety import SafetyProjection
from grid2op_zones.safety.projection import LATE, NOT_FINITE, TOLERANCE, WRONG_SHAPE, Certificate
from tests.safety.reference import problem_of, unit_of
from tests.safety.states import Grid, Mix, random_actions, random_state


def states(grid: Grid, seed: int, count: int, mix: Mix) -> list[tuple[int, Measurement, np.ndarray]]:
    """Zones in turn, each with a state and an action."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        zone = k % len(grid.zones)
        size = grid.zones[zone].projection.units.action_size
        found.append((zone, random_state(grid, zone, rng, mix), np.clip(random_actions(size, rng, 1)[0], -1.0, 1.0)))
    return found


def test_the_worst_case_and_what_exceeds_the_limits(grid: Grid) -> None:
    for zone, m, action in states(grid, 0, 60, Mix(1.0)):
        c = grid.zones[zone].projection.project(action, m)
        problem = problem_of(grid, zone, c, m)
        closed = np.isfinite(c.limit_mw)
        np.testing.assert_array_equal(closed, m.line_status[: len(closed)])
        worst = np.abs(problem.flow + problem.effects @ c.change) + problem.margin
        np.testing.assert_allclose(c.worst_mw[closed], worst, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(c.limit_mw[closed], problem.limit, rtol=1e-9)
        excess = np.maximum(c.worst_mw - c.limit_mw, 0.0)
        np.testing.assert_array_equal(c.slack_mw, excess)
        assert c.slack == pytest.approx((excess[closed] / problem.limit).max(), abs=1e-12)
        assert c.guaranteed == (not excess.any())


def test_active_constraints_are_those_that_hold_with_equality(grid: Grid) -> None:
    balanced = grid.env.action_map.balance == "zone"
    found = set()
    for zone, m, action in states(grid, 1, 200, Mix(0.85, outages=1)):
        c = grid.zones[zone].projection.project(action, m)
        if np.isnan(c.slack):
            continue
        active = c.active
        assert len(set(active)) == len(active)
        assert ("balance" in active) == balanced
        for name, change in zip(c.names, c.change, strict=True):
            unit = unit_of(grid, name, m)
            assert (f"low {name}" in active) == (abs(change - unit.low) <= 1e-6 * max(1.0, abs(change)))
            assert (f"high {name}" in active) == (abs(change - unit.high) <= 1e-6 * max(1.0, abs(change)))
        for name, worst, limit in zip(c.lines, c.worst_mw, c.limit_mw, strict=True):
            assert (f"limit {name}" in active) == (worst >= (1.0 - 3.0 * TOLERANCE) * limit)
            # a program ends with a line at its limit, less what it stays below it; nothing else moves the change
            found.add((c.how, f"limit {name}" in active))
        if c.how == "program":
            assert any(name.startswith("limit") for name in active)
    assert {("closed form", False), ("program", True), ("least violation", True)} <= found


def test_balance_is_active_where_nothing_is_to_be_balanced(idf: Grid) -> None:
    """A zone without dispatch, curtailment and charging still balances what it does."""
    projection = idf.zones[0].projection
    m = random_state(idf, 0, np.random.default_rng(0), Mix(0.2))
    m.actual_dispatch[:], m.storage_power[:] = 0.0, 0.0
    m.gen_p_before_curtail[:] = m.gen_p
    m.gen_p_delta[:] = 0.0
    c = projection.project(np.zeros(projection.units.size), m)
    assert c.room.total == 0.0 and c.room.gap == 0.0 and c.distance == 0.0
    assert "balance" in c.active


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda action: action * np.nan, NOT_FINITE),
        (lambda action: np.where(np.arange(len(action)) == 1, np.inf, action), NOT_FINITE),
        (lambda action: None, NOT_FINITE),
        (lambda action: action[:-1], WRONG_SHAPE),
        (lambda action: np.append(action, 0.0), WRONG_SHAPE),
        (lambda action: action[None], WRONG_SHAPE),
    ],
)
def test_without_an_action_dispatch_and_curtailment_are_released(grid: Grid, broken: object, reason: str) -> None:
    assert callable(broken)
    for zone, m, action in states(grid, 2, 12, Mix(0.5)):
        projection = grid.zones[zone].projection
        c = projection.project(broken(action), m)
        assert c.fallback == reason
        check_released(grid, projection, zone, m, c)


def test_a_late_policy_is_released_whatever_it_says(grid: Grid) -> None:
    for zone, m, action in states(grid, 3, 12, Mix(0.5)):
        projection = grid.zones[zone].projection
        late = projection.project(action, m, LATE)
        assert late.fallback == LATE
        projection.reset()
        again = projection.project(None, m, LATE)
        np.testing.assert_allclose(late.change, again.change, atol=1e-6)
        check_released(grid, projection, zone, m, late)
        assert projection.project(action, m).fallback is None


def check_released(grid: Grid, projection: SafetyProjection, zone: int, m: Measurement, c: Certificate) -> None:
    """A tenth of dispatch and curtailment goes and storages stop, as far as the projection lets them."""
    wanted = []
    for name in c.names:
        unit = unit_of(grid, name, m)
        wanted.append(-unit.present if unit.kind == "storage" else -0.1 * unit.present)
    steps = np.array([unit_of(grid, name, m).step for name in c.names])
    assert c.distance == pytest.approx(np.linalg.norm((c.change - wanted) / steps), rel=1e-6, abs=1e-9)
    if c.distance < 1e-9:
        np.testing.assert_allclose(c.change, wanted, atol=1e-6)


def test_holding_keeps_the_dispatch_and_lifts_the_caps(grid: Grid) -> None:
    """What the environment does below its idle threshold, as without a projection."""
    for zone, m, _ in states(grid, 4, 12, Mix(0.3)):
        c = grid.zones[zone].projection.hold(m)
        assert c.fallback is None
        units = [unit_of(grid, name, m) for name in c.names]
        wanted = np.array([0.0 if unit.kind == "redispatch" else -unit.present for unit in units])
        steps = np.array([unit.step for unit in units])
        assert c.distance == pytest.approx(np.linalg.norm((c.change - wanted) / steps), rel=1e-6, abs=1e-9)


def test_actions_beyond_their_range_are_clipped(grid: Grid) -> None:
    for zone, m, action in states(grid, 5, 30, Mix(0.6)):
        projection = grid.zones[zone].projection
        found = []
        for proposed in (100.0 * action, np.clip(100.0 * action, -1.0, 1.0)):
            projection.reset()
            found.append(projection.project(proposed, m))
        far, near = found
        np.testing.assert_array_equal(far.change, near.change)
        np.testing.assert_array_equal(far.action, near.action)
        assert far.distance == near.distance


def test_a_zone_without_units_has_its_action_back(idf: Grid) -> None:
    """Its one component has no effect; its lines are watched all the same."""
    own = idf.zones[0].projection
    data = own.units.data
    none = np.zeros(0, dtype=np.int64)
    empty = np.zeros(0)
    limits = type(data.storage_limits)(*(empty for _ in data.storage_limits))
    data = data._replace(
        names=(),
        **dict.fromkeys(("redispatchable", "curtailable", "storages"), none),
        **dict.fromkeys(("pmin", "pmax", "ramp_up", "ramp_down", "curtail_pmax"), empty),
        storage_limits=limits,
        balanced=False,
    )
    assert own.lines is not None
    lines = type(own.lines)(own.lines.data._replace(substations=none), own.lines.bounds)
    projection = SafetyProjection(type(own.units)(data), lines, idf.zones[0].meter.elements.lines)
    rng = np.random.default_rng(0)
    slacks = []
    for loading in (0.2, 1.2):
        c = projection.project(np.array([0.7], dtype=np.float32), random_state(idf, 0, rng, Mix(loading)))
        np.testing.assert_array_equal(c.action, np.float32([0.7]))
        assert c.distance == 0.0 and c.how == "closed form" and len(c.change) == 0
        slacks.append(c.slack)
    assert slacks[0] == 0.0 < slacks[1] and projection.failures == 0


def test_reserves_are_what_dispatch_may_still_move(idf: Grid) -> None:
    for zone, m, action in states(idf, 6, 12, Mix(0.5)):
        c = idf.zones[zone].projection.project(action, m)
        down, up = c.reserve_mw
        units = [unit_of(idf, name, m) for name in c.names]
        moving = [(change, unit) for change, unit in zip(c.change, units, strict=True) if unit.kind == "redispatch"]
        assert down == pytest.approx(sum(change - unit.low for change, unit in moving), abs=1e-5)
        assert up == pytest.approx(sum(unit.high - change for change, unit in moving), abs=1e-5)
        assert min(down, up) >= -1e-9
