"""What is checked of an experiment before Ray starts: keys and values, each error naming the nearest right thing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest, summary
from rllib_mafql.cli.experiments import Experiment
from rllib_mafql.cli.grid_checks import check_on_grid
from rllib_mafql.cli.loggers import make_loggers
from rllib_mafql.cli.metric_names import warn_of_unknown_metric
from rllib_mafql.cli.models import check_model_config, check_replay_buffer_config
from rllib_mafql.cli.names import STORED_AS, check_env, find_algorithm, tunable
from rllib_mafql.cli.schedulers import mutated
from rllib_mafql.cli.search import Search, make_search
from rllib_mafql.cli.search_checks import check_mutations
from rllib_mafql.cli.settings import check_setting
from rllib_mafql.cli.space import EXPRESSIONS, is_space, overlaid, variants
from rllib_mafql.cli.stopping import check_metric, check_stop

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

GRID_ENV = "grid2op_zones"
#: Names that AlgorithmConfig.update_from_dict translates or treats specially.
TRANSLATED = (
    "callbacks",
    "create_env_on_driver",
    "custom_eval_function",
    "framework",
    "input",
    "lambda",
    "multiagent",
    "num_cpus_for_driver",
    "num_workers",
)
#: Of a search space, this many combinations are checked.
MAX_VARIANTS = 50
_RLLIB_ADVICE = "\nTo suppress all validation errors"


@dataclass
class Checked:
    """What `check` found out about an experiment."""

    algorithm: type["Algorithm"]
    config: dict[str, Any]  # settings as Ray Tune takes them, see `tunable`
    resources: list[dict[str, float]]  # what a trial needs in all ("CPU", "GPU", ...), for each variant checked
    search: Search
    loggers: list[Any]  # Tune's callbacks


def check(experiment: Experiment, folders: bool = True) -> Checked:
    """Checks all that can be checked without starting Ray; nested stop criteria become flat ones.

    Args:
        experiment: What to check.
        folders: Whether folders that settings name must be on this machine; not so for a cluster's.

    Raises:
        InputError: On an unknown algorithm, environment or key, or a value that algorithm or environment refuses.
    """
    algorithm = find_algorithm(experiment.run, f"{experiment.source}: run")
    for layer in experiment.layers:
        if layer.check_keys:
            check_keys(layer.settings, algorithm.get_default_config(), layer.source)
    config = tunable(experiment.config(), experiment.source)
    default = algorithm.get_default_config()
    if config.get("env") is None and not config.get("input_"):
        raise InputError(f"{experiment.source}.env: missing: the environment to train on")
    if isinstance(experiment.stop, dict):
        stop = dict(_flat(experiment.stop))
        check_stop(stop, config, default, experiment.source)
        experiment.stop = checked_stop(stop, experiment.source)
    best = experiment.checkpoint.get("checkpoint_score_attribute")
    if best is not None:
        check_metric(best, config, default, f"{experiment.source}.checkpoint_config.checkpoint_score_attribute")
    check_mutations(experiment.search.scheduler, default, experiment.source)
    search, config = make_search(
        experiment.search,
        config,
        default,
        num_samples=experiment.num_samples,
        stop=experiment.stop,
        source=experiment.source,
    )
    changes = mutated(search.scheduler)
    check_keys(overlaid({}, changes), default, f"{experiment.source}.scheduler.hyperparam_mutations")
    resources = []
    for variant, special in islice(variants(overlaid(config, changes)), MAX_VARIANTS):
        source = experiment.source + (f" (with {special})" if special else "")
        check_values(algorithm.get_default_config(), variant, source, folders)
        request: Any = algorithm.default_resource_request(variant)
        resources.append(request.required_resources)
    loggers = make_loggers(experiment.loggers, f"{experiment.source}.loggers")
    return Checked(algorithm, config, resources, search, loggers)


def checked_stop(stop: dict[str, Any], source: str) -> dict[str, float]:
    """Stop criteria as flat metric paths; warns of metrics that neither RLlib nor MAFQL reports.

    Custom metrics may have any name, so an unknown one is no error; but a misspelt one would never stop the run.
    """
    flat = dict(_flat(stop))
    for path in flat:
        warn_of_unknown_metric(path, f"{source}: stop.{path}")
    return flat


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def check_keys(settings: dict[str, Any], default: "AlgorithmConfig", source: str) -> None:
    """Checks the names, and roughly the types, of algorithm settings; their evaluation_config and model_config too.

    Args:
        settings: Settings as people write them.
        default: The algorithm's default settings.
        source: Where `settings` stand, for messages.

    Raises:
        InputError: On a key that `default` does not know, naming the nearest that it does, or that RLlib ignores.
    """
    keys = _Keys.of(default)
    for key, value in settings.items():
        place = f"{source}.{key}"
        if key in keys.retired:
            raise InputError(f"{place}: RLlib no longer uses this key{nearest(key, keys.offered)}")
        if key in keys.derived:
            raise InputError(f"{place}: follows from other settings and cannot be set")
        if key in keys.deprecated:
            with _refusals(place):  # RLlib's error tells the new name
                setattr(default, key, value)
        if key not in keys.valid:
            raise InputError(f"{place}: unknown key{nearest(key, keys.offered)}")
        usual = vars(default).get(key)
        if isinstance(value, dict) and not is_space(value) and isinstance(usual, int | float | str):
            raise InputError(f"{place}: no search space is written so{nearest(next(iter(value), ''), EXPRESSIONS)}")
        if key in ("env_config", "evaluation_config", "model_config") and not isinstance(value, dict | None):
            raise InputError(f"{place}: must be a mapping, not {value!r}")
        check_setting(key, value, default, place)
    if settings.get("evaluation_config"):
        check_keys(settings["evaluation_config"], default, f"{source}.evaluation_config")
    if settings.get("model_config") and _is_rllibs_own(default) and "rl_module_spec" not in settings:
        check_model_config(settings["model_config"], f"{source}.model_config")
    if settings.get("replay_buffer_config") and _is_rllibs_own(default):
        check_replay_buffer_config(settings["replay_buffer_config"], default, f"{source}.replay_buffer_config")


def _is_rllibs_own(config: "AlgorithmConfig") -> bool:
    return type(config).__module__.startswith("ray.rllib.")


@dataclass
class _Keys:
    """What an algorithm's settings may be called."""

    valid: set[str]
    offered: list[str]  # the valid ones worth suggesting: neither private nor deprecated
    retired: set[str]  # set without effect: RLlib marks them with DEPRECATED_VALUE
    derived: set[str]  # properties that cannot be set
    deprecated: set[str]  # properties that raise an error with the new name when set

    @classmethod
    def of(cls, default: "AlgorithmConfig") -> "_Keys":
        from ray._common.deprecation import DEPRECATED_VALUE
        from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

        stored = vars(default)
        # A custom algorithm may have -1, which DEPRECATED_VALUE is, as a default of its own.
        marked = {**vars(AlgorithmConfig()), **(stored if _is_rllibs_own(default) else {})}
        retired = {key for key, value in marked.items() if type(value) is int and value == DEPRECATED_VALUE}
        members = [item for base in type(default).__mro__ for item in vars(base).items()]
        properties = {name: member for name, member in members if isinstance(member, property)}
        settable = {name for name, member in properties.items() if member.fset is not None}
        # RLlib wraps the getters of deprecated properties.
        deprecated = {name for name in settable if hasattr(properties[name].fget, "__wrapped__")}
        valid = {*stored, *default.to_dict(), *settable, *STORED_AS, *TRANSLATED} - retired - {"algo_class"}
        return cls(
            valid=valid,
            offered=sorted(key for key in valid - deprecated if not key.startswith("_")),
            retired=retired,
            derived={*properties} - settable - {*STORED_AS},
            deprecated=deprecated,
        )


def check_values(config: "AlgorithmConfig", settings: dict[str, Any], source: str, folders: bool = True) -> None:
    """Puts `settings`, which hold no search space, into `config` and checks what comes out.

    Args:
        config: The algorithm's default settings.
        settings: As Ray Tune takes them.
        source: Where they stand, for messages.
        folders: As in `check`.

    Raises:
        InputError: If there is no such environment, or the algorithm or the environment refuses the settings.
    """
    for key, value in settings.items():
        check_setting(key, value, config, f"{source}: config.{key}")
    with _refusals(source):
        config.update_from_dict(settings)
        evaluation: Any = config.get_evaluation_config_object()
    parts: tuple[tuple[Any, str], ...] = ((config, f"{source}: "), (evaluation, f"{source}: evaluation_config."))
    for part, place in parts:
        check_env(part.env, f"{place}env")
        if part.env == GRID_ENV:
            try:
                check_on_grid(part, settings, folders)
            except ValueError as error:  # begins with the setting's name
                raise InputError(f"{place}{error}") from error
    with _refusals(source):
        config.validate()


@contextmanager
def _refusals(source: str) -> Iterator[None]:
    """Turns any error into an InputError: RLlib raises all sorts on bad settings, and none of them can be used."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{source}: {summary(error).split(_RLLIB_ADVICE)[0]}") from error
