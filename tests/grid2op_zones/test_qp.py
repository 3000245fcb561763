"""The quadratic program against hand computation and an independent solver, and how the dispatcher takes a failure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from grid2op_zones.area import Snapshot, make_areas
from grid2op_zones.env import ZonedGridEnv
from grid2op_zones.program import QuadraticProgram, SolverError
from grid2op_zones.ptdf import LinearFlow
from grid2op_zones.qp import QPDispatcher, QPSettings


@pytest.fixture(scope="module")
def env():
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "scenarios": {"split": "all"}})
    yield env
    env.close()


def program(rng, n, m, price=1e3):
    """A random program of a zone's size and scale: MW, loadings per MW, some lines above their limits."""
    row_upper = np.concatenate([[-0.05], rng.uniform(-0.1, 0.3, m - 1)])
    return QuadraticProgram(
        hessian=rng.uniform(0.5, 8.0, n) * 1e-3,
        linear=rng.normal(size=n) * 1e-3,
        lower=-rng.uniform(0.0, 10.0, n),
        upper=rng.uniform(0.0, 10.0, n),
        equal=np.ones((1, n)),
        total=np.zeros(1),
        rows=rng.normal(size=(m, n)) * 0.005,
        row_lower=row_upper - 1.8,
        row_upper=row_upper,
        price=price,
    )


def objective(qp, x):
    flow = qp.rows @ x
    slack = np.maximum(np.maximum(flow - qp.row_upper, qp.row_lower - flow), 0.0)
    return float(0.5 * qp.hessian @ x**2 + qp.linear @ x + 0.5 * qp.price * slack @ slack)


def test_hand_computed_optimum():
    """x1^2 + 2 x2^2 + 3 max(0, 1 - 2 x1)^2 with x1 + x2 = 0: 6 x1 - 12 (1 - 2 x1) = 0, x1 = 0.4."""
    one = np.ones(2)
    qp = QuadraticProgram(
        hessian=np.array([2.0, 4.0]),
        linear=np.zeros(2),
        lower=-5.0 * one,
        upper=5.0 * one,
        equal=one[None],
        total=np.zeros(1),
        rows=np.array([[2.0, 0.0], [0.0, 0.0]]),
        row_lower=np.array([1.0, 7.0]),  # the second row is one that nothing moves
        row_upper=np.array([9.0, 9.0]),
        price=6.0,
    )
    np.testing.assert_allclose(qp.solve().x, [0.4, -0.4], atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_an_independent_solver(seed):
    qp = program(np.random.default_rng(seed), n=12, m=8)
    x = qp.solve().x
    scale = 1e3  # SLSQP stops by an absolute tolerance
    other = minimize(
        lambda x: scale * objective(qp, x),
        np.zeros(12),
        bounds=list(zip(qp.lower, qp.upper, strict=True)),
        constraints=[{"type": "eq", "fun": lambda x: qp.equal @ x - qp.total}],
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 2000},
    )
    assert (qp.rows @ x > qp.row_upper - 1e-9).any(), "the instance should press a line"
    assert objective(qp, x) <= other.fun / scale + 1e-9
    np.testing.assert_allclose(x, other.x, atol=2e-3)
    np.testing.assert_allclose(qp.equal @ x, qp.total, atol=1e-8)
    assert (x >= qp.lower).all() and (x <= qp.upper).all()


@pytest.mark.parametrize("seed", range(20))
def test_robust_where_the_balance_takes_all_the_room(seed):
    """Central size, three groups, one at the very end of its bounds, units without room, prices of real use."""
    rng = np.random.default_rng(seed)
    n, m = 69, 60
    groups = (np.arange(n) % 3 == np.arange(3)[:, None]).astype(float)
    qp = program(rng, n, m, price=1e7)
    lower, upper = np.where(rng.random(n) < 0.3, 0.0, qp.lower), np.where(rng.random(n) < 0.5, 0.0, qp.upper)
    total = np.array([groups[0] @ lower, 0.0, groups[2] @ upper])
    qp = replace(qp, hessian=1e3 * qp.hessian, lower=lower, upper=upper, equal=groups, total=total)
    x = qp.solve().x
    np.testing.assert_allclose(groups @ x, total, atol=1e-4)
    np.testing.assert_allclose(x[groups[0] > 0], lower[groups[0] > 0], atol=1e-4)


def test_an_infeasible_program_is_an_error():
    qp = program(np.random.default_rng(0), n=5, m=2)
    with pytest.raises(SolverError, match="5 variables, 1 equalities, 2 line limits"):
        replace(qp, total=np.array([1e3])).solve()


def snapshot_of(env):
    obs = env.grid_observation
    return Snapshot(obs, env.action_map, LinearFlow(env.simulator).ptdf(obs))


def grid_area(env):
    actions = env.config["actions"]
    return make_areas(env.simulator, env.zones, env.action_map.balance, actions, central=True)[0]


def test_failure_holds_and_is_counted(env, monkeypatch, caplog):
    env.reset(**env.episode_spec(0))
    dispatcher = QPDispatcher(grid_area(env), QPSettings(act_above=0.0))
    good = dispatcher.program(snapshot_of(env))
    monkeypatch.setattr(dispatcher, "program", lambda _: replace(good, total=np.full(1, 1e4)))
    np.testing.assert_array_equal(dispatcher.changes(snapshot_of(env)), np.zeros(dispatcher.area.size))
    assert dispatcher.counts == {"solver_failed": 1}
    assert "dispatch held" in caplog.text


def test_line_limits_leave_room_for_reactive_power(env):
    """A flow moved to the program's limit, at unchanged voltage and reactive power, loads the line to the margin."""
    env.reset(**env.episode_spec(0))
    obs, snapshot = env.grid_observation, snapshot_of(env)
    qp = QPDispatcher(grid_area(env), QPSettings(margin=0.95, watch_above=0.3)).program(snapshot)
    lines = np.flatnonzero(obs.rho > 0.3)
    assert len(qp.row_upper) == len(lines) > 3
    active = obs.p_or[lines] + qp.row_upper * snapshot.capacity[lines]
    ampere = np.hypot(active, obs.q_or[lines]) / (np.sqrt(3.0) * obs.v_or[lines]) * 1e3
    np.testing.assert_allclose(ampere / obs.thermal_limit[lines], 0.95, atol=1e-5)


@pytest.fixture
def overloaded(env):
    """Thermal limits at which line 1_4_4 starts the first episode at 97 %, a line that redispatch can relieve."""
    limits = env.simulator.get_thermal_limit()
    env.reset(**env.episode_spec(0))
    line = list(env.simulator.name_line).index("1_4_4")
    tight = limits.copy()
    tight[line] *= env.grid_observation.rho[line] / 0.97
    env.simulator.set_thermal_limit(tight)
    env.reset(**env.episode_spec(0))
    assert env.grid_observation.rho[line] == pytest.approx(0.97, abs=1e-3)
    yield env, line
    env.simulator.set_thermal_limit(limits)


@pytest.mark.parametrize("name", ["qp", "qp_zones", "proportional", "proportional_zones"])
def test_an_overload_is_relieved(overloaded, name):
    env, line = overloaded
    loadings = {}
    for who in ("do_nothing", name):
        env.reset(**env.episode_spec(0))
        policy = env.behavior_policy(who)
        for _ in range(6):
            env.step(policy.act())
        loadings[who] = float(env.grid_observation.rho[line])
    assert loadings["do_nothing"] > 0.98
    assert loadings[name] < 0.95


def test_the_optimum_holds_the_limit_in_the_ac_power_flow(overloaded):
    """Where ramps allow, the line's loading after the planned change is the margin: AC flow, error under 1 %."""
    env, line = overloaded
    dispatcher = QPDispatcher(grid_area(env), QPSettings(margin=0.95))
    snapshot = snapshot_of(env)
    change = dispatcher.changes(snapshot)
    low, high = dispatcher.area.room(snapshot)
    moving = high[:3] - low[:3] > 0.0
    assert moving.any() and (np.abs(change[:3]) < 0.99 * np.maximum(high[:3], -low[:3])).any()
    model = env.simulator.backend._grid.copy()
    generators = list(model.get_generators())
    for unit, mw in zip(dispatcher.area.redispatchable, change, strict=False):
        model.change_p_gen(int(unit), float(generators[unit].target_p_mw + mw))
    for unit, mw in zip(dispatcher.area.curtailable, change[3:], strict=True):
        model.change_p_gen(int(unit), float(generators[unit].target_p_mw + mw))
    assert len(model.ac_pf(np.full(model.total_bus(), 1.02, dtype=complex), 30, 1e-10)) > 0
    ampere = 1e3 * [*model.get_lines(), *model.get_trafos()][line].res_a1_ka
    assert ampere / env.simulator.get_thermal_limit()[line] == pytest.approx(0.95, abs=0.01)


def test_noise_moves_the_work_between_units(overloaded):
    """Costs drawn anew give another dispatch that relieves the line as well."""
    env, line = overloaded
    snapshot, rng = snapshot_of(env), np.random.default_rng(0)
    dispatcher = QPDispatcher(grid_area(env), QPSettings(margin=0.94))
    plans = [dispatcher.changes(snapshot)]
    for _ in range(2):
        dispatcher.draw(rng, 0.5)
        plans.append(dispatcher.changes(snapshot))
    effect = dispatcher.area.effects(snapshot.ptdf, np.array([line]))[0] * np.sign(env.grid_observation.p_or[line])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(plans[a] - plans[b]).max() > 0.1
    assert all(effect @ plan < 0.0 for plan in plans)
