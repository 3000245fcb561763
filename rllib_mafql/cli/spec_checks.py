"""The values beside `config` in an experiment file: kinds and ranges of each."""

from typing import Any

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.search_checks import check_search_values
from rllib_mafql.ranges import MOST, Range

_TEXTS = ("run", "env", "storage_path", "restore", "checkpoint_score_attr")
_COUNT = Range(0, MOST, whole=True, optional=True, text="a whole number of at least 0")
_KEPT = Range(1, MOST, whole=True, optional=True, text="a whole number of at least 1")
_NUMBERS = {
    "num_samples": Range(-1, 10**6, whole=True, text="a whole number of at least 1"),  # -1: see cli/search.py
    "max_failures": Range(-1, MOST, whole=True, text="a whole number of at least -1"),
    "checkpoint_freq": _COUNT,
    "checkpoint_frequency": _COUNT,
    "keep_checkpoints_num": _KEPT,
    "num_to_keep": _KEPT,
}
_ORDERS = ("max", "min")


def check_name(file: Any, name: Any) -> None:
    """Raises InputError unless an experiment's name can be the name of its folder."""
    if not isinstance(name, str) or not name.strip() or "/" in name or "\0" in name or name in (".", ".."):
        raise InputError(f"{file}: {name!r} cannot be an experiment's name: results go into a folder of that name")


def check_spec(spec: dict[str, Any], source: str) -> None:
    """Checks the values of an experiment that are not algorithm settings; unknown keys are let through.

    Raises:
        InputError: If one is of the wrong kind or out of range.
    """
    for key, value in spec.items():
        if key in _TEXTS and value is not None and (not isinstance(value, str) or not value.strip()):
            raise InputError(f"{source}.{key}: must be a text, not {value!r}")
        _check(key, value, f"{source}.{key}")
    check_search_values(spec, source)
    for key, value in (spec.get("checkpoint_config") or {}).items():
        place = f"{source}.checkpoint_config.{key}"
        _check(key, value, place)
        if key == "checkpoint_score_attribute" and value is not None and (not isinstance(value, str) or not value):
            raise InputError(f"{place}: must name a metric, not {value!r}")
        if key == "checkpoint_score_order" and value not in (None, *_ORDERS):
            raise InputError(f"{place}: must be max or min, not {value!r}")


def _check(key: str, value: Any, place: str) -> None:
    if key in _NUMBERS and not _NUMBERS[key].holds(value):
        raise InputError(f"{place}: must be {_NUMBERS[key].right}, not {value!r}")
    if key == "checkpoint_at_end" and not isinstance(value, bool | None):
        raise InputError(f"{place}: must be true or false, not {value!r}")
