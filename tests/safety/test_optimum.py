"""The projection's results against the optima of an interior-point solver, on problems that are written anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
import piqp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from grid2op_zones.program import InfeasibleError, QuadraticProgram, SolverError
from grid2op_zones.safety import SafetyProjection
from grid2op_zones.safety.projection import PRICE, TOLERANCE
from tests.safety.reference import Problem, problem_of
from tests.safety.states import Grid, Mix, random_actions, random_state

STATES = 10  # of an example and zone

#: What the examples came to.
seen: Counter[str | tuple[str, str]] = Counter()


def solve(
    problem: Problem, proposed: np.ndarray, loading: float, price: float | None
) -> tuple[np.ndarray, float] | None:
    """The changes, in MW, nearest to `proposed` with lines within `loading` of their limits.

    With a price: those of the least distance and price of squared violations, s, as shares of the limits. Variables
    are steps of the units, and the violations times the root of their price, so that the Hessian is 1.

    Returns:
        The changes, and how exact they are, in steps: where a multiplier is 0, to the root of the solver's tolerance.
        None where it finds none.
    """
    n, lines = len(problem.step), len(problem.flow)
    soft = 0 if price is None else lines
    rows = problem.effects * problem.step / problem.limit[:, None]
    flow, free = problem.flow / problem.limit, loading - problem.margin / problem.limit
    if price is not None:
        free = np.maximum(free, 0.0)
        violations = np.eye(lines) / np.sqrt(price)
        rows = np.block([[rows, -violations], [rows, violations]])
        low = np.concatenate([np.full(lines, -np.inf), -free - flow])
        high = np.concatenate([free - flow, np.full(lines, np.inf)])
    else:
        low, high = -free - flow, free - flow
    none = np.zeros(soft)
    balance = (None, None)
    if problem.least == problem.most:
        balance = np.asfortranarray(np.append(problem.step, none)[None]), np.array([problem.most])
    else:
        rows = np.vstack([rows, np.append(problem.step, none)])
        low, high = np.append(low, problem.least), np.append(high, problem.most)
    for tolerance in (1e-11, 1e-9):  # the first is at times beyond double precision
        solver = piqp.DenseSolver()
        for name in ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel"):
            setattr(solver.settings, name, tolerance)
        solver.setup(
            np.asfortranarray(np.eye(n + soft)),
            np.append(-proposed / problem.step, none),
            *balance,
            np.asfortranarray(rows),
            low,
            high,
            np.append(problem.low / problem.step, none),
            np.append(problem.high / problem.step, none + np.inf),
        )
        if solver.solve() == piqp.PIQP_SOLVED:
            return solver.result.x[:n] * problem.step, 1000.0 * tolerance**0.5
    return None


def check_stationary(problem: Problem, proposed: np.ndarray, change: np.ndarray, price: float) -> None:
    """The conditions for the optimum of the priced objective, which is convex: nothing that may move can improve it.

    In steps of the units: the gradient, with the balance's multiplier, is not below 0 where a unit may rise, and not
    above it where it may fall.
    """
    flow = (problem.flow + problem.effects @ change) / problem.limit
    free = np.maximum(1.0 - TOLERANCE - problem.margin / problem.limit, 0.0)
    violation = np.sign(flow) * np.maximum(np.abs(flow) - free, 0.0)
    rows = problem.effects * problem.step / problem.limit[:, None]
    gradient = (change - proposed) / problem.step + price * violation @ rows
    near = 1e-6 * (1.0 + price * np.abs(violation) @ np.abs(rows))  # what the terms lose to rounding and tolerances
    rising, falling = change < problem.high - 1e-5, change > problem.low + 1e-5
    least = ((-gradient - near) / problem.step)[rising].max(initial=-np.inf)
    most = ((-gradient + near) / problem.step)[falling].min(initial=np.inf)
    assert least <= most
    total = change.sum()
    if total > problem.least + 1e-6:  # the sum may fall
        assert most >= 0.0
    if total < problem.most - 1e-6:
        assert least <= 0.0


def keepable(problem: Problem, loading: float) -> bool:
    """Whether some change keeps all lines within `loading` of their limits, by a linear program."""
    free = loading * problem.limit - problem.margin
    ones, balanced = np.ones((1, len(problem.step))), problem.least == problem.most
    bounded = [(sign, sign * end) for sign, end in ((1, problem.most), (-1, problem.least)) if np.isfinite(end)]
    bounded = [] if balanced else bounded
    found = linprog(
        np.zeros(len(problem.step)),
        A_ub=np.vstack([problem.effects, -problem.effects, *(sign * ones for sign, _ in bounded)]),
        b_ub=np.concatenate([free - problem.flow, free + problem.flow, [end for _, end in bounded]]),
        A_eq=ones if balanced else None,
        b_eq=[problem.most] if balanced else None,
        bounds=list(zip(problem.low, problem.high, strict=True)),
    )
    return bool(found.status == 0)


def objective(problem: Problem, proposed: np.ndarray, change: np.ndarray, price: float | None) -> float:
    distance = float(np.square((change - proposed) / problem.step).sum())
    if price is None:
        return distance / 2.0
    free = np.maximum(1.0 - TOLERANCE - problem.margin / problem.limit, 0.0)
    violation = np.maximum(np.abs(problem.flow + problem.effects @ change) / problem.limit - free, 0.0)
    return distance / 2.0 + price / 2.0 * float(np.square(violation).sum())


@given(
    seed=st.integers(0, 2**32 - 1), loading=st.sampled_from([0.3, 0.7, 0.8, 0.85, 0.9, 1.1]), outages=st.integers(0, 2)
)
@settings(deadline=None, max_examples=25)
def test_the_projection_is_the_optimum(grid: Grid, seed: int, loading: float, outages: int) -> None:
    """Objectives are no worse than the other solver's by 1e-6, and changes agree as far as that is exact."""
    rng = np.random.default_rng(seed)
    for zone, found in enumerate(grid.zones):
        projection = found.projection
        projection.failures = 0
        for _ in range(STATES):
            m = random_state(grid, zone, rng, Mix(loading, outages))
            action = np.clip(random_actions(projection.units.action_size, rng, 1)[0], -1.0, 1.0)
            c = projection.project(action, m)
            if np.isnan(c.slack) or c.room.gap != 0.0:
                continue  # no lines, or no choice: every unit is at its limit
            seen[c.how] += 1
            problem, proposed = problem_of(grid, zone, c, m), projection.units.propose(action, c.room)
            assert c.distance == pytest.approx(np.linalg.norm((c.change - proposed) / problem.step), abs=1e-9)
            price = PRICE if c.how == "least violation" else None
            if price is not None:
                assert not keepable(problem, 1.0 - 2.0 * TOLERANCE)
            if c.how != "program":
                check_stationary(problem, proposed, c.change, price or 0.0)
            if price is not None and c.slack > 1.0:
                continue  # what the other solver's tolerance leaves of such a violation costs more than the distance
            found_best = solve(problem, proposed, 1.0 if c.how == "closed form" else 1.0 - TOLERANCE, price)
            if found_best is None:
                seen["not found"] += 1
            else:
                best, near = found_best
                own, other = (objective(problem, proposed, change, price) for change in (c.change, best))
                assert own <= other + 1e-6 * (1.0 + other)
                assert own >= other - near * (1.0 + other)
                np.testing.assert_allclose(c.change / problem.step, best / problem.step, atol=near)
            assert problem.least - 1e-6 <= c.change.sum() <= problem.most + 1e-6
            seen["made room"] += problem.least < problem.most and np.isfinite([problem.least, problem.most]).any()
            seen["made room", c.how] += "sum" in c.active
    assert all(found.projection.failures == 0 for found in grid.zones)


def test_every_way_was_compared() -> None:
    assert seen["closed form"] > 500 and seen["program"] > 20 and seen["least violation"] > 200
    assert seen["made room"] > 20 and seen["made room", "least violation"] > 5
    assert seen["not found"] < 10  # by the other solver, at tolerances near those of double precision


@pytest.mark.parametrize("zone", [0, 1, 2])
def test_a_warm_start_changes_nothing(idf: Grid, zone: int) -> None:
    """A walk of states, which change little from one to the next: the optima are those of a cold start."""
    found = idf.zones[zone]
    units, lines, names = found.projection.units, found.projection.lines, found.meter.elements.lines
    rng = np.random.default_rng(zone)
    warm, starts, ways = SafetyProjection(units, lines, names), Counter[str](), Counter[str]()
    one, other = (random_state(idf, zone, rng, Mix(loading)) for loading in (0.8, 1.0))
    count = len(names)
    for step in range(400):
        share = np.float32(0.5 + 0.5 * np.sin(0.05 * step))
        m = one._replace(
            p_or=(1 - share) * one.p_or + share * other.p_or,
            actual_dispatch=(1 - share) * one.actual_dispatch + share * other.actual_dispatch,
            line_status=one.line_status.copy(),
        )
        if step % 50 >= 40:
            m.line_status[step % count] = False
            m.p_or[step % count] = 0.0
        action = random_actions(units.action_size, rng, 1)[0]
        starts["warm"] += bool(warm._starts)
        a, b = warm.project(action, m), SafetyProjection(units, lines, names).project(action, m)
        ways[a.how] += 1
        assert a.how == b.how
        near = 1e-9 if a.how != "least violation" else 1e-7  # whose curvature along violations is a million times more
        np.testing.assert_allclose(a.change / units.scale, b.change / units.scale, atol=near)
    assert starts["warm"] > 300 and ways["program"] > 20, ways
    assert warm.failures == 0


def test_after_a_reset_results_are_the_same_to_the_last_bit(idf: Grid) -> None:
    projection, m, action = pressed(idf)
    first = SafetyProjection(projection.units, projection.lines).project(action, m)
    for _ in range(3):
        projection.reset()
        np.testing.assert_array_equal(projection.project(action, m).change, first.change)


def test_a_start_that_leads_nowhere_is_dropped(idf: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    projection, m, action = pressed(idf)
    expected = projection.project(action, m)
    solved = QuadraticProgram.solve

    def fails_warm(self: QuadraticProgram, start: np.ndarray | None = None) -> object:
        if start is not None:
            raise SolverError("DAQP exit flag -6")
        return solved(self)

    monkeypatch.setattr(QuadraticProgram, "solve", fails_warm)
    c = projection.project(action, m)
    assert c.how == expected.how == "program" and projection.failures == 0
    np.testing.assert_allclose(c.change, expected.change, atol=1e-9)


def test_where_the_solver_fails_the_units_limits_stay(idf: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    projection, m, action = pressed(idf)

    def fails(self: QuadraticProgram, start: np.ndarray | None = None) -> object:
        raise SolverError("DAQP exit flag -4")

    monkeypatch.setattr(QuadraticProgram, "solve", fails)
    room = projection.units.room(m)
    for count in (1, 2):
        c = projection.project(action, m)
        assert c.how == "closed form" and projection.failures == count
        np.testing.assert_array_equal(c.change, projection.units.nearest(projection.units.propose(action, room), room))
        assert c.slack > 0.0 and not c.guaranteed
    monkeypatch.undo()
    assert projection.project(action, m).how == "program" and projection.failures == 2


def test_where_the_solver_goes_in_circles_violations_are_priced(idf: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAQP does so on about one in 10,000 of the programs that have no solution."""
    projection, m, action = pressed(idf)
    expected = projection.project(action, m)
    solved = QuadraticProgram.solve

    def fails_without_price(self: QuadraticProgram, start: np.ndarray | None = None) -> object:
        if self.price is None:
            raise SolverError("DAQP exit flag -2")
        return solved(self, start)

    monkeypatch.setattr(QuadraticProgram, "solve", fails_without_price)
    c = projection.project(action, m)
    assert c.how == "least violation" and projection.failures == 0
    np.testing.assert_allclose(c.change / projection.units.scale, expected.change / projection.units.scale, atol=0.05)
    assert c.slack < 1e-3


def pressed(grid: Grid) -> tuple[SafetyProjection, object, np.ndarray]:
    """A projection of the first zone, and a state and an action for which it needs a program."""
    found, rng = grid.zones[0], np.random.default_rng(0)
    projection = SafetyProjection(found.projection.units, found.projection.lines, found.meter.elements.lines)
    while True:
        m, action = random_state(grid, 0, rng, Mix(0.85)), random_actions(projection.units.action_size, rng, 1)[0]
        if projection.project(action, m).how == "program":
            return projection, m, action


# ---------------------------------------------------------------- programs


def program(rows: np.ndarray, upper: np.ndarray, price: float | None = None) -> QuadraticProgram:
    """Nearest to (1, 1) within +-2."""
    n = rows.shape[1]
    return QuadraticProgram(
        hessian=np.ones(n),
        linear=-np.ones(n),
        lower=-2.0 * np.ones(n),
        upper=2.0 * np.ones(n),
        equal=np.zeros((0, n)),
        total=np.zeros(0),
        rows=rows,
        row_lower=np.full(len(rows), -100.0),
        row_upper=upper,
        price=price,
    )


def test_a_limit_that_nothing_can_keep_is_infeasible() -> None:
    """One that nothing moves, or not far enough; it leaves what can be kept to a program with a price."""
    rows = np.array([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(program(rows, np.array([0.5, 0.0])).solve().x, [0.5, 1.0])
    for upper in ([0.5, -1.0], [-3.0, 1.0]):
        with pytest.raises(InfeasibleError, match="1 line limits are out of reach"):
            program(rows, np.array(upper)).solve()
    # x + 1e3 (x - 0.5) = 1
    np.testing.assert_allclose(program(rows, np.array([0.5, -1.0]), 1e3).solve().x, [501 / 1001, 1.0])


def test_limits_that_contradict_each_other_are_infeasible() -> None:
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(InfeasibleError, match="2 variables, 0 equalities, 2 line limits"):
        program(rows, np.array([-1.0, -1.0])).solve()


def test_limits_out_of_the_units_reach_do_not_count() -> None:
    """The multipliers keep their places, for the next start."""
    rows = np.array([[1.0, 0.0], [1.0, 1.0]])
    for price in (None, 1e9):
        found = program(rows, np.array([50.0, 1.0]), price).solve()
        np.testing.assert_allclose(found.x, [0.5, 0.5], atol=1e-6)
        assert found.multipliers.shape == (4,) and found.multipliers[2] == 0.0 and found.multipliers[3] > 0.0
        np.testing.assert_allclose(program(rows, np.array([50.0, 1.0]), price).solve(found.multipliers).x, found.x)


@pytest.mark.parametrize("price", [None, 1e6])
def test_nothing_to_move(price: float | None) -> None:
    assert program(np.zeros((2, 0)), np.ones(2), price).solve().x.shape == (0,)
