"""`mafql bench replay`."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rllib_mafql.bench.replay import measure_replay
from rllib_mafql.cli.mafql import app


def test_each_observation_is_held_once() -> None:
    seen = []
    report = measure_replay(400, 60, 1_000, batch_size=8, batches=20, on_rows=seen.append)
    assert report["rows"] == sum(seen) == 1_000
    assert report["data_bytes"] == 1_000 * 460 * 4
    # beside them: an observation after each of 4 episodes, and 3 numbers, a mark and a distance for each row
    assert report["bytes"] == 1_004 * (460 * 4 + 3 * 4 + 2)
    sample = report["sample_ms"]
    assert 0 < sample["p50"] <= sample["p99"] <= sample["max"]


def test_the_command_measures_the_grids_own_sizes(tmp_path: Path) -> None:
    words = ["bench", "replay", "--grid", "educ_case14_storage", "--rows", "600", "--json", str(tmp_path / "new" / "r")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "new" / "r").read_text())
    assert (report["grid"], report["rows"], report["batch_size"]) == ("educ_case14_storage", 600, 256)
    assert f"({report['obs_size']}) and actions ({report['action_size']})" in " ".join(result.stdout.split())
    assert 1.0 < report["bytes_over_data"] < 1.15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "educ_case14_storag"], "--grid: unknown grid .*'educ_case14_storage'"),
        (["--grid", "educ_case14_storage", "--rows", "99999999999"], "--rows 99999999999: .* GB are free; at most"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", "replay", *words])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output
