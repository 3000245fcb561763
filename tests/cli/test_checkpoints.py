import os
import pickle
from pathlib import Path

import pytest

from rllib_mafql.cli.checkpoints import find_checkpoint


def _checkpoint(folder: Path, age: int) -> Path:
    folder.mkdir(parents=True)
    marker = folder / "rllib_checkpoint.json"
    marker.write_text('{"class_and_ctor_args_file": "class_and_ctor_args.pkl", "state_file": "algorithm_state"}')
    for name in ("class_and_ctor_args.pkl", "algorithm_state.pkl", "learner_group/state.pkl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickle.dumps({}))
    os.utime(marker, (1_000_000 - age, 1_000_000 - age))
    return folder


def test_the_newest_at_each_level(tmp_path: Path) -> None:
    old = _checkpoint(tmp_path / "run" / "trial_1" / "checkpoint_000009", age=100)
    new = _checkpoint(tmp_path / "run" / "trial_2" / "checkpoint_000001", age=10)
    assert find_checkpoint(tmp_path) == new
    assert find_checkpoint(tmp_path / "run") == new
    assert find_checkpoint(tmp_path / "run" / "trial_1") == old
    assert find_checkpoint(str(old)) == old


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _checkpoint(tmp_path / "run" / "checkpoint_000000", age=0)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("run") == checkpoint


def test_errors_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"missing: no such folder"):
        find_checkpoint(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"empty: no checkpoint in it"):
        find_checkpoint(tmp_path / "empty")
