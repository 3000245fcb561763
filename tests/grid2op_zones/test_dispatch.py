"""The behaviour policies: who sees and moves what, balance, noise, bad names, and whether they keep a grid alive."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from grid2op_zones.area import IN_USE_MW, Snapshot, make_areas
from grid2op_zones.dispatch import POLICIES, RandomWalk, make_policy
from grid2op_zones.env import ZonedGridEnv
from grid2op_zones.proportional import ProportionalDispatcher, ProportionalSettings
from grid2op_zones.ptdf import LinearFlow

DISPATCHERS = POLICIES[2:]


@pytest.fixture(scope="module")
def env():
    """The 118-bus grid: every zone balances itself. Episode 0 overloads within 27 steps of doing nothing."""
    env = ZonedGridEnv({"scenarios": {"split": "test"}})
    assert env.action_map.balance == "zone"
    yield env
    env.close()


@pytest.fixture(scope="module")
def storage_env():
    """A 14-bus grid with storages, balanced over all zones: the third has nothing to redispatch."""
    env = ZonedGridEnv({"grid": "educ_case14_storage", "scenarios": {"split": "all"}})
    assert env.action_map.balance == "grid"
    yield env
    env.close()


def play(env, policy, steps):
    """Actions of an episode's first steps, as far as it goes."""
    env.reset(**env.episode_spec(0))
    policy.reset()
    actions = []
    for _ in range(steps):
        actions.append(policy.act())
        _, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated["__all__"] or truncated["__all__"]:
            break
    return actions


def under_stress(env, steps=20):
    """The environment in a state where lines are hot and units are in use."""
    play(env, make_policy(env, "qp_zones"), steps)
    assert env.grid_observation.rho.max() > 0.8
    assert np.abs(env.grid_observation.actual_dispatch).sum() > 5.0
    return env


def seen(env, **changed):
    """The environment as a policy sees it, with an observation in which arrays are changed: name=(where, value)."""
    obs = env.grid_observation.copy()
    for name, (where, value) in changed.items():
        getattr(obs, name)[where] = value
    fields = {name: getattr(env, name) for name in ("action_map", "simulator", "zones", "config")}
    return SimpleNamespace(grid_state=obs, grid_observation=obs, **fields)


def is_idle(env, action):
    """Whether it holds the dispatch, caps nothing and leaves the storages alone."""
    wanted, idle = env.action_map.decode(action, env.grid_observation), env.action_map.idle()
    return all(np.allclose(mw, none, atol=1e-5) for mw, none in zip(wanted, idle, strict=True))


def snapshot_of(env):
    obs = env.grid_observation
    return Snapshot(obs, env.action_map, LinearFlow(env.simulator).ptdf(obs))


def areas_of(env, balance=None, central=False):
    balance = balance or env.action_map.balance
    return make_areas(env.simulator, env.zones, balance, env.config["actions"], central=central)


@pytest.mark.parametrize("name", POLICIES)
def test_actions_fit_the_action_spaces(env, storage_env, name):
    for grid in (env, storage_env):
        for noise in (0.0, 1.0):
            actions = play(grid, make_policy(grid, name, noise=noise, seed=0), 8)
            assert len(actions) == 8
            for action in actions:
                assert action.keys() == grid.action_spaces.keys()
                assert all(grid.action_spaces[agent].contains(value) for agent, value in action.items())


def test_do_nothing_is_zeros(env):
    assert all(not value.any() for action in play(env, make_policy(env, "do_nothing"), 3) for value in action.values())


def test_quiet_grid_is_left_alone(env):
    """Without a line above the threshold and without a unit in use, every dispatcher does nothing."""
    env.reset(**env.episode_spec(0))
    every = np.arange(env.simulator.n_line)
    for name in DISPATCHERS:
        assert is_idle(env, make_policy(seen(env, rho=(every, 0.7)), name, noise=1.0, seed=0).act())


@pytest.mark.parametrize("name", ["qp", "qp_zones"])
@pytest.mark.parametrize("balance", ["zone", "grid"])
def test_redispatch_sums_to_curtailed_and_charged(balance, name, monkeypatch):
    """As planned, before any projection, but for curtailment too small to keep: in each zone, or in the whole grid."""
    env = ZonedGridEnv({"scenarios": {"split": "test"}, "balance": balance})
    policy, checked, planned, encode = make_policy(env, name), 0, [], env.action_map.encode
    # the plan itself: the action that it becomes may say less
    monkeypatch.setattr(env.action_map, "encode", lambda plan, obs: planned.append(plan) or encode(plan, obs))
    groups = areas_of(env, balance="zone") if balance == "zone" else areas_of(env, balance="grid", central=True)
    env.reset(**env.episode_spec(0))
    for _ in range(25):
        actions, obs = policy.act(), env.grid_observation
        wanted = planned[-1]
        dispatch = obs.actual_dispatch + wanted.redispatch
        curtailed = np.maximum(obs.gen_p_before_curtail - wanted.curtail * env.action_map.pmax, 0.0)
        if not is_idle(env, actions) and not (balance == "grid" and name == "qp_zones"):
            for group in groups:
                taken = curtailed[group.curtailable].sum() + wanted.storage[group.storages].sum()
                tolerance = IN_USE_MW * len(group.curtailable) + 0.01
                assert dispatch[group.redispatchable].sum() == pytest.approx(taken, abs=tolerance)
                checked += 1
        env.step(actions)
        obs = env.grid_observation
        total = obs.storage_power.sum() + (obs.gen_p_before_curtail - obs.gen_p)[obs.gen_renewable].sum()
        assert obs.actual_dispatch.sum() == pytest.approx(total, abs=1.0), "as it came about"
    assert checked >= 15 or (balance == "grid" and name == "qp_zones")
    env.close()


def test_areas_hold_their_zones_units_only(env, storage_env):
    for grid in (env, storage_env):
        for zone, area in zip(grid.zones, areas_of(grid), strict=True):
            assert set(area.substations) <= set(zone.substations)
            np.testing.assert_array_equal(area.lines, zone.lines)
        (whole,) = areas_of(grid, central=True)
        assert whole.size == sum(area.size for area in areas_of(grid))


@pytest.mark.parametrize("name", DISPATCHERS)
def test_zone_policies_do_not_see_beyond_their_zone(env, name):
    """Overloads inside zone_2 alone change zone_2's action; another zone's changes only under a central policy."""
    under_stress(env)
    shared = np.concatenate([env.zones[0].lines, env.zones[1].lines])
    inside = np.setdiff1d(env.zones[2].lines, shared)[::4]
    before = make_policy(env, name).act()
    after = make_policy(seen(env, rho=(inside, 1.1), p_or=(inside, 200.0)), name).act()
    differs = {agent: float(np.abs(before[agent] - after[agent]).max()) for agent in before}
    assert differs["zone_2"] > 1e-3
    if name.endswith("_zones"):
        assert differs["zone_0"] == differs["zone_1"] == 0.0


def test_ungrouped_units_are_compensated_by_ramps(storage_env):
    """Where the grid balances, dispatching all generators in proportion to their ramps moves no line."""
    env = storage_env
    env.reset(**env.episode_spec(0))
    cls, snapshot = type(env.simulator), snapshot_of(env)
    every = np.arange(cls.n_line)
    zones = areas_of(env)
    assert all(len(area.balanced) == 0 and area.compensation.sum() == pytest.approx(1.0) for area in zones)
    moved = np.zeros(cls.n_line)
    for area in zones:
        ramps = (cls.gen_max_ramp_up + cls.gen_max_ramp_down)[area.redispatchable]
        effects = area.effects(snapshot.ptdf, every)
        moved += effects[:, : len(area.redispatchable)] @ ramps
        assert np.abs(effects).max() > 0.05
    np.testing.assert_allclose(moved, 0.0, atol=1e-9)


def test_proportional_move_is_balanced_and_sized_for_the_worst_line(env):
    """Where no limit binds, its effect on the worst line is the way down to `aim`."""
    under_stress(env)
    snapshot = snapshot_of(env)
    for area in areas_of(env):
        worst = area.lines[np.argmax(snapshot.loading[area.lines])]
        loading = float(snapshot.loading[worst])
        settings = ProportionalSettings(act_above=loading - 1e-6, aim=loading - 0.002)
        change = ProportionalDispatcher(area, settings).changes(snapshot)
        low, high = area.room(snapshot)
        assert (np.abs(change) > 1e-4).any()
        assert (change >= low).all() and (change <= high).all()
        if abs(change.sum()) > 1e-6:  # a limit bound
            continue
        flow = np.sign(snapshot.observation.p_or[worst]) * area.effects(snapshot.ptdf, np.array([worst]))[0] @ change
        assert flow / snapshot.capacity[worst] == pytest.approx(-0.002, rel=1e-4)
        break
    else:
        pytest.fail("a limit bound in every zone")


def test_proportional_returns_to_the_schedule(env):
    under_stress(env)
    every = np.arange(env.simulator.n_line)
    snapshot = snapshot_of(seen(env, rho=(every, 0.5)))
    used = 0
    for area in areas_of(env):
        present = area.displaced(snapshot)
        change = ProportionalDispatcher(area).changes(snapshot)
        if change is None:
            assert np.abs(present).max() < 0.1
            continue
        used += 1
        assert np.abs(present + change).sum() < np.abs(present).sum()
        assert (np.abs(change) <= np.abs(present) + 1e-9).all()
    assert used


@pytest.mark.parametrize("name", DISPATCHERS)
def test_noise_is_reproducible_and_new_in_every_episode(env, name):
    def plans(seed, noise=0.5):
        policy = make_policy(env, name, noise=noise, seed=seed)
        drawn = []
        for _ in range(3):
            policy.reset()
            drawn.append(np.concatenate(list(policy.act().values())))
        return drawn

    under_stress(env)
    first, again, other, plain = plans(1), plans(1), plans(2), plans(1, noise=0.0)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], other[0]), (first[0], plain[0])):
        assert np.abs(a - b).max() > 0.01
    np.testing.assert_array_equal(plain[0], plain[2])


def test_noise_on_actions_leaves_idle_units_alone(env):
    under_stress(env)
    action_map, obs = env.action_map, env.grid_observation
    idle = np.concatenate(list(action_map.encode(action_map.idle(), obs).values()))
    plain = np.concatenate(list(make_policy(env, "qp_zones").act().values()))
    noisy = np.concatenate(list(make_policy(env, "qp_zones", noise=1e-6, seed=0).act().values()))
    unused = plain == idle
    assert unused.any() and not unused.all()
    # costs are all but the same: what was not in use exactly is so still
    np.testing.assert_array_equal(noisy[unused], idle[unused])
    np.testing.assert_allclose(noisy, plain, atol=1e-3)
    assert (noisy != plain).any()


def test_random_walk_is_slow_bounded_and_seeded(env):
    def joint(actions):
        return np.array([np.concatenate(list(action.values())) for action in actions])

    walks = [RandomWalk(env, seed=seed, scale=0.2, persistence=10.0, busy=0.5) for seed in (0, 0, 1)]
    first, again, other = (joint([walk.act() for _ in range(400)]) for walk in walks)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert 0.19 < np.abs(first).max() <= 0.2
    used = np.abs(first).max(axis=0) > 0.0
    assert 0.3 < used.mean() < 0.7
    assert np.mean(np.diff(first[:, used], axis=0) != 0.0) == pytest.approx(0.1, abs=0.01)


def test_no_linear_model_means_do_nothing_and_is_counted(env):
    under_stress(env)
    cut = (env.simulator.line_or_to_subid == 5) | (env.simulator.line_ex_to_subid == 5)
    policy = make_policy(seen(env, line_status=(cut, False)), "qp_zones", noise=1.0, seed=0)
    assert is_idle(env, policy.act())
    assert policy.counts["no_linear_model"] == 1


def test_open_lines_are_planned_with(env):
    """A policy goes on with a line out of service, whose loading and voltage read 0."""
    under_stress(env)
    out = int(np.argsort(env.grid_observation.rho)[80])
    changed = dict.fromkeys(("rho", "p_or", "q_or", "v_or", "a_or"), (out, 0.0))
    for name in DISPATCHERS:
        policy = make_policy(seen(env, line_status=(out, False), **changed), name)
        assert not is_idle(env, policy.act())
        assert policy.counts["no_linear_model"] == 0


def test_only_allowed_kinds_are_used():
    env = ZonedGridEnv({"actions": ["redispatch"], "scenarios": {"split": "test"}})
    under_stress(env)
    for name in ("qp", "qp_zones", "proportional", "proportional_zones"):
        assert make_policy(env, name).act().keys() == env.action_spaces.keys()
        area = areas_of(env, central=True)[0]
        assert area.size == len(area.redispatchable) == int(env.simulator.gen_redispatchable.sum())
    env.close()


def test_zone_policies_keep_a_grid_alive_that_nothing_does_not(env):
    assert len(play(env, make_policy(env, "do_nothing"), 60)) < 60
    for name in ("qp_zones", "proportional_zones"):
        policy = make_policy(env, name, noise=0.5, seed=0)
        assert len(play(env, policy, 60)) == 60
        assert env.grid_observation.line_status.any()
        assert not policy.counts.total()


@pytest.mark.parametrize(("name", "near"), [("qp_zone", "qp_zones"), ("donothing", "do_nothing"), ("QP", "qp")])
def test_unknown_name(env, name, near):
    with pytest.raises(ValueError, match=f"unknown name '{name}'; the nearest is '{near}'"):
        make_policy(env, name)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_bad_noise(env, noise):
    with pytest.raises(ValueError, match="noise: expected a finite number of at least 0"):
        make_policy(env, "qp", noise=noise)
