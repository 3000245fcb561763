"""Actions: the map to MW and back, what is feasible, and that Grid2Op never refuses any."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid2op_zones import ZonedGridEnv, make_zones
from grid2op_zones.action import NOT_CURTAILED, ActionMap, Setpoints
from grid2op_zones.limits import RAMP_SHARE, project

seeds = st.integers(0, 2**32 - 1)
reuses_fixture = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40, derandomize=True
)


def random_actions(env: ZonedGridEnv, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {agent: rng.uniform(-1.0, 1.0, space.shape) for agent, space in env.action_spaces.items()}


def random_setpoints(env: ZonedGridEnv, rng: np.random.Generator) -> Setpoints:
    cls = type(env.simulator)
    red = np.where(cls.gen_redispatchable, rng.normal(0.0, 15.0, cls.n_gen), 0.0)
    cap = np.where(cls.gen_renewable, rng.uniform(0.0, 1.0, cls.n_gen), 1.0)
    return Setpoints(red, cap, rng.normal(0.0, 15.0, cls.n_storage))


def sent(env, setpoints):
    """The Grid2Op action that is sent for set-points in the environment's present state."""
    obs, action_map = env.grid_observation, env.action_map
    return action_map.action(action_map.orders(action_map.feasible(setpoints, obs), obs))


def state(env: ZonedGridEnv, **changes) -> SimpleNamespace:
    """A copy of what the action map reads of the present state, with changes."""
    obs = env.grid_observation
    names = ("gen_p", "gen_p_delta", "actual_dispatch", "target_dispatch", "gen_p_before_curtail", "curtailment_limit")
    names += ("storage_charge", "storage_power", "storage_bus")
    copied = {name: np.array(getattr(obs, name)) for name in names}
    changed = {name: np.asarray(value, dtype=copied[name].dtype) for name, value in changes.items()}
    return SimpleNamespace(**{**copied, **changed})


def test_zero_is_do_nothing(idf):
    idf.reset(seed=0)
    setpoints = idf.action_map.decode({agent: np.zeros(n) for agent, n in idf.action_map.sizes.items()}, state(idf))
    assert not setpoints.redispatch.any() and not setpoints.storage.any()
    assert (setpoints.curtail == 1.0).all()
    action = sent(idf, setpoints)
    assert action == idf.simulator.action_space()


def test_components_are_named_in_order_and_scaled_by_the_unit(idf):
    cls, zone, amap = type(idf.simulator), idf.zones[0], idf.action_map
    assert amap.names["zone_0"] == (
        [f"redispatch[{cls.name_gen[g]}]" for g in zone.redispatchable]
        + [f"curtail[{cls.name_gen[g]}]" for g in zone.curtailable]
        + [f"storage[{cls.name_storage[s]}]" for s in zone.storages]
    )
    actions = {agent: np.zeros(n) for agent, n in amap.sizes.items()}
    actions["zone_0"][:] = -0.5
    idf.reset(seed=0)
    available = np.full(cls.n_gen, 0.4) * cls.gen_pmax
    setpoints = amap.decode(actions, state(idf, gen_p_before_curtail=available))
    np.testing.assert_allclose(
        setpoints.redispatch[zone.redispatchable], -0.5 * cls.gen_max_ramp_down[zone.redispatchable]
    )
    np.testing.assert_allclose(setpoints.curtail[zone.curtailable], 0.2)  # half of what is available
    np.testing.assert_allclose(setpoints.storage[zone.storages], -0.5 * cls.storage_max_p_prod[zone.storages])
    assert not setpoints.redispatch[idf.zones[1].generators].any()


@given(seed=seeds)
@reuses_fixture
def test_encode_is_the_inverse_of_decode(idf, seed):
    idf.reset(seed=0)
    rng, cls = np.random.default_rng(seed), type(idf.simulator)
    actions = random_actions(idf, rng)
    obs = state(idf, gen_p_before_curtail=rng.uniform(0.01, 1.0, cls.n_gen) * cls.gen_pmax)
    back = idf.action_map.encode(idf.action_map.decode(actions, obs), obs)
    for agent, zone in zip(idf.possible_agents, idf.zones, strict=True):
        expected = actions[agent].copy()
        caps = slice(len(zone.redispatchable), len(zone.redispatchable) + len(zone.curtailable))
        expected[caps] = np.where(expected[caps] < 0.0, expected[caps], NOT_CURTAILED)  # from 0 on a cap is no cap
        np.testing.assert_allclose(back[agent], expected, atol=1e-6)
        assert back[agent].dtype == np.float32
        assert idf.action_spaces[agent].contains(back[agent])


@given(
    seed=seeds,
    n=st.integers(1, 12),
    total=st.floats(-60.0, 60.0),
)
@settings(deadline=None)
def test_projection_is_optimal(seed, n, total):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(0.0, 10.0, n), rng.uniform(0.01, 1.0, n)
    low = rng.uniform(-10.0, 5.0, n)
    high = low + rng.uniform(0.0, 10.0, n)
    y = project(x, low, high, weight, total)
    assert (y >= low - 1e-9).all() and (y <= high + 1e-9).all()
    assert y.sum() == pytest.approx(np.clip(total, low.sum(), high.sum()), abs=1e-6)
    # optimality: units strictly inside their bounds share one multiplier, the others lie beyond it
    multiplier = weight * (y - x)
    free = (y > low + 1e-7) & (y < high - 1e-7)
    if free.any() and low.sum() < total < high.sum():
        shared = multiplier[free].mean()
        np.testing.assert_allclose(multiplier[free], shared, atol=1e-5)
        assert (multiplier[y >= high - 1e-7] <= shared + 1e-5).all()
        assert (multiplier[y <= low + 1e-7] >= shared - 1e-5).all()


def test_projection_of_a_known_problem():
    # from (4, 0) to a sum of 1 with weights 1 and 2: the excess of 3 is shared 2 to 1; then the first meets its bound
    x, weight, high = np.array([4.0, 0.0]), np.array([1.0, 2.0]), np.full(2, 9.0)
    np.testing.assert_allclose(project(x, np.full(2, -9.0), high, weight, 1.0), [2.0, -1.0])
    np.testing.assert_allclose(project(x, np.array([3.0, -9.0]), high, weight, 1.0), [3.0, -2.0])


def test_arrays_of_another_kind_are_refused():
    x = np.zeros(2)
    with pytest.raises(TypeError, match="array 2: expected kind 'd', found 'f'"):
        project(x, x, x.astype(np.float32), x, 0.0)


@given(seed=seeds, start=st.integers(0, 500))
@reuses_fixture
def test_feasible_setpoints_respect_every_limit(idf_unlimited, seed, start):
    env, cls, rng = idf_unlimited, type(idf_unlimited.simulator), np.random.default_rng(seed)
    env.reset(seed=seed % 1000, options={"scenario": seed % 2, "start": start})
    for _ in range(3):
        env.step(random_actions(env, rng))
    obs = env.grid_observation
    wanted = random_setpoints(env, rng)
    done = env.action_map.feasible(wanted, obs)
    assert (done.redispatch <= RAMP_SHARE * cls.gen_max_ramp_up + 1e-6).all()
    assert (done.redispatch >= -RAMP_SHARE * cls.gen_max_ramp_down - 1e-6).all()
    scheduled = obs.gen_p - obs.gen_p_delta
    red = cls.gen_redispatchable
    assert (
        np.maximum(scheduled + done.redispatch, scheduled)[red] <= np.maximum(cls.gen_pmax, scheduled)[red] + 1e-3
    ).all()
    assert (
        np.minimum(scheduled + done.redispatch, scheduled)[red] >= np.minimum(cls.gen_pmin, scheduled)[red] - 1e-3
    ).all()
    assert ((done.curtail >= 0.0) & (done.curtail <= 1.0)).all()
    output = np.minimum(done.curtail * cls.gen_pmax, obs.gen_p_before_curtail)
    renewable = cls.gen_renewable
    assert (np.abs(output - scheduled)[renewable] <= 0.1 * cls.gen_pmax[renewable] + 1e-2).all()
    hours = 1.0 / 12.0
    charged = np.where(done.storage > 0, done.storage * cls.storage_charging_efficiency, 0.0)
    drained = np.where(done.storage < 0, -done.storage / cls.storage_discharging_efficiency, 0.0)
    assert (obs.storage_charge + hours * charged <= cls.storage_Emax + 1e-4).all()
    assert (obs.storage_charge - hours * drained >= cls.storage_Emin - 1e-4).all()
    assert (np.abs(done.storage) <= 12.0 + 1e-6).all()
    low, high = env.action_map.ramp_box(scheduled, obs.actual_dispatch)
    for zone in env.zones:
        curtailed = np.maximum(obs.gen_p_before_curtail - done.curtail * cls.gen_pmax, 0.0)[zone.curtailable].sum()
        own, increment = zone.redispatchable, done.redispatch[zone.redispatchable].sum()
        needed = curtailed + done.storage[zone.storages].sum() - obs.actual_dispatch[own].sum()
        assert increment == pytest.approx(np.clip(needed, low[own].sum(), high[own].sum()), abs=0.05)


def test_dispatch_is_taken_back_where_the_schedule_used_the_headroom_up(case14):
    case14.reset(seed=0)
    cls, amap = type(case14.simulator), case14.action_map
    unit, partner = np.flatnonzero(cls.gen_redispatchable)[:2]
    dispatch = np.zeros(cls.n_gen)
    dispatch[unit], dispatch[partner] = 20.0, -20.0
    power = np.array(case14.grid_observation.gen_p)
    power[unit], power[partner] = cls.gen_pmax[unit] - 1.0, 60.0
    held = amap.feasible(
        amap.idle(), state(case14, gen_p=power, gen_p_delta=np.zeros(cls.n_gen), actual_dispatch=dispatch)
    )
    assert held.redispatch[unit] == pytest.approx(-RAMP_SHARE * cls.gen_max_ramp_down[unit])
    assert held.redispatch.sum() == pytest.approx(0.0, abs=1e-6)


def test_storages_stop_at_their_energy_limits(storage14):
    storage14.reset(seed=0)
    cls, amap = type(storage14.simulator), storage14.action_map
    full = np.array([cls.storage_Emax[0] - 0.1, cls.storage_Emin[1] + 0.1])
    idle = amap.idle()
    wanted = Setpoints(idle.redispatch, idle.curtail, np.array([99.0, -99.0]))
    done = amap.feasible(wanted, state(storage14, storage_charge=full))
    assert done.storage[0] == pytest.approx(0.1 * 12 / cls.storage_charging_efficiency[0], rel=1e-4)
    assert done.storage[1] == pytest.approx(-0.1 * 12 * cls.storage_discharging_efficiency[1], rel=1e-4)
    cut_off = amap.feasible(wanted, state(storage14, storage_bus=np.array([-1, 1])))
    assert cut_off.storage[0] == 0.0


def test_curtailment_is_approached_and_lifted_in_steps(idf_unlimited):
    env, cls = idf_unlimited, type(idf_unlimited.simulator)
    env.reset(seed=0, options={"scenario": 1, "start": 160})
    unit = int(np.argmax(np.where(cls.gen_renewable, env.grid_observation.gen_p / np.maximum(cls.gen_pmax, 1), 0.0)))
    idle = env.action_map.idle()
    idle.curtail[unit] = 0.0
    first = env.action_map.feasible(idle, env.grid_observation).curtail[unit]
    assert first == pytest.approx(env.grid_observation.gen_p[unit] / cls.gen_pmax[unit] - 0.1, abs=1e-3)
    held = env.grid_observation.gen_p_before_curtail.copy()
    held[unit] = 0.9 * cls.gen_pmax[unit]
    power = env.grid_observation.gen_p.copy()
    power[unit] = 0.3 * cls.gen_pmax[unit]
    lifted = env.action_map.feasible(env.action_map.idle(), state(env, gen_p=power, gen_p_before_curtail=held))
    assert lifted.curtail[unit] == pytest.approx(0.4, abs=1e-3)


def test_a_curtailment_beyond_the_ramps_shrinks(idf_unlimited):
    env, cls = idf_unlimited, type(idf_unlimited.simulator)
    env.reset(seed=0, options={"scenario": 1, "start": 160})
    obs, zone = env.grid_observation, env.zones[1]
    idle = env.action_map.idle()
    idle.curtail[zone.curtailable] = 0.0
    done = env.action_map.feasible(idle, obs)
    cut = np.maximum(obs.gen_p_before_curtail - done.curtail * cls.gen_pmax, 0.0)[zone.curtailable].sum()
    ramps = cls.gen_max_ramp_up[zone.redispatchable].sum()
    assert 0.5 * ramps < cut <= ramps
    assert done.redispatch[zone.redispatchable].sum() == pytest.approx(cut, abs=0.05)


@pytest.mark.parametrize("style", ["uniform", "bang", "walk"])
@pytest.mark.parametrize("grid", ["idf_unlimited", "storage14"])
def test_grid2op_refuses_no_action_of_a_whole_episode(grid, style, request):
    env, rng = request.getfixturevalue(grid), np.random.default_rng(7)
    env.reset(**env.episode_spec(1))
    held = random_actions(env, rng)
    over = False
    while not over:
        if style != "walk" or rng.random() < 0.05:
            held = random_actions(env, rng)
        played = {agent: np.sign(a) for agent, a in held.items()} if style == "bang" else held
        _, _, terminated, truncated, infos = env.step(played)
        assert env.simulator.infos["exception"] == []
        over = terminated["__all__"] or truncated["__all__"]
    metrics = infos["zone_0"]["episode_metrics"]
    assert metrics["illegal_actions"] == 0
    assert metrics["survived"] == 1
    assert metrics["cost"] < 0.95  # the actions did something


@given(seed=seeds)
@settings(reuses_fixture, max_examples=25)
def test_no_set_point_makes_an_action_ambiguous(idf_unlimited, seed):
    env, rng = idf_unlimited, np.random.default_rng(seed)
    env.reset(seed=seed % 100)
    for scale in (1.0, 100.0):
        wanted = random_setpoints(env, rng)
        wanted.redispatch[:] *= scale
        action = sent(env, wanted)
        assert action.is_ambiguous() == (False, None)


def test_dispatch_follows_the_target(case14):
    """What is asked of a unit over several steps is what Grid2Op's dispatch becomes."""
    case14.reset(seed=1, options={"scenario": 0, "start": 30})
    up, down = case14.zones[0].redispatchable[:2]
    cls = type(case14.simulator)
    for _ in range(3):
        setpoints = case14.action_map.idle()
        setpoints.redispatch[up], setpoints.redispatch[down] = 2.0, -2.0
        actions = case14.action_map.encode(setpoints, case14.grid_observation)
        case14.step(actions)
    assert cls.gen_max_ramp_up[up] >= 2.0
    assert case14.grid_observation.actual_dispatch[up] == pytest.approx(6.0, abs=0.3)
    assert case14.grid_observation.actual_dispatch[down] == pytest.approx(-6.0, abs=0.3)


def test_a_unit_that_grid2op_moved_is_taken_over_where_it_stands(case14):
    """Grid2Op adds a unit's first increment to its dispatch, every later one to its target."""
    case14.reset(seed=0)
    cls = type(case14.simulator)
    unit = int(case14.zones[0].redispatchable[0])
    dispatch, target, wanted = np.zeros(cls.n_gen), np.zeros(cls.n_gen), case14.action_map.idle()
    dispatch[unit], wanted.redispatch[unit] = 3.0, 1.0
    first = state(case14, actual_dispatch=dispatch, target_dispatch=target)
    assert case14.action_map.orders(wanted, first).redispatch[unit] == pytest.approx(1.0)
    target[unit] = 2.5
    later = state(case14, actual_dispatch=dispatch, target_dispatch=target)
    assert case14.action_map.orders(wanted, later).redispatch[unit] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zone_1": None}, r"missing \['zone_1'\], unknown \[\]"),
        ({"zone_9": np.zeros(2)}, r"unknown \['zone_9'\]"),
        ({"zone_1": np.zeros(3)}, r"action of zone_1: expected shape \(2,\), found \(3,\)"),
        ({"zone_1": np.array([0.0, np.nan])}, r"action of zone_1: component 1 \(curtail\[gen_7_4\]\) is nan"),
        ({"zone_2": np.array([np.inf, 0.0])}, r"action of zone_2: component 0 \(curtail\[gen_5_2\]\) is inf"),
    ],
)
def test_bad_actions_are_named(case14, change, message):
    case14.reset(seed=0)
    actions = {agent: np.zeros(n) for agent, n in case14.action_map.sizes.items()} | change
    with pytest.raises(ValueError, match=message):
        case14.step({agent: action for agent, action in actions.items() if action is not None})


def test_the_agents_have_only_the_actions_of_the_configuration(case14):
    amap = ActionMap(case14.simulator, case14.zones, ["curtail"])
    assert amap.names == {
        "zone_0": ["inert"],
        "zone_1": ["curtail[gen_7_4]"],
        "zone_2": ["curtail[gen_5_2]", "curtail[gen_5_3]"],
    }
    case14.reset(seed=0)
    ones = {agent: -np.ones(n) for agent, n in amap.sizes.items()}
    setpoints = amap.feasible(amap.decode(ones, case14.grid_observation), case14.grid_observation)
    assert not setpoints.redispatch.any()
    assert (setpoints.curtail < 1.0).any()


def test_balance_is_by_zone_where_every_zone_can(idf, case14):
    assert idf.action_map.balance == "zone"
    assert case14.action_map.balance == "grid"
    whole = make_zones(case14.simulator, [list(range(14))])
    assert ActionMap(case14.simulator, whole).balance == "zone"
