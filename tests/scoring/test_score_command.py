"""`mafql score` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from rllib_mafql.evaluation.score_cli import score


def run(*words: Any) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(score)
    return CliRunner().invoke(app, [str(word) for word in words])


GRID = ("--grid", "l2rpn_case14_sandbox", "--config", '{"max_steps": 4}')


def test_a_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "new" / "scores.json"
    result = run("do_nothing", *GRID, "--episodes", 1, "--json", file)
    assert result.exit_code == 0, result.output
    assert "l2rpn_case14_sandbox, test split, 1 episodes of up to 4 steps" in result.output
    assert "ScoreL2RPN2022" in result.output
    row = next(line for line in result.output.splitlines() if "do nothing " in line)
    assert row.split()[2:4] == ["0.00", "0.00"]
    assert row.split()[-2:] == ["100%", "0.0"]
    written = json.loads(file.read_text())
    assert written["agents"]["do_nothing"]["metrics"]["score_l2rpn_2022"] == 0.0
    assert written["settings"]["env_config"]["max_steps"] == 4
    assert {"command", "version", "commit"} <= written["settings"].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["do_nothing", "qp_zone"],
            "qp_zone: no dispatcher and no folder of an exported policy; the nearest valid one",
        ),
        (["pretraind"], "the nearest valid one is 'pretrained'"),
        (["no/such/folder"], "no/such/folder: no dispatcher and no folder"),
        (["qp", "--config", "max_step: 3"], "unknown key 'max_step'; the nearest valid key is 'max_steps'"),
        (["qp", "--config", "none.yaml"], "--config: no such file: none.yaml"),
        (["qp", "--grid", "l2rpn_idf2023"], "the nearest is 'l2rpn_idf_2023'"),
        (["qp", "--grid", "a", "--config", "grid: b"], "--grid says 'a' and --config says grid 'b'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_folder_without_an_export_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, *GRID)
    assert result.exit_code == 2
    assert str(tmp_path) in "".join(result.output.split("\n"))
    assert "Traceback" not in result.output
