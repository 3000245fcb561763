"""Population based training: its trials' turns, ranges and first values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search.sample import Categorical, Float, Integer

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.restoring import SIZES
from rllib_mafql.cli.space import is_space
from rllib_mafql.ranges import Range

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

#: Settings that a trial cannot change on its way: checkpoints would not fit, or would be of something else.
FIXED = (
    "env",
    "policies",
    "policy_mapping_fn",
    "model_config",
    "rl_module_spec",
    "learner_class",
    "env_runner_cls",
    *SIZES,
)


class Population(PopulationBasedTraining):
    """Tune's, for populations that are larger than the cluster, too.

    Tune lets those run that are behind most, and of equals the first. A trial that takes over a waiting one's
    checkpoint is as far as that then; being first, it runs again and again, from the same checkpoint, and the waiting
    one never.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._results = 0
        self._newest: dict[str, int] = {}  # trial id -> number of its last result

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """As Tune does; notes whose turn it was."""
        self._results += 1
        self._newest[trial.trial_id] = self._results
        return super().on_trial_result(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Of the trials that are behind most, the one that has waited longest."""
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is None:
            return None
        behind = self._trial_state[chosen].last_train_time
        equals = [
            trial
            for trial in tune_controller.get_trials()
            if trial.status in (Trial.PENDING, Trial.PAUSED) and self._trial_state[trial].last_train_time == behind
        ]
        return min(equals, key=lambda trial: self._newest.get(trial.trial_id, 0))


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
    config = dict(config)
    for key, space in mutations.items():
        if isinstance(space, dict):
            config[key] = _within(config[key], space)
        elif isinstance(space, Float):
            config[key] = min(max(config[key], space.lower), space.upper)
        elif isinstance(space, Integer):
            config[key] = min(max(config[key], space.lower), space.upper - 1)
    return config


def as_tune_mutates(mutations: dict[str, Any]) -> dict[str, Any]:
    """Choices as lists: Tune takes a domain for something to multiply, and a list for values next to each other."""
    return {
        key: list(space.categories)
        if isinstance(space, Categorical)
        else as_tune_mutates(space)
        if isinstance(space, dict) and not is_space(space)
        else space
        for key, space in mutations.items()
    }


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
        elif not isinstance(space, list | tuple) and not Range().holds(config[key]) and not is_space(config[key]):
            raise InputError(f"{place}: cannot change {config[key]!r}, which config sets; leave it out there")
    return config
