"""Trackers of results: wrong ones are refused before Ray starts, right ones get every result."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from rllib_mafql.cli.checks import check
from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.experiments import read_file
from rllib_mafql.cli.loggers import LOGGERS
from rllib_mafql.cli.options import TrainOptions
from tests.cli.trackers import Tracker


def experiment(folder: Path, loggers: str) -> Any:
    file = folder / "game.yaml"
    config = "{num_env_runners: 0}"
    file.write_text(f"game: {{run: MAFQL, env: grid2op_zones, config: {config}, loggers: {loggers}}}")
    (found,) = read_file(file, TrainOptions())
    return found


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        ("wandb", r"loggers: must be a mapping such as \{wandb: \{project: grid\}\}, not 'wandb'"),
        ("{wandd: {}}", r"loggers\.wandd: unknown logger; the nearest valid one is 'wandb'"),
        ("{mlflow: [a]}", r"loggers\.mlflow: must be a mapping of arguments"),
        ("{mlflow: {experiment: a}}", r"mlflow\.experiment: unknown key; the nearest valid one is 'experiment_name'"),
        ("{mlflow: {save_artifact: 1}}", r"loggers\.mlflow\.save_artifact: must be true or false, not 1"),
    ],
)
def test_wrong_ones_are_refused(loggers: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check(experiment(tmp_path, loggers))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else find(name, *rest))
    with pytest.raises(InputError, match=r"loggers\.wandb: needs a package that is not installed: pip install wandb"):
        check(experiment(tmp_path, "{wandb: {project: grid}}"))


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[Tracker]:
    monkeypatch.setitem(LOGGERS, "tracker", ("tests.cli.trackers", "Tracker", "json"))
    monkeypatch.setattr(Tracker, "told", [])
    return Tracker


def cart(folder: Path, loggers: dict[str, Any]) -> str:
    config = {"num_env_runners": 0, "train_batch_size_per_learner": 100, "minibatch_size": 50, "num_epochs": 1}
    spec = {"run": "PPO", "env": "CartPole-v1", "storage_path": "runs", "config": config, "loggers": loggers}
    (folder / "cart.yaml").write_text(yaml.safe_dump({"cart": {**spec, "stop": {"training_iteration": 2}}}))
    return "cart.yaml"


@pytest.mark.usefixtures("small_ray")
def test_right_ones_get_every_result(rllib: Callable[..., Result], tmp_path: Path, tracker: type[Tracker]) -> None:
    done = rllib("train", "file", cart(tmp_path, {"tracker": {"project": "grid"}}), "--no-progress")
    assert done.exit_code == 0, done.output
    assert tracker.told == [("grid", 1), ("grid", 2)]
    assert "iter " not in done.output  # as --no-progress asks
    assert "checkpoint: runs/cart" in done.output


@pytest.mark.usefixtures("small_ray")
def test_one_that_does_not_start_is_told_in_a_line(
    rllib: Callable[..., Result], tmp_path: Path, tracker: type[Tracker]
) -> None:
    done = rllib("train", "file", cart(tmp_path, {"tracker": {"offline": True}}))
    assert done.exit_code == 2
    assert "cart.loggers.tracker: ConnectionError: the tracker does not answer" in done.output
    assert "Traceback" not in done.output
    assert tracker.told == []
