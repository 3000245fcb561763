"""Builds the Grid2Op simulator that an environment runs on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import grid2op
import numpy as np
from grid2op.Action import PlayableAction
from grid2op.Chronics import ChangeNothing, MultifolderWithCache
from grid2op.Exceptions import Grid2OpException
from grid2op.MakeEnv.Make import TEST_DEV_ENVS
from grid2op.Opponent import BaseOpponent
from grid2op.Reward import ConstantReward
from lightsim2grid import LightSimBackend

from grid2op_zones.download import downloaded_folder
from grid2op_zones.redispatch import DirectRedispatchSolver
from grid2op_zones.scenarios import WEEK_SUFFIX, Scenarios, held_out_series
from grid2op_zones.series_folder import check_series, check_values, damage, holds_weeks

logger = logging.getLogger(__name__)

#: More series than this take long to read and much memory.
LARGE = 32

#: Rows of the first series from which references are taken: a day of 5-minute steps.
REFERENCE_ROWS = 288

#: Grid2Op's switches of its opponent when there is to be none.
NO_OPPONENT: dict[str, Any] = {
    "opponent_class": BaseOpponent,
    "opponent_init_budget": 0.0,
    "opponent_budget_per_ts": 0.0,
    "opponent_attack_duration": 0,
    "opponent_attack_cooldown": 99999,
    "kwargs_opponent": {},
}


def make_simulator(config: Mapping[str, Any]) -> Any:
    """The Grid2Op environment for a full, checked ``env_config``: LightSimBackend, no forecasts, series in memory.

    Generated weeks that the cache lacks are generated first; a few of them are in memory at a time.

    Differences from the grid as Grid2Op ships it: curtailment and storage that cannot be balanced are limited instead
    of ending the episode, units may be dispatched at any time (no minimum up and down times, as in the L2RPN
    competitions), thermal limits are scaled, and there is no opponent unless asked for. The solver of the redispatch is
    Grid2Op's own unless the direct one is asked for.

    Raises:
        ValueError: The grid is unknown (the nearest name is given), the folder of series is none or has a file that is
            missing, damaged or another grid's, the full data set cannot be had, or weeks cannot be generated or read.
    """
    source, path = config["scenarios"]["source"], config["scenarios"]["path"]
    if source == "downloaded":
        check_series(
            downloaded_folder(config["grid"]) / "chronics", element_names(config["grid"]), "env_config.scenarios.source"
        )
    else:
        check_grid(config["grid"])
    kwargs: dict[str, Any] = {} if config["opponent"] else dict(NO_OPPONENT)
    if config["redispatch_solver"] == "direct":
        kwargs["redispatch_solver"] = DirectRedispatchSolver
    if path is not None and not (Path(path).is_dir() or (source == "generated" and not Path(path).exists())):
        raise ValueError(f"env_config.scenarios.path: {path!r} is no folder")
    weeks = _weeks_to_play(config)
    if weeks is not None:
        kwargs.update(weeks)
    else:
        kwargs["chronics_class"] = MultifolderWithCache
        if source == "folder":
            check_series(path, element_names(config["grid"]))
            kwargs["chronics_path"] = path
    simulator = make_grid(config["grid"], kwargs, test=source != "downloaded" and config["grid"] in TEST_DEV_ENVS)
    parameters = simulator.parameters
    parameters.LIMIT_INFEASIBLE_CURTAILMENT_STORAGE_ACTION = True
    parameters.IGNORE_MIN_UP_DOWN_TIME = True
    parameters.ALLOW_DISPATCH_GEN_SWITCH_OFF = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.change_parameters(parameters)
        simulator.deactivate_forecast()
        if weeks is None:
            _cache_series(simulator, config["scenarios"]["weeks"], checked=source in ("folder", "downloaded"))
        simulator.reset()
        simulator.set_thermal_limit(simulator.get_thermal_limit() * np.float32(config["thermal_limit_scale"]))
    return simulator


def make_scenarios(simulator: Any, config: Mapping[str, Any]) -> Scenarios:
    """The episodes of the grid of ``simulator``, which was made from ``config``."""
    split, max_steps = config["scenarios"]["split"], config["max_steps"]
    if isinstance(simulator.chronics_handler.real_data, MultifolderWithCache):
        return Scenarios([data.load_p.shape[0] for data in _series(simulator)], split, max_steps)
    from grid2op_zones.generator.store import read_week
    from grid2op_zones.outages import OverloadingOutages

    share = config["scenarios"]["before_outages"]
    overloading = OverloadingOutages(simulator) if share else None
    rows, calm, outages = [], [], []
    fingerprint = simulator.chronics_handler.real_data.week.fingerprint
    for path in simulator.chronics_handler.real_data.subpaths:
        week = read_week(path)
        if week.fingerprint != fingerprint:
            raise ValueError(f"env_config.scenarios.path: {path}: a week of {week.grid!r}, whose elements differ")
        rows.append(len(week.load_p))
        calm.append(week.calm_rows())
        if overloading:
            outages.append(overloading.further(week))
    return Scenarios(rows, split, max_steps, calm, outages, share)


def series_played(simulator: Any) -> str:
    """Name of the series that ``simulator`` plays: its folder's, or its file's without the ending."""
    return Path(simulator.chronics_handler.get_id()).name.removesuffix(WEEK_SUFFIX)


@dataclass(frozen=True)
class References:
    """What scales observations and costs. Fixed by the grid's own first series, whatever series are played."""

    loads: np.ndarray  #: mean of each load over the first day, MW, (n_load,)
    maintainable: np.ndarray  #: lines that the series may take out for maintenance, boolean (n_line,)


def grid_references(simulator: Any, config: Mapping[str, Any]) -> References:
    """The references of the grid of ``simulator``, which was made from ``config``."""
    scenarios = config["scenarios"]
    if scenarios["source"] == "bundled" and scenarios["weeks"] is None:
        return _references(simulator)
    own_series = {**scenarios, "source": "bundled", "path": None, "weeks": 1}
    grid = make_simulator({**config, "scenarios": own_series})
    try:
        return _references(grid)
    finally:
        grid.close()


def _references(simulator: Any) -> References:
    data = _series(simulator)[0]
    names = set(getattr(data, "line_to_maintenance", None) or ())
    if getattr(data, "maintenance", None) is not None:
        names |= set(type(simulator).name_line[np.asarray(data.maintenance).any(axis=0)])
    return References(
        loads=np.asarray(data.load_p[:REFERENCE_ROWS], dtype=float).mean(axis=0),
        maintainable=np.isin(type(simulator).name_line, sorted(names)),
    )


def check_grid(grid: str, where: str = "env_config.grid") -> None:
    """Raise ValueError, which begins with ``where`` and names the nearest grid, unless Grid2Op has ``grid`` here."""
    bundled = sorted(TEST_DEV_ENVS)
    if grid in bundled or Path(grid).is_dir():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        downloaded = list(grid2op.list_available_local_env())
    if grid not in downloaded:
        near = get_close_matches(grid, bundled + downloaded, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{where}: unknown grid {grid!r}; the nearest is {near!r}. Known here: "
            f"{', '.join(bundled + downloaded)}, or the folder of a Grid2Op environment "
            "(others must first be downloaded with Grid2Op)"
        )


def _weeks_to_play(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What Grid2Op needs to play generated weeks, filling the cache where ``source`` is "generated"; None for series.

    Weeks that are given as ``folder`` are split as any series of which whole ones are held out.
    """
    scenarios = config["scenarios"]
    folder = scenarios["path"]
    if scenarios["source"] != "generated" and not (scenarios["source"] == "folder" and holds_weeks(folder)):
        return None
    # only here, as the generator needs this module too
    from grid2op_zones.generator.cache import filled_folder
    from grid2op_zones.generator.chronics import GeneratedWeeks
    from grid2op_zones.generator.store import list_weeks

    if scenarios["source"] == "generated":
        return {"chronics_class": GeneratedWeeks, "chronics_path": str(filled_folder(config))}
    chosen = chosen_series(len(list_weeks(folder)), scenarios["weeks"])
    if scenarios["split"] != "all":
        if len(chosen) == 1:
            raise ValueError(
                f"env_config.scenarios.split: {folder} has one week to play, which cannot be split; say split 'all'"
            )
        test = set(held_out_series(len(chosen)))
        chosen = [week for k, week in enumerate(chosen) if (k in test) == (scenarios["split"] == "test")]
    return {"chronics_class": GeneratedWeeks, "chronics_path": str(folder), "data_feeding_kwargs": {"weeks": chosen}}


def element_names(grid: str) -> dict[str, dict[str, str]]:
    """For ``loads`` and ``prods`` of ``grid``, column of a series -> element."""
    simulator = make_grid(grid, {"chronics_class": ChangeNothing, **NO_OPPONENT}, test=grid in TEST_DEV_ENVS)
    try:
        elements = {"loads": type(simulator).name_load, "prods": type(simulator).name_gen}
        given = simulator._names_chronics_to_backend or {}
        return {
            kind: dict(given.get(kind) or {str(name): str(name) for name in names}) for kind, names in elements.items()
        }
    finally:
        simulator.close()


def make_grid(grid: str, kwargs: dict[str, Any], test: bool) -> Any:
    """Grid2Op's environment of a grid, on LightSimBackend; ValueError if Grid2Op cannot make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return grid2op.make(
                grid,
                test=test,
                backend=LightSimBackend(),
                action_class=PlayableAction,
                reward_class=ConstantReward,
                other_rewards={},
                **kwargs,
            )
        except Grid2OpException as error:
            raise ValueError(f"env_config.grid: Grid2Op cannot make {grid!r}: {error}") from error


def chosen_series(count: int, weeks: int | list[int] | None) -> list[int]:
    """Which of ``count`` series to play; a number of them is spread over all."""
    if weeks is None:
        return list(range(count))
    wanted = max(weeks) + 1 if isinstance(weeks, list) else weeks
    if wanted > count:
        raise ValueError(f"env_config.scenarios.weeks: {weeks!r} goes beyond the {count} series there are")
    return weeks if isinstance(weeks, list) else [k * count // weeks for k in range(weeks)]


def _cache_series(simulator: Any, weeks: int | list[int] | None, checked: bool) -> None:
    """Read the chosen series into memory; ``checked`` says which file is wrong where that fails."""
    chronics = simulator.chronics_handler.real_data
    paths = [str(chronics.subpaths[k]) for k in chosen_series(len(chronics.subpaths), weeks)]
    if len(paths) > LARGE:
        logger.warning(
            "%d series are read into memory, up to 10 seconds and 5 MB each in every environment; "
            "env_config.scenarios.weeks takes fewer, spread over all of them",
            len(paths),
        )
    chronics.set_filter(lambda path: str(path) in paths)  # without a filter only the first series is kept
    try:
        chronics.reset()
    except Exception as error:  # whatever reading a file raises
        reason = damage(chronics.path) if checked else ""
        raise ValueError(
            f"env_config.scenarios: {reason or f'cannot read the series in {chronics.path}: {error}'}"
        ) from error
    if checked:
        check_values(chronics.path, _series(simulator), [str(chronics.subpaths[k]) for k in chronics._order])


def _series(simulator: Any) -> list[Any]:
    chronics = simulator.chronics_handler.real_data
    return [chronics._cached_data[k] for k in chronics._order]
