"""Real searches: ASHA on CartPole, a population of MAFQL on a tiny environment; interrupted ones go on."""

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.image import imread
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from typer.testing import Result

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.population import Population, WithinRanges
from rllib_mafql.cli.progress import ProgressLines
from rllib_mafql.cli.space import with_spaces
from rllib_mafql.cli.watching import MetricGuard, SchedulerState

pytestmark = pytest.mark.usefixtures("small_ray")

RETURN = "env_runners/episode_return_mean"
CART = {
    "run": "PPO",
    "env": "CartPole-v1",
    "storage_path": "runs",
    "metric": RETURN,
    "mode": "max",
    "search_alg": {"type": "random", "random_state": 1},
    "stop": {"training_iteration": 4},
}
FAST = {
    "num_env_runners": 0,
    "train_batch_size_per_learner": 100,
    "minibatch_size": 100,
    "num_epochs": 1,
    "model_config": {"fcnet_hiddens": [8]},
}


def _write(folder: Path, name: str, spec: dict[str, Any]) -> str:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({name: spec}))
    return f"{name}.yaml"


def _trials(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trials.json").read_text())["trials"]


def _results(trial: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trial["folder"]) / "result.json").read_text().splitlines()]


def test_asha_is_interrupted_and_goes_on(
    rllib: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"lr": {"loguniform": [1e-4, 1e-2]}, "gamma": {"grid_search": [0.9, 0.95, 0.99]}}
    spec = {
        **CART,
        "config": {**FAST, **space},
        "scheduler": {"type": "asha", "grace_period": 1, "reduction_factor": 2},
        "checkpoint_config": {"checkpoint_frequency": 1},
    }
    file = _write(tmp_path, "cart", spec)
    report = ProgressLines.on_trial_result
    seen = []

    def interrupted(
        self: ProgressLines, iteration: int, trials: list[Any], trial: Any, *args: Any, **more: Any
    ) -> None:
        report(self, iteration, trials, trial, *args, **more)
        seen.append(trial.trial_id)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressLines, "on_trial_result", interrupted)
        first = rllib("train", "file", file)
    assert first.exit_code == 130, first.output
    assert re.search(r"resume: .*--resume", first.output)
    folder = tmp_path / "runs" / "cart"
    before = {trial["trial"]: trial for trial in _trials(folder)}
    assert {trial["status"] for trial in before.values()} & {"interrupted", "waiting"}

    restored = []
    give_back = SchedulerState.set_state
    monkeypatch.setattr(SchedulerState, "set_state", lambda self, s: (restored.append(self), give_back(self, s)))
    second = rllib("train", "file", file, "--resume")
    assert second.exit_code == 0, second.output
    (state,) = restored
    rungs = dict(state._scheduler._brackets[0]._rungs)
    assert {str(trial) for trial in before} <= {f"PPO_CartPole-v1_{name}" for name in rungs[1]}

    trials = _trials(folder)
    assert len(trials) == 3 and {*before} <= {trial["trial"] for trial in trials}
    assert {trial["status"] for trial in trials} <= {"finished", "stopped early"}
    assert "finished" in {trial["status"] for trial in trials}
    values = [trial[RETURN] for trial in trials]
    assert values == sorted(values, reverse=True)
    assert sorted(trial["parameters"]["gamma"] for trial in trials) == [0.9, 0.95, 0.99]
    assert all(1e-4 <= trial["parameters"]["lr"] <= 1e-2 for trial in trials)
    for trial in trials:
        iterations = [result["training_iteration"] for result in _results(trial)]
        assert sorted({*iterations}) == [*range(1, max(iterations) + 1)]  # none left out
        assert len(iterations) - max(iterations) <= 1  # at most the interrupted one twice

    lines = second.output.splitlines()
    (heading,) = [i for i, line in enumerate(lines) if line.startswith("trials by")]
    assert " ".join(lines[heading + 1].split()) == "trial last max ever gamma lr iterations time status checkpoint"
    assert [line.split()[0] for line in lines[heading + 2 : heading + 5]] == [trial["trial"] for trial in trials]
    assert f"checkpoint: runs/cart/{Path(trials[0]['checkpoint']).parent.name}" in second.output
    with (folder / "trials.csv").open() as sheet:
        rows = list(csv.DictReader(sheet))
    assert [row["trial"] for row in rows] == [trial["trial"] for trial in trials]
    assert float(rows[0]["lr"]) == trials[0]["parameters"]["lr"]
    picture = imread(folder / "trials.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 800 and picture.std() > 0.05


def test_a_population_takes_over_checkpoints_and_what_it_changes_counts(
    rllib: Callable[..., Result], tmp_path: Path
) -> None:
    spec = {
        "run": "MAFQL",
        "env": "environments.Pair",
        "storage_path": "runs",
        "metric": RETURN,
        "mode": "max",
        "stop": {"training_iteration": 3},
        "num_samples": 2,
        "scheduler": {
            "type": "pbt",
            "time_attr": "training_iteration",
            "perturbation_interval": 2,
            "synch": True,
            "quantile_fraction": 0.5,
            "hyperparam_mutations": {"lr": {"loguniform": [1e-4, 1e-2]}, "q_coeff": {"uniform": [0.1, 2.0]}},
        },
        "config": {
            "num_env_runners": 0,
            "actor_hidden": 8,
            "teacher_hidden": 8,
            "critic_hidden": 8,
            "num_updates": 4,
            "warm_start_steps": 100,
            "train_batch_size_per_learner": 16,
            "store_buffer_in_checkpoints": True,
        },
    }
    found = rllib("train", "file", _write(tmp_path, "pair", spec))
    assert found.exit_code == 0, found.output
    assert "warning" not in found.output
    taken = re.findall(r"^(\S+)  goes on from (\S+) with lr (\S+), q_coeff (\S+)$", found.output, flags=re.MULTILINE)
    assert taken and all(one != other for one, other, _, _ in taken)
    trials = {trial["trial"]: trial for trial in _trials(tmp_path / "runs" / "pair")}
    assert len(trials) == 2
    ((name, _, lr, q_coeff),) = taken
    config = json.loads((Path(trials[name]["folder"]) / "params.json").read_text())
    assert (f"{config['lr']:.4g}", f"{config['q_coeff']:.4g}") == (lr, q_coeff)
    results = _results(trials[name])
    iterations = [result["training_iteration"] for result in results]
    # the donor may be a step further by the time that its checkpoint is read
    assert iterations in ([1, 2, 3], [1, 2, 4])
    assert results[1]["config"]["lr"] != results[2]["config"]["lr"] == config["lr"]
    rates = [result["learners"]["left"]["default_optimizer_learning_rate"] for result in results]
    assert rates == pytest.approx([result["config"]["lr"] for result in results])
    assert results[2]["replay_size"] > results[1]["replay_size"]  # the other's replay came along


def test_a_metric_that_is_never_reported_ends_the_search(rllib: Callable[..., Result], tmp_path: Path) -> None:
    spec = {**CART, "metric": "env_runners/delight", "config": FAST, "scheduler": "asha"}
    found = rllib("train", "file", _write(tmp_path, "cart", spec))
    assert found.exit_code == 2, found.output
    assert "cart.metric: PPO_CartPole-v1" in found.output
    assert "reports no env_runners/delight; the nearest valid one is 'env_runners/" in found.output


class _Guarded:
    def __init__(self, metric: str) -> None:
        self.guard = MetricGuard(metric, "x.metric")

    def report(self, **result: Any) -> None:
        self.guard.on_trial_result(0, [], _trial("1"), result)  # type: ignore[arg-type]


def test_evaluations_and_episodes_are_waited_for() -> None:
    guarded = _Guarded("evaluation/env_runners/score")
    for _ in range(5):
        guarded.report(training_iteration=1, env_runners={"num_episodes": 3})
        guarded.report(training_iteration=1, evaluation={"env_runners": {"num_episodes": 0}})
    played = {"num_episodes": 2, "episode_return_mean": 1.0}
    guarded.report(evaluation={"env_runners": {**played, "score": 0.5}})
    for _ in range(5):
        guarded.report(evaluation={"env_runners": played})  # it has been reported once
    assert guarded.guard.problem is None
    guarded = _Guarded("env_runners/score")
    for _ in range(5):  # MAFQL's warm start, where only behaviour policies play
        guarded.report(env_runners={"num_episodes": 9, "behavior": played})
    assert guarded.guard.problem is None
    with pytest.raises(InputError, match="reports no env_runners/score; the nearest valid one is 'env_runners/"):
        for _ in range(5):
            guarded.report(env_runners=played)


def _trial(name: str) -> Trial:
    return Trial("PPO", trial_id=name, stub=True)


def test_a_schedulers_state_names_trials_that_are_made_anew() -> None:
    asha = ASHAScheduler(metric="m", mode="max", grace_period=1, max_t=9, reduction_factor=3)
    population = Population(metric="m", mode="max", hyperparam_mutations={"lr": [1, 2]})
    for name in "ab":
        asha.on_trial_add(None, _trial(name))  # type: ignore[arg-type]
        asha.on_trial_result(None, _trial(name), {"training_iteration": 1, "m": 5.0})  # type: ignore[arg-type]
    old = _trial("a")
    population._trial_state[old] = type("State", (), {"last_score": 3.0, "last_perturbation_time": 7})()
    for scheduler, fresh in (
        (asha, ASHAScheduler(metric="m", mode="max", grace_period=1, max_t=9, reduction_factor=3)),
        (population, Population(metric="m", mode="max", hyperparam_mutations={"lr": [1, 2]})),
    ):
        keeper = SchedulerState(fresh)
        keeper.set_state(SchedulerState(scheduler).get_state())
        again = [_trial("a"), _trial("b")]
        keeper.on_step_begin(0, again)
        if isinstance(fresh, Population):
            assert {trial: state.last_score for trial, state in fresh._trial_state.items()} == {again[0]: 3.0}
        else:
            assert dict(fresh._brackets[0]._rungs)[1] == {"a": 5.0, "b": 5.0}


def test_of_equals_the_trial_that_waited_longest_runs() -> None:
    population = Population(time_attr="t", metric="m", mode="max", hyperparam_mutations={"lr": [1, 2]})
    trials = [_trial(name) for name in "abc"]
    controller: Any = type("Controller", (), {"get_trials": lambda self: trials})()
    state = type("State", (), {"last_train_time": 2})
    population._trial_state = {trial: state() for trial in trials}
    population._newest = {"a": 5, "b": 3, "c": 4}
    assert population.choose_trial_to_run(controller) is trials[1]
    population._trial_state[trials[0]].last_train_time = 1
    assert population.choose_trial_to_run(controller) is trials[0]


def test_a_population_stays_within_its_ranges() -> None:
    mutations = with_spaces(
        {"tau": {"uniform": [0.1, 1]}, "n": {"randint": [2, 5]}, "deep": {"x": {"uniform": [0, 1]}}}, ""
    )
    kept = WithinRanges({**mutations, "batch": [1, 2]})
    config = {"tau": 1.2, "n": 6, "deep": {"x": -0.1, "y": 3}, "batch": 2, "other": 9}
    assert kept(config) == {"tau": 1, "n": 4, "deep": {"x": 0, "y": 3}, "batch": 2, "other": 9}
    assert config["tau"] == 1.2  # as it was
