"""`mafql bench learner`."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rllib_mafql.cli.mafql import app


def test_the_command_measures_all_three_in_turns(tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.json"
    words = ["--grid", "educ_case14_storage", "--batch-size", "32", "--updates", "3", "--device", "cpu"]
    result = CliRunner().invoke(app, ["bench", "learner", *words, "--json", str(file)])
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert set(report) == {
        *("grid", "updates_per_s", "bare_torch_updates_per_s", "rllib_sac_updates_per_s"),
        *("over_bare_torch", "over_rllib_sac", "variants", "parameters"),
        *("batch_size", "updates", "threads", "device", "precision"),
    }
    rate = report["updates_per_s"]
    assert report["over_bare_torch"] == pytest.approx(rate / report["bare_torch_updates_per_s"])
    assert report["over_rllib_sac"] == pytest.approx(rate / report["rllib_sac_updates_per_s"])
    assert report["over_rllib_sac"] > 2
    (name, variant), *others = report["variants"].items()
    assert (name, others) == ("bfloat16", []) and variant["over_float32"] == pytest.approx(
        variant["updates_per_s"] / rate
    )
    told = {key: report[key] for key in ("grid", "batch_size", "updates", "threads", "device", "precision")}
    assert told == {
        **{"grid": "educ_case14_storage", "batch_size": 32, "updates": 3, "threads": 1},
        **{"device": "cpu", "precision": "float32"},
    }
    # zones see 44, 56 and 52 numbers and set 2, 3 and 3; critics of two, a teacher and a student for each zone
    joint, width = (152, 8), 256
    critic = 2 * (width * joint[0] + width) + 2 * width + 2 * (width * width + width) + 2 * width * joint[1]
    critic += 2 * 2 * width + 2 * (width * width + width) + 2 * (width + 1)
    fields = [
        width * d + width + 2 * width + width * (width + 1) + width * (m + 1) + width * (width + 1) + (width + 1) * m
        for d, m in (joint, (44, 2), (56, 3), (52, 3))
    ]
    assert report["parameters"]["mafql"] == critic + sum(fields)
    assert report["parameters"]["rllib_sac"] > report["parameters"]["mafql"]
    words = " ".join(result.stdout.split())
    assert f"{report['over_bare_torch']:.2f} times the {report['bare_torch_updates_per_s']:.1f}" in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "educ_case14_storag"], "--grid: unknown grid .*'educ_case14_storage'"),
        (["--device", "gpu"], "--device 'gpu': expected auto, cpu or cuda"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", "learner", *words])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output
