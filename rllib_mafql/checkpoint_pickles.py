"""The pickles of a checkpoint: whether they are whole and whether what they refer to exists, and what is in the first.

RLlib keeps an algorithm's class and settings in `class_and_ctor_args.pkl` at the top of its checkpoint.
"""

from __future__ import annotations

import importlib
import json
import pickle
import pickletools
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SETTINGS = "class_and_ctor_args.pkl"

#: Packages whose names change with the version of this package.
OWN = ("rllib_mafql", "grid2op_zones")

_STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_RECALLS = ("BINGET", "LONG_BINGET", "GET")
_NOTES = ("BINPUT", "LONG_BINPUT", "PUT")


def pickle_problem(content: bytes) -> str:
    """What is wrong with a pickle as far as that shows without loading it; "" if nothing."""
    if not content:
        return "it is empty"
    try:
        missing = next((name for name in _referred(content) if not _exists(*name)), None)
    except Exception as error:  # whatever a damaged byte is taken for
        return f"it is no whole pickle: {error}"
    if missing is None:
        return ""
    return f"it refers to {'.'.join(missing)}, which rllib-mafql {package_version()} does not have"


def read_settings(path: Path) -> tuple[type, dict[str, Any]]:
    """The algorithm's class and its settings, as `AlgorithmConfig.get_state` gives them, from a checkpoint's folder.

    Raises:
        ValueError: they cannot be loaded here; says with what they were written.
    """
    try:
        with (path / SETTINGS).open("rb") as file:
            content = pickle.load(file)
        (state,), _ = content["ctor_args_and_kwargs"]
        kind = content["class"]
        if not isinstance(kind, type) or not isinstance(state, dict):
            raise TypeError(f"it holds a {type(kind).__name__} and a {type(state).__name__}")
    except Exception as error:  # a pickle can fail in any way: other versions, missing modules, a damaged file
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: {SETTINGS} cannot be loaded here ({text}). {_versions(path)}") from error
    return kind, state


def package_version() -> str:
    """The version of this package."""
    try:
        return version("rllib-mafql")
    except PackageNotFoundError:
        from rllib_mafql import __version__

        return __version__


def _versions(path: Path) -> str:
    import ray

    try:
        written = f"Ray {json.loads((path / 'rllib_checkpoint.json').read_text())['ray_version']}"
    except (OSError, ValueError, KeyError, TypeError):
        written = "an unknown version of Ray"
    return (
        f"It was written with {written}; here are Ray {ray.__version__} and rllib-mafql {package_version()}: install "
        "the versions that it was written with and what its own classes are defined in, or train anew"
    )


def _referred(content: bytes) -> Iterator[tuple[str, str]]:
    """(module, name) of every class and function of `OWN` that a pickle loads; fails where the pickle is not whole."""
    memo: dict[int, str | None] = {}
    last: tuple[str | None, str | None] = (None, None)  # the last two values, where they are strings
    code: Any
    argument: Any
    for code, argument, _ in pickletools.genops(content):
        name = code.name
        if name in _STRINGS:
            last = (last[1], argument)
        elif name in _RECALLS:
            last = (last[1], memo.get(int(argument)))
        elif name == "MEMOIZE":
            memo[len(memo)] = last[1]
        elif name in _NOTES:
            memo[int(argument)] = last[1]
        else:
            found = tuple(argument.split(" ", 1)) if name == "GLOBAL" else last if name == "STACK_GLOBAL" else None
            if found and isinstance(found[0], str) and found[1] and found[0].split(".")[0] in OWN:
                yield found[0], found[1]
            last = (last[1], None)


def _exists(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True
