"""Search spaces: how YAML writes them, and the values at their ends."""

import inspect
from collections.abc import Iterator
from typing import Any

from rllib_mafql.cli.errors import InputError, nearest, summary

#: Functions of `ray.tune` that a mapping with one key may name: `{loguniform: [1e-4, 1e-2]}`.
DISTRIBUTIONS = (
    "uniform",
    "quniform",
    "loguniform",
    "qloguniform",
    "randn",
    "qrandn",
    "randint",
    "qrandint",
    "lograndint",
    "qlograndint",
)
EXPRESSIONS = ("grid_search", "choice", *DISTRIBUTIONS)

Path = tuple[str | int, ...]


def with_spaces(value: Any, source: str) -> Any:
    """`value` with search spaces as Tune takes them, from the way in which YAML writes them.

    A mapping whose only key is one of `EXPRESSIONS` stands for that function of `ray.tune`. `{grid_search: [...]}`
    stays as it is, since Tune reads that itself.

    Args:
        value: Settings, or a part of them.
        source: Where they stand, for messages.

    Raises:
        InputError: If a search space has wrong arguments.
    """
    if isinstance(value, list):
        return [with_spaces(item, f"{source}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    name = next(iter(value), None)
    if len(value) != 1 or name not in EXPRESSIONS:
        return {key: with_spaces(item, f"{source}.{key}") for key, item in value.items()}
    return _space(str(name), value[name], f"{source}.{name}")


def _space(name: str, arguments: Any, source: str) -> Any:
    from ray import tune

    if name in ("grid_search", "choice"):
        if not isinstance(arguments, list) or not arguments:
            raise InputError(f"{source}: must be a list of the values to try, not {arguments!r}")
        return tune.choice(arguments) if name == "choice" else {"grid_search": arguments}
    function = getattr(tune, name)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "base"]
    shape = ", ".join(p.name for p in parameters)
    if isinstance(arguments, dict):
        for key in arguments:
            if key not in (names := [p.name for p in parameters]):
                raise InputError(f"{source}.{key}: unknown key{nearest(key, names)}")
        given = dict(arguments)
    elif isinstance(arguments, list) and len(arguments) <= len(parameters):
        given = dict(zip((p.name for p in parameters), arguments, strict=False))
    else:
        raise InputError(f"{source}: must be [{shape}], not {arguments!r}")
    lacking = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if lacking:
        raise InputError(f"{source}: must be [{shape}], and {lacking[0]} is missing in {arguments!r}")
    whole = "int" in name
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise InputError(f"{source}: {key} must be a {'whole ' if whole else ''}number, not {value!r}")
    if "lower" in given and given["lower"] >= given["upper"]:
        raise InputError(f"{source}: lower must be less than upper, not {given['lower']} and {given['upper']}")
    try:
        return function(**given)
    except ValueError as error:
        raise InputError(f"{source}: {summary(error)}") from error


def is_space(value: Any) -> bool:
    """Whether `value` is a search space: one of Tune's domains or a grid."""
    from ray.tune.search.sample import Domain

    return isinstance(value, Domain) or (isinstance(value, dict) and set(value) == {"grid_search"})


def spaces(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Where in `value` (settings, nested ones too) search spaces stand."""
    if is_space(value):
        return {path: value}
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {}
    return {found: space for key, item in items for found, space in spaces(item, (*path, key)).items()}


def dotted(path: Path) -> str:
    """A path as people write it."""
    return ".".join(map(str, path))


def variants(config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Settings without search spaces that show whether the values in them can be used.

    Every point of the grids, with the rest drawn at random; then each value of a choice and both ends of a range, one
    at a time.

    Yields:
        The settings, and what makes them special, such as "lr = 0.1"; empty for points of grids.
    """
    from ray.tune.search.variant_generator import generate_variants

    for _, spec in generate_variants({"config": config}):
        yield spec["config"], ""
    for path, space in spaces(config).items():
        for value in _ends(space):
            settings = _replaced(config, path, value)
            _, spec = next(iter(generate_variants({"config": settings})))
            yield spec["config"], f"{dotted(path)} = {value!r}"


def overlaid(config: dict[str, Any], mutations: dict[str, Any]) -> dict[str, Any]:
    """Settings with the spaces and lists of `mutations` in their places, as search spaces."""
    from ray import tune

    config = dict(config)
    for key, space in mutations.items():
        if isinstance(space, dict):
            config[key] = overlaid(config.get(key, {}), space)
        else:
            config[key] = tune.choice(list(space)) if isinstance(space, list | tuple) else space
    return config


def _ends(space: Any) -> list[Any]:
    from ray.tune.search.sample import Categorical, Float, Integer, Quantized

    if isinstance(space, Categorical):
        return list(space.categories)
    if isinstance(space, Integer):
        above = isinstance(space.get_sampler(), Quantized)  # which makes the upper bound a value, too
        return [space.lower, space.upper if above else space.upper - 1]
    if isinstance(space, Float) and space.lower > float("-inf"):
        return [space.lower, space.upper]
    return []


def _replaced(value: Any, path: Path, new: Any) -> Any:
    """`value` with `new` at `path`; what is not on the way there is shared."""
    if not path:
        return new
    copied: Any = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copied
