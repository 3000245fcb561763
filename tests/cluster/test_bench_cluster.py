"""`mafql bench cluster`, on the cluster of these tests instead of one of its own."""

import json

import pytest
from typer.testing import CliRunner

from rllib_mafql.bench.cluster import costs, extrapolate
from rllib_mafql.cli.mafql import app

RUNS = [
    {
        "runners": runners,
        "iterations": 10,
        "steps": 2000 * runners,
        "driver_s": 0.6 + 0.04 * runners,
        "collecting_s": 0.04 * runners,
        "learning_s": 0.4,
        "drawing_s": 0.02,
        "syncing_s": 0.1,
        "rows_drawn": 20_000,
        "driver_mb": 300.0 + runners,
        "replay_mb": 0.5 * runners,
        "transition_bytes_per_step": 1000.0,
        "batch_bytes_per_row": 2000.0,
    }
    for runners in (1, 2, 4)
]


def test_costs_and_what_they_come_to():
    found = costs(RUNS)
    assert found == pytest.approx(
        {
            "request_ms": 4.0,
            "transitions_ms": 20.0 + 1.0,
            "row_us": 20.0,
            "drawing_us": 1.0,
            "sync_ms": 10.0,
            "iteration_ms": 10.0,
            "runner_mb": 0.5,
        }
    )
    report = {"fragment": 200, "num_updates": 10, "learners": 2, "runs": RUNS, "costs": found}
    row = extrapolate(report, 100, steps_per_s=500.0, updates_per_s=20.0)
    assert row == pytest.approx(
        {
            "runners": 100,
            "collecting": 250 * 0.004,
            "learning": 2 * 20 * 256 * 20e-6,
            "syncing": 2 * 0.020,
            "driver": 1.0 + 0.2048 + 0.04,
            "transition_mb_per_s": 50.0,
            "batch_mb_per_s": 20.48,
            "memory_mb": 302.0 + 96 * 0.5,
        }
    )


def test_the_command_reports_what_its_driver_did(cluster, tmp_path):
    file = tmp_path / "cluster.json"
    words = "bench cluster --grid l2rpn_case14_sandbox --runners 2 --learners 1 --iterations 2 --num-updates 1"
    result = CliRunner().invoke(app, [*words.split(), "--json", str(file)])
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    (run,) = report["runs"]
    assert run["steps"] == 2 * 2 * report["fragment"]
    assert run["rows_drawn"] == 2 * 256
    # observations and actions of 4 bytes each, once on the way in; the next observation too on the way out
    assert 500 < run["transition_bytes_per_step"] < run["batch_bytes_per_row"] < 1500
    assert run["driver_s"] > 0 and run["replay_mb"] < run["driver_mb"]
    assert 0 <= run["idle_cpu"] < 0.5 and run["collecting_s"] > 0 and run["learning_s"] > 0
    assert [row["runners"] for row in report["extrapolated"]] == [8, 100, 1000]


@pytest.mark.parametrize(("words", "message"), [("--learners 9", "at most one"), ("--runners 0", "at least 1")])
def test_what_cannot_be_measured_is_refused(words, message):
    result = CliRunner().invoke(app, ["bench", "cluster", *words.split()])
    assert result.exit_code == 2 and message in result.output
