"""Folders of series: what they hold, and what is wrong with one before anything is played from it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.scenarios import WEEK_SUFFIX

#: Files that every series needs, and whose names their columns bear.
REQUIRED = {"load_p": "loads", "load_q": "loads", "prod_p": "prods"}

#: Endings that Grid2Op reads, in its order, and what opens them.
_ENDINGS = (".csv", ".csv.bz2", ".zip", ".csv.gzip", ".csv.xz")

#: What reading a damaged file raises.
_UNREADABLE = (OSError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile, IndexError)

_WHERE = "env_config.scenarios.path"


def holds_weeks(folder: str | Path) -> bool:
    """Whether ``folder`` is one of generated weeks, which are files, and not of Grid2Op's series, which are folders."""
    return any(not path.name.startswith(".") for path in Path(folder).glob(f"*{WEEK_SUFFIX}"))


def series_folders(folder: str | Path, where: str = _WHERE) -> list[Path]:
    """The series of a folder, by name, as Grid2Op lists them.

    Raises:
        ValueError: There are none, or ``folder`` is itself a series; begins with ``where``.
    """
    folder = Path(folder)
    if any(_file(folder, name) for name in REQUIRED):
        raise ValueError(f"{where}: {folder} is itself a series; give the folder that it lies in, {folder.parent}")
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    if not found:
        raise ValueError(
            f"{where}: no series in {folder}: it needs one folder for each, with {_needed()} in it, or generated weeks "
            f"(*{WEEK_SUFFIX})"
        )
    return found


def check_series(folder: str | Path, names: Mapping[str, Mapping[str, str]], where: str = _WHERE) -> None:
    """Check the files of every series and their columns, reading only the first line of each.

    Args:
        folder: Has one folder for each series.
        names: For ``loads`` and ``prods``, column of the series -> element of the grid.
        where: What the message begins with.

    Raises:
        ValueError: A series is empty, lacks a file, has one that cannot be read or columns that are not the grid's; the
            file and what to do are named.
    """
    for series in series_folders(folder, where):
        missing = [name for name in REQUIRED if _file(series, name) is None]
        if missing:
            state = "is empty" if not any(series.iterdir()) else f"lacks {', '.join(f'{n}.csv.bz2' for n in missing)}"
            raise ValueError(
                f"{where}: the series {series} {state}; every series needs {_needed()}: complete or remove it"
            )
        for name, kind in REQUIRED.items():
            path = _file(series, name)
            assert path is not None  # checked above
            _check_columns(path, names[kind], where)


def damage(folder: str | Path) -> str:
    """Which file of the required ones cannot be read to its end, and why; "" if all can. Reads everything."""
    for series in series_folders(folder):
        for name in REQUIRED:
            path = _file(series, name)
            if path is None:
                return f"{series} lacks {name}"
            try:
                with _open(path) as file:
                    columns = len(file.readline().split(";"))
                    table = np.genfromtxt(file, delimiter=";")
            except _UNREADABLE as error:
                return _unreadable(path, error)
            if table.ndim != 2 or table.shape[1] != columns or not np.isfinite(table).all():
                return f"{path} holds something that is no number, or rows of different lengths; replace it"
    return ""


def check_values(folder: str | Path, series: Sequence[Any], paths: Sequence[str], where: str = _WHERE) -> None:
    """Check what Grid2Op has read.

    Args:
        folder: The folder of series.
        series: Grid2Op's series in memory.
        paths: The folder of each.
        where: What the message begins with.

    Raises:
        ValueError: A power is missing, or files of one series differ in length.
    """
    for data, path in zip(series, paths, strict=True):
        rows = {name: len(getattr(data, name)) for name in REQUIRED}
        if len(set(rows.values())) > 1:
            raise ValueError(
                f"{where}: the files of {path} have different numbers of rows: {rows}; complete or remove it"
            )
        for name in REQUIRED:
            bad = np.flatnonzero(~np.isfinite(getattr(data, name)).all(axis=1))
            if bad.size:
                raise ValueError(
                    f"{where}: {_file(Path(path), name)} has no number in row {bad[0]} (rows from 0, the header not "
                    f"counted); replace it or remove the series from {folder}"
                )


def _check_columns(path: Path, names: Mapping[str, str], where: str) -> None:
    try:
        with _open(path) as file:
            columns = file.readline().strip().split(";")
    except _UNREADABLE as error:
        raise ValueError(f"{where}: {_unreadable(path, error)}") from error
    unknown, missing = sorted(set(columns) - set(names)), sorted(set(names) - set(columns))
    if unknown or missing:
        told = [f"{len(columns)} columns where the grid has {len(names)} elements"]
        if missing:
            told.append(f"lacks {', '.join(missing[:3])}" + (" and others" if len(missing) > 3 else ""))
        if unknown:
            near = get_close_matches(unknown[0], names, n=1, cutoff=0.0)[0]
            told.append(f"has {unknown[0]!r}, which is no element of the grid (the nearest is {near!r})")
        raise ValueError(f"{where}: {path}: {'; '.join(told)}. Give series of this grid, or the grid of these series")


def _unreadable(path: Path, error: BaseException) -> str:
    return f"{path} cannot be read ({error or type(error).__name__}); copy or download it again, or remove its series"


def _file(series: Path, name: str) -> Path | None:
    found = (series / f"{name}{ending}" for ending in _ENDINGS)
    return next((path for path in found if path.is_file()), None)


def _open(path: Path) -> Any:
    if path.suffix == ".zip":
        archive = zipfile.ZipFile(path)
        return io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8")
    openers: dict[str, Any] = {".bz2": bz2.open, ".gzip": gzip.open, ".xz": lzma.open}
    return openers.get(path.suffix, open)(path, "rt", encoding="utf-8")


def _needed() -> str:
    return ", ".join(f"{name}.csv.bz2" for name in REQUIRED) + " (or .csv)"
