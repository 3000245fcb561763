"""How long training stands still for a checkpoint, with a replay that checkpoints keep."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
from ray.train._internal.storage import StorageContext

from rllib_mafql import MAFQLConfig
from rllib_mafql.bench.replay import EPISODE
from rllib_mafql.replay import Fragment, JointReplay
from rllib_mafql.replay_files import Place
from rllib_mafql.stored_replay import StoredReplay


def measure_checkpoints(
    env_config: dict[str, Any],
    rows: int,
    checkpoints: int,
    folder: Path,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Fills a run's replay with random transitions, then trains on, saving after each iteration as Tune does.

    Args:
        env_config: of the environment "grid2op_zones".
        rows: transitions held.
        checkpoints: iterations and checkpoints that are measured.
        folder: for what is written, on the file system in question.
        on_rows: called with the number of rows whenever some were added.

    Returns:
        rows, bytes (of the replay); save_s: seconds of each checkpoint; iteration_s: of the iterations between;
        without_replay_s: of a checkpoint without the replay; whole_s: seconds to write all rows, as would be needed if
        each checkpoint were to hold them; restore_s: seconds to read them again.
    """
    capacity = rows + rows // EPISODE + 20 * EPISODE
    config = (
        MAFQLConfig()
        .environment("grid2op_zones", env_config=env_config)
        .training(replay_capacity=capacity, store_buffer_in_checkpoints=True, warm_start_steps=1, num_updates=10)
        .env_runners(num_env_runners=0)
        .debugging(seed=0)
    )
    storage = StorageContext(str(folder), "bench", trial_dir_name="trial")
    algorithm = config.algo_class(config=config, storage=storage)
    try:
        algorithm.train()
        _fill(algorithm, rows, on_rows)
        algorithm.save()  # has the rest written of what came so fast
        saves, iterations = [], []
        for _ in range(checkpoints):
            iterations.append(_seconds(algorithm.train))
            saves.append(_seconds(algorithm.save))
        stored, algorithm._stored = algorithm._stored, None
        without = _seconds(algorithm.save)
        algorithm._stored = stored
        replay, local = algorithm.replay, pyarrow.fs.LocalFileSystem()
        whole, again = Place(local, str(folder / "whole")), JointReplay(capacity, 0.98, 10)
        written = _seconds(lambda: StoredReplay(replay, None).save(whole))
        reading = StoredReplay(again, None)
        read = _seconds(lambda: reading.restore(whole)) + _seconds(reading.open)
        if reading.lost or len(again) != len(replay):
            raise RuntimeError(f"of {len(replay)} transitions {len(again)} were read again")
        return {
            "rows": len(replay),
            "bytes": replay.nbytes,
            "save_s": saves,
            "iteration_s": iterations,
            "without_replay_s": without,
            "whole_s": written,
            "restore_s": read,
        }
    finally:
        algorithm.stop()


def _fill(algorithm: Any, rows: int, on_rows: Callable[[int], None]) -> None:
    rng = np.random.default_rng(0)
    sizes = [(obs, action) for _, obs, action in algorithm._agents()]
    obs = rng.standard_normal((EPISODE + 1, sum(obs for obs, _ in sizes)), dtype=np.float32)
    actions = rng.uniform(-1, 1, (EPISODE, sum(action for _, action in sizes))).astype(np.float32)
    fragment = Fragment(obs, actions, np.ones(EPISODE, np.float32), np.ones(EPISODE, bool), terminated=False)
    while len(algorithm.replay) < rows:
        algorithm._stored.add(fragment)
        on_rows(EPISODE)


def _seconds(call: Callable[[], Any]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
