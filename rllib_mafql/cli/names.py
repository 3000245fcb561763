"""What the names in an experiment stand for: algorithms, environments, classes and functions."""

import importlib
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest, summary

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

#: Settings that AlgorithmConfig shows read-only under one name and stores under another.
STORED_AS = {"model_config": "_model_config", "rl_module_spec": "_rl_module_spec", "learner_class": "_learner_class"}
#: Settings that are classes or functions, and may be given as "package.module.Name"; RLlib itself resolves `callbacks`.
IMPORTED = ("policy_mapping_fn", "_learner_class", "env_runner_cls", "_rl_module_spec")


def find_algorithm(run: str | type, source: str) -> type["Algorithm"]:
    """The Algorithm class that `run` names: RLlib's own, one registered with Tune, or a class path `package.Class`.

    Args:
        run: The name, or the class itself.
        source: Where it stands, for messages.

    Raises:
        InputError: If there is no such algorithm; names the nearest.
    """
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.registry import ALGORITHMS
    from ray.tune.registry import TRAINABLE_CLASS, _global_registry

    import rllib_mafql

    rllib_mafql.register()
    found: Any
    if isinstance(run, type):
        found = run
    elif run in ALGORITHMS:
        found = ALGORITHMS[run]()[0]
    elif _global_registry.contains(TRAINABLE_CLASS, run):
        found = _global_registry.get(TRAINABLE_CLASS, run)
    elif "." in run:
        found = resolve(run, source)
    else:
        raise InputError(
            f"{source}: unknown algorithm {run!r}{nearest(run, {*ALGORITHMS, *_registered(TRAINABLE_CLASS)})}"
        )
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise InputError(f"{source}: {run!r} is not an RLlib algorithm")
    return found


def check_env(env: Any, source: str) -> None:
    """Raises InputError, naming the nearest environment, unless RLlib can make the one called `env`."""
    import gymnasium
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if env is None or isinstance(env, type) or (isinstance(env, str) and _global_registry.contains(ENV_CREATOR, env)):
        return
    if not isinstance(env, str) or not env:
        raise InputError(f"{source}: must name an environment, such as grid2op_zones, not {env!r}")
    try:
        gymnasium.spec(env)
    except (gymnasium.error.Error, ImportError) as error:
        if ":" in env or isinstance(error, gymnasium.error.DeprecatedEnv | gymnasium.error.VersionNotFound):
            raise InputError(f"{source}: {summary(error)}") from error
        known = [*_registered(ENV_CREATOR), *gymnasium.registry]
        raise InputError(f"{source}: unknown environment {env!r}{nearest(env, known)}") from None


def _registered(category: str) -> list[str]:
    """Names that this process registered with Tune and has not handed to a cluster yet (for suggestions only)."""
    from ray.tune.registry import _global_registry

    return [key for cat, key in _global_registry._to_flush if cat == category and not key.startswith(("__", "script"))]


def resolve(path: str, source: str) -> Any:
    """What the dotted path `package.module.Name` names; InputError if that cannot be imported."""
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
        if not hasattr(found, name):
            offered = [one for one in vars(found) if not one.startswith("_")]
            raise InputError(f"{source}: {module} has no {name!r}{nearest(name, offered)}")
        return getattr(found, name)
    except ModuleNotFoundError as error:
        raise InputError(f"{source}: cannot import {path!r}: {error}; is its folder in PYTHONPATH?") from error
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{source}: cannot import {path!r}: {summary(error)}") from error


def tunable(config: dict[str, Any], source: str) -> dict[str, Any]:
    """Settings as Ray Tune and Algorithm take them, from settings as people write them.

    Class paths (of the environment, and of `IMPORTED`) are resolved; `model_config` and its like move to the names they
    are stored under; `policies` without a mapping get `own_policy`, since RLlib's own default sends every agent to
    "default_policy".

    Args:
        config: Settings by the names that people use; not changed.
        source: Where they stand, for messages.
    """
    config = {STORED_AS.get(key, key): value for key, value in config.items()}
    if "env" in config:
        config["env"] = named_env(config["env"], f"{source}: env")
    for key in IMPORTED:
        if isinstance(config.get(key), str):
            config[key] = resolve(config[key], f"{source}: {key.removeprefix('_')}")
    if config.get("policies") and "default_policy" not in config["policies"]:
        config.setdefault("policy_mapping_fn", own_policy)
    if isinstance(config.get("evaluation_config"), dict):
        config["evaluation_config"] = tunable(config["evaluation_config"], f"{source}: evaluation_config")
    return config


def own_policy(agent_id: str, episode: Any, **kwargs: Any) -> str:
    """A policy mapping in which each agent is played by the policy of its own name."""
    return agent_id


def named_env(env: Any, source: str) -> Any:
    """Registers an environment given as a class path, since RLlib's multi-agent runner takes registered names only."""
    from ray.tune.registry import ENV_CREATOR, _global_registry, register_env

    is_path = isinstance(env, str) and "." in env and "/" not in env and ":" not in env
    if is_path and not _global_registry.contains(ENV_CREATOR, env):
        register_env(env, resolve(env, source))
    return env
