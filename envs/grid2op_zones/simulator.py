"""Builds the Grid2Op simulator that an environment runs on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import grid2op
import numpy as np
from grid2op.Action import PlayableAction
from grid2op.Chronics import MultifolderWithCache
from grid2op.Exceptions import Grid2OpException
from grid2op.MakeEnv.Make import TEST_DEV_ENVS
from grid2op.Opponent import BaseOpponent
from grid2op.Reward import ConstantReward
from lightsim2grid import LightSimBackend

from grid2op_zones.scenarios import Scenarios

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
    competitions), thermal limits are scaled, and there is no opponent unless asked for.

    Raises:
        ValueError: The grid is unknown (the nearest name is given), the folder of series is none, or the weeks cannot
            be generated or read.
    """
    check_grid(config["grid"])
    kwargs: dict[str, Any] = {} if config["opponent"] else dict(NO_OPPONENT)
    kwargs["chronics_class"] = MultifolderWithCache
    generated = config["scenarios"]["source"] == "generated"
    path = config["scenarios"]["path"]
    if path is not None and not (Path(path).is_dir() or (generated and not Path(path).exists())):
        raise ValueError(f"env_config.scenarios.path: {path!r} is no folder")
    if generated:
        # only here, as the generator needs this module too
        from grid2op_zones.generator.cache import filled_folder
        from grid2op_zones.generator.chronics import GeneratedWeeks

        kwargs.update(chronics_class=GeneratedWeeks, chronics_path=str(filled_folder(config)))
    elif path is not None:
        kwargs["chronics_path"] = path
    simulator = _make(config["grid"], kwargs)
    parameters = simulator.parameters
    parameters.LIMIT_INFEASIBLE_CURTAILMENT_STORAGE_ACTION = True
    parameters.IGNORE_MIN_UP_DOWN_TIME = True
    parameters.ALLOW_DISPATCH_GEN_SWITCH_OFF = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.change_parameters(parameters)
        simulator.deactivate_forecast()
        if not generated:
            _cache_series(simulator, config["scenarios"]["weeks"])
        simulator.reset()
        simulator.set_thermal_limit(simulator.get_thermal_limit() * np.float32(config["thermal_limit_scale"]))
    return simulator


def make_scenarios(simulator: Any, config: Mapping[str, Any]) -> Scenarios:
    """The episodes of the grid of ``simulator``, which was made from ``config``."""
    split, max_steps = config["scenarios"]["split"], config["max_steps"]
    if config["scenarios"]["source"] != "generated":
        return Scenarios([data.load_p.shape[0] for data in _series(simulator)], split, max_steps)
    from grid2op_zones.generator.store import read_week

    weeks = (read_week(path) for path in simulator.chronics_handler.real_data.subpaths)
    rows, calm = zip(*((len(week.load_p), week.calm_rows()) for week in weeks), strict=True)
    return Scenarios(rows, split, max_steps, calm)


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


def _make(grid: str, kwargs: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return grid2op.make(
                grid,
                test=grid in TEST_DEV_ENVS,
                backend=LightSimBackend(),
                action_class=PlayableAction,
                reward_class=ConstantReward,
                other_rewards={},
                **kwargs,
            )
        except Grid2OpException as error:
            raise ValueError(f"env_config.grid: Grid2Op cannot make {grid!r}: {error}") from error


def _cache_series(simulator: Any, weeks: int | list[int] | None) -> None:
    chronics = simulator.chronics_handler.real_data
    count = len(chronics.subpaths)
    chosen = range(count) if weeks is None else range(weeks) if isinstance(weeks, int) else weeks
    if max(chosen) >= count:
        raise ValueError(f"env_config.scenarios.weeks: {weeks!r} goes beyond the {count} series there are")
    paths = {str(chronics.subpaths[k]) for k in chosen}
    chronics.set_filter(lambda path: str(path) in paths)  # without a filter only the first series is kept
    chronics.reset()


def _series(simulator: Any) -> list[Any]:
    chronics = simulator.chronics_handler.real_data
    return [chronics._cached_data[k] for k in chronics._order]
