"""`mafql bench profile | redispatch | scaling`."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rllib_mafql.bench.profile import PARTS
from rllib_mafql.bench.scaling import RUNNERS, model
from rllib_mafql.cli.mafql import app

GRID = ["--grid", "educ_case14_storage"]


def test_parts_of_a_step_sum_to_the_whole(tmp_path: Path) -> None:
    files = ["--png", str(tmp_path / "new" / "p.png"), "--json", str(tmp_path / "r")]
    result = CliRunner().invoke(app, ["bench", "profile", *GRID, "--steps", "30", "--repeats", "1", *files])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r").read_text())["microseconds"]
    assert list(report) == ["plain Grid2Op", "environment, slsqp", "environment, direct"]
    for shares in report.values():
        assert list(shares) == list(PARTS)
        assert all(value > 0 for value in shares.values())
    assert report["environment, direct"]["redispatch solver"] < report["environment, slsqp"]["redispatch solver"]
    assert (tmp_path / "new" / "p.png").stat().st_size > 10_000


def test_solvers_are_compared_by_the_command(tmp_path: Path) -> None:
    words = ["bench", "redispatch", *GRID, "--steps", "40", "--json", str(tmp_path / "r")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r").read_text())
    assert report["same_verdict"] == report["problems"] > 0
    assert f"{report['problems']} problems with the same verdict" in " ".join(result.stdout.split())


def test_the_model_follows_from_the_constants() -> None:
    constants = {
        "runner_steps_per_s": 1000.0,
        "bytes_per_step": 5000.0,
        "get_us_per_step": 2.0,
        "store_us_per_step": 3.0,
        "weights_mb": 3.0,
        "row_bytes": 4000.0,
    }
    hundred = model(constants, syncs_per_s=0.2, runners=100)
    assert hundred["steps_per_s"] == 100_000
    assert hundred["object_store_mb_per_s"] == pytest.approx(500.0)
    assert hundred["driver_share"] == pytest.approx(0.5)
    assert hundred["weights_mb_per_s"] == pytest.approx(7 * 0.2 * 3.0)  # 100 runners lie on 7 nodes
    assert hundred["replay_gb_per_hour"] == pytest.approx(1440.0)


def test_scaling_is_worked_out_from_what_was_measured(tmp_path: Path) -> None:
    words = ["bench", "scaling", *GRID, "--repeats", "2", "--json", str(tmp_path / "r")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r").read_text())
    assert all(value > 0 for value in report["constants"].values())
    assert [row["runners"] for row in report["model"]] == list(RUNNERS)
    one, *_, thousand = report["model"]
    assert thousand["driver_share"] == pytest.approx(1000 * one["driver_share"])
    # rows are float32, and a rollout holds little beside them
    assert 1.0 < report["constants"]["bytes_per_step"] / report["constants"]["row_bytes"] < 1.5


@pytest.mark.parametrize("command", ["profile", "redispatch", "scaling"])
def test_bad_input_is_named(command: str) -> None:
    result = CliRunner().invoke(app, ["bench", command, "--grid", "educ_case14_storag"])
    assert result.exit_code == 2
    assert re.search("--grid 'educ_case14_storag' .*'educ_case14_storage'", " ".join(result.output.split()))
