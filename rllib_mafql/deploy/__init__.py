"""Policies outside of training: exported to ONNX, and run zone by zone behind the safety projection.

Importing this package imports neither Ray, torch, Grid2Op nor ONNX; each name imports what it needs when it is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import grid2op_zones  # noqa: F401  # before NumPy, whose threads it fixes: their number shows in the last bits of inverses

if TYPE_CHECKING:
    from rllib_mafql.deploy.agent import MAFQLAgent
    from rllib_mafql.deploy.controller import Decision, ZoneController
    from rllib_mafql.deploy.export import export_checkpoint
    from rllib_mafql.deploy.session import Session

__all__ = ["Decision", "MAFQLAgent", "Session", "ZoneController", "export_checkpoint"]

# Name -> the module of this package that it lives in.
_HOMES = {
    "Decision": "controller",
    "MAFQLAgent": "agent",
    "Session": "session",
    "ZoneController": "controller",
    "export_checkpoint": "export",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"rllib_mafql.deploy.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
