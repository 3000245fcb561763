"""Zones of a power grid as agents: a multi-agent environment on Grid2Op for RLlib, usable with any of its algorithms.

``ZonedGridEnv`` and the zones import Ray and Grid2Op when first touched, the package itself does not. Importing it sets
``OPENBLAS_NUM_THREADS`` to 1 where it is not set: import it before SciPy for that to count.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from grid2op_zones.config import DEFAULT_ENV_CONFIG, check_env_config

# Grid2Op's redispatch is a small problem in SciPy: on busy cores, threads make it 10 to 50 times slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
