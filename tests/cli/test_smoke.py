"""The way of a user, whole: train MAFQL from a file, evaluate the checkpoint, compare it with dispatchers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rllib_mafql.cli.mafql import app as mafql

SMOKE = Path(__file__).parents[2] / "tuned_examples" / "case14_mafql_smoke.yaml"

pytestmark = pytest.mark.usefixtures("small_ray")


def test_train_evaluate_compare(rllib: Callable[..., Result], tmp_path: Path) -> None:
    trained = rllib("train", "file", str(SMOKE), "--storage-path", "runs")
    assert trained.exit_code == 0, trained.output
    assert "checkpoint: runs/case14_mafql_smoke" in trained.output

    evaluated = rllib("evaluate", "runs/case14_mafql_smoke", "--episodes", "2", "--json", "evaluated.json")
    assert evaluated.exit_code == 0, evaluated.output
    metrics = json.loads((tmp_path / "evaluated.json").read_text())["metrics"]
    assert 0.0 <= metrics["survived"] <= 1.0 and 0.0 < metrics["score"] <= 1.0

    words = ["evaluate", "runs/case14_mafql_smoke", "do_nothing", "qp_zones", "--episodes", "2", "--out", "report"]
    compared = CliRunner().invoke(mafql, words, terminal_width=200)
    assert compared.exit_code == 0, compared.output
    agents = json.loads((tmp_path / "report" / "results.json").read_text())["agents"]
    assert set(agents) == {"mafql_decentralized", "mafql_centralized", "do_nothing", "qp_zones"}
    assert all(agent["illegal_actions"] == 0.0 for row in agents.values() for agent in row["episodes"])
    assert {path.name for path in (tmp_path / "report").glob("*.png")} == {
        "comparison.png",
        "learning_curves.png",
        "episode.png",
    }

    other_grid = rllib("evaluate", "runs/case14_mafql_smoke", "--config", "{env_config: {grid: l2rpn_case14_sandbox}}")
    assert other_grid.exit_code == 2
    assert "educ_case14_storage" in other_grid.output and "l2rpn_case14_sandbox" in other_grid.output
