"""A run that is interrupted and goes on in a new process ends with the same bits as one that is not."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HALF = 4


def train(folder: Path, name: str, **request: Any) -> dict[str, Any]:
    out = folder / f"{name}.pkl"
    words = [sys.executable, "-m", "tests.checkpoints.training", json.dumps({**request, "out": str(out)})]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return pickle.loads(out.read_bytes())


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    found = sorted(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        value = one[name]
        a, b = np.asarray(value), np.asarray(other[name])
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            if a.dtype == object and value == other[name]:
                continue
            found.append(name)
    return found


# Under Tune, the replay's rows lie in the trial's folder; without it, each checkpoint has its own.
@pytest.mark.parametrize(("config", "tune"), [("remote", False), ("case14", True)])
def test_half_and_half_is_a_whole(config: str, tune: bool, tmp_path: Path) -> None:
    def part(name: str, iterations: int, **request: Any) -> dict[str, Any]:
        storage = {"storage": str(tmp_path / f"storage_{name == 'whole'}")} if tune else {}
        return train(tmp_path, name, config=config, iterations=iterations, **storage, **request)

    with ThreadPoolExecutor() as pool:
        unbroken = pool.submit(part, "whole", 2 * HALF)
        first = part("first", HALF, save=str(tmp_path / "checkpoint"))
        whole = unbroken.result()
    second = part("second", HALF, restore=first["saved"])
    assert second["lost"] == 0
    assert differences(whole["outcome"], second["outcome"]) == []
    # what is compared is there, and moves
    moved = differences(first["outcome"], second["outcome"])
    assert "results/0/num_learner_updates" in moved
    for part_of in ("learner/rl_module/teacher", "learner/optimizer", "learner/torch_rng", "columns/obs", "play"):
        assert any(name.startswith(part_of) for name in moved), part_of
