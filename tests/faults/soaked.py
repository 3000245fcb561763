"""A run on two simulated nodes, with a fault every so often, and what was seen of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune

from rllib_mafql import MAFQL
from rllib_mafql.bench.simulated import DRIVER, LEARNER, RUNNER, simulated_cluster
from rllib_mafql.offline.files import recorded_files
from tests.faults.ledger import LedgerEnv, of_replay

ROOT = Path(__file__).parents[2]
RUNNERS = 2
#: What Ray calls the process of a learner.
LEARNER_TITLE = "_WrappedExecutable"
_STORE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


@dataclass
class Seen:
    """What was seen of a run, times in seconds since its start."""

    results: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # MB of driver, learner and runners, where all are
    files: set[Path] = field(default_factory=set)  # recorded ones that were there at any time
    failures: int = 0  # of the trial, from which it went on
    error: str | None = None  # that it ended with


class Watch(tune.Callback):
    """Writes down what comes, and injects a fault every so often."""

    def __init__(self, cluster: Any, folder: Path, every_s: float):
        self.seen = Seen()
        self._cluster, self._folder, self._every_s = cluster, folder, every_s
        self._faults = cycle([self._kill_runner, self._hang, self._take_node, self._kill_learner])
        self._began = time.monotonic()
        self._following, self._looked = every_s, 0.0
        self._node_back: float | None = None  # when one is to be added

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Keeps of a result what the report needs."""
        runners = result["env_runners"]
        kept = {
            "updates": result.get("num_learner_updates", 0),
            "steps": runners["num_env_steps_sampled_lifetime"],
            "return": runners.get("episode_return_mean"),
            "ledger": result["ledger"],
        }
        self.seen.results.append((self.now(), kept))

    def on_step_end(self, **info: Any) -> None:
        """Called by Tune all the time, in the main thread, where alone nodes can be added."""
        now = self.now()
        if now > self._looked + 2.0:
            self._looked = now
            found = processes("MAFQL", LEARNER_TITLE, "JointEnvRunner")
            if len(found) == 2 + RUNNERS:
                self.seen.memory.append((now, sum(private_mb(process) for process in found)))
            self.seen.files.update(recorded_files(self._folder / "recorded"))
        if self._node_back is not None and now > self._node_back:
            self._node_back = None
            self._cluster.add_node(wait=False, num_cpus=1, resources={RUNNER: 1, LEARNER: 1}, **_STORE)
        if self._every_s and now > self._following:
            self._following += self._every_s
            fault = next(self._faults)
            self.seen.faults.append((now, fault.__name__.strip("_").replace("_", " ")))
            fault()

    def _kill_runner(self) -> None:
        for process in processes("JointEnvRunner")[:1]:
            process.kill()

    def _hang(self) -> None:
        (self._folder / "faults" / "hang-2").touch()

    def _kill_learner(self) -> None:
        for process in processes(LEARNER_TITLE):
            process.kill()

    def _take_node(self) -> None:
        """Removes the node without the learner, and adds one some seconds later."""
        busy = {process.ppid() for process in processes(LEARNER_TITLE)}
        raylets = {node: node.all_processes["raylet"][0].process.pid for node in self._cluster.worker_nodes}
        node = next((node for node, raylet in raylets.items() if raylet not in busy), None)
        if node is not None:
            self._cluster.remove_node(node, allow_graceful=False)
            self._node_back = self.now() + 10.0


def soak(folder: Path, seconds: float, every_s: float = 0.0, updates: int | None = None, seed: int = 1) -> Seen:
    """Trains for so long, or so many updates; with faults if `every_s` is greater than 0.

    Recorded files are in `folder`/recorded afterwards.
    """
    (folder / "faults").mkdir(parents=True)
    with _importable(), simulated_cluster(RUNNERS, store_mb=80) as cluster:
        tune.register_env("ledger", LedgerEnv)
        watch = Watch(cluster, folder, every_s)
        end = time.monotonic() + seconds

        def over(trial_id: str, result: dict[str, Any]) -> bool:
            return time.monotonic() > end or (updates is not None and result.get("num_learner_updates", 0) >= updates)

        analysis = tune.run(
            MAFQL,
            config=_config(folder, seed),
            stop=over,
            max_failures=-1,
            storage_path=str(folder),
            name="run",
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=5, num_to_keep=2, checkpoint_at_end=True),
            callbacks=[watch],
            raise_on_failed_trial=False,
            verbose=0,
        )
        (trial,) = analysis.trials
        seen = watch.seen
        seen.failures = trial.run_metadata.num_failures
        seen.error = trial.status if trial.status != "TERMINATED" else None
    return seen


def _config(folder: Path, seed: int) -> dict[str, Any]:
    return {
        "env": "ledger",
        "env_config": {"faults": str(folder / "faults"), "sleep_s": 0.002},
        "seed": seed,
        "num_cpus_for_main_process": 0,
        "custom_resources_for_main_process": {DRIVER: 1},
        "num_env_runners": RUNNERS,
        "num_cpus_per_env_runner": 0.4,
        "custom_resources_per_env_runner": {RUNNER: 1},
        "num_envs_per_env_runner": 2,
        "rollout_fragment_length": 20,
        "sample_async": True,
        "sample_timeout_s": 10.0,
        "num_learners": 1,
        "num_cpus_per_learner": 0.4,
        "custom_resources_per_learner": {LEARNER: 1},
        "torch_num_threads": 1,
        **dict.fromkeys(("actor_hidden", "teacher_hidden", "critic_hidden"), 64),
        "train_batch_size_per_learner": 128,
        "num_updates": 10,
        "average_tau": 0.05,
        "gamma": 0.5,
        "n_step": 1,
        "reward_bounds": (-4.0, 1.0),
        "bc_coeff": 0.0,
        "conservative_coeff": 0.01,
        "warm_start_steps": 500,
        "replay_capacity": 20_000,
        "store_buffer_in_checkpoints": True,
        "min_sample_timesteps_per_iteration": 400,
        "output": str(folder / "recorded"),
        "output_max_rows_per_file": 500,
        "callbacks_on_train_result": write_ledger,
    }


def write_ledger(algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
    """Adds to a result what the replay's transitions say; a callback of RLlib."""
    ledger = of_replay(algorithm.replay)
    counted = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
    result["ledger"] = {
        "transitions": len(ledger.names),
        "duplicates": ledger.duplicates,
        "missing": ledger.missing,
        "wrong": ledger.wrong,
        "uncounted": algorithm.replay.added - counted,
    }


def processes(*names: str) -> list[psutil.Process]:
    """This run's processes of Ray's actors of some classes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = re.match(r"ray::(\w+)", " ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
        if title is not None and title[1] in names:
            found.append(process)
    return found


def private_mb(process: psutil.Process) -> float:
    """Memory of a process that it does not share, 2^20 bytes; 0 if it has ended."""
    try:
        info = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return (info.rss - info.shared) / 2**20


@contextmanager
def _importable() -> Iterator[None]:
    """Workers find the package `tests`."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), before or ""])
    ray.shutdown()
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
