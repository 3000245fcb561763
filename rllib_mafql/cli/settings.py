"""What RLlib's own settings may be: those that are common, each by name; all others by the kind of their default."""

from functools import cache
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest
from rllib_mafql.cli.names import resolve
from rllib_mafql.cli.space import is_space, spaces
from rllib_mafql.ranges import MOST, Range

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

#: More runners than this are a slip, and asking Ray for them would fill the memory.
MOST_ACTORS = 100_000

_ACTORS = Range(0, MOST_ACTORS, whole=True)
_COUNT = Range(0, MOST, whole=True)
_POSITIVE = Range(1, MOST, whole=True)
_AMOUNT = Range(0)
_SHARE = Range(0, 1)
_POSITIVE_OR_NONE = Range(1, MOST, whole=True, optional=True)
_SECONDS = Range(0, optional=True)

NUMBERS: dict[str, Range] = {
    "seed": Range(0, 2**32 - 1, whole=True, optional=True, text="an integer from 0 to 4294967295"),
    **dict.fromkeys(("lr", "actor_lr", "critic_lr", "alpha_lr"), Range(0, schedule=True)),
    **dict.fromkeys(("gamma", "lambda", "lambda_", "tau"), _SHARE),
    "grad_clip": Range(0, above=True, optional=True, schedule=True),
    **dict.fromkeys(("train_batch_size", "num_updates"), _POSITIVE),
    **dict.fromkeys(("train_batch_size_per_learner", "minibatch_size", "num_epochs"), _POSITIVE_OR_NONE),
    **dict.fromkeys(("num_env_runners", "num_learners", "evaluation_num_env_runners"), _ACTORS),
    **dict.fromkeys(("num_offline_eval_runners", "num_aggregator_actors_per_learner"), _ACTORS),
    "num_envs_per_env_runner": Range(1, MOST_ACTORS, whole=True),
    **dict.fromkeys(("num_cpus_per_env_runner", "num_gpus_per_env_runner", "num_gpus_per_learner"), _AMOUNT),
    **dict.fromkeys(("num_cpus_for_main_process", "num_gpus", "kl_coeff", "kl_target", "vf_loss_coeff"), _AMOUNT),
    "num_cpus_per_learner": Range(0, words=("auto",)),
    "rollout_fragment_length": Range(1, MOST, whole=True, words=("auto",)),
    "max_requests_in_flight_per_env_runner": _POSITIVE,
    **dict.fromkeys(("min_time_s_per_iteration", "sample_timeout_s", "evaluation_sample_timeout_s"), _SECONDS),
    **dict.fromkeys(("min_train_timesteps_per_iteration", "min_sample_timesteps_per_iteration"), _COUNT),
    **dict.fromkeys(("num_steps_sampled_before_learning_starts", "target_network_update_freq"), _COUNT),
    "evaluation_interval": Range(0, MOST, whole=True, optional=True),
    "evaluation_duration": Range(1, MOST, whole=True, words=("auto",)),
    "metrics_num_episodes_for_smoothing": _POSITIVE,
    "training_intensity": Range(0, above=True, optional=True),
    "clip_param": Range(0, above=True),
    "vf_clip_param": Range(0, optional=True),
    "entropy_coeff": Range(0, schedule=True),
}
CHOICES = {
    "evaluation_duration_unit": ("episodes", "timesteps"),
    "batch_mode": ("truncate_episodes", "complete_episodes"),
    "grad_clip_by": ("value", "norm", "global_norm"),
    "framework": ("torch",),
}
#: Mappings by default that may be given otherwise.
NOT_MAPPINGS = ("policies",)
#: Settings that are paths, or lists of paths.
PATHS = ("input_", "input", "output")


@cache
def _numbers(kind: type) -> dict[str, Range]:
    """The settings of a kind of configuration whose ranges are known."""
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    if kind.__module__.startswith("ray.rllib."):
        return NUMBERS
    # an algorithm of the user's own may have settings of other meanings under RLlib's algorithms' names
    shared = {name: range_ for name, range_ in NUMBERS.items() if name in {*vars(AlgorithmConfig()), "minibatch_size"}}
    return shared


def _check_own(name: str, value: Any, place: str) -> bool:
    """Checks one of MAFQL's own settings; False if it is none."""
    from rllib_mafql.validation import CHECKED, CHOICES, wanted

    if name not in CHECKED or (isinstance(value, dict | list) and spaces(value)):
        return name in CHECKED
    right = wanted(name, value)
    if right is not None:
        hint = nearest(value, CHOICES[name]) if name in CHOICES and isinstance(value, str) else ""
        raise InputError(f"{place}: must be {right}, not {value!r}{hint}")
    return True


def check_setting(name: str, value: Any, default: "AlgorithmConfig", place: str) -> None:
    """Checks the value of one of an algorithm's settings, as far as it can be told from its name and default.

    Raises:
        InputError: If it cannot be right; begins with `place`.
    """
    if is_space(value):
        return
    usual = vars(default).get(name)
    if type(default).__module__.startswith("rllib_mafql.") and _check_own(name, value, place):
        return
    numbers = _numbers(type(default))
    if name in numbers:
        range_ = numbers[name]
        if not range_.holds(value):
            example = f" such as {usual!r}" if isinstance(value, str) and type(usual) in (int, float) else ""
            raise InputError(f"{place}: must be {range_.right}{example}, not {value!r}")
    elif name in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[name]:
            offered = CHOICES[name]
            raise InputError(f"{place}: must be one of {', '.join(offered)}, not {value!r}{nearest(value, offered)}")
    elif name in PATHS:
        listed = isinstance(value, list | tuple) and value and all(isinstance(one, str) and one for one in value)
        if not (
            value is None or callable(value) or (isinstance(value, str) and value) or listed or isinstance(value, dict)
        ):
            raise InputError(f"{place}: must be a path or a list of paths, not {value!r}")
    elif name == "policies":
        listed = isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, str) for one in value)
        if value is not None and not listed and not isinstance(value, dict):
            raise InputError(f"{place}: must be a list of policies' names, not {value!r}")
    elif name == "callbacks":
        for path in value if isinstance(value, list | tuple) else [value]:
            if isinstance(path, str):
                resolve(path, place)
            elif path is not None and not callable(path):
                raise InputError(f"{place}: must be a class path such as package.module.Callbacks, not {value!r}")
    elif isinstance(usual, bool):
        if not isinstance(value, bool):
            raise InputError(f"{place}: must be true or false, not {value!r}")
    elif type(usual) in (int, float):
        if isinstance(value, str) and value != "auto":
            raise InputError(f"{place}: must be a number such as {usual!r}, not {value!r}")
        if isinstance(value, bool | dict) or value != value:
            raise InputError(f"{place}: must be a number such as {usual!r}, not {value!r}")
    elif isinstance(usual, dict) and name not in NOT_MAPPINGS and not isinstance(value, dict | None):
        raise InputError(f"{place}: must be a mapping, not {value!r}")
