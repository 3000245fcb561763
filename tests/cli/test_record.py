"""`mafql record`, and what may happen to it: other grids, bad files, Ctrl-C, kills."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from rllib_mafql.cli.mafql import app
from rllib_mafql.cli.recording import AHEAD, CHUNK, Crew
from rllib_mafql.offline import open_recording

GRID = ["--grid", "educ_case14_storage", "--config", "{max_steps: 48}"]
KEYS = {"steps", "episodes", "files", "bytes", "steps_per_s", "workers", "seconds", "mean_score", "survival"}


def record(out: Path, *words: Any, grid: list[str] = GRID) -> Result:
    return CliRunner().invoke(app, ["record", *grid, "--out", str(out), *map(str, words)], terminal_width=200)


def start(out: Path, *words: Any) -> subprocess.Popen[str]:
    """The command as a process group of its own, with a Ray of its own, writing files of 200 steps."""
    words = ("record", *GRID, "--file-rows", 200, "--out", out, *words)
    command = [sys.executable, "-m", "rllib_mafql.cli.mafql", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes)


def wait_for(condition: Any, process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < end, "nothing came for two minutes"
        assert process is None or process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.02)


def check(folder: Path) -> int:
    """Rows of a recording, in which no step is there twice and no episode was played twice."""
    fragments = list(open_recording(folder).read())
    steps = [(f.episode_id, f.first_step + t) for f in fragments for t in range(f.fragment.steps)]
    assert len(steps) == len(set(steps))
    draws = [f.fragment.actions.tobytes() for f in fragments if f.first_step == 0 and f.policies[0] == "random"]
    assert len(draws) == len(set(draws))
    return len(steps)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, small_ray: None) -> Path:
    """600 steps, and the report of the command."""
    out = tmp_path_factory.mktemp("recorded") / "new"
    report = out.parent / "json" / "report.json"
    words = ["--policy", "qp_zones=3, random", "--noise", 0.2, "--random-start", 0.5, "--seed", 1, "--json", report]
    result = record(out, "--steps", 600, *words)
    assert result.exit_code == 0, result.output
    assert "600 steps, 600 of them new" in result.stdout
    return out


def test_it_records_exactly_the_steps_asked_for(recorded: Path) -> None:
    assert check(recorded) == 600
    report = json.loads((recorded.parent / "json" / "report.json").read_text())
    assert set(report) == KEYS | {"resumed_steps", "skipped"}
    assert (report["steps"], report["resumed_steps"], report["workers"], report["skipped"]) == (600, 0, 2, {})
    assert report["episodes"] == len({f.episode_id for f in open_recording(recorded).read()})
    assert report["bytes"] == sum(path.stat().st_size for path in recorded.glob("*.parquet"))
    assert report["files"] == len(list(recorded.glob("*.parquet")))
    assert 0.0 < report["mean_score"] <= 1.0 and 0.0 <= report["survival"] <= 1.0
    assert report["steps_per_s"] == pytest.approx(600 / report["seconds"], rel=0.1)


def test_policies_and_random_starts_are_recorded(recorded: Path) -> None:
    fragments = list(open_recording(recorded).read())
    assert {name for f in fragments for name in f.policies} == {"qp_zones", "random"}
    orders = {tuple(dict.fromkeys(f.policies)) for f in fragments}
    assert ("random", "qp_zones") in orders and ("qp_zones",) in orders
    for f in fragments:
        if "qp_zones" in f.policies:  # random play before a policy takes over is not to be cloned
            assert f.fragment.behavior.tolist() == [name == "qp_zones" for name in f.policies]


def test_an_advisor_is_asked_whoever_plays(small_ray: None, tmp_path: Path) -> None:
    words = ["--policy", "do_nothing,random", "--advisor", "do_nothing", "--seed", 3, "--workers", 1]
    result = record(tmp_path, "--steps", 60, *words)
    assert result.exit_code == 0, result.output
    fragments = list(open_recording(tmp_path).read())
    assert {name for f in fragments for name in f.policies} == {"do_nothing", "random"}
    for f in fragments:
        acted = f.fragment.advice != f.fragment.actions
        assert f.fragment.behavior.all() and acted.any() == ("random" in f.policies)


def test_run_again_it_adds_what_is_missing(recorded: Path, tmp_path: Path) -> None:
    (recorded / ".rec-killed-w1-00000.parquet.part").write_bytes(b"half a file")
    result = record(
        recorded, "--policy", "qp_zones", "--noise", 0.2, "--steps", 680, "--seed", 1, "--json", tmp_path / "report"
    )
    assert result.exit_code == 0, result.output
    assert check(recorded) == 680
    assert json.loads((tmp_path / "report").read_text())["resumed_steps"] == 600
    assert not list(recorded.glob(".*.part"))
    again = record(recorded, "--steps", 300)
    assert again.exit_code == 0 and "nothing is to be done" in again.output
    assert check(recorded) == 680


def test_another_grid_or_zone_map_is_refused(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = open_recording(recorded).rows
    with monkeypatch.context() as patch:  # no worker has to build the grid first, with 36 weeks to generate
        patch.setattr(Crew, "play", lambda *_, **__: pytest.fail("workers were started"))
        generated = "{scenarios: {source: generated, weeks: 36}}"
        other = record(recorded, "--steps", 9000, grid=["--grid", "l2rpn_case14_sandbox", "--config", generated])
    assert other.exit_code == 2, other.output
    assert re.search("recorded on grid 'educ_case14_storage', but .*'l2rpn_case14_sandbox'", other.output)
    zones = record(recorded, "--steps", 9000, "--workers", 1, grid=[*GRID[:3], "{zones: 2}"])
    assert zones.exit_code == 2, zones.output
    assert re.search("agents", zones.output)
    assert open_recording(recorded).rows == rows


def test_bad_files_stop_it_unless_they_are_to_be_left_out(recorded: Path, tmp_path: Path) -> None:
    whole = sorted(recorded.glob("*.parquet"))[0]
    (tmp_path / whole.name).write_bytes(whole.read_bytes())
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    rows = open_recording(tmp_path / whole.name).rows
    result = record(tmp_path, "--steps", rows + 10)
    assert result.exit_code == 2 and "cut.parquet: no whole Parquet file" in result.output
    assert "--skip-bad" in result.output
    result = record(tmp_path, "--steps", rows + 10, "--skip-bad", "--json", tmp_path / "report")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report").read_text())
    assert (report["steps"], report["resumed_steps"]) == (rows + 10, rows)
    assert list(report["skipped"]) == [str(tmp_path / "cut.parquet")]
    assert result.output.count("no whole Parquet file") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "qp_zone"], "--policy: unknown policy 'qp_zone'; the nearest valid one is 'qp_zones'"),
        (["--policy", "qp,qp=2"], "--policy: qp is given twice"),
        (["--policy", "qp=none"], "--policy: the weight of qp must be a number above 0, not 'none'"),
        (["--policy", "qp=0"], "--policy: the weight of qp must be a number above 0, not '0'"),
        (["--advisor", "qp_zone"], "--advisor: .*'qp_zone'; the nearest valid one is 'qp_zones'"),
        (["--advisor", "random"], "--advisor: .*'random'"),
        (["--config", "{max_step: 3}"], "max_step.*max_steps"),
        (["--config", "{grid: l2rpn_idf_2023}"], "--grid says 'educ_case14_storage' and --config says"),
        (["--grid", "educ_case14_storag"], "--grid: unknown grid .*'educ_case14_storage'"),
        (["--config", "{scenarios: {weeks: 99}}"], "weeks"),
        (["--noise", "-1"], "--noise"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str, tmp_path: Path, small_ray: None) -> None:
    result = record(tmp_path / "out", "--steps", "10", *words)
    assert result.exit_code == 2, result.output
    assert re.search(message, result.output), result.output
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = record(tmp_path / "file", "--steps", 10)
    assert result.exit_code == 2 and f"--out {tmp_path / 'file'}" in result.output


def test_a_killed_worker_is_replaced(small_ray: None, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: all(list(tmp_path.glob(f"*-w{k}-*.parquet")) for k in (1, 2)))  # both play
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # some of Ray's end by themselves
                if not killed and process.name().startswith("ray::Player"):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    result = record(tmp_path, "--steps", 10_000, "--policy", "random", "--file-rows", 250)
    thread.join()
    assert killed
    assert result.exit_code == 0, result.output
    assert "a worker died and is replaced" in result.output
    assert check(tmp_path) == 10_000


def test_ctrl_c_writes_what_was_played_and_a_second_command_is_refused(tmp_path: Path) -> None:
    report = tmp_path / "report"
    process = start(tmp_path, "--steps", 100_000, "--policy", "random", "--json", report)
    try:
        lock = tmp_path / ".recording.lock"
        wait_for(lambda: lock.exists() and lock.read_text(), process)
        second = record(tmp_path, "--steps", 10)
        assert second.exit_code == 2, second.output
        assert f"another command writes there (process {process.pid})" in second.output
        wait_for(lambda: list(tmp_path.glob("*.parquet")), process)
        on_disk = open_recording(tmp_path).rows
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    steps = check(tmp_path)
    assert steps >= on_disk + 100  # what was in no file yet, of two workers
    assert json.loads(report.read_text())["steps"] == steps
    assert f"stopped with {steps:,} of 100,000 steps" in output and "Traceback" not in output


def test_a_kill_leaves_whole_files_and_the_next_command_goes_on(small_ray: None, tmp_path: Path) -> None:
    process = start(tmp_path, "--steps", 100_000, "--policy", "random", "--seed", 3)
    try:
        wait_for(lambda: list(tmp_path.glob("*.parquet")), process)
        time.sleep(float.fromhex("0x1p-32") * int.from_bytes(os.urandom(4)))  # any moment of a second
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    there = check(tmp_path)  # every file can be read
    assert there >= 200
    # While they end, its two workers may write what was in no file yet, and the chunks that they were given.
    steps = there + 2 * (200 + 48 + AHEAD * CHUNK)
    result = record(tmp_path, "--steps", steps, "--policy", "random", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert check(tmp_path) == steps
