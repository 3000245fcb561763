"""Weeks on disk: one file each, a few hundred kilobytes, read in a few milliseconds.

A file is an uncompressed zip archive of NumPy arrays (``numpy.load`` opens it): ``meta`` (JSON: format, grid,
fingerprint, date, seed, shapes), ``load_p`` and ``prod_p`` (zstd bytes of 16-bit differences between rows, element by
element, in units of RESOLUTION MW, all low bytes before all high bytes), ``q_ratio``, ``prod_v`` (empty for none),
``outages`` and ``loading``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from grid2op_zones.generator.grid import GridModel
from grid2op_zones.generator.week import RESOLUTION, Week, generate
from grid2op_zones.scenarios import WEEK_SUFFIX

#: Version of the files' layout and of the generator: series of different versions differ.
FORMAT = 2

_CODEC = pa.Codec("zstd", compression_level=9)


#: What reading a file that is cut short, damaged or foreign raises.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, pa.ArrowException)


class WeekFileError(ValueError):
    """A file is no readable week; the message names it and says what to do."""


def week_name(day: date, seed: int) -> str:
    """File name of a week; names sort by date, then by seed."""
    return f"{day.isoformat()}_{seed:010d}{WEEK_SUFFIX}"


def write_week(folder: str | Path, week: Week) -> Path:
    """Write ``week`` into ``folder`` and return its file, which appears whole or not at all.

    The same week gives the same bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        "format": FORMAT,
        "grid": week.grid,
        "fingerprint": week.fingerprint,
        "date": week.date.isoformat(),
        "seed": week.seed,
        "resolution_mw": RESOLUTION,
        "load_shape": week.load_p.shape,
        "prod_shape": week.prod_p.shape,
    }
    path = folder / week_name(week.date, week.seed)
    # the process id keeps two writers of one week apart
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            np.savez(
                file,
                meta=np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8),
                load_p=_pack(week.load_p),
                prod_p=_pack(week.prod_p),
                q_ratio=week.q_ratio.astype("<f4"),
                prod_v=np.zeros(0, "<f4") if week.prod_v is None else week.prod_v.astype("<f4"),
                outages=week.outages.astype("<i4"),
                loading=week.loading.astype("<f4"),
            )
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def read_week(path: str | Path) -> Week:
    """The week in a file.

    Raises:
        WeekFileError: The file is missing, cut short, no week, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
            if meta["format"] != FORMAT:
                raise WeekFileError(
                    f"{path}: written in format {meta['format']}, this version reads {FORMAT}; generate it again"
                )
            prod_v = arrays["prod_v"]
            return Week(
                grid=meta["grid"],
                fingerprint=meta["fingerprint"],
                date=date.fromisoformat(meta["date"]),
                seed=int(meta["seed"]),
                load_p=_unpack(arrays["load_p"], meta["load_shape"], meta["resolution_mw"]),
                q_ratio=arrays["q_ratio"],
                prod_p=_unpack(arrays["prod_p"], meta["prod_shape"], meta["resolution_mw"]),
                prod_v=prod_v if prod_v.size else None,
                outages=arrays["outages"],
                loading=arrays["loading"],
            )
    except WeekFileError:
        raise
    except _UNREADABLE as error:
        raise WeekFileError(f"{path}: no readable week ({error}); delete it and generate it again") from error


def week_rows(path: str | Path) -> int:
    """Rows of the week in a file, without reading its series. Raises as ``read_week`` does."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return int(json.loads(arrays["meta"].tobytes())["load_shape"][0])
    except _UNREADABLE as error:
        raise WeekFileError(f"{path}: no readable week ({error}); delete it and generate it again") from error


def list_weeks(folder: str | Path) -> list[Path]:
    """The weeks of a folder, by date and seed; their places are Grid2Op's "time serie id".

    Raises:
        WeekFileError: The folder is missing or holds none.
    """
    paths = sorted(path for path in Path(folder).glob(f"*{WEEK_SUFFIX}") if not path.name.startswith("."))
    if not paths:
        raise WeekFileError(f"{folder}: no folder of generated weeks (no file *{WEEK_SUFFIX} in it)")
    return paths


def write_weeks(grid: GridModel, weeks: Iterable[tuple[date, int]], folder: str | Path) -> Iterator[tuple[Path, bool]]:
    """Generate the weeks that ``folder`` lacks; yields each file, in order, and whether it was generated now.

    A folder that was left half-way is completed. A file of this name that holds another grid, or none, is an error.

    Raises:
        WeekFileError: As above, naming the file.
    """
    for day, seed in weeks:
        path = Path(folder) / week_name(day, seed)
        if path.exists():
            found = read_week(path)
            if found.fingerprint != grid.fingerprint or found.grid != grid.name:
                raise WeekFileError(f"{path}: a week of {found.grid!r}, not of {grid.name!r}; choose another folder")
            yield path, False
        else:
            yield write_week(folder, generate(grid, day, seed)), True


def _pack(power: np.ndarray) -> np.ndarray:
    """(T, n) MW as zstd bytes; see the module's text."""
    units = np.rint(power.astype(np.float64) / RESOLUTION)
    if np.abs(units).max() > np.iinfo(np.int16).max:
        raise ValueError(f"a power of {np.abs(power).max():.0f} MW does not fit into 16 bits at {RESOLUTION} MW")
    # differences wrap around in 16 bits, and the sum on reading wraps back
    changes = np.diff(units.astype("<i2"), axis=0, prepend=np.zeros((1, power.shape[1]), "<i2"))
    planes = np.ascontiguousarray(changes.T).view(np.uint8).reshape(-1, 2).T
    return np.frombuffer(_CODEC.compress(np.ascontiguousarray(planes).tobytes()), dtype=np.uint8)


def _unpack(packed: np.ndarray, shape: tuple[int, int], resolution: float) -> np.ndarray:
    steps, n = shape
    raw = _CODEC.decompress(packed.tobytes(), decompressed_size=2 * steps * n)
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(2, -1)
    changes = np.ascontiguousarray(planes.T).view("<i2").reshape(n, steps)
    units = np.cumsum(changes, axis=1, dtype=np.int16)
    return (units.T * resolution).astype(np.float32)
