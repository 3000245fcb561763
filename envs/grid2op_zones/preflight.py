"""What can be checked of a configuration against its grid without playing: cheaper than building the environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import grid2op
from grid2op.Chronics import ChangeNothing
from grid2op.MakeEnv.Make import TEST_DEV_ENVS

from grid2op_zones.config import check_env_config
from grid2op_zones.dispatch import POLICIES
from grid2op_zones.download import downloadable
from grid2op_zones.generator.week import WEEK
from grid2op_zones.series_folder import check_series, holds_weeks, series_folders
from grid2op_zones.simulator import NO_OPPONENT, check_grid, chosen_series, element_names, make_grid
from grid2op_zones.zones import CASE14_GRIDS, OFFICIAL_118_GRIDS, check_partition

#: Grids whose own areas, or whose table, make three zones.
THREE_ZONES = (*OFFICIAL_118_GRIDS, *CASE14_GRIDS)


def check_on_grid(config: Mapping[str, Any] | None, *, folders: bool = True) -> dict[str, Any]:
    """Checks a configuration, its grid, zones and series, as far as that takes about a second.

    Args:
        config: ``env_config``.
        folders: Whether what it names on disk must be here; not so where the environment runs on other machines.

    Returns:
        The full configuration.

    Raises:
        ValueError: Any key, value, grid, zone map, folder or number of series that is wrong, named.
    """
    full = check_env_config(config)
    grid, zones, scenarios = full["grid"], full["zones"], full["scenarios"]
    source = scenarios["source"]
    if not folders and grid not in TEST_DEV_ENVS:
        return full
    if source == "downloaded" and folders:
        downloadable(grid)
    elif source != "downloaded":
        check_grid(grid)
        if grid not in TEST_DEV_ENVS or zones is not None:
            _check_zones(grid, zones)
    _check_length(full)
    if folders:
        _check_series(full)
    return full


def zone_names(full: Mapping[str, Any]) -> list[str] | None:
    """Names of the zones that a full configuration makes; None where only building it would tell."""
    zones = full["zones"]
    if zones is None:
        count = 3 if full["grid"] in THREE_ZONES else None
    else:
        count = zones if isinstance(zones, int) else len(zones)
    return None if count is None else [f"zone_{k}" for k in range(count)]


def check_behaviors(names: Any, where: str) -> None:
    """Raises ValueError, which begins with ``where``, unless all ``names`` are dispatchers of this environment."""
    from difflib import get_close_matches

    for name in names:
        if name not in POLICIES:
            near = get_close_matches(str(name).lower(), POLICIES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"{where}: there is no dispatcher {name!r}; the nearest is {near!r}. Known are {', '.join(POLICIES)}"
            )


def _check_zones(grid: str, zones: Any) -> None:
    substations = _substations(grid)
    if isinstance(zones, int):
        if zones > len(substations):
            raise ValueError(
                f"env_config.zones: {zones} zones asked of {len(substations)} substations; "
                f"the count must be in 1..{len(substations)}"
            )
    elif zones is not None:
        try:
            check_partition(zones, list(substations))
        except ValueError as error:
            raise ValueError(f"env_config.{error}") from None


@lru_cache(maxsize=8)
def _substations(grid: str) -> tuple[str, ...]:
    simulator = make_grid(grid, {"chronics_class": ChangeNothing, **NO_OPPONENT}, test=grid in TEST_DEV_ENVS)
    try:
        return tuple(str(name) for name in type(simulator).name_sub)
    finally:
        simulator.close()


def _check_length(full: Mapping[str, Any]) -> None:
    if full["scenarios"]["source"] == "generated" and full["max_steps"] >= WEEK:
        raise ValueError(
            f"env_config.max_steps: a generated week has {WEEK} rows, so an episode has fewer steps than that, "
            f"not {full['max_steps']}"
        )


def _check_series(full: Mapping[str, Any]) -> None:
    scenarios, grid = full["scenarios"], full["grid"]
    source, path, weeks = scenarios["source"], scenarios["path"], scenarios["weeks"]
    if path is not None and not (Path(path).is_dir() or (source == "generated" and not Path(path).exists())):
        raise ValueError(f"env_config.scenarios.path: {path!r} is no folder")
    if source == "folder" and not holds_weeks(path):
        check_series(path, element_names(grid))
        chosen_series(len(series_folders(path)), weeks)
    elif source == "bundled":
        folder = _grid_folder(grid) / "chronics"
        if folder.is_dir():
            chosen_series(sum(one.is_dir() for one in folder.iterdir()), weeks)


def _grid_folder(grid: str) -> Path:
    if Path(grid).is_dir() and grid not in TEST_DEV_ENVS:
        return Path(grid)
    if grid in TEST_DEV_ENVS:
        return Path(grid2op.__file__).parent / "data" / grid
    return Path(grid2op.get_current_local_dir()) / grid
