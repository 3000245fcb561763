"""What the lines are guaranteed: DC flows under sampled behaviours of all others, and the margins behind them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from grid2op_zones.ptdf import line_susceptance, power_transfer
from grid2op_zones.safety import Bounds, SafetyProjection, ZoneLines
from grid2op_zones.safety.lines import worst_balanced
from tests.safety.reference import Network, behaviours, problem_of, unit_of
from tests.safety.states import Grid, Mix, random_actions, random_state

#: Ways in which the others behave, for each of the certificates.
BEHAVIOURS = 1_000

STATES = 10  # of an example and zone

BOUNDS = [
    Bounds(),
    Bounds(load=0.03, renewable=0.05, schedule=1.0, others=0.5, loading=0.9),
    Bounds(others=0.0),
    Bounds(load=0.0, renewable=0.0, schedule=0.0),
]

#: What the examples came to.
seen: Counter[str] = Counter()


def projection_with(grid: Grid, zone: int, bounds: Bounds) -> SafetyProjection:
    """The zone's projection under other assumptions."""
    own = grid.zones[zone].projection
    assert own.lines is not None
    return SafetyProjection(own.units, ZoneLines(own.lines.data, bounds), grid.zones[zone].meter.elements.lines)


@given(seed=st.integers(0, 2**32 - 1), bounds=st.sampled_from(BOUNDS), outages=st.integers(0, 2))
@settings(deadline=None, max_examples=16)
def test_guaranteed_lines_keep_their_limits_whatever_the_others_do(
    grid: Grid, seed: int, bounds: Bounds, outages: int
) -> None:
    rng = np.random.default_rng(seed)
    for zone in range(len(grid.zones)):
        lines = grid.env.zones[zone].lines
        status = np.ones(len(lines), dtype=bool)
        status[rng.choice(len(lines), outages, replace=False)] = False
        projection = projection_with(grid, zone, bounds)
        assert projection.lines is not None
        model = projection.lines.model(status)
        if model is None:  # islands
            continue
        network = Network(grid, lines[~status])
        others, aimed = behaviours(grid, zone, network, bounds, rng, BEHAVIOURS)
        added = network.flows(others)[lines]
        reached = np.abs(added).max(axis=1)
        assert (reached <= model.margin * (1.0 + 1e-6) + 1e-9).all()
        # the margins are no larger than they have to be: the behaviours that aim at a line reach its own
        aimed = np.isin(lines, aimed) & (model.margin > 1e-6)
        assert (reached[aimed] >= (1.0 - 1e-6) * model.margin[aimed]).all()
        seen["tight"] += int(aimed.sum())
        for _ in range(STATES):
            m = random_state(grid, zone, rng, Mix(loading=rng.choice([0.4, 0.6, 0.8, 1.0])), status)
            c = projection.project(random_actions(projection.units.action_size, rng, 1)[0], m)
            seen[c.how] += 1
            assert c.guaranteed or c.how != "program"
            if not c.guaranteed:
                assert c.slack > 0.0
                continue
            own = np.zeros((network.n_sub, 1))
            np.add.at(own, ([unit_of(grid, name, m).sub for name in c.names], 0), c.change)
            own[:, 0] -= c.change.sum() * network.compensation
            flow = m.p_or[: len(lines), None] + network.flows(own)[lines] + added
            capacity = np.sqrt(3.0) * m.v_or[: len(lines)] * m.thermal_limit[: len(lines)].astype(float) / 1000.0
            room = (bounds.loading * capacity) ** 2 - m.q_or[: len(lines)].astype(float) ** 2
            limit = np.sqrt(np.maximum(room, (0.05 * bounds.loading * capacity) ** 2))
            share = np.abs(flow).max(axis=1)[status] / limit[status]
            assert share.max() <= 1.0 + 1e-6
            np.testing.assert_allclose(c.limit_mw[status], limit[status], rtol=1e-6)
            assert (np.abs(flow).max(axis=1) <= c.worst_mw * (1.0 + 1e-6) + 1e-6).all()
            seen["guaranteed"] += 1
            seen["near"] += share.max() > 0.999


def test_guarantees_were_put_to_the_test() -> None:
    """Many certificates, and many of them with a line that some behaviour brings to within 0.1 % of its limit."""
    assert seen["guaranteed"] > 200
    assert seen["program"] > 15 and seen["near"] > 15
    assert seen["tight"] > 500


def test_own_effects_are_those_of_the_dc_power_flow(grid: Grid) -> None:
    """What a unit injects is withdrawn by what the grid makes up for it with."""
    rng = np.random.default_rng(0)
    for zone in range(len(grid.zones)):
        m = random_state(grid, zone, rng, Mix())
        projection = grid.zones[zone].projection
        assert projection.lines is not None
        model = projection.lines.model(m.line_status[: len(grid.env.zones[zone].lines)])
        assert model is not None
        problem = problem_of(grid, zone, projection.hold(m), m)
        np.testing.assert_allclose(model.effects, problem.effects, atol=1e-9)


def test_open_lines_that_leave_islands_are_not_guaranteed(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    for zone, found in enumerate(grid.zones):
        cls, lines = type(grid.env.simulator), grid.env.zones[zone].lines
        cut = grid.env.zones[zone].substations[0]
        status = (cls.line_or_to_subid[lines] != cut) & (cls.line_ex_to_subid[lines] != cut)
        m = random_state(grid, zone, rng, Mix(), status)
        assert found.projection.lines is not None
        assert found.projection.lines.model(status) is None
        c = found.projection.project(random_actions(found.projection.units.action_size, rng, 1)[0], m)
        assert np.isnan(c.slack) and not c.guaranteed
        assert c.bounds is None and len(c.limit_mw) == len(c.worst_mw) == len(c.slack_mw) == len(c.margin_mw) == 0
        assert not any(name.startswith("limit") for name in c.active)
        for name, change in zip(c.names, c.change, strict=True):
            unit = unit_of(grid, name, m)
            assert unit.low - 1e-6 * unit.range <= change <= unit.high + 1e-6 * unit.range


def test_one_model_serves_until_a_line_opens(idf: Grid) -> None:
    found = idf.zones[0].projection.lines
    assert found is not None
    closed = np.ones(len(found.data.lines), dtype=bool)
    opened = closed.copy()
    opened[0] = False
    assert found.model(closed) is found.model(closed.copy())
    assert found.model(opened) is not found.model(closed)
    model = found.model(opened)
    assert model is not None and not model.effects[0].any() and model.margin[0] == 0.0


def test_a_dead_line_is_not_guaranteed_and_stops_nothing(idf: Grid) -> None:
    """A closed line without voltage has no limit to speak of; the others keep theirs."""
    rng = np.random.default_rng(1)
    projection = projection_with(idf, 0, Bounds())
    for _ in range(20):
        m = random_state(idf, 0, rng, Mix(loading=0.9))
        m.v_or[3] = 0.0
        with np.errstate(all="raise"):
            c = projection.project(random_actions(projection.units.action_size, rng, 1)[0], m)
        assert c.slack == np.inf and not c.guaranteed
        if c.how == "program":
            assert (np.delete(c.slack_mw, 3) == 0.0).all()
    assert projection.failures == 0


# ---------------------------------------------------------------- margins


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), rows=st.integers(1, 5))
@settings(deadline=None, max_examples=200)
def test_worst_balanced_is_the_linear_program_s(seed: int, n: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((rows, n)).round(1)  # some are equal
    most = rng.uniform(0.0, 10.0, n) * (rng.random(n) < 0.8)
    found = worst_balanced(c, most)
    for row, value in zip(c, found, strict=True):
        best = linprog(-row, A_eq=np.ones((1, n)), b_eq=[0.0], bounds=list(zip(-most, most, strict=True)))
        assert best.status == 0
        assert value == pytest.approx(-best.fun, abs=1e-7)


def test_worst_balanced_by_hand() -> None:
    """Of 3 MW at an effect of 2 and 5 MW at -1, 3 can balance: 3 * 2 + 3 * 1. With 1 MW at 0, half of all moves."""
    assert worst_balanced(np.array([[2.0, -1.0]]), np.array([3.0, 5.0])) == pytest.approx([9.0])
    assert worst_balanced(np.array([[2.0, -1.0, 0.0]]), np.array([3.0, 5.0, 1.0])) == pytest.approx([3 * 2 + 4])
    np.testing.assert_array_equal(worst_balanced(np.ones((2, 3)), np.zeros(3)), np.zeros(2))
    assert worst_balanced(np.array([[7.0]]), np.array([3.0])) == pytest.approx([0.0])  # nothing to balance it with


def test_power_transfer_is_the_sparse_solution(grid: Grid) -> None:
    simulator = grid.env.simulator
    cls = type(simulator)
    b = line_susceptance(simulator)
    b[2] = 0.0
    ptdf = power_transfer(b, cls.line_or_to_subid, cls.line_ex_to_subid, cls.n_sub)
    assert ptdf is not None
    injections = np.random.default_rng(0).standard_normal((cls.n_sub, 50))
    injections -= injections.mean(axis=0)
    np.testing.assert_allclose(ptdf @ injections, Network(grid, np.array([2])).flows(injections), atol=1e-9)
