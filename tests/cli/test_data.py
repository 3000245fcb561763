"""`mafql data`, from the command line to the files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rllib_mafql.cli.mafql import app
from rllib_mafql.offline import FragmentWriter, RecordedFragment, RecordingSchema, open_recording
from rllib_mafql.offline.summary import summarize
from rllib_mafql.replay import Fragment

SCHEMA = RecordingSchema((("zone_0", 2, 1), ("zone_1", 1, 1)), {"grid": "case_a"}, ("alive",))


def data(*words: Any) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)], terminal_width=200)


def fragment(episode: str, first: int, rewards: list[float], policies: list[str], **ends: bool) -> RecordedFragment:
    """Observations count up, actions are the rewards."""
    steps, values = len(rewards), np.array(rewards, np.float32)
    obs = np.arange(first, first + steps + 1, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return RecordedFragment(
        Fragment(
            obs=obs,
            actions=np.stack([values, -values], axis=1),
            rewards=values,
            behavior=np.array([name != "random" for name in policies]),
            terminated=ends.get("terminated", False),
        ),
        truncated=ends.get("truncated", False),
        components={"alive": np.ones(steps, np.float32)},
        policies=policies,
        episode_id=episode,
        first_step=first,
        scenario="",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two whole episodes of "qp" (4 steps, in two fragments, and 1), one of "random" and "qp", and a cut one."""
    writer = FragmentWriter(tmp_path / "data", SCHEMA, "part", max_rows=3)
    writer.add(fragment("a", 2, [0.5, 1.0], ["qp", "qp"], truncated=True))
    writer.add(fragment("b", 0, [0.0], ["qp"], terminated=True))
    writer.add(fragment("a", 0, [0.0, 0.5], ["qp", "qp"]))
    writer.add(fragment("c", 0, [1.0, 1.0], ["random", "qp"], truncated=True))
    writer.add(fragment("d", 0, [1.0], ["qp"]))
    writer.add(fragment("e", 3, [1.0], ["qp"], truncated=True))
    writer.close()
    return tmp_path / "data"


def test_describe_counts_what_can_be_counted_by_hand(folder: Path, tmp_path: Path) -> None:
    result = data("describe", folder, "--json", tmp_path / "new" / "report.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "new" / "report.json").read_text())
    assert (found["rows"], found["episodes"], found["whole_episodes"], found["longest_episode"]) == (9, 5, 3, 4)
    # a: 2 of 4, survived; b: 0 of 4, lost; c: 2 of 4, survived; d and e are not whole
    assert found["mean_score"] == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert found["mean_return"] == pytest.approx(4 / 3)
    assert found["survival"] == pytest.approx(2 / 3)
    assert found["policies"] == {"qp": 8, "random": 1}
    assert found["behavior_rows"] == 8
    mixes = {", ".join(mix["policies"]): mix for mix in found["mixes"]}
    assert list(mixes) == ["qp", "random, qp"]
    assert (mixes["qp"]["episodes"], mixes["qp"]["whole_episodes"], mixes["qp"]["rows"]) == (4, 2, 7)
    assert (mixes["random, qp"]["mean_return"], mixes["random, qp"]["survival"]) == (2.0, 1.0)
    columns = found["columns"]
    assert columns["obs.zone_0"] == {"size": 2, "min": 0.0, "max": 4.0, "mean": pytest.approx(np.mean(
        [2, 3, 4, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 3, 4]))}  # fmt: skip
    assert (columns["actions.zone_1"]["min"], columns["actions.zone_1"]["max"]) == (-1.0, 0.0)
    assert columns["reward.alive"]["mean"] == 1.0
    assert (found["grid"], found["version"], found["agents"]) == ("case_a", 1, [["zone_0", 2, 1], ["zone_1", 1, 1]])
    assert found["written_by"] == ["rllib-mafql 0.1.0"]
    assert (found["files"], found["skipped"]) == (len(list(folder.iterdir())), {})
    assert found["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    for text in ("9 steps of grid case_a", "5 episodes, 3 of them whole", "random, then qp", "67% survive"):
        assert text in result.stdout


def test_scalar_columns_alone_tell_the_same(folder: Path, tmp_path: Path) -> None:
    """`mafql record` reports from these."""
    data("describe", folder, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    summary = json.loads(json.dumps(summarize(open_recording(folder))))
    assert summary == {name: report[name] for name in summary}


def test_bad_data_are_named_or_left_out(folder: Path, tmp_path: Path) -> None:
    content = sorted(folder.iterdir())[0].read_bytes()
    (folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    result = data("describe", folder)
    assert result.exit_code == 2
    assert re.search("cut.parquet: no whole Parquet file.*--skip-bad", result.output)
    result = data("describe", folder, "--skip-bad", "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    assert list(json.loads((tmp_path / "report.json").read_text())["skipped"]) == [str(folder / "cut.parquet")]
    assert "left out" in result.output
    result = data("describe", tmp_path / "dat")
    assert result.exit_code == 2 and "did you mean" in result.output


def test_to_minari_and_back(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    result = data("to-minari", folder, "--id", "grid/all-v0")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "grid/all-v0"
    assert "5 episodes, 9 steps" in result.stderr
    assert "1 of them were not recorded to their end" in result.stderr
    assert "1 of them were not recorded from their start" in result.stderr
    result = data("from-minari", "grid/all-v0", "--out", tmp_path / "again", "--like", folder)
    assert result.exit_code == 0, result.output
    assert summarize(open_recording(tmp_path / "again")) == summarize(open_recording(folder))
    taken = data("to-minari", folder, "--id", "grid/all-v0")
    assert taken.exit_code == 2 and "exists already" in taken.output
    zone = data("to-minari", folder, "--id", "grid/zone-v0", "--layout", "zone_2")
    assert zone.exit_code == 2 and "zone_0, zone_1" in zone.output
    other = data("from-minari", "grid/all-v0", "--out", tmp_path / "other", "--like", "l2rpn_case14_sandbox")
    assert other.exit_code == 2 and "not like grid 'l2rpn_case14_sandbox'" in other.output
    unknown = data("from-minari", "grid/all-v0", "--out", tmp_path / "other", "--like", "l2rpn_case14_sandbx")
    assert unknown.exit_code == 2 and "l2rpn_case14_sandbox" in unknown.output
    assert not (tmp_path / "other").exists()
