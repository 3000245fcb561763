"""The numbers of searches in an experiment file: those of schedulers and of search algorithms."""

from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.settings import check_setting
from rllib_mafql.ranges import MOST, Range

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

_PERIOD = Range(0, MOST, above=True)
_SEED = Range(0, 2**32 - 1, whole=True, optional=True)
_NUMBERS = {
    **dict.fromkeys(("perturbation_interval", "grace_period", "max_t"), _PERIOD),
    "burn_in_period": Range(0, MOST),
    "quantile_fraction": Range(0, 0.5),
    "resample_probability": Range(0, 1),
    "reduction_factor": Range(1, MOST, above=True),
    "brackets": Range(1, 100, whole=True),
    "min_samples_required": Range(1, MOST, whole=True),
    **dict.fromkeys(("random_state", "random_state_seed", "seed"), _SEED),
}


def check_search_values(spec: dict[str, Any], source: str) -> None:
    """Checks the kinds and ranges of what an experiment says of its search; unknown keys are let through.

    Raises:
        InputError: If one is of the wrong kind or out of range.
    """
    metric = spec.get("metric")
    if metric is not None and (not isinstance(metric, str) or not metric):
        raise InputError(f"{source}.metric: must name a metric, not {metric!r}")
    for part in ("scheduler", "search_alg"):
        values = spec.get(part)
        for key, value in values.items() if isinstance(values, dict) else ():
            if key in _NUMBERS and not _NUMBERS[key].holds(value):
                raise InputError(f"{source}.{part}.{key}: must be {_NUMBERS[key].right}, not {value!r}")
            if key == "type" and not isinstance(value, str):
                raise InputError(f"{source}.{part}.type: must be a name, not {value!r}")


def check_mutations(scheduler: Any, default: "AlgorithmConfig", source: str) -> None:
    """Checks the lists of values, and what is neither list nor search space, in a scheduler's `hyperparam_mutations`.

    Raises:
        InputError: If a value cannot be that of the setting it is for.
    """
    mutations = scheduler.get("hyperparam_mutations") if isinstance(scheduler, dict) else None
    for key, values in mutations.items() if isinstance(mutations, dict) else ():
        place = f"{source}.scheduler.hyperparam_mutations.{key}"
        if isinstance(values, list):
            for value in values:
                check_setting(key, value, default, place)
        if not isinstance(values, dict | list) or not values:
            raise InputError(f"{place}: must be a search space or a list of values, not {values!r}")
