"""What to train: read from a YAML or Python file or from the command line, as a list of `Experiment`."""

import importlib.util
import sys
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from rllib_mafql.cli.errors import InputError, nearest, summary
from rllib_mafql.cli.options import TrainOptions
from rllib_mafql.cli.search import SEARCH_KEYS, SearchSpec
from rllib_mafql.cli.space import with_spaces
from rllib_mafql.cli.spec_checks import check_name, check_spec
from rllib_mafql.cli.yaml_values import parse, parse_mapping, read_text

CHECKPOINT_KEYS = (
    "checkpoint_frequency",
    "checkpoint_at_end",
    "num_to_keep",
    "checkpoint_score_attribute",
    "checkpoint_score_order",
)
#: The flat names that the former `rllib` command took, and what they are called in `checkpoint_config`.
FLAT_CHECKPOINT_KEYS = {
    "checkpoint_freq": "checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_at_end",
    "keep_checkpoints_num": "num_to_keep",
    "checkpoint_score_attr": "checkpoint_score_attribute",
}
SPEC_KEYS = (
    "run",
    "env",
    "config",
    "stop",
    "num_samples",
    "checkpoint_config",
    *FLAT_CHECKPOINT_KEYS,
    "storage_path",
    "restore",
    "max_failures",
    "loggers",
    *SEARCH_KEYS,
)


@dataclass
class Layer:
    """Algorithm settings from one place; later layers go over earlier ones."""

    source: str  # where the settings stand, for messages
    settings: dict[str, Any]
    check_keys: bool = True  # False: made by RLlib itself (AlgorithmConfig.to_dict)


@dataclass
class Experiment:
    """One experiment for Ray Tune: an algorithm with its settings, and how long and where to run it."""

    name: str
    source: str  # where it stands, for messages: "FILE: NAME" or "command line"
    run: str | type
    layers: list[Layer]
    stop: Any = None  # mapping from metric path to value, or a Tune stopper (Python files)
    num_samples: int = 1
    checkpoint: dict[str, Any] = field(default_factory=dict)  # arguments of tune.CheckpointConfig
    storage_path: str | None = None
    restore: str | None = None
    max_failures: int = 0
    loggers: Any = None  # trackers of results, see rllib_mafql.cli.loggers
    search: SearchSpec = field(default_factory=SearchSpec)

    def config(self) -> dict[str, Any]:
        """The settings of all layers in one dict, nested ones merged key by key."""
        merged: dict[str, Any] = {}
        for layer in self.layers:
            merged = _merged(merged, layer.settings)
        return merged


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and "grid_search" not in {*old, *value}:
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def read_file(file: Path, options: TrainOptions) -> list[Experiment]:
    """The experiments in `file`, with the options given on the command line put over them.

    Args:
        file: A .yaml or .yml file `{experiment: {run, env, stop, config, ...}}` (keys: `SPEC_KEYS`), or a .py file that
            defines `config`, an AlgorithmConfig or a dict with the key "run", and optionally `stop`.
        options: What the command line says; None means not given.

    Raises:
        InputError: If the file is missing, cannot be read, or has unknown keys.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if file.suffix in (".yaml", ".yml"):
        experiments = _from_yaml(file)
    elif file.suffix == ".py":
        experiments = [_from_python(file)]
    else:
        raise InputError(f"{file}: must be a .yaml or a .py file")
    if options.only is not None:
        names = [experiment.name for experiment in experiments]
        if options.only not in names:
            raise InputError(f"--only: {file} has no experiment {options.only!r}{nearest(options.only, names)}")
        experiments = [experiments[names.index(options.only)]]
    if len(experiments) > 1:
        for option, value in (("--experiment-name", options.experiment_name), ("--restore", options.restore)):
            if value is not None:
                raise InputError(
                    f"{option} is for one experiment, and {file} has {len(experiments)}; pick one with --only"
                )
    for experiment in experiments:
        _apply(options, experiment)
    return experiments


def from_options(options: TrainOptions) -> Experiment:
    """The experiment that the command line describes without a file.

    Raises:
        InputError: If there is no algorithm or environment, or a value cannot be read.
    """
    if options.only is not None:
        raise InputError("--only is for a file of several experiments")
    if options.algo is None:
        raise InputError("say what to train: `--run ALGORITHM --env ENV`, or `rllib train file FILE`")
    experiment = Experiment("", "command line", options.algo, [])
    _apply(options, experiment)
    env = experiment.config().get("env")
    if env is None:
        raise InputError("--env is missing: the environment to train on")
    experiment.name = options.experiment_name or f"{options.algo}_{env}".replace("/", "_")
    return experiment


def _apply(options: TrainOptions, experiment: Experiment) -> None:
    """Puts the given options over what the experiment says; an option that was not given changes nothing."""
    if options.config is not None:
        settings = with_spaces(parse_mapping(options.config, "--config"), "--config")
        if options.env is not None and settings.get("env", options.env) != options.env:
            raise InputError(f"--env {options.env} and --config env {settings['env']} disagree")
        experiment.layers.append(Layer("--config", settings))
    if options.env is not None:
        experiment.layers.append(Layer("--env", {"env": options.env}))
    if options.stop is not None:
        experiment.stop = parse_mapping(options.stop, "--stop")
    for name, value in (
        ("name", options.experiment_name),
        ("run", options.algo),
        ("num_samples", options.num_samples),
        ("storage_path", options.storage_path),
        ("restore", options.restore),
    ):
        if value is not None:
            setattr(experiment, name, value)
    flags = {
        "checkpoint_freq": options.checkpoint_freq,
        "checkpoint_at_end": options.checkpoint_at_end,
        "keep_checkpoints_num": options.keep_checkpoints_num,
        "checkpoint_score_attr": options.checkpoint_score_attr,
    }
    experiment.checkpoint.update(_checkpoint_arguments({k: v for k, v in flags.items() if v is not None}))


def _checkpoint_arguments(flat: dict[str, Any]) -> dict[str, Any]:
    """Old flat names to those of tune.CheckpointConfig; a score attribute "min-X" means the lowest X."""
    arguments = {FLAT_CHECKPOINT_KEYS[key]: value for key, value in flat.items()}
    attribute = arguments.get("checkpoint_score_attribute")
    if isinstance(attribute, str):
        arguments["checkpoint_score_attribute"] = attribute.removeprefix("min-")
        arguments["checkpoint_score_order"] = "min" if attribute.startswith("min-") else "max"
    return arguments


def _from_yaml(file: Path) -> list[Experiment]:
    document = parse(read_text(file), str(file))
    if not isinstance(document, dict) or not document:
        raise InputError(f"{file}: must be a mapping from experiment names to what they run")
    if "run" in document:
        raise InputError(f"{file}: the top level holds experiment names; put 'run' and its neighbours under one")
    for name in document:
        check_name(file, name)
    return [_from_spec(file, name, spec) for name, spec in document.items()]


def _from_spec(file: Path, name: str, spec: Any) -> Experiment:
    source = f"{file}: {name}"
    if not isinstance(spec, dict):
        raise InputError(f"{source}: must be a mapping with 'run', 'env', 'config', ..., not {spec!r}")
    for key in spec:
        if key not in SPEC_KEYS:
            raise InputError(f"{source}.{key}: unknown key{nearest(key, SPEC_KEYS)}")
    if not isinstance(spec.get("run"), str):
        raise InputError(f"{source}.run: must name an algorithm, such as MAFQL or PPO, not {spec.get('run')!r}")
    for key in ("config", "checkpoint_config", "stop"):
        if not isinstance(spec.get(key, {}), dict | None):
            raise InputError(f"{source}.{key}: must be a mapping, not {spec[key]!r}")
    config = dict(spec.get("config") or {})
    env = spec.get("env", config.get("env"))
    if env is not None and config.setdefault("env", env) != env:
        raise InputError(f"{source}: env {env!r} and config.env {config['env']!r} disagree")
    checkpoint = dict(spec.get("checkpoint_config") or {})
    for key in checkpoint:
        if key not in CHECKPOINT_KEYS:
            raise InputError(f"{source}.checkpoint_config.{key}: unknown key{nearest(key, CHECKPOINT_KEYS)}")
    checkpoint |= _checkpoint_arguments({key: spec[key] for key in FLAT_CHECKPOINT_KEYS if key in spec})
    check_spec(spec, source)
    copied = ("num_samples", "storage_path", "restore", "max_failures")
    return Experiment(
        name=name,
        source=source,
        run=spec["run"],
        layers=[Layer(f"{source}.config", with_spaces(config, f"{source}.config"))],
        stop=spec.get("stop"),
        loggers=spec.get("loggers"),
        checkpoint=checkpoint,
        search=SearchSpec(**{key: spec.get(key) for key in SEARCH_KEYS}),
        **{key: spec[key] for key in copied if spec.get(key) is not None},
    )


def _from_python(file: Path) -> Experiment:
    module = _load(file)
    config: Any = getattr(module, "config", None)
    source = f"{file}: config"
    if isinstance(config, dict):
        settings = deepcopy(config)
        run = settings.pop("run", None)
        if run is None:
            raise InputError(f'{source}: a dict must hold the key "run", the algorithm to train')
        layer = Layer(source, settings)
    elif callable(getattr(config, "to_dict", None)):
        run = getattr(config, "algo_class", None)
        if run is None:
            raise InputError(f"{source}: belongs to no algorithm; use that of one, such as PPOConfig")
        layer = Layer(source, config.to_dict(), check_keys=False)
    else:
        raise InputError(f"{file}: must define `config`, an AlgorithmConfig or a dict, not {type(config).__name__}")
    return Experiment(file.stem, str(file), run, [layer], stop=getattr(module, "stop", None))


def _load(file: Path) -> ModuleType:
    """Runs a Python file as a module that Ray's workers get by value, since they could not import it."""
    from ray import cloudpickle

    name = f"rllib_train_file_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cloudpickle.register_pickle_by_value(module)  # before it runs: register_env pickles at once
    sys.path.insert(0, str(file.parent.absolute()))  # as `python FILE` does
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file}: {summary(error)}") from error
    return module
