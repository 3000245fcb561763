"""A grid's full data set: the copy in Grid2Op's folder of data, downloaded where there is none."""

from __future__ import annotations

import fcntl
import logging
import warnings
from difflib import get_close_matches
from pathlib import Path

import grid2op
import requests
from grid2op.Exceptions import Grid2OpException

logger = logging.getLogger(__name__)

#: What Grid2Op itself asks for its data sets. Grid2Op tries ten times; here one answer decides.
CATALOGUE = "https://raw.githubusercontent.com/Grid2Op/grid2op-datasets/HEAD/datasets.json"

#: Seconds to wait for the catalogue.
PATIENCE = 5.0


def downloaded_folder(grid: str) -> Path:
    """The folder of the full data set of ``grid``, downloaded now if Grid2Op's folder of data lacks it.

    Of processes that start at the same time one downloads, and the others wait.

    Raises:
        ValueError: ``grid`` is a folder, there is no such data set, or it is not here and cannot be had.
    """
    folder = downloadable(grid)
    data = folder.parent
    if not folder.is_dir():
        data.mkdir(parents=True, exist_ok=True)
        with (data / f".{grid}.lock").open("ab") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _download(grid, folder)
    return folder


def downloadable(grid: str) -> Path:
    """Where the full data set of ``grid`` is, or will be once it is downloaded. Raises as ``downloaded_folder``."""
    if Path(grid).is_dir():
        raise ValueError(
            f"env_config.scenarios.source: 'downloaded' needs a grid by name, env_config.grid is the folder {grid!r}; "
            "use 'bundled', which plays the folder's own series"
        )
    data = Path(grid2op.get_current_local_dir())
    if not (data / grid).is_dir():
        _check_catalogue(grid, data)
    return data / grid


def _check_catalogue(grid: str, data: Path) -> None:
    instead = (
        "use scenarios.source 'generated' (weeks made here) or 'bundled' (what ships with Grid2Op), or 'folder' with "
        "the path of series that were brought here"
    )
    try:
        answer = requests.get(CATALOGUE, timeout=PATIENCE)
        answer.raise_for_status()
        known = sorted(answer.json())
    except (requests.RequestException, ValueError) as error:
        raise ValueError(
            f"env_config.scenarios.source: the full data set of {grid!r} is not in {data}, and {CATALOGUE} cannot be "
            f"reached ({type(error).__name__}); {instead}"
        ) from error
    if grid not in known:
        near = get_close_matches(grid, known, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise ValueError(f"env_config.scenarios.source: Grid2Op has no data set {grid!r} to download{hint}; {instead}")


def _download(grid: str, folder: Path) -> None:
    logger.warning("downloading the full data set of %s into %s, up to several GB", grid, folder.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grid2op.make(grid, test=False).close()
    except (Grid2OpException, OSError) as error:
        raise ValueError(
            f"env_config.scenarios.source: downloading {grid!r} into {folder.parent} failed ({error}); remove {folder} "
            "if it is there, and try again, or use scenarios.source 'generated'"
        ) from error
