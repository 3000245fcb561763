"""The replay on disk: what is read again is what was held, whatever was written, overwritten, removed or damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mafql import journal
from rllib_mafql.replay import Fragment, JointReplay
from rllib_mafql.replay_files import Place, find_lives, load, read_manifest
from rllib_mafql.stored_replay import StoredReplay

ROOT = Path(__file__).parents[2]
OBS, ACTIONS = 5, 3


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 rows a file, or a quarter of the replay."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)


def fragment(steps: int, number: int, terminated: bool = False) -> Fragment:
    """Steps that tell their number and their fragment's."""
    obs = np.full((steps + 1, OBS), number, np.float32)
    obs[:, 0] = np.arange(steps + 1)
    actions = np.full((steps, ACTIONS), number % 7 / 7.0, np.float32)
    return Fragment(obs, actions, np.linspace(0, 1, steps, dtype=np.float32), np.arange(steps) % 3 == 0, terminated)


def place(folder: Path) -> Place:
    return Place(pyarrow.fs.LocalFileSystem(), str(folder))


def replay(capacity: int = 256) -> JointReplay:
    return JointReplay(capacity, gamma=0.9, n_step=4, seed=1)


def transitions(one: JointReplay) -> dict[str, np.ndarray]:
    columns = one.rows_between(one.first, one.rows)
    real = columns["ahead"] > 0
    return {k: v if k in ("obs", "ahead") else v[real] for k, v in columns.items()}


def assert_same(one: JointReplay, other: JointReplay) -> None:
    assert (one.rows, one.base, len(one)) == (other.rows, other.base, len(other))
    mine, theirs = transitions(one), transitions(other)
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def restored(checkpoint: Path, trial: Path | None, capacity: int = 256) -> tuple[StoredReplay, JointReplay]:
    fresh = replay(capacity)
    stored = StoredReplay(fresh, None if trial is None else place(trial))
    stored.restore(place(checkpoint))
    stored.open()
    return stored, fresh


@settings(max_examples=40, deadline=None)
@given(data=st.data(), capacity=st.integers(8, 300), tune=st.booleans())
def test_what_is_saved_comes_back_through_any_number_of_lives(
    data: Any, capacity: int, tune: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trial = tmp_path_factory.mktemp("trial")
    held = replay(capacity)
    stored = StoredReplay(held, place(trial) if tune else None)
    stored.open()
    kept: list[Path] = []
    for number in range(data.draw(st.integers(1, 5))):
        for k in range(data.draw(st.integers(0, 6))):
            stored.add(fragment(data.draw(st.integers(1, 120)), 10 * number + k, data.draw(st.booleans())))
        if not len(held):
            continue
        checkpoint = trial / f"checkpoint_{number:06d}"
        checkpoint.mkdir()
        assert stored.save(place(checkpoint)) is None
        kept.append(checkpoint)
        if data.draw(st.booleans()):  # an older one is not kept
            shutil.rmtree(kept.pop(0))
        if kept and data.draw(st.booleans()):  # a new process goes on from one that is
            stored.close()
            stored, again = restored(kept[-1], trial if tune else None, capacity)
            assert stored.lost == 0
            if kept[-1] == checkpoint:
                assert_same(held, again)
            held = again
    stored.close()
    for checkpoint in kept:  # all of them still are whole
        last, _ = restored(checkpoint, None, capacity)
        assert last.lost == 0


def save(stored: StoredReplay, checkpoint: Path) -> None:
    checkpoint.mkdir(exist_ok=True)
    for _ in range(2):  # the second begins when what the first has left to be done is done
        assert stored.save(place(checkpoint)) is None


def written(trial: Path) -> dict[tuple[int, int], int]:
    """Rows of each file -> when it was written."""
    files = [(file, file.stem.split("-")) for file in trial.rglob("rows-*.npz")]
    return {(int(first), int(stop)): file.stat().st_mtime_ns for file, (_, first, stop) in sorted(files)}


def test_rows_are_written_once_and_removed_when_nothing_needs_them(tmp_path: Path) -> None:
    held = replay(512)
    stored = StoredReplay(held, place(tmp_path))
    stored.open()
    earlier: dict[tuple[int, int], int] = {}
    for number in range(30):
        stored.add(fragment(30, number))
        if number % 10 == 9:
            save(stored, tmp_path / f"checkpoint_{number:06d}")
            now = written(tmp_path)
            whole = {rows for rows in earlier if (rows[1] - rows[0]) == 64}
            assert all(now[rows] == earlier[rows] for rows in whole)  # serve the later checkpoints, too
            earlier = now
    stored.close()
    spans = sorted(earlier)
    assert spans[0][0] == 0  # the oldest checkpoint's oldest row, which the replay has no more
    assert held.first > 0
    assert spans[-1][1] == held.rows
    assert all(one[1] == other[0] for one, other in pairwise(spans)), spans  # each row once
    for number in (9, 19):
        shutil.rmtree(tmp_path / f"checkpoint_{number:06d}")
    stored, again = restored(tmp_path / "checkpoint_000029", tmp_path, 512)
    save(stored, tmp_path / "checkpoint_000029")
    stored.close()
    assert_same(held, again)
    first, stop = min(written(tmp_path))
    assert first <= held.first < stop


def saved(tmp_path: Path, fragments: int = 12) -> tuple[JointReplay, Path, Path]:
    """A replay of 12 fragments of 30 steps, the checkpoint and the trial."""
    trial = tmp_path / "trial"
    checkpoint = trial / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    held = replay(400)
    stored = StoredReplay(held, place(trial))
    stored.open()
    for number in range(fragments):
        stored.add(fragment(30, number))
    assert stored.save(place(checkpoint)) is None
    stored.close()
    return held, checkpoint, trial


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "empty"])
def test_a_damaged_file_is_told_and_the_rest_is_used(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held, checkpoint, trial = saved(tmp_path)
    file = next(trial.rglob("rows-128-192.npz"))
    content = file.read_bytes()
    if damage == "bit":
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    stored, again = restored(checkpoint, trial, 400)
    stored.close()
    assert 0 < stored.lost <= 64 + 8  # and what leads into them
    assert len(again) + stored.lost >= len(held)
    assert "rows 128 to 191" in caplog.text or "rows-128-192.npz is damaged" in caplog.text
    batch = again.sample(2000)  # nothing of the rows that are lost, and of the others what they were
    steps, numbers = batch["obs"][:, 0], batch["obs"][:, 1]
    assert ((numbers * 31 + steps < 128) | (numbers * 31 + steps >= 192)).all()
    assert (batch["next_obs"][:, 1] == numbers).all()
    assert (batch["next_obs"][:, 0] == np.minimum(steps + 4, 30)).all()


def test_a_replay_that_is_nowhere_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, checkpoint, trial = saved(tmp_path)
    shutil.rmtree(trial / "replay")
    stored, again = restored(checkpoint, trial, 400)
    stored.close()
    assert len(again) == 0
    assert f"there is no folder of it in {trial}" in caplog.text
    (checkpoint / "replay.json").write_text('{"format": 1, "rows"')
    with pytest.raises(ValueError, match=r"replay\.json: no description of a replay"):
        restored(checkpoint, trial, 400)


def test_trials_are_moved_and_copied(tmp_path: Path) -> None:
    held, checkpoint, trial = saved(tmp_path)
    moved = trial.rename(tmp_path / "elsewhere")
    stored, again = restored(moved / checkpoint.name, moved, 400)
    stored.close()
    assert_same(held, again)
    # a new trial, as of a population's, writes all rows into its own folder
    other = tmp_path / "other"
    stored, again = restored(moved / checkpoint.name, other, 400)
    (other / "checkpoint_000000").mkdir(parents=True)
    assert stored.save(place(other / "checkpoint_000000")) is None
    stored.close()
    shutil.rmtree(moved)
    stored, again = restored(other / "checkpoint_000000", other, 400)
    stored.close()
    assert_same(held, again)


@pytest.mark.parametrize("capacity", [100, 1000])
def test_another_capacity_keeps_the_newest_rows(capacity: int, tmp_path: Path) -> None:
    held, checkpoint, trial = saved(tmp_path)
    stored, again = restored(checkpoint, trial, capacity)
    for number in range(4):
        stored.add(fragment(30, 100 + number))
    stored.close()
    assert again.first == max(held.first, again.rows - capacity)
    batch = again.sample(500)
    assert (batch["next_obs"][:, 0] == np.minimum(batch["obs"][:, 0] + 4, 30)).all()
    assert (batch["next_obs"][:, 1] == batch["obs"][:, 1]).all()


def test_rows_that_come_faster_than_they_are_written_are_left_out_when_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = Place.write

    def slow(self: Place, data: Any) -> None:
        assert gate.wait(20)
        write(self, data)

    monkeypatch.setattr(Place, "write", slow)
    held = replay(100)
    stored = StoredReplay(held, place(tmp_path))
    stored.open()
    for number in range(40):
        stored.add(fragment(20, number))
    gate.set()
    for number in range(40, 43):
        stored.add(fragment(20, number))
    checkpoint = tmp_path / "checkpoint_000000"
    checkpoint.mkdir()
    assert stored.save(place(checkpoint)) is None
    stored.close()
    again = replay(100)
    manifest = read_manifest(place(checkpoint))
    assert manifest is not None
    trial = find_lives(manifest, place(checkpoint))
    assert trial is not None
    assert load(again, manifest, trial) == []
    assert_same(held, again)


def test_a_full_disk_costs_the_replay_of_that_checkpoint_alone(tmp_path: Path) -> None:
    """In a process of its own, on a file system of 200 kB: see `full_disk` below."""
    mount = f"mount -t tmpfs -o size=200k tmpfs {tmp_path}"
    script = f"{mount} && exec {sys.executable} -m tests.checkpoints.test_journal {tmp_path}"
    may = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True)
    if may.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {may.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "No space left on device" in done.stderr


def full_disk(folder: Path) -> None:
    journal.SEGMENT_BYTES = 1
    held = replay(1000)
    stored = StoredReplay(held, place(folder))
    stored.open()
    filler = folder / "filler"
    filler.write_bytes(bytes(120_000))
    for number in range(20):
        stored.add(fragment(40, number))
    checkpoint = folder / "checkpoint_000000"
    checkpoint.mkdir()
    problem = stored.save(place(checkpoint))
    assert isinstance(problem, OSError), problem
    assert not (checkpoint / "replay.json").exists()
    assert not list(folder.rglob("*.part"))
    stored.add(fragment(40, 20))  # training goes on
    filler.unlink()  # and somebody makes room
    for number in range(21, 30):
        stored.add(fragment(40, number))
    assert stored.save(place(checkpoint)) is None
    stored.close()
    last, again = restored(checkpoint, None, 1000)
    assert last.lost == 0
    assert_same(held, again)


if __name__ == "__main__":
    import logging

    logging.basicConfig()
    full_disk(Path(sys.argv[1]))
