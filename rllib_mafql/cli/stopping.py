"""Stop criteria, and metrics by name: those that can never be met or reported are found before Ray starts."""

import math
from difflib import SequenceMatcher
from functools import cache
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest
from rllib_mafql.cli.metric_names import GROWING, METRIC_GROUPS, METRICS
from rllib_mafql.cli.space import is_space

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

#: Metrics of episodes that RLlib reports of runners, in training and in evaluation, and those of this package's grid.
EPISODES = (
    *(f"episode_{what}_{how}" for what in ("return", "len") for how in ("mean", "min", "max")),
    *("num_episodes", "num_episodes_lifetime", "num_env_steps_sampled", "num_env_steps_sampled_lifetime"),
    *("survived", "score", "safety", "cost", "renewables", "alive", "overload_steps", "illegal_actions"),
)
#: Groups beside `METRIC_GROUPS` that results have.
MORE_GROUPS = ("mafql", "env_runner_group", "config", "info", "counters", "custom_metrics")
#: Two names that are so much alike are one and a slip of it.
ALIKE = 0.85
#: What counts play, none of which there is on recorded data alone.
OF_PLAY = ("num_env_steps_sampled_lifetime", "num_episodes_lifetime")


def check_stop(stop: dict[str, Any], settings: dict[str, Any], default: "AlgorithmConfig", source: str) -> None:
    """Checks that every stop criterion can be met.

    Args:
        stop: Flat metric path -> value.
        settings: The algorithm's settings, as Ray Tune takes them.
        default: The algorithm's default settings.
        source: Which experiment, for messages.

    Raises:
        InputError: If one cannot: no number that is reached, or a metric that is not reported.
    """
    for path, value in stop.items():
        place = f"{source}: stop.{path}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{place}: must be a number, not {value!r}")
        if not math.isfinite(value):
            raise InputError(f"{place}: must be a finite number, not {value!r}: it would never be reached")
        if path in GROWING and value <= 0:
            raise InputError(f"{place}: must be above 0, not {value!r}: every run is past it from the start")
        check_metric(path, settings, default, place)


def check_metric(path: str, settings: dict[str, Any], default: "AlgorithmConfig", place: str) -> None:
    """Checks that a metric is one that a run with these settings can report.

    Names that are no metric of RLlib or MAFQL are let through where callbacks or an algorithm of the user's own may
    report them, unless they are all but equal to one that is.

    Raises:
        InputError: If it is not; begins with `place`.
    """
    group, _, rest = path.partition("/")
    if rest and group in METRICS:
        raise InputError(f"{place}: {group} is a number, and has nothing below it")
    own = type(default).__module__.startswith(("ray.rllib.", "rllib_mafql."))
    called_back = any(key.startswith("callbacks") and value for key, value in settings.items())
    slip = _slip(path)
    if slip:
        raise InputError(f"{place}: no metric is called so{nearest(path, slip)}")
    if own and not called_back and path not in _known() and not (rest and group in (*METRIC_GROUPS, *MORE_GROUPS)):
        known = nearest(path, [*METRICS, *(f"{one}/..." for one in METRIC_GROUPS)])
        raise InputError(f"{place}: no metric that {type(default).__name__.removesuffix('Config')} reports{known}")
    if path == "num_learner_updates" and type(default).__module__.startswith("ray.rllib."):
        raise InputError(f"{place}: only MAFQL reports it; use training_iteration or num_env_steps_sampled_lifetime")
    interval = settings.get("evaluation_interval", default.evaluation_interval)
    if group == "evaluation" and not interval and not is_space(interval):
        raise InputError(f"{place}: is never reported, as config.evaluation_interval is not set")
    if (path in OF_PLAY or group == "env_runners") and _never_plays(settings, default):
        raise InputError(
            f"{place}: is never reported: training on recorded data alone (input_ without offline_updates) plays no "
            "steps; use num_learner_updates or evaluation/..."
        )


def _never_plays(settings: dict[str, Any], default: "AlgorithmConfig") -> bool:
    merged = {**vars(default), **settings}
    recorded = isinstance(merged.get("input_"), str | list) and merged["input_"] != "sampler"
    return recorded and "offline_updates" in merged and merged["offline_updates"] is None


def _slip(path: str) -> list[str]:
    """The metrics that `path` is a slip of."""
    if path in _known() or path.startswith(tuple(f"{group}/" for group in MORE_GROUPS)):
        return []
    prefix, _, last = path.rpartition("/")
    if not prefix:
        return [name for name in METRICS if _alike(path, name)]
    group = prefix.split("/")[0]
    if group not in METRIC_GROUPS:
        return [f"{one}{path[len(group) :]}" for one in METRIC_GROUPS if _alike(group, one)]
    if prefix not in ("env_runners", "evaluation/env_runners") or last in EPISODES:
        return []
    return [f"{prefix}/{name}" for name in EPISODES if _alike(last, name)]


def _alike(name: str, known: str) -> bool:
    return name != known and SequenceMatcher(None, name, known).ratio() >= ALIKE


@cache
def _known() -> frozenset[str]:
    """Names without groups that results have: RLlib's, Ray Tune's, and MAFQL's."""
    from ray.rllib.utils import metrics
    from ray.tune import result

    named = [value for module in (metrics, result) for value in vars(module).values() if isinstance(value, str)]
    return frozenset((*METRICS, *named, "replay_size"))
