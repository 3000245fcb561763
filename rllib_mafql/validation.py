"""What MAFQL's settings may be, each on its own and together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import TorchCompileWhatToCompile

from rllib_mafql.behavior import RANDOM
from rllib_mafql.objectives import COEFFICIENTS
from rllib_mafql.ranges import MOST, Range

if TYPE_CHECKING:
    from rllib_mafql.config import MAFQLConfig

_SHARE = Range(0, 1, text="between 0 and 1")
_WIDTH = Range(1, 65_536, whole=True)
_COUNT = Range(0, MOST, whole=True, text="an integer of at least 0")
_POSITIVE = Range(1, MOST, whole=True, text="an integer of at least 1")
_AMOUNT = Range(0, text="0 or greater")

NUMBERS: dict[str, Range] = {
    **dict.fromkeys(COEFFICIENTS, Range(0, schedule=True, text="0 or greater")),
    **dict.fromkeys(("flow_steps", "teacher_flow_steps"), Range(1, 5, whole=True)),
    **dict.fromkeys(("actor_hidden", "teacher_hidden", "critic_hidden"), _WIDTH),
    **dict.fromkeys(("hidden_layers", "num_critics"), Range(1, 100, whole=True)),
    **dict.fromkeys(("num_random_actions", "num_updates", "train_batch_size_per_learner"), _POSITIVE),
    **dict.fromkeys(("warm_start_steps", "warm_start_updates"), _COUNT),
    **dict.fromkeys(("behavior_fraction", "takeover_fraction", "own_cloning_weight", "offline_fraction"), _SHARE),
    **dict.fromkeys(("zero_noise_fraction", "average_tau", "tau"), _SHARE),
    **dict.fromkeys(("obs_noise", "behavior_noise"), _AMOUNT),
    "n_step": Range(1, 255, whole=True),
    "replay_capacity": _POSITIVE,
    "num_replay_shards": Range(0, 1024, whole=True),
    "takeover_horizon": _POSITIVE,
    "gamma": Range(0, 1, below=True, text="at least 0 and less than 1"),
    "lr": Range(0, schedule=True),
    "grad_clip": Range(0, above=True, optional=True),
    "offline_updates": Range(0, MOST, whole=True, optional=True, text="an integer of at least 0"),
    "offline_memory_gb": Range(0, optional=True, text="0 or greater"),
    "projected_cloning_distance": Range(0, optional=True, text="0 or greater"),
    "advantage_temperature": Range(0, above=True, optional=True, text="greater than 0"),
    "torch_num_threads": Range(1, 1024, whole=True, optional=True),
}
CHOICES = {
    "conservatism": ("counterfactual", "joint"),
    "execution": ("decentralized", "centralized"),
    "precision": ("float32", "bfloat16", "auto"),
}
SWITCHES = ("sample_async", "store_buffer_in_checkpoints", "calibrated", "offline_skip_bad")


def check_each(config: MAFQLConfig) -> None:
    """Checks every setting on its own; ValueError names it and what would be right."""
    for name in CHECKED:
        right = wanted(name, getattr(config, name))
        _require(config, name, right is None, str(right))


def wanted(name: str, value: Any) -> str | None:
    """What the setting `name`, one of `CHECKED`, must be; None if `value` is that."""
    if name in NUMBERS:
        return None if NUMBERS[name].holds(value) else NUMBERS[name].right
    if name in CHOICES:
        fits = isinstance(value, str) and value in CHOICES[name]
        return None if fits else f"one of {', '.join(CHOICES[name])}"
    if name in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    test, right = _OTHERS[name]
    return None if test(value) else right


def _is_bounds(value: Any) -> bool:
    listed = isinstance(value, (list, tuple)) and len(value) == 2 and all(Range().holds(bound) for bound in value)
    return value is None or (listed and value[0] < value[1])


def _is_weights(value: Any) -> bool:
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return named and all(_AMOUNT.holds(weight) for weight in value.values()) and sum(value.values()) > 0


def _is_resources(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and _AMOUNT.holds(v) for k, v in value.items())


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value))


def _is_advisor(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != RANDOM)


def _is_folder(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


_OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "reward_bounds": (_is_bounds, "None or [low, high]"),
    "behavior_policies": (_is_weights, "a mapping of names to weights of at least 0, not all 0"),
    "custom_resources_per_replay_shard": (_is_resources, "a mapping of resources to amounts of at least 0"),
    "advisor": (_is_advisor, "None or the name of a behaviour policy other than random"),
    "output": (_is_folder, "None or the path of a folder"),
    "offline_cloned_policies": (_is_names, "None or a list of policies' names"),
}
CHECKED = (*NUMBERS, *CHOICES, *SWITCHES, *_OTHERS)


def check_together(config: MAFQLConfig) -> None:
    """Checks settings that exclude each other, once each is right on its own; ValueError as `check_each`."""
    what = config.torch_compile_learner_what_to_compile
    compilable = not config.torch_compile_learner or what == TorchCompileWhatToCompile.FORWARD_TRAIN
    _require(
        config,
        "torch_compile_learner_what_to_compile",
        compilable,
        "forward_train: MAFQL compiles its losses",
    )
    fits = config.is_offline or config.warm_start_steps <= config.replay_capacity
    _require(config, "warm_start_steps", fits, f"at most replay_capacity ({config.replay_capacity})")
    for name in ("offline_updates", "offline_cloned_policies"):
        needed = config.is_offline or config.in_evaluation or getattr(config, name) is None
        _require(config, name, needed, "None where there are no recorded data (input_)")
    served = config.in_evaluation or not config.sample_async or config.num_env_runners > 0
    _require(config, "sample_async", served, "false where num_env_runners is 0")
    whole = not config.store_buffer_in_checkpoints and (config.in_evaluation or not config.is_offline)
    right = "0 with recorded data (input_) or store_buffer_in_checkpoints, which need the replay in the driver"
    _require(config, "num_replay_shards", not config.num_replay_shards or whole, right)
    moved = config.advisor is None or config.projected_cloning_distance is None
    _require(
        config, "projected_cloning_distance", moved, "None with an advisor, whose answers are cloned at every step"
    )
    acts = config.execution == "decentralized" or config.algo_class.centralized_execution
    _require(config, "execution", acts, f"decentralized: {config.algo_class.__name__} has no centralised policy")
    _require(config, "rl_module_spec", config._rl_module_spec is None, "unset: MAFQL builds its own modules")


def _require(config: MAFQLConfig, name: str, condition: bool, right: str) -> None:
    if not condition:
        raise ValueError(f"MAFQL config: {name} must be {right}, got {getattr(config, name, None)!r}")
