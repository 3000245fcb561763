"""Trains in a process of its own and writes down what came of it: `python -m tests.checkpoints.training REQUEST`."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tree

#: Of results: what depends on the clock, on the process, or on requests that are under way.
PASSING = {"date", "pid", "hostname", "node_ip", "timers", "perf", "sample", "config", "env_runner_group"}
PASSING_WORDS = re.compile(r"(?<!life)time(?!steps_total)|throughput|since_restore|_ms$")


def echo() -> Any:
    """The small game, played by one runner; behaviour policies begin, take over, and play beside."""
    from ray.tune.registry import register_env

    from tests.rllib_mafql.toy_env import JointEchoEnv, echo_config

    register_env("echo", JointEchoEnv)
    play = {"warm_start_steps": 60, "takeover_fraction": 0.5, "takeover_horizon": 12, "behavior_fraction": 0.2}
    return (
        echo_config(**play, num_updates=3, replay_capacity=300)
        .env_runners(rollout_fragment_length=13)
        .evaluation(evaluation_interval=2, evaluation_duration=3, evaluation_config={"explore": True})
    )


def case14() -> Any:
    """The 14-bus grid behind its safety projection, with dispatchers as behaviour policies."""
    from rllib_mafql import MAFQLConfig

    small = {"actor_hidden": 16, "teacher_hidden": 16, "critic_hidden": 16, "train_batch_size_per_learner": 32}
    play = {
        "warm_start_steps": 60,
        "behavior_policies": {"qp_zones": 1.0, "proportional_zones": 1.0},
        "behavior_noise": 0.2,
        "advisor": "qp_n1_zones",
        "takeover_fraction": 0.5,
        "behavior_fraction": 0.2,
        "takeover_horizon": 20,
    }
    env = {
        "grid": "educ_case14_storage",
        "max_steps": 40,
        "opponent": True,
        "safety": {"level": "lines"},
        "scenarios": {"source": "generated", "weeks": 2},
    }
    return (
        MAFQLConfig()
        .environment("grid2op_zones", env_config=env)
        .training(**small, **play, num_updates=3, replay_capacity=200)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=13)
        .debugging(seed=3)
    )


def remote() -> Any:
    """The small game, played by two runners of their own processes that are waited for."""
    return echo().env_runners(num_env_runners=2, sample_async=False)


CONFIGS = {"echo": echo, "case14": case14, "remote": remote}


def outcome(algorithm: Any, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that an equal run must have equal: path -> value."""
    from ray.rllib.core import COMPONENT_METRICS_LOGGER

    learner = algorithm.learner_group.get_state()["learner"]
    learner.pop(COMPONENT_METRICS_LOGGER)
    state = {
        "learner": learner,
        "replay": algorithm.replay.get_state() | {"rows": algorithm.replay.rows},
        "columns": _transitions(algorithm.replay),
        "play": algorithm.get_state()["play"],
        "results": [_lasting(result) for result in results],
    }
    for groups in state["play"].values():
        for play in groups.values():
            play.pop("metrics")  # has times; what comes of them is among the results
    return {"/".join(map(str, path)): value for path, value in tree.flatten_with_path(state)}


def _transitions(replay: Any) -> dict[str, np.ndarray]:
    """The replay's rows, without what lies beside an observation that only ends a fragment."""
    columns = replay.rows_between(replay.first, replay.rows)
    ends = columns["ahead"] == 0
    return {name: column if name in ("obs", "ahead") else column[~ends] for name, column in columns.items()}


def _lasting(value: Any) -> Any:
    """A result without what depends on the clock and the process."""
    if not isinstance(value, dict):
        return value
    return {k: _lasting(v) for k, v in value.items() if k not in PASSING and not PASSING_WORDS.search(str(k))}


def main() -> None:
    """Reads a request: config, restore, iterations, save, storage, out."""
    import torch

    request = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    config = CONFIGS[request["config"]]()
    config.training(store_buffer_in_checkpoints=True, **request.get("training", {}))
    storage = {}
    if "storage" in request:
        from ray.train._internal.storage import StorageContext

        storage["storage"] = StorageContext(request["storage"], "experiment", trial_dir_name="trial")
    algorithm = config.algo_class(config=config, **storage)
    if request.get("restore"):
        algorithm.restore(request["restore"]) if storage else algorithm.restore_from_path(request["restore"])
    results = [algorithm.train() for _ in range(request["iterations"])]
    saved = None
    if request.get("save"):
        saved = algorithm.save().checkpoint.path if storage else algorithm.save_to_path(request["save"])
    found = {"saved": saved, "outcome": outcome(algorithm, results[-1:]), "lost": algorithm._stored.lost}
    Path(request["out"]).write_bytes(pickle.dumps(found))
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
