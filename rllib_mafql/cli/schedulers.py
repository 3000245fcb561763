"""Trial schedulers: those of Tune that stop trials early, and population based training."""

from collections.abc import Mapping
from typing import Any

from rllib_mafql.cli.arguments import checked_arguments, named
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.space import is_space, with_spaces

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

    from rllib_mafql.cli.population import Population, WithinRanges, as_tune_mutates

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
        mutations = with_spaces(arguments.get("hyperparam_mutations"), f"{source}.hyperparam_mutations")
        if not isinstance(mutations, dict) or not mutations or is_space(mutations):
            example = "{lr: {loguniform: [1e-4, 1e-3]}}"
            raise InputError(
                f"{source}.hyperparam_mutations: must say what changes, such as {example}, not {mutations!r}"
            )
        arguments["hyperparam_mutations"] = as_tune_mutates(mutations)
        arguments["custom_explore_fn"] = WithinRanges(arguments["hyperparam_mutations"])
    try:
        return (Population if name == POPULATION else cls)(**arguments)
    except Exception as error:  # Tune asserts, and raises errors of its own
        raise InputError(f"{source}: {summary(error)}") from error


def mutated(scheduler: Any) -> dict[str, Any]:
    """What a scheduler changes in the course of a trial, nested as in settings: spaces, or lists of values."""
    return getattr(scheduler, "_hyperparam_mutations", {})
