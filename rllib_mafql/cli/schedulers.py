"""Trial schedulers: those of Tune that stop trials early, and population based training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.arguments import checked_arguments, named
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.space import is_space, with_spaces

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

FIFO = "fifo"
POPULATION = "pbt"
#: What they are called here, and by `tune.create_scheduler`.
SCHEDULERS = {
    FIFO: FIFO,
    "asha": "async_hyperband",
    "async_hyperband": "async_hyperband",
    "median_stopping": "median_stopping_rule",
    "median_stopping_rule": "median_stopping_rule",
    "pbt": "pbt",
}
#: Settings that a trial cannot change on its way: checkpoints would not fit, or would be of something else.
FIXED = (
    "env",
    "policies",
    "policy_mapping_fn",
    "model_config",
    "rl_module_spec",
    "learner_class",
    "env_runner_cls",
    "actor_hidden",
    "teacher_hidden",
    "critic_hidden",
    "hidden_layers",
    "num_critics",
)


def scheduler_type(spec: Any, source: str) -> str:
    """The name in `spec`; `FIFO` for None. Raises InputError if there is no such scheduler."""
    return FIFO if spec is None else named(spec, SCHEDULERS, source)[0]


def make_scheduler(spec: Any, stop: Any, source: str) -> Any:
    """The scheduler for `tune.run`; metric and mode are to be given to that.

    Args:
        spec: `{type: NAME, ...}` with arguments of Tune's class, a name, or None.
        stop: The stop criteria: `max_t` of ASHA is that of its `time_attr`, where there is one.
        source: Where `spec` stands, for messages.

    Raises:
        InputError: On an unknown scheduler or argument, or a value that Tune refuses.
    """
    from ray.tune.schedulers import SCHEDULER_IMPORT, AsyncHyperBandScheduler

    name, arguments = named(spec or FIFO, SCHEDULERS, source)
    cls: Any = SCHEDULER_IMPORT[SCHEDULERS[name]]
    arguments = {key: value for key, value in arguments.items() if key not in ("metric", "mode")}
    checked_arguments(cls, arguments, source, without=("metric", "mode", "custom_explore_fn"))
    if cls is AsyncHyperBandScheduler and isinstance(stop, Mapping):
        time_attr = arguments.get("time_attr", "training_iteration")
        if time_attr in stop:
            arguments.setdefault("max_t", stop[time_attr])
    if name == POPULATION:
        arguments.setdefault("require_attrs", False)  # evaluation is not in every result
        mutations = with_spaces(arguments.get("hyperparam_mutations") or {}, f"{source}.hyperparam_mutations")
        arguments["hyperparam_mutations"] = _as_tune_mutates(mutations)
        arguments["custom_explore_fn"] = WithinRanges(arguments["hyperparam_mutations"])
    try:
        return cls(**arguments)
    except Exception as error:  # Tune asserts, and raises errors of its own
        raise InputError(f"{source}: {summary(error)}") from error


class WithinRanges:
    """Keeps what population based training makes of a value within the range that it is drawn from.

    Tune multiplies by a factor, again and again, and so leaves the range: a share would become greater than 1.
    """

    def __init__(self, mutations: Mapping[str, Any]) -> None:
        self._mutations = mutations

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """The settings, with values of `mutations` moved to the next end of their range."""
        return _within(config, self._mutations)


def _within(config: dict[str, Any], mutations: Mapping[str, Any]) -> dict[str, Any]:
    from ray.tune.search.sample import Float, Integer

    config = dict(config)
    for key, space in mutations.items():
        if isinstance(space, dict):
            config[key] = _within(config[key], space)
        elif isinstance(space, Float):
            config[key] = min(max(config[key], space.lower), space.upper)
        elif isinstance(space, Integer):
            config[key] = min(max(config[key], space.lower), space.upper - 1)
    return config


def _as_tune_mutates(mutations: dict[str, Any]) -> dict[str, Any]:
    """Choices as lists: Tune takes a domain for something to multiply, and a list for values next to each other."""
    from ray.tune.search.sample import Categorical

    return {
        key: list(space.categories)
        if isinstance(space, Categorical)
        else _as_tune_mutates(space)
        if isinstance(space, dict) and not is_space(space)
        else space
        for key, space in mutations.items()
    }


def mutated(scheduler: Any) -> dict[str, Any]:
    """What a scheduler changes in the course of a trial, nested as in settings: spaces, or lists of values."""
    return getattr(scheduler, "_hyperparam_mutations", {})


def first_population(
    config: dict[str, Any], default: "AlgorithmConfig", mutations: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """The settings with a space to draw the first value from for everything that is changed later and not set.

    Tune would draw them itself, but from generators that no seed of the search reaches.

    Args:
        config: The settings, with search spaces.
        default: The algorithm's default settings.
        mutations: From `mutated`.
        source: Where `mutations` stand, for messages.

    Raises:
        InputError: If something cannot be changed in the course of a trial, or what is set cannot be perturbed.
    """
    from ray import tune

    config = dict(config)
    for key, space in mutations.items():
        place = f"{source}.{key}"
        if key in FIXED:
            raise InputError(f"{place}: cannot change in the course of a trial; search over it in config instead")
        if isinstance(space, dict) and is_space(space):
            raise InputError(f"{place}: grid_search is no distribution; write a list of the values")
        if isinstance(space, dict):
            nested = config.get(key, getattr(default, key, None))
            config[key] = first_population(nested if isinstance(nested, dict) else {}, default, space, place)
        elif not is_space(space) and not isinstance(space, list | tuple):
            raise InputError(
                f"{place}: must be a list of values or a search space such as {{uniform: [0.1, 1]}}, not {space!r}"
            )
        elif key not in config:
            config[key] = tune.choice(list(space)) if isinstance(space, list | tuple) else space
        elif not isinstance(space, list | tuple) and not _is_number(config[key]) and not is_space(config[key]):
            raise InputError(f"{place}: cannot change {config[key]!r}, which config sets; leave it out there")
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
