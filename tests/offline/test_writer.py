"""Files appear whole or not at all, whatever happens to the writer."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rllib_mafql.offline import FragmentWriter, RecordingError, open_recording
from tests.offline.recordings import SCHEMA, assert_same, make, write

ROOT = Path(__file__).resolve().parents[2]


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Runs Python code in a process of its own, with this module's imports at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_files_are_numbered_and_end_with_whole_fragments(tmp_path):
    writer = FragmentWriter(tmp_path / "new" / "folder", SCHEMA, "run-1", max_rows=12)
    assert writer.flush() is None
    for seed in range(5):
        writer.add(make(seed, steps=5))
    assert writer.buffered == 10
    assert writer.flush() == tmp_path / "new" / "folder" / "run-1-00001.parquet"
    assert writer.buffered == 0
    writer.close()
    recording = open_recording(tmp_path)
    assert [file.name for file in recording.files] == ["run-1-00000.parquet", "run-1-00001.parquet"]
    assert recording.index() == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert [f.episode_id for f in recording.read()] == ["e0", "e1", "e2", "e3", "e4"]


def test_files_of_an_earlier_run_are_kept(tmp_path):
    before, _ = write(tmp_path, count=3, per_file=1)
    after, files = write(tmp_path, count=2, per_file=1, first=10)
    assert len(files) == 5
    for ours, theirs in zip(before + after, open_recording(tmp_path).read(), strict=True):
        assert_same(ours, theirs)


def test_a_fragment_that_cannot_be_recorded_leaves_the_others(tmp_path):
    writer = FragmentWriter(tmp_path, SCHEMA, "part")
    writer.add(make(1))
    broken = make(2)
    broken.fragment.obs[0, 0] = float("nan")
    with pytest.raises(RecordingError, match=r"episode e2 cannot be recorded: column 'obs.west', row 0"):
        writer.add(broken)
    writer.add(make(3))
    writer.close()
    assert [f.episode_id for f in open_recording(tmp_path).read()] == ["e1", "e3"]


WRITE_FOR_EVER = """
import sys
from rllib_mafql.offline import FragmentWriter
from tests.offline.recordings import SCHEMA, make
writer = FragmentWriter(sys.argv[1], SCHEMA, sys.argv[2], max_rows=200)
seed = 0
while True:
    writer.add(make(seed, steps=40))
    seed += 1
"""


def test_a_killed_writer_leaves_whole_files_only(tmp_path):
    moments = random.Random(0)
    for attempt in range(5):
        prefix = f"try{attempt}"
        process = start(WRITE_FOR_EVER, tmp_path, prefix)
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(f"{prefix}-*")):
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.1))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        recording = open_recording(sorted(tmp_path.glob(f"{prefix}-*.parquet")))
        fragments = list(recording.read())
        assert len(fragments) == recording.fragments == 5 * len(recording.files)
        for seed, recorded in enumerate(fragments):
            assert_same(make(seed, steps=40), recorded)
    assert open_recording(tmp_path).files == sorted(tmp_path.glob("try*.parquet"))


DIE_WHILE_WRITING = """
import os, signal, sys
from rllib_mafql.offline import FragmentWriter
from tests.offline.recordings import SCHEMA, make
writer = FragmentWriter(sys.argv[1], SCHEMA, "part", max_rows=10)
writer.add(make(0, steps=10))
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
writer.add(make(1, steps=10))
"""


def test_a_writer_killed_within_a_file_leaves_a_draft_that_is_not_read(tmp_path):
    process = start(DIE_WHILE_WRITING, tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-00001.parquet.part", "part-00000.parquet"]
    [recorded] = open_recording(tmp_path).read()
    assert_same(make(0, steps=10), recorded)


FILL_THE_DISK = """
import resource, signal, sys
from rllib_mafql.offline import FragmentWriter
from tests.offline.recordings import SCHEMA, make
writer = FragmentWriter(sys.argv[1], SCHEMA, "part", max_rows=20)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit fails instead of killing
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
writer.add(make(0, steps=10))
for seed in (1, 2):
    try:
        writer.add(make(seed, steps=10))
    except OSError as error:
        print(error.errno, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(writer.buffered)
print(writer.flush())
"""


def test_what_the_disk_does_not_take_is_kept_for_another_try(tmp_path):
    process = start(FILL_THE_DISK, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    file = tmp_path / "part-00000.parquet"
    first, second, buffered, written = out.splitlines()
    assert first.startswith(f"{errno.EFBIG} ")
    assert "20 recorded steps are not written, but kept" in first and str(file) in first
    assert "30 recorded steps are not written, but kept" in second
    assert (buffered, written) == ("30", str(file))
    assert list(tmp_path.iterdir()) == [file]
    for seed, recorded in enumerate(open_recording(tmp_path).read()):
        assert_same(make(seed, steps=10), recorded)


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    writer = FragmentWriter(tmp_path / "a", SCHEMA, "part")
    writer.add(make(0))
    (tmp_path / "a").rmdir()
    (tmp_path / "a").write_text("a file is in the way")
    with pytest.raises(OSError, match="5 recorded steps are not written") as caught:
        writer.flush()
    assert caught.value.filename == str(tmp_path / "a" / "part-00000.parquet")
    (tmp_path / "a").unlink()
    assert writer.flush() == tmp_path / "a" / "part-00000.parquet"


def test_a_folder_that_cannot_be_made_is_an_error_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        FragmentWriter(tmp_path / "file", SCHEMA, "part")


@pytest.mark.parametrize("prefix", ["", ".hidden", "a/b"])
def test_prefixes_that_readers_would_not_see(tmp_path, prefix):
    with pytest.raises(ValueError, match="prefix must not"):
        FragmentWriter(tmp_path, SCHEMA, prefix)
    with pytest.raises(ValueError, match="max_rows must be at least 1, got 0"):
        FragmentWriter(tmp_path, SCHEMA, "part", max_rows=0)
