"""The environment's configuration: every key with its default, and the check that lets no other through."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

OBSERVABILITY = ("local", "outages", "border", "global")
ACTION_KINDS = ("redispatch", "curtail", "storage")
BALANCES = ("auto", "zone", "grid")
SOLVERS = ("slsqp", "direct")
SAFETY_LEVELS = ("none", "units", "lines")
SOURCES = ("bundled", "folder", "generated", "downloaded")
SPLITS = ("train", "test", "all")

#: The most that a whole number may be.
MOST = 10**12

#: Weeks that are generated where scenarios.weeks is None.
GENERATED_WEEKS = 8

DEFAULT_ENV_CONFIG: dict[str, Any] = {
    "grid": "l2rpn_idf_2023",  # a grid that ships with Grid2Op, one that Grid2Op has downloaded, or a folder
    "zones": None,  # None: the grid's own areas; a number: electrical distance; or a list of lists of substations
    "observability": "local",  # what a zone sees: local, outages (also all maintainable lines), border or global
    "actions": list(ACTION_KINDS),  # what the agents may do
    "balance": "auto",  # whose dispatch sums to the curtailed and charged power: zone, grid, or auto
    "curtail_step": 0.1,  # largest change of a curtailed unit's output in one step, share of pmax
    "reward": {
        "safety": 0.4,
        "cost": 0.2,
        "renewables": 0.2,
        "alive": 0.2,
    },  # weights of the components, each in [0, 1]
    "thermal_limit_scale": 1.0,  # below 1 is harder
    "opponent": False,  # whether the grid's own opponent attacks lines
    "max_steps": 287,  # steps of an episode (a day of 5-minute steps), fewer where the series ends
    "idle_threshold": None,  # highest line loading below which the agents' actions are not asked for; None asks always
    "redispatch_solver": "slsqp",  # balances the dispatch in Grid2Op's step: slsqp, its own, or direct, exact and fast
    "safety": {
        # what every zone's action is projected onto before it is sent: none, what its units allow, or that and the
        # limits of its lines (docs/safety.md). The other keys are what the lines' limits are guaranteed under.
        "level": "none",
        "load": 0.01,  # largest change of a load in a step, share of its reference
        "renewable": 0.02,  # largest change of a renewable's available power in a step, share of pmax
        "schedule": 0.3,  # largest change of a generator's schedule in a step, share of its ramp
        "others": 1.0,  # share of their ramps and powers that the other zones use in a step
        "loading": 1.0,  # share of the thermal limits that lines are kept within
    },
    "fast_step": True,  # steps without what zones do not use of Grid2Op's; false: every step through Grid2Op's own
    "auto_reconnect": True,  # close one line a step as soon as that is legal
    "scenarios": {
        # bundled: the grid's own series; folder: those in path; generated: made here, then cached; downloaded: the
        # grid's full data set, from Grid2Op's folder of data or the network
        "source": "bundled",
        # folder of series in Grid2Op's own format, or of generated weeks; of source generated: the cache, None for the
        # user's
        "path": None,
        "split": "train",  # train, test (days, series or weeks that are never trained on) or all
        # the series to use: None for all, a number for that many, evenly spread, or a list of their indices; of source
        # generated: how many, None for GENERATED_WEEKS
        "weeks": None,
        # of source generated: share of the drawn episodes with one more planned outage, one that would overload a line,
        # in the 4 hours after their start; those of every line equally often
        "before_outages": 0.0,
        "seed": 0,  # seeds the draw of episodes where reset() is given no seed, and the generated weeks
    },
}


def check_env_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Complete ``config`` with the defaults, checking every key and value; loads no grid.

    Returns:
        The full configuration, a deep copy.

    Raises:
        ValueError: A key is unknown (the nearest one is named) or a value is out of range (the right ones are named).
    """
    full = copy.deepcopy(DEFAULT_ENV_CONFIG)
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(f"env_config: expected a mapping such as {{'grid': 'l2rpn_idf_2023'}}, found {config!r}")
    _merge(full, config or {}, "")
    for path, (test, expected) in _CHECKS.items():
        value: Any = full
        for key in path.split("."):
            value = value[key]
        if not test(value):
            raise ValueError(f"env_config.{path}: expected {expected}, found {value!r}{_hint(path, value)}")
    if not any(full["reward"].values()):
        raise ValueError("env_config.reward: at least one weight must be positive, all are 0")
    scenarios = full["scenarios"]
    source, path, weeks = scenarios["source"], scenarios["path"], scenarios["weeks"]
    if source != "generated" and (source == "folder") != (path is not None):
        raise ValueError(
            "env_config.scenarios.path: give a path if and only if scenarios.source is 'folder', or 'generated' where "
            "it may be left out"
        )
    if source == "generated" and not (weeks is None or isinstance(weeks, Integral)):
        raise ValueError(
            "env_config.scenarios.weeks: expected None or a number of weeks, as scenarios.source is 'generated', "
            f"found {weeks!r}"
        )
    if source != "generated" and scenarios["before_outages"]:
        raise ValueError(
            "env_config.scenarios.before_outages: expected 0 unless scenarios.source is 'generated', "
            f"found {scenarios['before_outages']!r}"
        )
    return full


def _merge(full: dict[str, Any], given: Mapping[str, Any], where: str) -> None:
    for key, value in given.items():
        if key not in full:
            near = get_close_matches(str(key), full, n=1, cutoff=0.0)[0]
            raise ValueError(f"env_config: unknown key {where + str(key)!r}; the nearest valid key is {where + near!r}")
        if isinstance(full[key], dict):
            if not isinstance(value, Mapping):
                raise ValueError(f"env_config.{where}{key}: expected a mapping of {sorted(full[key])}, found {value!r}")
            _merge(full[key], value, f"{where}{key}.")
        else:
            full[key] = copy.deepcopy(value)


def _number(low: float, high: float = math.inf, *, open_low: bool = False) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        return bool(real and (low < value if open_low else low <= value) and value <= high)

    return test


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= MOST


def _one_of(options: Sequence[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in options


def _is_actions(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return bool(listed and all(v in ACTION_KINDS for v in value) and len(set(value)) == len(value))


def _is_zones(value: Any) -> bool:
    # the substations themselves are checked against the grid, in zones.py
    return (
        value is None
        or _integer(1)(value)
        or (isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0)
    )


def _is_weeks(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return (
        value is None
        or _integer(1)(value)
        or bool(listed and all(_integer(0)(v) for v in value) and len(set(value)) == len(value))
    )


def _hint(path: str, value: Any) -> str:
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) > MOST:
        return f"; the most is {MOST:g}"
    options = {
        "observability": OBSERVABILITY,
        "balance": BALANCES,
        "redispatch_solver": SOLVERS,
        "safety.level": SAFETY_LEVELS,
        "scenarios.source": SOURCES,
        "scenarios.split": SPLITS,
    }.get(path)
    wrong = value
    if path == "actions":
        options = ACTION_KINDS
        wrong = next((v for v in value if v not in ACTION_KINDS), None) if isinstance(value, Sequence) else None
    if options is None or not isinstance(wrong, str):
        return ""
    return f"; the nearest is {get_close_matches(wrong, options, n=1, cutoff=0.0)[0]!r}"


_WEIGHT = (_number(0.0), "a weight of at least 0")
_SHARE = (_number(0.0), "a share of at least 0")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "grid": (lambda value: isinstance(value, str) and bool(value), "the name or the folder of a grid"),
    "zones": (_is_zones, "None, a number of zones or a list of lists of substations"),
    "observability": (_one_of(OBSERVABILITY), f"one of {list(OBSERVABILITY)}"),
    "actions": (_is_actions, f"a list of different ones of {list(ACTION_KINDS)}, at least one"),
    "balance": (_one_of(BALANCES), f"one of {list(BALANCES)}"),
    "curtail_step": (_number(0.0, 1.0, open_low=True), "a share in (0, 1]"),
    "reward.safety": _WEIGHT,
    "reward.cost": _WEIGHT,
    "reward.renewables": _WEIGHT,
    "reward.alive": _WEIGHT,
    "thermal_limit_scale": (_number(0.0, open_low=True), "a number above 0"),
    "opponent": (lambda value: isinstance(value, bool), "true or false"),
    "max_steps": (_integer(1), "a whole number of at least 1"),
    "idle_threshold": (lambda value: value is None or _number(0.0)(value), "None or a line loading of at least 0"),
    "redispatch_solver": (_one_of(SOLVERS), f"one of {list(SOLVERS)}"),
    "safety.level": (_one_of(SAFETY_LEVELS), f"one of {list(SAFETY_LEVELS)}"),
    "safety.load": _SHARE,
    "safety.renewable": _SHARE,
    "safety.schedule": _SHARE,
    "safety.others": _SHARE,
    "safety.loading": (_number(0.0, open_low=True), "a share above 0"),
    "fast_step": (lambda value: isinstance(value, bool), "true or false"),
    "auto_reconnect": (lambda value: isinstance(value, bool), "true or false"),
    "scenarios.source": (_one_of(SOURCES), f"one of {list(SOURCES)}"),
    "scenarios.path": (lambda value: value is None or (isinstance(value, str) and bool(value)), "None or a folder"),
    "scenarios.split": (_one_of(SPLITS), f"one of {list(SPLITS)}"),
    "scenarios.weeks": (_is_weeks, "None, a number of series or a list of different indices of series"),
    "scenarios.before_outages": (_number(0.0, 1.0), "a share in [0, 1]"),
    "scenarios.seed": (_integer(0), "a whole number of at least 0"),
}
