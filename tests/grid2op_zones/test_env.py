"""The environment as its users meet it: episodes, seeds, ends, errors, and RLlib."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import grid2op
import numpy as np
import pytest
from grid2op.Exceptions import EnvError
from ray.rllib.env.env_context import EnvContext

from grid2op_zones import ZonedGridEnv
from grid2op_zones.reward import COMPONENTS


def zeros(env: ZonedGridEnv) -> dict[str, np.ndarray]:
    return {agent: np.zeros(space.shape) for agent, space in env.action_spaces.items()}


def play(env: ZonedGridEnv, reset: dict, steps: int = 10_000, seed: int | None = None) -> list[tuple]:
    """(observations, rewards, terminated, truncated, infos) of each step; random actions by ``seed``, else zeros."""
    observations, _ = env.reset(**reset)
    rng = np.random.default_rng(seed)
    history: list[tuple] = [(observations, None, {"__all__": False}, {"__all__": False}, {})]
    while len(history) <= steps and not (history[-1][2]["__all__"] or history[-1][3]["__all__"]):
        actions = zeros(env)
        if seed is not None:
            actions = {agent: rng.uniform(-1.0, 1.0, action.shape) for agent, action in actions.items()}
        history.append(env.step(actions))
    return history


def assert_same(one: list[tuple], two: list[tuple]) -> None:
    assert len(one) == len(two)
    for (obs, rewards, *_), (other_obs, other_rewards, *_) in zip(one, two, strict=True):
        assert rewards == other_rewards
        for agent, observation in obs.items():
            np.testing.assert_array_equal(observation, other_obs[agent])


@pytest.fixture(scope="module")
def opposed():
    env = ZonedGridEnv({"opponent": True, "thermal_limit_scale": 3.0, "max_steps": 60})
    yield env
    env.close()


# ---------------------------------------------------------------- episodes


def test_a_held_out_day_has_287_steps_and_ends_truncated(idf_unlimited):
    history = play(idf_unlimited, {"seed": 3, "options": {"scenario": 1, "start": 288}})
    assert len(history) - 1 == 287
    _, _, terminated, truncated, infos = history[-1]
    assert not terminated["__all__"] and truncated["__all__"]
    assert infos["zone_0"]["end_reason"] == "max_steps"
    assert idf_unlimited.grid_observation.get_time_stamp().strftime("%H:%M") == "23:55"


def test_a_training_episode_ends_before_the_held_out_day(case14):
    start = 280
    with pytest.raises(ValueError, match="has no scenario 1 with start 288"):
        case14.reset(options={"scenario": 1, "start": 288})
    case14.reset(seed=0, options={"scenario": 1, "start": start})
    first_day = case14.grid_observation.day
    history = play(case14, {"seed": 0, "options": {"scenario": 1, "start": start}})
    assert len(history) - 1 == 287 - start
    assert history[-1][4]["zone_0"]["end_reason"] == "end of the series"
    assert case14.grid_observation.day == first_day


def test_the_first_observation_shows_the_row_that_was_asked_for(case14):
    data = case14.simulator.chronics_handler.real_data
    for series, start in [(0, 0), (1, 1), (2, 2), (0, 3), (1, 150)]:
        case14.reset(seed=0, options={"scenario": series, "start": start})
        expected = data._cached_data[series].load_p[start]
        np.testing.assert_allclose(case14.grid_observation.load_p, expected, rtol=1e-5)


def test_metrics_sum_up_the_episode(case14):
    history = play(case14, {"seed": 0, "options": {"scenario": 0, "start": 200}}, seed=1)[1:]
    infos = history[-1][4]["zone_0"]
    metrics = infos["episode_metrics"]
    assert metrics["survived"] == 1.0
    assert metrics["score"] == pytest.approx(np.mean([step[1]["zone_0"] for step in history]))
    for name in COMPONENTS:
        values = [step[4]["zone_1"]["reward_components"][name] for step in history]
        assert metrics[name] == pytest.approx(np.mean(values))
        assert all(0.0 <= value <= 1.0 for value in values)
    assert metrics["overload_steps"] == sum(step[4]["zone_0"]["rho_max"] > 1.0 for step in history)
    weights = case14.config["reward"]
    for step in history:
        components = step[4]["zone_2"]["reward_components"]
        assert step[1]["zone_2"] == pytest.approx(sum(weights[name] * components[name] for name in COMPONENTS))
    assert all("episode_metrics" not in step[4]["zone_0"] for step in history[:-1])
    assert set(infos["dispatch_mw"]) == set(case14.possible_agents)


def test_a_grid_that_falls_apart_ends_the_episode_and_raises_nothing(idf):
    history = play(idf, idf.episode_spec(0))
    observations, rewards, terminated, truncated, infos = history[-1]
    assert len(history) - 1 < 100
    assert terminated == dict.fromkeys(("zone_0", "zone_1", "zone_2", "__all__"), True)
    assert not any(truncated.values())
    assert set(rewards.values()) == {0.0}
    assert not any(observation.any() for observation in observations.values())
    metrics = infos["zone_0"]["episode_metrics"]
    assert infos["zone_0"]["end_reason"] == "grid fell apart"
    assert metrics["survived"] == 0.0
    assert metrics["alive"] == pytest.approx((len(history) - 2) / 287)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        idf.step(zeros(idf))
    idf.reset(**idf.episode_spec(0))
    idf.step(zeros(idf))


def test_the_opponent_attacks_and_lines_are_closed_again(opposed):
    attacked, reclosed, illegal = set(), set(), 0
    for seed in range(6):
        opposed.reset(seed=seed, options={"scenario": seed % 2, "start": 20})
        over, open_before = False, np.zeros(0)
        while not over:
            _, _, terminated, truncated, infos = opposed.step(zeros(opposed))
            lines = opposed.simulator.infos["opponent_attack_line"]
            attacked |= set(np.flatnonzero(lines)) if lines is not None else set()
            status = opposed.grid_observation.line_status
            reclosed |= {line for line in open_before if status[line]}
            open_before = np.flatnonzero(~status)
            over = terminated["__all__"] or truncated["__all__"]
        illegal += infos["zone_0"]["episode_metrics"]["illegal_actions"]
    assert attacked
    assert attacked & reclosed
    assert illegal == 0


def test_lines_stay_open_without_auto_reconnect(opposed):
    stays = ZonedGridEnv({**opposed.config, "auto_reconnect": False, "max_steps": 200})
    play(stays, {"seed": 2, "options": {"scenario": 0, "start": 20}})
    closable = ~stays.grid_observation.line_status & (stays.grid_observation.time_before_cooldown_line == 0)
    assert closable.any()
    stays.close()


def test_below_the_idle_threshold_actions_do_nothing(case14):
    calm = ZonedGridEnv({**case14.config, "idle_threshold": 10.0, "max_steps": 30})
    never = ZonedGridEnv({**case14.config, "idle_threshold": 0.0, "max_steps": 30})
    reset = {"seed": 0, "options": {"scenario": 0, "start": 0}}
    idle, still = play(calm, reset, seed=5), play(calm, reset)
    assert_same(idle, still)
    assert all(step[4]["zone_0"]["idle"] for step in idle[1:])
    active = play(never, reset, seed=5)
    assert not any(step[4]["zone_0"]["idle"] for step in active[1:])
    assert active[-1][1] != idle[-1][1]
    calm.close()
    never.close()


def test_a_start_that_breaks_the_grid_is_drawn_anew(idf):
    """Seed 42 draws row 413 of August with a maintenance under which the power flow diverges before the episode."""
    spec = {"seed": 42}
    first = play(idf, spec, steps=5)
    assert len(first) == 6
    drawn = idf._episode
    idf.reset(seed=1)
    assert_same(first, play(idf, spec, steps=5))
    assert idf._episode == drawn
    failed = idf.scenarios.pinned(None, None, np.random.default_rng(42))
    assert failed != drawn


def test_a_start_that_always_breaks_the_grid_is_named(case14, monkeypatch):
    def broken(seed: int) -> None:
        raise EnvError("This environment is not initialized.")

    monkeypatch.setattr(case14, "_reset_simulator", broken)
    with pytest.raises(RuntimeError, match="scenario 1 cannot start at 7: the grid fell apart before"):
        case14.reset(options={"scenario": 1, "start": 7})


# ---------------------------------------------------------------- seeds


def test_a_seed_replays_an_episode_whatever_came_before(idf):
    spec = idf.episode_spec(1)
    first = play(idf, spec, seed=2)
    play(idf, {"seed": 77}, steps=9, seed=4)
    assert_same(first, play(idf, spec, seed=2))


def test_a_seed_draws_the_same_episodes_in_another_process_s_environment(case14):
    other = ZonedGridEnv({"grid": "l2rpn_case14_sandbox"})
    case14.reset(seed=11)
    other.reset(seed=11)
    for _ in range(3):
        assert case14._episode == other._episode
        case14.reset()
        other.reset()
    other.close()


def test_an_attack_does_not_leak_into_a_replay(opposed):
    for seed in range(40):
        opposed.reset(seed=seed, options={"scenario": 0, "start": 20})
        for _ in range(25):
            opposed.step(zeros(opposed))
        if opposed.simulator.infos["opponent_attack_line"] is not None:
            break
    else:
        pytest.fail("no attack to interrupt")
    spec = {"seed": 5, "options": {"scenario": 1, "start": 30}}
    after_attack = play(opposed, spec, seed=1)
    opposed.reset(seed=1, options={"scenario": 0, "start": 0})
    after_calm = play(opposed, spec, seed=1)
    fresh = ZonedGridEnv(opposed.config)
    assert_same(after_attack, after_calm)
    assert_same(after_attack, play(fresh, spec, seed=1))
    fresh.close()


def test_maintenance_is_drawn_by_the_seed(idf):
    planned = []
    for seed in (0, 1, 2, 3, 4, 0):
        idf.reset(seed=seed, options={"scenario": 1, "start": 288})
        planned.append(tuple(np.flatnonzero(idf.grid_observation.time_next_maintenance >= 0)))
    assert len(set(planned)) > 1
    assert planned[0] == planned[-1]


def test_runners_draw_different_episodes_where_no_seed_is_given():
    config = {"grid": "l2rpn_case14_sandbox"}
    starts = []
    for worker in (1, 2, 1):
        env = ZonedGridEnv(EnvContext(config, worker_index=worker))
        drawn = []
        for _ in range(4):
            env.reset()
            drawn.append((env._episode.series, env._episode.start))
        starts.append(drawn)
        env.close()
    assert starts[0] == starts[2] != starts[1]


def test_numbered_episodes_are_the_same_for_every_agent(idf):
    specs = [idf.episode_spec(k) for k in range(4)]
    assert [spec["seed"] for spec in specs] == [10_000, 10_001, 10_002, 10_003]
    assert [spec["options"]["scenario"] for spec in specs] == [0, 1, 0, 1]
    assert specs == [idf.episode_spec(k) for k in range(4)]


# ---------------------------------------------------------------- series


def test_some_weeks_only(case14):
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "scenarios": {"weeks": [2]}})
    env.reset(seed=0, options={"scenario": 0, "start": 100})
    case14.reset(seed=0, options={"scenario": 2, "start": 100})
    np.testing.assert_array_equal(env.grid_observation.load_p, case14.grid_observation.load_p)
    assert {segment.series for segment in env.scenarios.segments} == {0}
    first, second = env.observer.observe(env.grid_observation), case14.observer.observe(case14.grid_observation)
    np.testing.assert_allclose(first["zone_0"], second["zone_0"], rtol=1e-5)  # scaled by the same references
    env.close()
    with pytest.raises(ValueError, match=r"\[7\] goes beyond the 3 series"):
        ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "scenarios": {"weeks": [7]}})


def test_series_from_a_folder(case14, tmp_path):
    bundled = Path(case14.simulator.chronics_handler.real_data.subpaths[1])
    shutil.copytree(bundled, tmp_path / "series" / "0000")
    scenarios = {"source": "folder", "path": str(tmp_path / "series")}
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "scenarios": scenarios})
    env.reset(seed=0, options={"scenario": 0, "start": 50})
    case14.reset(seed=0, options={"scenario": 1, "start": 50})
    first, second = env.observer.observe(env.grid_observation), case14.observer.observe(case14.grid_observation)
    np.testing.assert_allclose(first["zone_1"], second["zone_1"], rtol=1e-5)
    env.close()
    with pytest.raises(ValueError, match="'/nowhere' is no folder"):
        ZonedGridEnv({"scenarios": {"source": "folder", "path": "/nowhere"}})


def test_a_grid_by_its_folder():
    folder = Path(grid2op.__file__).parent / "data" / "educ_case14_storage"
    env = ZonedGridEnv({"grid": str(folder), "max_steps": 5})
    assert env.fingerprint["grid"] == "educ_case14_storage"
    env.reset(seed=0)
    env.step(zeros(env))
    env.close()


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"grid": "l2rpn_idf_2032"}, "unknown grid 'l2rpn_idf_2032'; the nearest is 'l2rpn_idf_2023'"),
        ({"grid": "l2rpn_case14_sandbox", "zones": [[0, 1], [1, 2]]}, r"sub_1 \(id 1\) stands 2 times"),
        ({"gird": "l2rpn_case14_sandbox"}, "unknown key 'gird'; the nearest valid key is 'grid'"),
        ({"reward": {"alive": -1}}, "env_config.reward.alive: expected a weight of at least 0"),
    ],
)
def test_bad_configurations_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        ZonedGridEnv(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenarios": 1}, r"unknown \['scenarios'\]; known are 'scenario' and 'start'"),
        ({"scenario": 9}, "has no scenario 9"),
        ({"start": 3}, "'start' needs 'scenario'"),
        ({"scenario": 0, "start": 10_000}, "has no scenario 0 with start 10000"),
    ],
)
def test_bad_options_are_named(case14, options, message):
    with pytest.raises(ValueError, match=message):
        case14.reset(options=options)


def test_step_before_reset_is_refused():
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox"})
    with pytest.raises(RuntimeError, match="no episode is running"):
        env.step(zeros(env))
    env.close()


# ---------------------------------------------------------------- RLlib


def test_the_fingerprint_names_units_and_sizes(case14):
    fingerprint = json.loads(json.dumps(case14.fingerprint))
    assert fingerprint["grid"] == "l2rpn_case14_sandbox"
    assert fingerprint["agents"]["zone_1"] == {
        "units": ["redispatch[gen_2_1]", "curtail[gen_7_4]"],
        "obs_dim": case14.observation_spaces["zone_1"].shape[0],
        "act_dim": 2,
    }


def test_rllib_s_own_check_passes(case14, idf):
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    for env in (case14, idf):
        check_multiagent_environments(env)


def test_ppo_learns_on_it_unchanged(case14):
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig

    from grid2op_zones.callbacks import EpisodeMetrics

    started = not ray.is_initialized()
    config = (
        PPOConfig()
        .environment(ZonedGridEnv, env_config={"grid": "l2rpn_case14_sandbox", "max_steps": 40})
        .env_runners(num_env_runners=0, rollout_fragment_length=80)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=80, minibatch_size=40, num_epochs=1)
        .multi_agent(policies=set(case14.possible_agents), policy_mapping_fn=lambda agent, *_, **__: agent)
        .callbacks(EpisodeMetrics)
    )
    if started:
        ray.init(num_cpus=1, include_dashboard=False)
    try:
        algorithm = config.build_algo()
        result = algorithm.train()["env_runners"]
        algorithm.stop()
    finally:
        if started:
            ray.shutdown()
    assert result["episode_len_mean"] == 40
    assert result["survived"] == 1.0
    assert result["score"] == pytest.approx(result["episode_return_mean"] / (3 * 40))
    assert 0.0 < result["episode_return_mean"] <= 3 * 40 + 1e-6
