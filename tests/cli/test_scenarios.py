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


def test_what_no_dispatch_prevents(weeks: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "infeasible.json"
    scenarios = f"scenarios: {{source: generated, path: {weeks}, split: test, weeks: 2}}"
    words = ["scenarios", "infeasible", "--grid", "l2rpn_case14_sandbox", "--episodes", "2", "--every", "200"]
    found = {}
    for limits in (1.0, 0.4):
        config = f"{{balance: grid, thermal_limit_scale: {limits}, max_steps: 2015, {scenarios}}}"
        result = CliRunner().invoke(app, [*words, "--config", config, "--json", str(file)])
        assert result.exit_code == 0, result.output
        found[limits] = json.loads(file.read_text())
        assert found[limits]["settings"]["env_config"]["thermal_limit_scale"] == limits
        assert (
            f"{found[limits]['infeasible']} of 2 episodes have an overload that no dispatch prevents" in result.stdout
        )
    assert (found[1.0]["infeasible"], found[0.4]["infeasible"]) == (0, 2)
    for loose, tight in zip(found[1.0]["episodes"], found[0.4]["episodes"], strict=True):
        assert loose["scenario"] == tight["scenario"] and loose["rows"] == tight["rows"] >= 11
        assert 0 < tight["infeasible"] <= tight["overloaded"] <= tight["rows"]
        assert 1.0 < tight["worst"]["least"] < tight["worst"]["idle"] and tight["worst"]["moved_mw"] > 0.0


def test_an_episode_without_power_flows_is_named(weeks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grid2op_zones.infeasible.LeastLoading.row", lambda *_: None)
    config = f"{{scenarios: {{source: generated, path: {weeks}, split: test, weeks: 2}}}}"
    result = CliRunner().invoke(app, ["scenarios", "infeasible", "--grid", "l2rpn_case14_sandbox", "--config", config])
    assert result.exit_code == 2
    assert re.search(r"episode 0: none of the \d+ rows looked at has a power flow", " ".join(result.output.split()))


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
        (["infeasible", "--grid", "l2rpn_case14_sandbox"], "scenarios.source is 'bundled': .* set it to 'generated'"),
        (
            ["infeasible", "--config", "{actions: [curtail], scenarios: {source: generated, weeks: 1}}"],
            "actions: redispatch has to be among them, found",
        ),
        (["infeasible", "--config", "{baance: grid}"], "baance.*balance"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["scenarios", *arguments])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split()))


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
    assert all(name in result.output for name in ("generate", "describe", "infeasible"))
