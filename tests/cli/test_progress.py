from collections import deque
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rllib_mafql.cli.progress import ProgressLines, clock, describe, time_left


def _result(iteration: int, **more: Any) -> dict[str, Any]:
    return {
        "training_iteration": iteration,
        "iterations_since_restore": iteration,
        "num_env_steps_sampled_lifetime": 100 * iteration,
        "time_this_iter_s": 2.0,
        "time_total_s": 2.0 * iteration,
        **more,
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (90_000, "25:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_tells_steps_pace_returns_and_survival() -> None:
    result = _result(
        3,
        env_runners={"episode_return_mean": 12.345, "survived": 0.5},
        evaluation={"env_runners": {"episode_return_mean": 200.0, "survived": 0.875}},
    )
    line = describe(result, {"num_env_steps_sampled_lifetime": 200})
    words = "iter 3 steps 300 50/s return 12.35 (survived 0.50) eval 200 (survived 0.88) 0:00:06"
    assert " ".join(line.split()) == words


def test_a_line_leaves_out_what_is_not_known() -> None:
    timers = {"share_sampling": 0.615, "share_learning": 0.372, "share_syncing": 0.004}
    line = describe({"training_iteration": 1, "time_total_s": 1.0, "timers": timers}, None)
    assert line.split() == ["iter", "1", "play", "62%", "learn", "37%", "sync", "0%", "0:00:01"]

    line = describe({"training_iteration": 1, "time_total_s": 1.0, "env_runners": {}}, None)
    assert line.split() == ["iter", "1", "0:00:01"]


@pytest.mark.parametrize(
    ("stop", "seconds"),
    [
        ({"training_iteration": 10}, 14.0),  # 2 s an iteration, 7 to go
        ({"num_env_steps_sampled_lifetime": 400}, 2.0),
        ({"time_total_s": 11}, 5.0),
        ({"training_iteration": 10, "time_total_s": 11}, 5.0),  # what comes first
        ({"training_iteration": 2}, 0.0),
        ({"env_runners/episode_return_mean": 100}, None),
        ({}, None),
    ],
)
def test_time_left(stop: dict[str, float], seconds: float | None) -> None:
    assert time_left(stop, deque({"num_learner_updates": 0, **_result(n)} for n in (1, 3))) == seconds


def test_time_left_needs_two_results() -> None:
    assert time_left({"training_iteration": 10}, deque([_result(1)])) is None


class _Trial(SimpleNamespace):
    def __str__(self) -> str:
        return str(self.trial_id)


def _lines(trials: list[_Trial], results: list[tuple[_Trial, dict[str, Any]]]) -> list[str]:
    out = StringIO()
    progress = ProgressLines(Console(file=out, width=20), {"training_iteration": 5})
    for trial, result in results:
        progress.on_trial_result(0, trials, trial, result)  # type: ignore[arg-type]
    return out.getvalue().splitlines()


def test_one_unwrapped_line_for_each_result() -> None:
    trial = _Trial(trial_id="PPO_1", config={})
    lines = _lines([trial], [(trial, _result(1)), (trial, _result(2))])
    assert [line.split()[:2] for line in lines] == [["iter", "1"], ["iter", "2"]]
    assert lines[0].endswith("0:00:02  0:00:08 left")
    assert lines[1].endswith("0:00:04  0:00:06 left")


def test_several_trials_are_told_apart() -> None:
    one, two = _Trial(trial_id="PPO_1", config={}), _Trial(trial_id="PPO_2", config={})
    lines = _lines([one, two], [(one, _result(1)), (two, _result(3))])
    assert lines[0].startswith("PPO_1  iter    1")
    assert lines[1].startswith("PPO_2  iter    3")
    assert "200/s" not in lines[1]


def test_a_restored_trial_gives_no_pace_before_its_second_result() -> None:
    trial = _Trial(trial_id="PPO_1", config={})
    first, second = _result(11, iterations_since_restore=1), _result(12, iterations_since_restore=2)
    lines = _lines([trial], [(trial, first), (trial, second)])
    assert "/s" not in lines[0]
    assert "50/s" in lines[1]


def test_an_evaluation_is_told_once() -> None:
    trial = _Trial(trial_id="PPO_1", config={"evaluation_interval": 2})
    evaluation = {"env_runners": {"episode_return_mean": 7.0}}  # RLlib repeats it until the next one
    results = [_result(1), *(_result(n, evaluation=evaluation) for n in (2, 3, 4))]
    lines = _lines([trial], [(trial, result) for result in results])
    assert ["eval 7" in line for line in lines] == [False, True, False, True]


def test_time_left_of_a_metric_that_is_not_reported_from_the_start() -> None:
    trial = _Trial(trial_id="MAFQL_1", config={})
    out = StringIO()
    progress = ProgressLines(Console(file=out), {"num_learner_updates": 90})
    for result in (_result(1), _result(2), _result(3, num_learner_updates=30)):
        progress.on_trial_result(0, [trial], trial, result)  # type: ignore[arg-type]
    lines = out.getvalue().splitlines()
    assert "left" not in lines[1]
    assert lines[2].endswith("0:00:06  0:00:12 left")  # 30 updates in 6 s, 60 to go
