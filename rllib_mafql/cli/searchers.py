"""Search algorithms: Tune's own random and grid search, and its adapters of other packages."""

import importlib.util
from typing import Any

from rllib_mafql.cli.arguments import checked_arguments, named
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.space import dotted, spaces

RANDOM = ("random", "variant_generator")
#: Tune's adapters: the module that they need, and the package that it is in.
PACKAGES = {
    "ax": ("ax", "ax-platform"),
    "bayesopt": ("bayes_opt", "bayesian-optimization==1.4.3"),
    "hebo": ("hebo", "HEBO"),
    "hyperopt": ("hyperopt", "hyperopt"),
    "nevergrad": ("nevergrad", "nevergrad"),
    "optuna": ("optuna", "optuna"),
    "zoopt": ("zoopt", "zoopt"),
}


def searcher_type(spec: Any, source: str) -> str:
    """The name in `spec`; random search for None. Raises InputError if there is no such search algorithm."""
    return RANDOM[0] if spec is None else named(spec, (*RANDOM, *PACKAGES), source)[0]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def make_searcher(spec: Any, config: dict[str, Any], max_concurrent: int | None, source: str) -> Any:
    """The search algorithm for `tune.run`, one that tells whether it has finished.

    Args:
        spec: `{type: NAME, ...}` with arguments of Tune's class, a name, or None for random search.
        config: The settings, with search spaces.
        max_concurrent: How many trials run at a time; None: as many as there is room for.
        source: Where `spec` stands, for messages.

    Raises:
        InputError: On an unknown search algorithm or argument, one whose package is missing, or a search space that it
            cannot search.
    """
    from ray.tune.search import SEARCH_ALG_IMPORT, BasicVariantGenerator, ConcurrencyLimiter, SearchGenerator

    name, arguments = named(spec or RANDOM[0], (*RANDOM, *PACKAGES), source)
    arguments = {key: value for key, value in arguments.items() if key not in ("metric", "mode")}
    if name in RANDOM:
        checked_arguments(BasicVariantGenerator, arguments, source, without=("max_concurrent",))
        return BasicVariantGenerator(max_concurrent=max_concurrent or 0, **arguments)
    grids = [dotted(path) for path, space in spaces(config).items() if isinstance(space, dict)]
    if grids:
        raise InputError(
            f"{source}: {name} takes no grid_search (config.{grids[0]}); write choice, or search with type: random"
        )
    if not spaces(config):
        raise InputError(f"{source}: config has no search space such as {{loguniform: [1e-4, 1e-2]}}")
    module, package = PACKAGES[name]
    if not _is_installed(module):
        raise InputError(f"{source}: {name} needs a package that is not installed: pip install '{package}'")
    try:
        algorithm = SEARCH_ALG_IMPORT[name]()
        checked_arguments(algorithm, arguments, source, without=("metric", "mode", "space"))
        searcher = algorithm(**arguments)
    except (AssertionError, ImportError, TypeError, ValueError) as error:
        raise InputError(f"{source}: {summary(error)}") from error
    if max_concurrent:
        searcher = ConcurrencyLimiter(searcher, max_concurrent=max_concurrent)
    return SearchGenerator(searcher)
