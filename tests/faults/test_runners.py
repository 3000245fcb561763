"""Env runners that are killed, hang, or lose track of time: others go on; of what came nothing is lost or doubled."""

import os
import signal
import time

import numpy as np
import pytest
import ray

from rllib_mafql.recovery import MAX_LOSSES_IN_A_ROW
from tests.faults.ledger import jump, of_recordings, of_replay
from tests.faults.patience import patience
from tests.rllib_mafql.toy_env import EchoEnv

pytestmark = pytest.mark.usefixtures("ray_instance")

#: Of the issue: what the loss of one of two runners may hold up training.
STALL_S = 2.0


def processes(algorithm):
    return dict(
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner: (runner.worker_index, os.getpid()), local_env_runner=False
        )
    )


def train_until(algorithm, reached, limit_s=60.0):
    """Trains until `reached(result)` is true; returns the last result and the longest iteration, seconds."""
    longest, deadline = 0.0, time.monotonic() + patience(limit_s)
    while True:
        began = time.monotonic()
        result = algorithm.train()
        longest = max(longest, time.monotonic() - began)
        if reached(result):
            return result, longest
        assert time.monotonic() < deadline, f"not reached: {result['mafql']}"


def lost_and_back(algorithm, losses):
    """Whether so many runners were lost, and all play again."""

    def reached(result):
        healthy = algorithm.env_runner_group.num_healthy_remote_workers()
        return result["mafql"]["env_runners_lost"] == losses and healthy == 2

    return reached


def further(algorithm, steps):
    """Whether so many more steps have come in."""
    wanted = algorithm.replay.added + steps
    return lambda result: algorithm.replay.added >= wanted


def check_counts(algorithm, result):
    """What came is there, once, and counted once; no runner began again with the numbers that it had drawn before."""
    ledger = of_replay(algorithm.replay)
    ledger.check()
    assert len(ledger.names) == algorithm.replay.added == result["env_runners"]["num_env_steps_sampled_lifetime"]


@pytest.mark.parametrize("sample_async", [True, False])
def test_runners_that_are_killed_or_hang(sample_async, ledger_config, tmp_path):
    config = ledger_config(sample_async).offline_data(output=str(tmp_path / "recorded"), output_max_rows_per_file=50)
    algorithm = config.build_algo()
    try:
        train_until(algorithm, lambda result: algorithm.replay.added > 200)
        os.kill(processes(algorithm)[1], signal.SIGKILL)
        _, longest = train_until(algorithm, lost_and_back(algorithm, 1))
        assert longest < patience(STALL_S)

        before = processes(algorithm)
        (tmp_path / "hang-2").touch()
        result, longest = train_until(algorithm, lost_and_back(algorithm, 2))
        assert longest < (0.0 if sample_async else 3.0) + patience(
            STALL_S
        )  # a round waits for all, up to sample_timeout_s
        assert result["mafql"]["env_runners_given_up"] == 1
        after = processes(algorithm)
        assert after[1] == before[1] and after[2] != before[2]

        result, _ = train_until(algorithm, further(algorithm, 100))
        check_counts(algorithm, result)
    finally:
        algorithm.stop()
    recorded, files = of_recordings(tmp_path / "recorded")
    recorded.check()
    assert files > 2 and len(recorded.names) > 200


def test_a_runner_that_hangs_does_not_hold_up_the_end(ledger_config, tmp_path):
    algorithm = ledger_config().build_algo()
    algorithm.train()
    (tmp_path / "hang-1").touch()
    while (tmp_path / "hang-1").exists():
        algorithm.train()
    began = time.monotonic()
    algorithm.stop()
    assert time.monotonic() - began < 3.0 + patience(5.0)


@pytest.mark.parametrize("sample_async", [True, False])
def test_clocks_that_jump_a_day(sample_async, ledger_config, tmp_path, monkeypatch):
    algorithm = ledger_config(sample_async).build_algo()
    try:
        train_until(algorithm, lambda result: algorithm.replay.added > 100)
        monkeypatch.setattr(time, "time", time.time)  # put back at the end
        for fault, seconds in (("forward", 86_400.0), ("backward", -2 * 86_400.0)):
            (tmp_path / f"{fault}-1").touch()
            jump(seconds)
            result, longest = train_until(algorithm, further(algorithm, 100), limit_s=20.0)
            assert longest < patience(STALL_S) and not (tmp_path / f"{fault}-1").exists()
        assert result["mafql"]["env_runners_lost"] == 0
        check_counts(algorithm, result)
    finally:
        algorithm.stop()


def test_a_full_object_store_is_spilled(ledger_config):
    full = [ray.put(np.ones(2**20)) for _ in range(20)]  # 160 MB, of which 100 fit
    algorithm = ledger_config(num_updates=2).learners(num_learners=1).build_algo()
    try:
        train_until(algorithm, further(algorithm, 200))
        result, longest = train_until(algorithm, further(algorithm, 200))
        assert longest < patience(STALL_S) and result["mafql"]["env_runners_lost"] == 0
        check_counts(algorithm, result)
    finally:
        algorithm.stop()
    assert all(ray.get(one)[0] == 1.0 for one in full)


def test_runners_that_only_fail_end_training(ledger_config):
    algorithm = ledger_config().build_algo()
    try:
        algorithm.train()
        recovery = algorithm._collector.recovery
        for process in processes(algorithm).values():
            os.kill(process, signal.SIGKILL)
        while not recovery.all_lost:
            algorithm._collector.collect(behavior=False, wait=False)
        # as after so many losses in which nothing was played
        recovery._in_a_row.update(dict.fromkeys((1, 2), MAX_LOSSES_IN_A_ROW - 1))
        with pytest.raises(RuntimeError, match="each env runner was lost 5 times in a row without having played"):
            algorithm.train()
    finally:
        algorithm.stop()


class OnlyOnTheDriver(EchoEnv):
    """One that runners cannot build."""

    def __init__(self, config):
        if config.worker_index > 0:
            raise FileNotFoundError("no weeks on this node")
        super().__init__(config)


def test_what_kept_every_runner_from_starting_is_told(ledger_config):
    config = ledger_config().environment(OnlyOnTheDriver, env_config={})
    with pytest.raises(FileNotFoundError, match="no weeks on this node"):
        config.build_algo()
