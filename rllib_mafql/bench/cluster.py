"""What a run of MAFQL on a cluster costs its driver: processor time, memory and bytes, by the number of runners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import ray
from ray.rllib.core import COMPONENT_RL_MODULE

from rllib_mafql.algorithm import MAFQL
from rllib_mafql.bench.scaling import stored_bytes
from rllib_mafql.bench.simulated import DRIVER, LEARNER, RUNNER
from rllib_mafql.config import MAFQLConfig

#: Rows of an update of one learner.
BATCH = 256

#: Seconds that it is watched what the driver needs for nothing.
IDLE_S = 3.0

#: Rows of the replay.
CAPACITY = 100_000

#: Numbers of runners that the measurement is extrapolated to.
EXTRAPOLATED = (8, 100, 1000)


class MeasuredMAFQL(MAFQL):
    """MAFQL that counts the processor time of its own process, all threads, by what it is spent on.

    Ray's own threads are busy now and then while nothing is to be done; what they would need by themselves in the time
    that passed (`idle_cpu`) is left out, or what is waited for would seem to cost something.
    """

    def setup(self, config: Any) -> None:
        """As MAFQL; the counters begin at 0."""
        self.cpu_s: dict[str, float] = {"drawing": 0.0}
        self.idle_cpu = 0.0  # seconds in a second
        super().setup(config)

    @contextmanager
    def _spending(self, part: str) -> Iterator[None]:
        with super()._spending(part), self._counting(part):
            yield

    @contextmanager
    def _counting(self, part: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.cpu_s[part] = self.cpu_s.get(part, 0.0) + max(0.0, cpu - self.idle_cpu * wall)

    def _collect(self, behavior: bool) -> Any:
        with self._counting("collecting"):
            return super()._collect(behavior)

    def _batch(self, size: int) -> dict[str, np.ndarray]:
        with self._counting("drawing"):
            return super()._batch(size)


class Trial:
    """The driver of one run, in a process of its own on the head, as Tune would have it."""

    def __init__(self, config: MAFQLConfig):
        import rllib_mafql

        rllib_mafql.register()
        before = _own_mb()
        self.algorithm: Any = config.build_algo()
        self.built_mb = _own_mb() - before

    def measure(self, iterations: int) -> dict[str, float]:
        """Trains that often, after an iteration that fills the replay and starts everything."""
        algorithm = self.algorithm
        algorithm.train()
        replay = algorithm.replay
        algorithm.idle_cpu = _idle_cpu()
        algorithm.cpu_s = {"drawing": 0.0}
        steps = replay.added
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(iterations):
            algorithm.train()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        steps = replay.added - steps
        spent = algorithm.cpu_s
        learners, updates = algorithm.config.num_learners, algorithm.config.num_updates
        played = algorithm._collector.collect(False, wait=True)
        played_steps = sum(rollout.steps for one in played for rollout in one.rollouts)
        sharded = algorithm.config.num_replay_shards > 0
        sent = replay.draws(BATCH, 1, 1)[0] if sharded else MAFQL._batch(algorithm, BATCH)
        weights = ray.get(algorithm._collector._weights[COMPONENT_RL_MODULE])
        return {
            "steps": steps,
            "steps_per_s": steps / wall,
            "driver_cpu": cpu / wall,
            "idle_cpu": algorithm.idle_cpu,
            "driver_s": max(0.0, cpu - algorithm.idle_cpu * wall),
            "collecting_s": spent["collecting"],
            "learning_s": spent["learning"],
            "drawing_s": spent["drawing"],
            "syncing_s": spent["syncing"],
            "rows_drawn": iterations * learners * updates * BATCH,
            "transition_bytes_per_step": stored_bytes(played) / played_steps,
            "batch_bytes_per_row": stored_bytes(sent) / BATCH,
            "weights_bytes": stored_bytes(weights),
            "built_mb": self.built_mb,
            "driver_mb": _own_mb(),
            "replay_mb": 0.0 if sharded else replay.nbytes / 1e6,
        }

    def stop(self) -> None:
        """Ends the run's runners and learners."""
        self.algorithm.stop()


def _idle_cpu() -> float:
    """Processor seconds that this process needs in a second in which nothing is to be done."""
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(IDLE_S)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def _own_mb() -> float:
    """Memory of this process that no other one shares, 10^6 bytes."""
    return psutil.Process().memory_full_info().uss / 1e6


def cluster_config(
    env_config: dict[str, Any], runners: int, learners: int, num_updates: int, fragment: int, shards: int
) -> MAFQLConfig:
    """A run whose actors are placed by their resources: runners spread over all nodes, learners one a node."""
    config = MAFQLConfig(algo_class=MeasuredMAFQL).environment("grid2op_zones", env_config=env_config)
    config.env_runners(
        num_env_runners=runners,
        num_cpus_per_env_runner=0.5,
        custom_resources_per_env_runner={RUNNER: 1},
        rollout_fragment_length=fragment,
    )
    config.learners(num_learners=learners, num_cpus_per_learner=0.5, custom_resources_per_learner={LEARNER: 1})
    config.training(num_updates=num_updates, train_batch_size_per_learner=BATCH, warm_start_steps=fragment * runners)
    config.training(num_replay_shards=shards, replay_capacity=CAPACITY)
    return config.debugging(seed=0)


def measure_cluster(
    env_config: dict[str, Any],
    runners: Sequence[int],
    learners: int,
    iterations: int,
    num_updates: int,
    fragment: int = 200,
    shards: int = 0,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs MAFQL on the connected cluster (see `simulated_cluster`), once for each number of runners.

    Args:
        env_config: of ZonedGridEnv.
        runners: how many, of each run.
        learners: of each run, all remote.
        iterations: that are measured of each run, with one request to every runner.
        num_updates: of every learner in an iteration.
        fragment: steps of a request.
        shards: actors that hold the replay; 0: the driver does.
        on_run: called after each run.

    Returns:
        runs: for each number of runners what its driver did; times are processor time of the whole process, all
        threads, less what the process needs when idle. costs: what follows from them, see `costs`.
    """
    runs = []
    for number in runners:
        config = cluster_config(env_config, number, learners, num_updates, fragment, shards)
        trial: Any = ray.remote(num_cpus=0, resources={DRIVER: 1})(Trial).remote(config)
        measured = ray.get(trial.measure.remote(iterations))
        ray.get(trial.stop.remote())
        ray.kill(trial)
        runs.append({"runners": number, "iterations": iterations, **measured})
        on_run()
    settings = {"fragment": fragment, "num_updates": num_updates, "learners": learners, "replay_shards": shards}
    return {**settings, "runs": runs, "costs": costs(runs)}


def costs(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """What a driver spends on what, from runs of different numbers of runners.

    Returns:
        request_ms: on a request to a runner, its rollout's way into the replay included. transitions_ms: the same for
        1,000 transitions, and with the drawing of 1,000 rows. row_us: on a row for a learner, drawing_us of it on
        drawing. sync_ms: on weights from learners to runners. iteration_ms: on an iteration beside these. runner_mb:
        memory for each further runner, the replay left out.
    """
    names = ("steps", "iterations", "rows_drawn", "driver_s", "collecting_s", "learning_s", "drawing_s", "syncing_s")
    total = {name: sum(run[name] for run in runs) for name in names}
    requests = sum(run["runners"] * run["iterations"] for run in runs)
    beside = max(0.0, total["driver_s"] - total["collecting_s"] - total["learning_s"] - total["syncing_s"])
    memory = [run["driver_mb"] - run["replay_mb"] for run in runs]
    runner_mb = np.polyfit([run["runners"] for run in runs], memory, 1)[0] if len(runs) > 1 else 0.0
    return {
        "request_ms": 1e3 * total["collecting_s"] / requests,
        "transitions_ms": 1e6 * (total["collecting_s"] / total["steps"] + total["drawing_s"] / total["rows_drawn"]),
        "row_us": 1e6 * total["learning_s"] / total["rows_drawn"],
        "drawing_us": 1e6 * total["drawing_s"] / total["rows_drawn"],
        "sync_ms": 1e3 * total["syncing_s"] / total["iterations"],
        "iteration_ms": 1e3 * beside / total["iterations"],
        "runner_mb": max(0.0, float(runner_mb)),  # below 0 by chance where there is next to nothing
    }


def extrapolate(report: dict[str, Any], runners: int, steps_per_s: float, updates_per_s: float) -> dict[str, float]:
    """The driver's load with so many runners, by the costs measured and nothing else.

    Args:
        report: of `measure_cluster`.
        runners: how many.
        steps_per_s: that each of them plays, asynchronously, in requests of `fragment` steps.
        updates_per_s: of every learner, of 256 rows.

    Returns:
        collecting, learning, syncing: seconds of a core that the driver needs in a second for each; driver: for all,
        above 1 it cannot keep up. transition_mb_per_s, batch_mb_per_s: that come in and go out. memory_mb: beside the
        replay.
    """
    found, last = report["costs"], report["runs"][-1]
    iterations = updates_per_s / report["num_updates"]
    rows = updates_per_s * report["learners"] * BATCH
    shares = {
        "collecting": 1e-3 * runners * steps_per_s / report["fragment"] * found["request_ms"],
        "learning": 1e-6 * rows * found["row_us"],
        "syncing": 1e-3 * iterations * (found["sync_ms"] + found["iteration_ms"]),
    }
    return {
        "runners": runners,
        **shares,
        "driver": sum(shares.values()),
        "transition_mb_per_s": 1e-6 * runners * steps_per_s * last["transition_bytes_per_step"],
        "batch_mb_per_s": 1e-6 * rows * last["batch_bytes_per_row"],
        "memory_mb": last["driver_mb"] - last["replay_mb"] + (runners - last["runners"]) * found["runner_mb"],
    }
