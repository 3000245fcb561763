"""Folders of generated weeks that environments share: filled once, by as many processes as start at the same time."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from grid2op_zones.config import GENERATED_WEEKS
from grid2op_zones.generator.grid import GridModel, read_grid
from grid2op_zones.generator.splits import split_weeks
from grid2op_zones.generator.store import FORMAT, week_name, write_weeks
from grid2op_zones.scenarios import WEEK_SUFFIX

logger = logging.getLogger(__name__)

#: File whose bytes processes lock, one byte for each week, so that no week is generated twice.
_LOCK = ".lock"


def default_cache() -> Path:
    """The user's cache folder, one for each format of the files."""
    base = os.environ.get("XDG_CACHE_HOME")
    # the XDG specification has paths that are not absolute ignored
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return home / "grid2op_zones" / f"weeks-{FORMAT}"


def cache_folder(grid: str, split: str, weeks: int, seed: int, cache: str | Path | None = None) -> Path:
    """Where the weeks of a grid, split, number and seed lie below ``cache`` (None: the user's cache folder)."""
    place = Path(grid)
    name = grid
    if place.is_dir():
        # grids in different folders may have the same name
        name = f"{place.resolve().name}-{sha256(str(place.resolve()).encode()).hexdigest()[:8]}"
    return (default_cache() if cache is None else Path(cache)) / name / f"{split}-{weeks}-{seed}"


def fill(grid: str, split: str, weeks: int, seed: int, cache: str | Path | None = None) -> Iterator[tuple[Path, float]]:
    """Generate what the folder of a split lacks; yields each week's file and the processor seconds that it took to
    generate, 0 if it was there or came from another process.

    Processes that fill one folder at the same time share the weeks among them. Weeks that others have begun are waited
    for at the end, and generated here where the other process was stopped.

    Args:
        grid: A grid that ``read_grid`` reads; a folder is taken as its full path.
        split: ``train``, ``test``, or ``all`` for three train weeks to each test week.
        weeks: At least 1.
        seed: At least 0.
        cache: As in ``cache_folder``.

    Raises:
        ValueError: An argument is out of its range, or the grid lacks what the generator needs.
        WeekFileError: A file of the folder cannot be read or belongs to another grid.
        OSError: The folder cannot be written.
    """
    wanted = split_weeks(split, weeks, seed)
    folder = cache_folder(grid, split, weeks, seed, cache)
    paths = [folder / week_name(day, number) for day, number in wanted]
    missing = [k for k, path in enumerate(paths) if not path.exists()]
    for k in sorted(set(range(weeks)) - set(missing)):
        yield paths[k], 0.0
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    model: GridModel | None = None
    with (folder / _LOCK).open("ab") as lock:
        others: list[int] = []
        for wait, turn in ((False, missing), (True, others)):
            for k in turn:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, k)
                except BlockingIOError:
                    others.append(k)
                    continue
                try:
                    seconds = 0.0
                    if not paths[k].exists():
                        # reading the grid takes seconds, which another process may have made unnecessary
                        model = model or read_grid(str(Path(grid).resolve()) if Path(grid).is_dir() else grid)
                        started = time.process_time()
                        list(write_weeks(model, [wanted[k]], folder))
                        seconds = time.process_time() - started
                finally:
                    fcntl.lockf(lock, fcntl.LOCK_UN, 1, k)
                yield paths[k], seconds


def filled_folder(config: Mapping[str, Any]) -> Path:
    """The folder of weeks for a full, checked ``env_config`` whose source is ``generated``, filled. Raises as ``fill``.

    Raises:
        ValueError: Also where the folder holds weeks that are not among those of the split.
    """
    scenarios = config["scenarios"]
    weeks = scenarios["weeks"] or GENERATED_WEEKS
    place = (config["grid"], scenarios["split"], weeks, scenarios["seed"], scenarios["path"])
    folder = cache_folder(*place)
    present = len(list(folder.glob(f"[!.]*{WEEK_SUFFIX}")))
    if present < weeks:
        logger.warning(
            "generating %d %s weeks of %s into %s, up to 10 seconds each", weeks - present, place[1], place[0], folder
        )
    elif present > weeks:
        raise ValueError(f"env_config.scenarios: {folder} holds {present} weeks instead of {weeks}; delete it")
    try:
        for _ in fill(*place):
            pass
    except OSError as error:
        raise ValueError(
            f"env_config.scenarios.path: cannot write generated weeks to {folder} ({error}); choose another folder"
        ) from error
    return folder
