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
    home = Path(__file__).parent
    if (home / grid).is_dir():
        return home / grid
    have = ", ".join(sorted(path.name for path in home.iterdir() if (path / "export.json").is_file()))
    raise ValueError(f"{PRETRAINED}: no export for grid {grid!r} ships with this package, only for {have}")
