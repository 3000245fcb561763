"""Sampling through Ray: slow runners, dying runners, and evaluation by runners of its own."""

import time

import numpy as np
import pytest

from tests.rllib_mafql.toy_env import STEPS, echo_config

pytestmark = pytest.mark.usefixtures("ray_instance")


def config(sample_async=True, env_config=None, **training):
    settings = echo_config(**{"warm_start_steps": 200, "num_updates": 2} | training)
    settings.environment("echo", env_config=env_config or {})
    return settings.env_runners(num_env_runners=2, rollout_fragment_length=10, sample_async=sample_async)


def steps_by_runners(algorithm):
    """Once they are through with what they were asked for."""
    return sum(
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.num_env_steps_sampled_lifetime, local_env_runner=False
        )
    )


def test_a_slow_runner_does_not_hold_up_the_learner():
    # a request of 20 steps takes the second runner 5 seconds
    algorithm = config(env_config={"sleep_s": {2: 0.25}}).build_algo()
    try:
        while not algorithm._updates_done:
            algorithm.train()
        iterations, seconds = 40, 0.0
        before = algorithm._updates_done
        for _ in range(iterations):
            began = time.perf_counter()
            result = algorithm.train()
            seconds = max(seconds, time.perf_counter() - began)
            assert result["mafql"]["sample_requests_in_flight"] <= 2
        assert algorithm._updates_done == before + 2 * iterations
        assert seconds < 5.0  # no iteration waited for it
        shares = {name: result["timers"][f"share_{name}"] for name in ("sampling", "learning", "syncing")}
        assert shares["learning"] > 0.3 and 0.5 < sum(shares.values()) <= 1.0

        played = steps_by_runners(algorithm)  # waits for the slow one
        fetched = algorithm.replay.added
        assert fetched < played  # what it played lies there still
        algorithm.train()
        assert algorithm.replay.added >= played
    finally:
        algorithm.stop()


def test_no_transition_is_lost_or_counted_twice():
    algorithm = config(env_config={"sleep_s": {2: 0.02}}).build_algo()
    algorithm.env_runner_group._worker_manager._max_remote_requests_in_flight_per_actor = 3
    try:
        for _ in range(30):
            result = algorithm.train()
        assert result["mafql"]["sample_requests_in_flight"] <= 6
        assert result["mafql"]["sample_staleness_max"] > 0  # in learner updates
        assert result["mafql"]["sample_staleness_max"] % 2 == 0
        assert 0 < result["mafql"]["sample_staleness_mean"] <= result["mafql"]["sample_staleness_max"]
        algorithm._collector._request = lambda behavior: None  # nothing anew
        played = steps_by_runners(algorithm)
        result = algorithm.train()
        assert algorithm.replay.added == played
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] == played
        assert result["mafql"]["sample_requests_in_flight"] == 0
    finally:
        algorithm.stop()


def test_synchronous_runs_are_exactly_reproducible():
    runs = []
    for _ in range(2):
        algorithm = config(sample_async=False).build_algo()
        try:
            for _ in range(12):
                result = algorithm.train()
            assert result["mafql"]["sample_staleness_max"] == 0
            assert result["mafql"]["sample_requests_in_flight"] == 0
            assert algorithm.replay.added == steps_by_runners(algorithm) == 12 * 2 * 2 * 10
            state = algorithm.learner_group.get_state()["learner"]["rl_module"]
            runs.append({f"{m}/{k}": np.array(v) for m, module in state.items() for k, v in module.items()})
        finally:
            algorithm.stop()
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("sample_async", [False, True])
def test_a_runner_that_dies_is_replaced_and_gets_the_newest_weights(sample_async, tmp_path):
    order = tmp_path / "die"
    settings = config(sample_async, {"die": str(order)}).fault_tolerance(
        restart_failed_env_runners=True, delay_between_env_runner_restarts_s=0
    )
    algorithm = settings.build_algo()
    try:
        while not algorithm._updates_done:
            algorithm.train()
        order.touch()
        deadline = time.monotonic() + 120
        while order.exists() or algorithm.env_runner_group.num_healthy_remote_workers() < 2:
            assert time.monotonic() < deadline
            algorithm.train()
        before = algorithm.replay.added
        for _ in range(20):
            algorithm.train()
            time.sleep(0.01)
        assert algorithm.replay.added > before
        algorithm._collector._request = lambda behavior: None
        numbers = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: (runner.num_env_steps_sampled_lifetime, runner._weights_seq_no), local_env_runner=False
        )
        assert all(steps > 0 and number > 1 for steps, number in numbers)
    finally:
        algorithm.stop()


@pytest.mark.parametrize(
    ("sample_async", "evaluation"),
    [
        (False, {"evaluation_duration": 200, "evaluation_duration_unit": "timesteps"}),
        (False, {"evaluation_duration": "auto", "evaluation_parallel_to_training": True}),
        (True, {"evaluation_duration": 5, "evaluation_parallel_to_training": True}),
    ],
)
def test_evaluation_by_its_own_remote_runners(sample_async, evaluation):
    settings = config(sample_async, warm_start_steps=20).env_runners(num_env_runners=1)
    settings.evaluation(evaluation_interval=1, evaluation_num_env_runners=2, **evaluation)
    settings.reporting(min_time_s_per_iteration=2 if evaluation["evaluation_duration"] == "auto" else 0)
    algorithm = settings.build_algo()
    try:
        for _ in range(3):
            result = algorithm.train()["evaluation"]["env_runners"]
        if evaluation["evaluation_duration"] == 5:
            assert result["num_episodes"] == 5
        assert result["num_env_steps_sampled"] >= 50
        assert result["episode_len_mean"] == STEPS and result["survived"] == 1.0
        numbers = algorithm.eval_env_runner_group.foreach_env_runner(
            lambda runner: runner._weights_seq_no, local_env_runner=False
        )
        assert min(numbers) >= 1  # they act with what was learned
    finally:
        algorithm.stop()
