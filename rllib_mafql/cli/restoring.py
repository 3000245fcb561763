"""Whether an experiment can go on from a checkpoint, found out before Ray starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mafql.checkpoint_pickles import read_settings
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.checks import GRID_ENV
from rllib_mafql.cli.errors import InputError

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

#: Settings that give networks their sizes: MAFQL's own, and those of RLlib's models.
SIZES = ("actor_hidden", "teacher_hidden", "critic_hidden", "hidden_layers", "num_critics")
MODEL_SIZES = ("fcnet_hiddens", "head_fcnet_hiddens")


def restored_from(restore: str, algorithm: type["Algorithm"], settings: dict[str, Any], source: str) -> Path:
    """The checkpoint that `restore` stands for, which an algorithm with these settings can load.

    Args:
        restore: What the user gave.
        algorithm: What is to go on.
        settings: Its settings, as Ray Tune takes them; those with a search space are not compared.
        source: Which experiment, for messages.

    Raises:
        InputError: If there is no checkpoint or it is damaged, or it is of another algorithm, grid, zones or networks.
    """
    try:
        path = find_checkpoint(restore)
        kind, state = read_settings(path)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{source}: restore: {error}") from None
    if kind.__name__ != algorithm.__name__:
        raise InputError(
            f"{source}: restore: {path} is a checkpoint of {kind.__name__}, and run is {algorithm.__name__}"
        )
    here = algorithm.get_default_config().to_dict() | settings
    if GRID_ENV in (state.get("env"), here.get("env")):
        _check_environment(path, state, here, source)
    for name in SIZES:
        if name in state and isinstance(here.get(name), int) and state[name] != here[name]:
            raise _other_network(f"{source}: restore: config.{name}", here[name], path, state[name])
    models = [config.get("_model_config") for config in (state, here)]
    before, now = (model if isinstance(model, dict) else {} for model in models)
    for name in MODEL_SIZES:
        if isinstance(before.get(name), list) and isinstance(now.get(name), list) and before[name] != now[name]:
            raise _other_network(f"{source}: restore: config.model_config.{name}", now[name], path, before[name])
    return path


def _check_environment(path: Path, state: dict[str, Any], here: dict[str, Any], source: str) -> None:
    from rllib_mafql.cli.evaluating import check_same_interface

    if state.get("env") != here.get("env"):
        raise InputError(
            f"{source}: restore: {path} was trained on the environment {state.get('env')!r}, "
            f"and env is {here.get('env')!r}"
        )
    check_same_interface(state.get("env_config") or {}, here.get("env_config") or {}, path, f"{source}: restore")


def _other_network(place: str, now: Any, path: Path, before: Any) -> InputError:
    return InputError(f"{place} is {now!r}, but {path} was trained with {before!r}, and its weights fit nothing else")
