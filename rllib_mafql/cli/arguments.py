"""Arguments of Tune's classes as a file gives them: `{type: NAME, argument: value, ...}`, or only the name."""

import inspect
from collections.abc import Collection
from typing import Any

from rllib_mafql.cli.errors import InputError, nearest


def named(spec: Any, names: Collection[str], source: str) -> tuple[str, dict[str, Any]]:
    """The type that `spec` names, in lower case, and the arguments beside it.

    Raises:
        InputError: If it names none of `names`.
    """
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        raise InputError(f"{source}: must be a name or a mapping {{type: {next(iter(names))}, ...}}, not {spec!r}")
    name = spec["type"].lower()
    if name not in names:
        raise InputError(f"{source}.type: unknown type {spec['type']!r}{nearest(name, names)}")
    return name, {key: value for key, value in spec.items() if key != "type"}


def checked_arguments(cls: type, arguments: dict[str, Any], source: str, without: Collection[str] = ()) -> None:
    """Checks the names of arguments, and that they are numbers where numbers are usual.

    Args:
        cls: Whose arguments they are.
        arguments: By name.
        source: Where they stand, for messages.
        without: Arguments that are given in another way.

    Raises:
        InputError: On a name that `cls` does not take, or a value of another type than usual.
    """
    parameters = inspect.signature(cls).parameters
    valid = [
        name
        for name, parameter in parameters.items()
        if name not in without and parameter.kind is not parameter.VAR_KEYWORD
    ]
    for name, value in arguments.items():
        if name not in valid:
            raise InputError(f"{source}.{name}: unknown key{nearest(name, valid)}")
        usual = parameters[name].default
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(usual) in (int, float) and not number:
            raise InputError(f"{source}.{name}: must be a number such as {usual!r}, not {value!r}")
        if type(usual) in (bool, str) and type(value) is not type(usual):
            kind = "true or false" if isinstance(usual, bool) else f"a text such as {usual!r}"
            raise InputError(f"{source}.{name}: must be {kind}, not {value!r}")
