"""Starting Ray, quietly, and checking that it has what a run asks for."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rllib_mafql.cli.errors import InputError, summary, warn


def hush() -> None:
    """Silences what Ray Tune and RLlib print in this process and this command says in its own words, or need not."""
    import ray.rllib  # noqa: F401 - sets up its log handlers

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's new output prints a header whatever its verbosity
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # its advice is about Tune's Python API
    for handler in [*logging.getLogger("ray").handlers, *logging.getLogger("ray.rllib").handlers]:
        handler.addFilter(_says_something)
    warnings.filterwarnings("ignore", message=".*Overriding environment rllib-")  # RLlib registers one per runner
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")  # needs Algorithm.reset_config


def _says_something(record: logging.LogRecord) -> bool:
    return "on the new API stack! This is the new default" not in record.getMessage()


@contextmanager
def ray_session(
    address: str | None = None, num_cpus: int | None = None, num_gpus: int | None = None, verbose: int = 0
) -> Iterator[None]:
    """Starts Ray here or connects to a cluster, and stops or leaves it at the end.

    A Ray that is already connected in this process is used, and left running. Workers stay in the current directory, so
    that relative paths in settings mean the same everywhere.

    Args:
        address: A cluster; None: the environment variable RAY_ADDRESS, or else a new Ray on this machine.
        num_cpus: CPUs of the new Ray; None: all.
        num_gpus: GPUs of the new Ray; None: all.
        verbose: 0 hides what workers print and Ray's own messages.

    Raises:
        InputError: If the cluster cannot be reached, or resources are given for one.
    """
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = cluster_address(address)
    if address != "local" and (num_cpus is not None or num_gpus is not None):
        raise InputError(f"--ray-num-cpus and --ray-num-gpus are for a Ray started here, not for the one at {address}")
    level = logging.INFO if verbose else logging.ERROR
    extra: dict[str, Any] = (
        {"include_dashboard": False, "num_cpus": num_cpus, "num_gpus": num_gpus} if address == "local" else {}
    )
    try:
        ray.init(address=address, log_to_driver=verbose > 0, logging_level=level, **extra)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot start or reach Ray at {address}: {summary(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_cpus(wanted: Iterable[dict[str, float]], source: str, num_cpus: int | None) -> None:
    """Raises InputError if a trial asks for more CPUs than a Ray that is started here will have."""
    import ray
    from ray._private.utils import get_num_cpus

    if ray.is_initialized():
        return
    available = get_num_cpus() if num_cpus is None else num_cpus
    for resources in wanted:
        if resources.get("CPU", 0) > available:
            raise InputError(_lacking(source, "CPU", resources["CPU"], available))


def _lacking(source: str, name: str, amount: float, available: float) -> str:
    return (
        f"{source}: a trial needs {amount:g} {name} and Ray has {available:g}; lower num_env_runners, "
        "num_cpus_per_env_runner, num_learners or num_gpus_per_learner, or give Ray more (--ray-num-cpus, "
        "--ray-num-gpus, --ray-address)"
    )


def check_resources(wanted: Iterable[dict[str, float]], source: str, address: str | None) -> None:
    """Raises InputError if a trial would wait for ever because it asks for more than this Ray has.

    Args:
        wanted: For each trial, the resources it needs in all.
        source: Which experiment, for the message.
        address: The cluster, if it is one: it may still grow, so lacking resources are a warning.
    """
    import ray

    available = ray.cluster_resources()
    for resources in wanted:
        for name, amount in resources.items():
            if amount <= available.get(name, 0):
                continue
            message = f"{source}: a trial needs {amount:g} {name} and Ray has {available.get(name, 0):g}"
            if cluster_address(address) != "local":
                warn(f"{message}; it starts when the cluster has grown")
                return
            raise InputError(_lacking(source, name, amount, available.get(name, 0)))


def cluster_address(address: str | None) -> str:
    """The given address, else that in the environment variable RAY_ADDRESS, else "local" for a Ray of our own."""
    return address or os.environ.get("RAY_ADDRESS") or "local"
