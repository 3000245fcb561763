"""MAFQL, Multi-Agent Flow-based Q-Learning, as an RLlib plugin.

Touching `MAFQL` or `MAFQLConfig` imports Ray and registers the algorithm ("MAFQL") and the environment
("grid2op_zones") with Ray Tune. Importing `rllib_mafql.losses`, `.networks` or `.deploy` does not import Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_mafql.algorithm import MAFQL
    from rllib_mafql.config import MAFQLConfig

__version__ = "0.1.0"
__all__ = ["MAFQL", "MAFQLConfig", "register"]


def register() -> None:
    """Registers "MAFQL", what it is compared with and "grid2op_zones" with Ray Tune. Safe to call more than once."""
    from ray import tune

    from rllib_mafql.algorithm import MAFQL
    from rllib_mafql.baselines.independent import IndependentFQL
    from rllib_mafql.baselines.mappo import MAPPO
    from rllib_mafql.baselines.policies import DiffusionQL, GaussianQL

    algorithms: tuple[type, ...] = (MAFQL, GaussianQL, DiffusionQL, IndependentFQL, MAPPO)
    for algorithm in algorithms:
        tune.register_trainable(algorithm.__name__, algorithm)
    tune.register_env("grid2op_zones", _make_env)


def _make_env(config: Any) -> Any:
    from grid2op_zones import ZonedGridEnv

    return ZonedGridEnv(config)


def __getattr__(name: str) -> Any:
    if name in ("MAFQL", "MAFQLConfig"):
        module = "algorithm" if name == "MAFQL" else "config"
        value = getattr(importlib.import_module(f"rllib_mafql.{module}"), name)
        register()
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
