"""Exports that ship with this package, one folder a grid, written by `mafql export`."""

from __future__ import annotations

from pathlib import Path

#: The word for them where agents are named.
PRETRAINED = "pretrained"


def pretrained_export(grid: str) -> Path:
    """Folder of the export for a grid.

    Raises:
        ValueError: There is none for this grid; those that there are, are named.
    """
    exports = {path.parent.name: path.parent for path in Path(__file__).parent.glob("*/export.json")}
    if grid not in exports:
        have = ", ".join(sorted(exports))
        raise ValueError(f"{PRETRAINED}: no export for grid {grid!r} ships with this package, only for {have}")
    return exports[grid]
