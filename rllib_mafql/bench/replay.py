"""What the replay costs: bytes for each transition held, time for each batch drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rllib_mafql.replay import Fragment, JointReplay

EPISODE = 287  # steps of a day-long episode


def measure_replay(
    obs_size: int,
    action_size: int,
    rows: int,
    batch_size: int = 256,
    batches: int = 2_000,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Fills a replay with random transitions in episodes of 287 steps, then draws batches.

    Args:
        obs_size, action_size: of the joint observation and action.
        rows: transitions to hold.
        batch_size: transitions in a batch.
        batches: batches drawn and timed, after a tenth as many that are not.
        on_rows: called with the number of rows whenever some were added.

    Returns:
        rows: held; bytes: that they take, and data_bytes: those of their observations and actions alone, each of them
        held once; bytes_over_data: their ratio; add_ms: mean time of an episode; sample_ms: mean, p50, p99 and max of
        one batch; batch_size, obs_size, action_size.

    Raises:
        MemoryError: the rows do not fit.
    """
    rng = np.random.default_rng(0)
    episodes = -(-rows // EPISODE)
    replay = JointReplay(rows + episodes, gamma=0.98, n_step=10, seed=0)
    obs = rng.standard_normal((EPISODE + 1, obs_size), dtype=np.float32)
    actions = rng.uniform(-1, 1, (EPISODE, action_size)).astype(np.float32)
    rewards, behavior = np.ones(EPISODE, np.float32), np.ones(EPISODE, bool)
    adding = 0.0
    while replay.size < rows:
        steps = min(EPISODE, rows - replay.size)
        fragment = Fragment(obs[: steps + 1], actions[:steps], rewards[:steps], behavior[:steps], terminated=True)
        before = time.perf_counter()
        replay.add(fragment)
        adding += time.perf_counter() - before
        on_rows(steps)
    times = []
    for k in range(batches + batches // 10):
        before = time.perf_counter()
        replay.sample(batch_size)
        if k >= batches // 10:
            times.append(1e3 * (time.perf_counter() - before))
    data_bytes = 4 * rows * (obs_size + action_size)
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "rows": replay.size,
        "bytes": replay.nbytes,
        "data_bytes": data_bytes,
        "bytes_over_data": replay.nbytes / data_bytes,
        "add_ms": 1e3 * adding / episodes,
        "sample_ms": {"mean": float(np.mean(times)), "p50": float(p50), "p99": float(p99), "max": max(times)},
        "batch_size": batch_size,
        "obs_size": obs_size,
        "action_size": action_size,
    }
