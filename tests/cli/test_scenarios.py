"""`mafql scenarios`, from the command line to the files."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rllib_mafql.cli.mafql import app

GENERATE = ["scenarios", "generate", "--grid", "l2rpn_case14_sandbox", "--weeks", "2", "--split", "test"]


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, file = tmp_path_factory.mktemp("weeks"), tmp_path_factory.mktemp("figures") / "new" / "figures.json"
    result = CliRunner().invoke(app, [*GENERATE, "--out", str(out), "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2 weeks generated, 0 were there" in result.stderr
    folder = out / "l2rpn_case14_sandbox" / "test-2-0"
    assert result.stdout.strip() == str(folder)
    figures = json.loads(file.read_text())
    sizes = [path.stat().st_size / 1e6 for path in folder.glob("*.npz")]
    assert figures["mb_per_week"] == pytest.approx({"mean": sum(sizes) / 2, "max": max(sizes)})
    assert (figures["weeks"], figures["generated"], figures["folder"]) == (2, 2, str(folder))
    assert 0.0 < figures["seconds_per_week"]["mean"] <= figures["seconds_per_week"]["max"] < 10.0
    return out


def test_weeks_are_kept_and_the_environment_finds_them(weeks: Path) -> None:
    result = CliRunner().invoke(app, [*GENERATE, "--out", str(weeks)])
    assert result.exit_code == 0, result.output
    assert "0 weeks generated, 2 were there" in result.stderr

    from grid2op_zones import ZonedGridEnv

    scenarios = {"source": "generated", "path": str(weeks), "split": "test", "weeks": 2}
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "scenarios": scenarios})
    env.close()
    assert len(list(weeks.rglob("*.npz"))) == 2


def test_describe_writes_the_report_and_the_picture(weeks: Path, tmp_path: Path) -> None:
    report, picture = tmp_path / "new" / "report.json", tmp_path / "report.png"
    result = CliRunner().invoke(
        app, ["scenarios", "describe", str(weeks), "--episodes", "2", "--json", str(report), "--png", str(picture)]
    )
    assert result.exit_code == 0, result.output
    assert "l2rpn_case14_sandbox: 2 generated weeks" in result.stdout
    assert "95 % interval" in result.stdout and "reset, median processor time: generated" in result.stdout
    found = json.loads(report.read_text())
    assert (found["grid"], found["weeks"]) == ("l2rpn_case14_sandbox", 2)
    assert found["survival"]["generated"]["episodes"] == 2
    assert found["reset_ms"].keys() == {"generated", "recorded_memory", "recorded_csv"}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["generate", "--grid", "l2rpn_case14_sandbx"],
            "--grid: unknown grid .* the nearest is 'l2rpn_case14_sandbox'",
        ),
        (["generate", "--weeks", "0"], "--weeks"),
        (["generate", "--split", "tset"], "--split"),
        (["describe", "/nowhere"], "no such folder: /nowhere"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["scenarios", *arguments])
    assert result.exit_code == 2
    assert re.search(message, result.output)


def test_describe_wants_one_folder_of_weeks(weeks: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["scenarios", "describe", str(tmp_path)])
    assert (result.exit_code, "no folder of generated weeks" in result.output) == (2, True)
    [inner] = (weeks / "l2rpn_case14_sandbox").iterdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for week in inner.glob("*.npz"):
            (tmp_path / name / week.name).write_bytes(week.read_bytes())
    result = CliRunner().invoke(app, ["scenarios", "describe", str(tmp_path)])
    assert (result.exit_code, "several folders of weeks" in result.output) == (2, True)


def test_help_of_the_group() -> None:
    result = CliRunner().invoke(app, ["scenarios", "--help"])
    assert result.exit_code == 0
    assert "generate" in result.output and "describe" in result.output
