"""The commands as their users meet them, in an empty folder, with a Ray that must not start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
from typer.testing import CliRunner

from rllib_mafql.cli.rllib import app
from rllib_mafql.deploy.cli import export
from rllib_mafql.evaluation.cli import evaluate

#: words -> what the command printed; fails unless it refused, in one message, before Ray started.
Refused = Callable[..., str]


class RayStarted(Exception):
    """The command went on to start Ray."""


def _command(function: Callable[..., None]) -> typer.Typer:
    command = typer.Typer(pretty_exceptions_enable=False)
    command.command()(function)
    return command


APPS = {"rllib": app, "mafql evaluate": _command(evaluate), "mafql export": _command(export)}


@pytest.fixture
def no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty working folder, and a list that is not empty once a command has started Ray."""
    started: list[str] = []

    def start(*args: Any, **kwargs: Any) -> None:
        started.append("started")
        raise RayStarted

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where results go by default
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests' Ray is none of the commands'
    return started


@pytest.fixture
def refused(no_ray: list[str]) -> Refused:
    """Runs a command that must refuse: `refused("mafql export", "checkpoint", "--out", "x")`."""

    def run(command: str, *words: Any) -> str:
        no_ray.clear()
        result = CliRunner().invoke(APPS[command], [str(word) for word in words], terminal_width=200)
        assert not no_ray, "accepted: Ray was started"
        assert isinstance(result.exception, SystemExit), f"not refused but raised: {result.exception!r}"
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert "error:" in result.output
        return result.output

    return run


@pytest.fixture
def accepted(no_ray: list[str]) -> Callable[..., None]:
    """Runs a command that must go on to start Ray."""

    def run(command: str, *words: Any) -> None:
        result = CliRunner().invoke(APPS[command], [str(word) for word in words], terminal_width=200)
        assert no_ray, result.output
        assert isinstance(result.exception, RayStarted), result.output

    return run
