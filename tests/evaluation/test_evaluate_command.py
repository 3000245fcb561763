"""`mafql evaluate` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from rllib_mafql.evaluation.cli import evaluate


def run(*words: Any) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(word) for word in words])


GRID = ("--grid", "educ_case14_storage", "--config", '{"max_steps": 5}')


@pytest.mark.usefixtures("two_cpus")
def test_dispatchers_play_in_parallel(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    result = run("do_nothing", "random", *GRID, "--episodes", 2, "--json", file)
    assert result.exit_code == 0, result.output
    assert "educ_case14_storage, test split, 2 episodes of up to 5 steps" in result.output
    summary = json.loads(file.read_text())
    assert list(summary["agents"]) == ["do_nothing", "random"]
    assert summary["settings"]["env_config"]["max_steps"] == 5
    do_nothing, random = summary["agents"].values()
    for agent in (do_nothing, random):
        assert agent["metrics"]["survival"]["mean"] == 1.0
        assert [episode["steps"] for episode in agent["episodes"]] == [5.0, 5.0]
        assert 0 < agent["metrics"]["score"]["mean"] <= 1
        assert agent["metrics"]["decision_ms"]["mean"] > 0
    keys = ("episode", "seed", "scenario", "start")
    assert [[e[k] for k in keys] for e in do_nothing["episodes"]] == [[e[k] for k in keys] for e in random["episodes"]]
    assert do_nothing["metrics"]["score"]["mean"] != random["metrics"]["score"]["mean"]


def test_a_checkpoint_s_results_come_with_figures(
    mafql_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mafql_run.parent)
    result = run(mafql_run.name, "qp_zones", "--episodes", 1, "--workers", 0, "--flow-steps", 2, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comparison.png",
        "episode.png",
        "learning_curves.png",
        "results.json",
        "results.md",
    ]
    assert (tmp_path / "results.md").read_text().count("\n| ") == 4
    summary = json.loads((tmp_path / "results.json").read_text())
    learned = summary["agents"]["mafql_centralized"]
    assert learned["checkpoints"] == [f"{mafql_run.name}/trial/checkpoint_000000"]
    assert learned["flow_steps"] == 2
    for name in ("episode.png", "learning_curves.png"):
        assert imread(tmp_path / name)[..., :3].std() > 0.05  # something is drawn


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["qpzone"], "did you mean 'qp_zones'?"),
        (["no/such/run"], "no/such/run: no such checkpoint, run folder or export"),
        (["qp", "--config", "max_step: 3"], "unknown key 'max_step'; the nearest valid key is 'max_steps'"),
        (["qp", "--config", "none.yaml"], "--config: no such file: none.yaml"),
        (["qp", "--config", "{"], "--config"),
        (["qp", "--grid", "l2rpn_idf2023", "--workers", "0"], "l2rpn_idf_2023"),
        (["qp", "--grid", "a", "--config", "grid: b"], "--grid says 'a' and --config says grid 'b'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_grid_that_the_checkpoint_does_not_know_is_named(mafql_run: Path) -> None:
    result = run(mafql_run, "--grid", "l2rpn_case14_sandbox")
    assert result.exit_code == 2
    assert "was trained on grid 'educ_case14_storage' and cannot act on grid 'l2rpn_case14_sandbox'" in result.output
