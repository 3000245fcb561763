"""Trackers of results: wrong ones are refused before Ray starts, right ones get every result."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from rllib_mafql.cli.checks import check
from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.experiments import read_file
from rllib_mafql.cli.options import TrainOptions


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


def test_right_ones_are_made(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (made,) = check(experiment(tmp_path, f"{{mlflow: {{tracking_uri: '{tmp_path}', experiment_name: grid}}}}")).loggers
    assert type(made).__name__ == "MLflowLoggerCallback"
    assert made.experiment_name == "grid"
