"""Restoring in a running process: what acts and learns afterwards is what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.training import outcome
from tests.rllib_mafql.toy_env import echo_config

pytestmark = pytest.mark.usefixtures("ray_instance")


def acting_weights(algorithm: Any) -> list[np.ndarray]:
    """Of the runner."""
    state = algorithm.env_runner.module.get_state()
    return [np.array(value) for _, module in sorted(state.items()) for _, value in sorted(module.items())]


@pytest.mark.parametrize("by_path", [True, False])
def test_an_older_state_replaces_a_newer_one(by_path: bool, tmp_path: Path) -> None:
    settings = {"warm_start_steps": 60, "num_updates": 3, "store_buffer_in_checkpoints": True}
    algorithm = echo_config(**settings).env_runners(rollout_fragment_length=13).build_algo()
    try:
        for _ in range(3):
            algorithm.train()
        saved, weights = algorithm.get_state(), acting_weights(algorithm)
        path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
        expected = outcome(algorithm, [])
        for _ in range(3):
            algorithm.train()
        assert any((a != b).any() for a, b in zip(weights, acting_weights(algorithm), strict=True))
        algorithm.restore_from_path(path) if by_path else algorithm.set_state(saved)
        assert all((a == b).all() for a, b in zip(weights, acting_weights(algorithm), strict=True))
        if by_path:  # a state in memory is without the replay
            algorithm._stored.open()
            found = outcome(algorithm, [])
            assert expected.keys() == found.keys()
            assert all(np.array_equal(value, found[name]) for name, value in expected.items())
        algorithm.train()
    finally:
        algorithm.stop()
