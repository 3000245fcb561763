"""Zones of a power grid as agents: a multi-agent environment on Grid2Op for RLlib, usable with any of its algorithms.

``ZonedGridEnv`` and the zones import Ray and Grid2Op when first touched, the package itself does not.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from grid2op_zones.config import DEFAULT_ENV_CONFIG, check_env_config

if TYPE_CHECKING:
    from grid2op_zones.env import ZonedGridEnv
    from grid2op_zones.zones import Zone, make_zones

__all__ = ["DEFAULT_ENV_CONFIG", "Zone", "ZonedGridEnv", "check_env_config", "make_zones"]

_HOMES = {"ZonedGridEnv": "env", "Zone": "zones", "make_zones": "zones"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with warnings.catch_warnings():
            # Grid2Op's import recommends Numba for a backend that is not used here
            warnings.filterwarnings("ignore", message="Numba cannot be loaded")
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
