"""Damaged checkpoints, made from a whole one: every file of it missing, empty, cut off, changed or replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rllib_mafql.checkpoint_format import DECLARED, FILE

MARKER = "rllib_checkpoint.json"


def _missing(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(bytes(content))


def _replaced(file: Path) -> None:
    file.write_bytes(b"<html>404: not found</html>")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": _missing,
    "empty": _empty,
    "cut off": _cut,
    "changed": _changed,
    "replaced": _replaced,
}


def files_of(checkpoint: Path) -> list[str]:
    """The files of a checkpoint, by path within it."""
    return sorted(str(file.relative_to(checkpoint)) for file in checkpoint.rglob("*") if file.is_file())


def damaged(checkpoint: Path, folder: Path, kinds: tuple[str, ...] = tuple(DAMAGES)) -> Iterator[tuple[str, str, Path]]:
    """Copies of a checkpoint, each with one file damaged: (kind, file, copy). Only one copy exists at a time."""
    for file in files_of(checkpoint):
        for kind in kinds:
            copy = folder / "copy"
            shutil.copytree(checkpoint, copy)
            DAMAGES[kind](copy / file)
            yield kind, file, copy
            shutil.rmtree(copy)


def of_before(checkpoint: Path, folder: Path) -> Path:
    """A copy as checkpoints were before they told their format."""
    shutil.copytree(checkpoint, folder)
    (folder / FILE).unlink()
    marker = json.loads((folder / MARKER).read_text())
    del marker[DECLARED]
    (folder / MARKER).write_text(json.dumps(marker))
    return folder


def rewritten(checkpoint: Path, folder: Path, **changes: object) -> Path:
    """A copy whose `rllib_mafql.json` says something else."""
    shutil.copytree(checkpoint, folder)
    content = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(content | changes))
    return folder
