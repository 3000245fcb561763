"""The projection in the environment: what it reports, what Grid2Op makes of its orders, and RLlib's own check."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.env import PROJECTION_METRICS
from grid2op_zones.safety.joint import Projected

IDF = {"redispatch_solver": "direct", "max_steps": 100, "scenarios": {"split": "all"}}
STORAGE14 = {"grid": "educ_case14_storage", "thermal_limit_scale": 30.0, "max_steps": 100}


@pytest.fixture(scope="module", params=["units", "lines"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[IDF, STORAGE14], ids=["idf", "storage14"])
def env(request: pytest.FixtureRequest, level: str) -> Iterator[ZonedGridEnv]:
    env = ZonedGridEnv({**request.param, "safety": {"level": level}})
    yield env
    env.close()


def random_actions(env: ZonedGridEnv, rng: np.random.Generator, corners: bool) -> dict[str, np.ndarray]:
    actions = {agent: rng.uniform(-1.0, 1.0, space.shape) for agent, space in env.action_spaces.items()}
    return {agent: (np.sign(action) if corners else action).astype(np.float32) for agent, action in actions.items()}


def play(env: ZonedGridEnv, episode: int, corners: bool = False) -> list[dict]:
    """The infos of an episode of random play."""
    rng = np.random.default_rng(episode)
    env.reset(**env.episode_spec(episode))
    infos, over = [], False
    while not over:
        _, _, terminated, truncated, info = env.step(random_actions(env, rng, corners))
        infos.append(next(iter(info.values())))
        over = terminated["__all__"] or truncated["__all__"]
    return infos


@pytest.mark.parametrize("corners", [False, True], ids=["anywhere", "corners"])
def test_grid2op_refuses_nothing_that_was_projected(env: ZonedGridEnv, level: str, corners: bool) -> None:
    for episode in range(3):
        infos = play(env, episode, corners)
        metrics = infos[-1]["episode_metrics"]
        assert metrics["illegal_actions"] == 0.0  # illegal or ambiguous, in whole or in part
        assert infos[-1]["end_reason"] != "redispatch impossible"
        projections = [info["projection"] for info in infos]
        for projection in projections:
            assert projection["action"].shape == (env.action_map.size,)
            assert projection["action"].dtype == np.float32 and (np.abs(projection["action"]) <= 1.0).all()
            assert projection["distance"] >= 0.0
            assert np.isnan(projection["slack"]) if level == "units" else projection["slack"] >= 0.0
        distances = np.array([projection["distance"] for projection in projections])
        assert metrics["projection_distance"] == pytest.approx(distances.mean())
        assert metrics["projected_steps"] == (distances > 1e-3).sum() > 0
        unguaranteed = sum(projection["slack"] != 0.0 for projection in projections)
        assert metrics["unguaranteed_steps"] == unguaranteed
        assert unguaranteed == len(infos) if level == "units" else unguaranteed < len(infos)
        assert 0.0 <= metrics["broken_guarantees"] <= len(infos) - unguaranteed


def test_rllib_s_own_check_passes(env: ZonedGridEnv) -> None:
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    check_multiagent_environments(env)


def test_without_a_projection_nothing_is_reported() -> None:
    env = ZonedGridEnv({**STORAGE14, "max_steps": 20})
    assert env.projection is None
    infos = play(env, 0)
    assert not any("projection" in info for info in infos)
    assert not set(PROJECTION_METRICS) & set(infos[-1]["episode_metrics"])
    env.close()


def test_idle_zones_do_what_they_do_without_a_projection() -> None:
    """Below the threshold caps are lifted a step at a time and the dispatch is held, at every level."""
    config = {**STORAGE14, "max_steps": 30}
    env = ZonedGridEnv({**config, "idle_threshold": 10.0, "safety": {"level": "units"}})
    env.reset(**env.episode_spec(0))
    # a cap from before
    env.config["idle_threshold"] = None
    for _ in range(3):
        env.step({agent: -np.ones(space.shape) for agent, space in env.action_spaces.items()})
    capped = env.grid_state.curtailment_limit.min()
    env.config["idle_threshold"] = 10.0
    for _ in range(25):
        env.step({agent: -np.ones(space.shape) for agent, space in env.action_spaces.items()})
    assert capped < 0.9
    assert env.grid_state.curtailment_limit.min() == 1.0
    env.close()


def test_the_executed_action_gives_the_same_orders_again(env: ZonedGridEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an action can say what was executed, it says it: the same state and that action give the same orders."""
    assert env.projection is not None
    project, said = type(env.projection).project, []

    def twice(self: object, action: np.ndarray | None, state: object) -> Projected:
        first = project(self, action, state)
        for zone, one, part in zip(env.projection.zones, first.certificates, env.projection._parts, strict=True):
            measured = zone.meter.read(state)
            units = zone.projection.units
            off = np.abs(units.propose(first.action[part], one.room) - one.change) / units.scale
            said.append(bool((off < 1e-5).all()) and one.how != "least violation")
            if said[-1]:
                again = zone.projection.project(first.action[part], measured)
                np.testing.assert_array_equal(again.action, one.action)
                for a, b in zip(again.orders, one.orders, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-5)
        return first

    monkeypatch.setattr(type(env.projection), "project", twice)
    for episode in range(2):
        play(env, episode)
    assert np.mean(said) > 0.2 and len(said) > 100


def test_a_joint_order_is_that_of_all_zones(env: ZonedGridEnv) -> None:
    assert env.projection is not None
    env.reset(**env.episode_spec(0))
    rng = np.random.default_rng(0)
    for _ in range(5):
        actions = random_actions(env, rng, corners=False)
        joint = env.action_map.joint(actions)
        projected = env.projection.project(joint, env.grid_state)
        for zone, certificate in zip(env.projection.zones, projected.certificates, strict=True):
            np.testing.assert_array_equal(
                projected.orders.redispatch[zone.redispatchable], certificate.orders.redispatch
            )
            if projected.orders.curtail is not None:
                np.testing.assert_array_equal(projected.orders.curtail[zone.curtailable], certificate.orders.curtail)
            if projected.orders.storage is not None:
                np.testing.assert_array_equal(projected.orders.storage[zone.storages], certificate.orders.storage)
        owned = np.concatenate([zone.redispatchable for zone in env.projection.zones])
        assert not np.delete(projected.orders.redispatch, owned).any()
        env.step(actions)
    held = env.projection.project(None, env.grid_state)
    assert [one.fallback for one in held.certificates] == [None] * len(env.zones)


def test_other_actions_than_the_default_ones() -> None:
    """Zones that have nothing to move are let be, and their lines are watched."""
    for actions in (["storage"], ["curtail"], ["redispatch", "storage"]):
        env = ZonedGridEnv({**STORAGE14, "actions": actions, "thermal_limit_scale": 1.0, "safety": {"level": "lines"}})
        infos = play(env, 0)
        assert infos[-1]["episode_metrics"]["illegal_actions"] == 0.0
        env.close()


def test_equal_episodes_are_equal_after_a_reset_of_the_projection() -> None:
    env = ZonedGridEnv({**IDF, "thermal_limit_scale": 0.8, "max_steps": 40, "safety": {"level": "lines"}})
    assert env.projection is not None
    seen = []
    for _ in range(2):
        env.projection.reset()
        seen.append([info["projection"]["action"] for info in play(env, 2)])
        play(env, 3)
    np.testing.assert_array_equal(*seen)
    env.close()
