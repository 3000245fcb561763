"""What makes an experiment a search: how trials are chosen, compared, and stopped or changed on their way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest, warn
from rllib_mafql.cli.metric_names import GROWING
from rllib_mafql.cli.schedulers import FIFO, POPULATION, make_scheduler, mutated, scheduler_type
from rllib_mafql.cli.searchers import RANDOM, make_searcher, searcher_type
from rllib_mafql.cli.space import spaces
from rllib_mafql.cli.stopping import check_metric

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

#: What a file says of a search, beside `num_samples` and the search spaces in `config`.
SEARCH_KEYS = ("metric", "mode", "scheduler", "search_alg", "time_budget_s", "max_concurrent_trials")
MODES = ("max", "min")


@dataclass
class SearchSpec:
    """What a file says of a search, unchecked."""

    metric: Any = None
    mode: Any = None
    scheduler: Any = None
    search_alg: Any = None
    time_budget_s: Any = None
    max_concurrent_trials: Any = None


@dataclass
class Search:
    """A search that can be started."""

    metric: str | None  # path of what trials are compared by
    mode: str | None
    scheduler: Any  # Tune's
    search_alg: Any  # Tune's
    time_budget_s: float | None
    varied: list[tuple[str | int, ...]]  # where the settings are in which trials differ
    several: bool  # whether it is one, and not a single run

    def arguments(self) -> dict[str, Any]:
        """The arguments of `tune.run`."""
        return {
            "metric": self.metric,
            "mode": self.mode,
            "scheduler": self.scheduler,
            "search_alg": self.search_alg,
            "time_budget_s": self.time_budget_s,
        }


def make_search(
    spec: SearchSpec,
    config: dict[str, Any],
    default: "AlgorithmConfig",
    *,
    num_samples: int,
    stop: Any,
    source: str,
) -> tuple[Search, dict[str, Any]]:
    """Checks what is said of a search, and makes Tune's scheduler and search algorithm.

    Args:
        spec: What is said.
        config: The settings, with search spaces.
        default: The algorithm's default settings.
        num_samples: How often each point of the grids is run; -1: without end.
        stop: The stop criteria, flat.
        source: The experiment, for messages.

    Returns:
        The search, and the settings with spaces for what the scheduler changes and `config` does not set.

    Raises:
        InputError: On anything that Tune would refuse, or would accept and then search for nothing.
    """
    place = f"{source}.scheduler"
    kind = scheduler_type(spec.scheduler, place)
    scheduler = make_scheduler(spec.scheduler, stop, place)
    guided = searcher_type(spec.search_alg, f"{source}.search_alg") not in RANDOM
    metric, mode = _metric_and_mode(spec, needed=kind != FIFO or guided, source=source)
    if metric is not None:
        check_metric(metric, config, default, f"{source}.metric")
    budget = _checked_number(spec.time_budget_s, f"{source}.time_budget_s")
    concurrent = spec.max_concurrent_trials
    if concurrent is not None and (type(concurrent) is not int or concurrent < 1):
        raise InputError(f"{source}.max_concurrent_trials: must be a whole number of at least 1, not {concurrent!r}")
    if num_samples == -1 and budget is None:
        raise InputError(f"{source}.num_samples: -1 is without end; say in time_budget_s when to stop")
    if num_samples < 1 and num_samples != -1:
        raise InputError(f"{source}.num_samples: must be at least 1, or -1 with time_budget_s, not {num_samples}")
    time_attr = getattr(scheduler, "_time_attr", None)
    if time_attr is not None and time_attr not in GROWING:
        raise InputError(f"{place}.time_attr: no metric that grows steadily{nearest(time_attr, GROWING)}")
    mutations = mutated(scheduler)
    if kind == POPULATION:
        if guided:
            raise InputError(f"{source}.search_alg: pbt chooses by itself what to try; leave search_alg out")
        if concurrent is not None:
            raise InputError(
                f"{source}.max_concurrent_trials: pbt compares all trials; leave max_concurrent_trials out"
            )
        from rllib_mafql.cli.population import first_population

        config = first_population(config, default, mutations, f"{place}.hyperparam_mutations")
        if num_samples == 1 and not any(isinstance(space, dict) for space in spaces(config).values()):
            raise InputError(f"{source}.num_samples: a population needs at least 2 trials, better 4; there is 1")
        _warn_of_lost_replay(config, default, source)
    searcher = make_searcher(spec.search_alg, config, concurrent, f"{source}.search_alg")
    varied = list(spaces(config))
    varied += [path for path in _paths(mutations) if path not in varied]
    several = bool(varied) or num_samples != 1 or kind != FIFO
    return Search(metric, mode, scheduler, searcher, budget, varied, several), config


def _metric_and_mode(spec: SearchSpec, needed: bool, source: str) -> tuple[str | None, str | None]:
    """Metric and mode, which may stand with the scheduler and the search algorithm as well."""
    found: dict[str, Any] = {"metric": spec.metric, "mode": spec.mode}
    for part in ("scheduler", "search_alg"):
        for key, value in list(found.items()):
            inside = getattr(spec, part)
            own = inside.get(key) if isinstance(inside, dict) else None
            if own is not None and value is not None and own != value:
                raise InputError(f"{source}.{part}.{key}: {own!r} disagrees with {key} {value!r}")
            found[key] = own if value is None else value
    metric, mode = found["metric"], found["mode"]
    if metric is None and (needed or mode is not None):
        raise InputError(
            f"{source}.metric: missing: what trials are compared by, such as "
            "evaluation/env_runners/episode_return_mean, and mode: max or min"
        )
    if metric is not None and not isinstance(metric, str):
        raise InputError(f"{source}.metric: must be the path of a metric, not {metric!r}")
    if metric is not None and mode not in MODES:
        raise InputError(f"{source}.mode: must be max or min, not {mode!r}")
    return metric, mode


def _checked_number(value: Any, source: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{source}: must be a number of seconds greater than 0, not {value!r}")
    return value


def _paths(mutations: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, space in mutations.items():
        found += _paths(space, (*path, key)) if isinstance(space, dict) else [(*path, key)]
    return found


def _warn_of_lost_replay(config: Mapping[str, Any], default: "AlgorithmConfig", source: str) -> None:
    """A trial that goes on from another's checkpoint has its replay only if that was stored."""
    if not hasattr(default, "replay_capacity"):
        return  # none of MAFQL's
    if not config.get("store_buffer_in_checkpoints", getattr(default, "store_buffer_in_checkpoints", False)):
        warn(
            f"{source}: trials that go on from another's checkpoint begin with an empty replay and with "
            "warm_start_steps again; set store_buffer_in_checkpoints: true"
        )
