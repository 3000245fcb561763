"""Playing episodes with a checkpoint of any RLlib algorithm."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

from rllib_mafql.checkpoint_pickles import read_settings
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.printing import write_json
from rllib_mafql.cli.yaml_values import parse_mapping

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

#: Rows that come first in the table; all other numbers follow by name.
FIRST = (
    "num_episodes",
    "episode_return_mean",
    "episode_return_min",
    "episode_return_max",
    "episode_len_mean",
    "episode_len_min",
    "episode_len_max",
)
#: RLlib's bookkeeping: names that start with these, and timers, stay out of the table (not out of the file).
BOOKKEEPING = ("num_", "env_to_module", "module_to_env", "sample", "weights_seq_no", "connector", "timers")


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    episodes: int,
    num_env_runners: int = 0,
    env: str | None = None,
    config: str | None = None,
    explore: bool = False,
    json_file: Path | None = None,
    ray_address: str | None = None,
    verbose: int = 0,
) -> None:
    """Plays episodes with a checkpoint's policy; prints RLlib's evaluation metrics and writes them to `json_file`.

    Args:
        checkpoint: A checkpoint, or a folder with some (see `find_checkpoint`).
        episodes: How many episodes to play.
        num_env_runners: Processes that play them; 0: this one.
        env: Another environment than the one trained on.
        config: Settings over the checkpoint's, YAML or JSON; an env_config is merged.
        explore: Whether actions are sampled as in training.
        json_file: Gets {"checkpoint", "algorithm", "env", "episodes", "explore", "seconds", "metrics"}; metrics are
            RLlib's evaluation/env_runners, nested names joined with "/".
        ray_address: A Ray cluster; None: start Ray here.
        verbose: 0 hides Ray's messages.

    Raises:
        InputError: If there is no checkpoint, or it cannot be played with these settings.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray sets it for its workers: these networks are small
    from rllib_mafql.cli.cluster import cluster_address, hush, ray_session

    if verbose == 0:
        hush()
    overrides = parse_mapping(config, "--config") if config is not None else {}
    try:
        path = find_checkpoint(checkpoint)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from None
    if env is not None:
        overrides["env"] = env
    evaluation = _evaluation_config(path, overrides, episodes, num_env_runners, explore)
    num_cpus = num_env_runners + 1 if cluster_address(ray_address) == "local" else None
    with ray_session(ray_address, num_cpus=num_cpus, verbose=verbose):
        algorithm = _load(path, evaluation)
        try:
            begin = time.perf_counter()
            metrics = algorithm.evaluate()["env_runners"]
            seconds = time.perf_counter() - begin
        finally:
            algorithm.stop()
    numbers = dict(_numbers(metrics))
    report = {
        "checkpoint": str(path),
        "algorithm": type(algorithm).__name__,
        "env": str(evaluation.env),
        "episodes": int(numbers.get("num_episodes", episodes)),
        "explore": explore,
        "seconds": seconds,
        "metrics": numbers,
    }
    write_json(json_file, report)
    _print(report)


def _evaluation_config(
    path: Path, overrides: dict[str, Any], episodes: int, num_env_runners: int, explore: bool
) -> "AlgorithmConfig":
    """The settings stored in the checkpoint, changed so that the algorithm only evaluates."""
    import rllib_mafql
    from rllib_mafql.cli.checks import GRID_ENV, check_keys, check_values
    from rllib_mafql.cli.names import check_env, named_env, tunable

    rllib_mafql.register()
    try:
        algorithm, state = read_settings(path)
    except ValueError as error:
        raise InputError(str(error)) from error
    try:
        config = cast("type[Algorithm]", algorithm).get_default_config().from_state(state)
    except Exception as error:  # settings of another version can fail in any way
        raise InputError(f"{path}: its settings cannot be used here: {summary(error)}") from error
    check_keys(overrides, config, "--config")
    try:
        check_env(named_env(overrides.get("env", config.env), "--env"), "env")
    except InputError as error:
        raise InputError(
            f"{error}; one that was registered in Python code can be given as --env package.Class"
        ) from None
    trained_on, trained_with = config.env, dict(config.env_config)
    config.evaluation_config = dict(config.evaluation_config or {})
    if overrides.get("env", trained_on) != trained_on:  # another environment has another env_config
        config.env_config = {}
        config.evaluation_config.pop("env_config", None)
    overrides = tunable(overrides, "--config")
    for_both = {key: value for key, value in overrides.items() if not key.startswith("evaluation_")}
    settings = {
        **overrides,
        "num_env_runners": 0,
        "num_learners": 0,
        "num_gpus_per_learner": 0,
        "evaluation_interval": 1,  # RLlib makes evaluation runners only if it expects to evaluate
        "evaluation_num_env_runners": num_env_runners,
        "evaluation_duration": episodes,
        "evaluation_duration_unit": "episodes",
        "evaluation_parallel_to_training": False,
        "evaluation_config": {**for_both, **overrides.get("evaluation_config", {}), "explore": explore},
        "metrics_num_episodes_for_smoothing": episodes,
    }
    check_values(config, settings, "--config")
    if config.env == trained_on == GRID_ENV:
        check_same_interface(trained_with, config.env_config, path)
    return config


def check_same_interface(trained: dict[str, Any], wanted: dict[str, Any], path: Path, source: str = "--config") -> None:
    """Raises InputError if the zones' observations and actions are not those that the checkpoint was trained with."""
    from grid2op_zones import check_env_config
    from rllib_mafql.evaluation.settings import INTERFACE_KEYS

    before, now = check_env_config(trained), check_env_config(wanted)
    for key in ("grid", *INTERFACE_KEYS):
        if before[key] != now[key]:
            raise InputError(
                f"{source}: env_config.{key} is {now[key]!r}, but {path} was trained with {before[key]!r}, "
                "and its policies fit nothing else"
            )


def _load(path: Path, config: "AlgorithmConfig") -> "Algorithm":
    """The algorithm in the checkpoint, built with `config`."""
    from ray.rllib.algorithms.algorithm import Algorithm

    try:
        return Algorithm.from_checkpoint(str(path), config=config)
    except Exception as error:  # environments, modules and RLlib refuse in all sorts of ways
        text = summary(error)
        if "size mismatch" in text:
            text = f"it was trained with other observations, actions or networks (another grid?). {text}"
        raise InputError(f"{path}: cannot be played with these settings: {text}") from error


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers in nested metrics, names joined with "/"."""
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{name}/")
        elif (isinstance(value, int | float) or getattr(value, "shape", None) == ()) and math.isfinite(float(value)):
            yield name, float(value)


def _print(report: dict[str, Any]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    numbers = report["metrics"]
    others = sorted(n for n in numbers if n not in FIRST and not n.startswith(BOOKKEEPING) and not n.endswith("_timer"))
    for name in [*(name for name in FIRST if name in numbers), *others]:
        table.add_row(name, f"{numbers[name]:,.6g}")
    console.print(
        f"{report['algorithm']} on {report['env']}: {report['episodes']} episodes in {report['seconds']:.1f} s, "
        f"actions {'sampled' if report['explore'] else 'deterministic'}",
        highlight=False,
    )
    console.print(table)
