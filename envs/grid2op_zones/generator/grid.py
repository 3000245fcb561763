"""What the generator knows of a grid: a model of each part, read from the files that ship with Grid2Op."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.generator.dispatch import DispatchModel, make_dispatch_model
from grid2op_zones.generator.loads import LoadModel, make_load_model
from grid2op_zones.generator.maintenance import MaintenancePlan, read_plan
from grid2op_zones.generator.powerflow import PowerFlow
from grid2op_zones.generator.recorded import Series, open_grid, read_series
from grid2op_zones.generator.renewables import RenewableModel, make_renewable_model

#: Longer side of the map on which distances are measured, in the units of the parameters' correlation lengths.
MAP_SIDE = 1000.0


@dataclass(frozen=True, eq=False)
class GridModel:
    """All that ``generate`` needs of a grid."""

    name: str
    load_names: tuple[str, ...]
    gen_names: tuple[str, ...]
    line_names: tuple[str, ...]
    kinds: tuple[str, ...]  #: of the generators: nuclear, thermal, hydro, wind, solar
    loads: LoadModel
    renewables: RenewableModel
    dispatch: DispatchModel
    power_flow: PowerFlow
    maintenance: MaintenancePlan
    prod_v: np.ndarray | None  #: (n_gen,) kV, None where the grid file's own set points hold
    recorded: Sequence[Series] = field(repr=False)  #: the grid's own series

    @property
    def fingerprint(self) -> str:
        """Tells whether series fit a grid: a digest of the names of its loads, generators and lines."""
        return grid_fingerprint(self.load_names, self.gen_names, self.line_names)


def grid_fingerprint(loads: Sequence[str], generators: Sequence[str], lines: Sequence[str]) -> str:
    """Digest of the names of a grid's elements, in their order."""
    return sha256(json.dumps([list(map(str, names)) for names in (loads, generators, lines)]).encode()).hexdigest()[:16]


def read_grid(name: str) -> GridModel:
    """The model of the Grid2Op grid ``name``, one that ships with Grid2Op or was downloaded; takes a few seconds.

    Used where the grid has them: loads_charac.csv, params_load.json, params_res.json, params_opf.json and
    maintenance_meta.json. What is missing comes from the grid's own series and the 118-bus grids' parameters.

    Raises:
        ValueError: A file contradicts the grid.
    """
    env = open_grid(name)
    try:
        recorded = read_series(env)
        folder = Path(env.get_path_env())
        grid = type(env)
        places = _places(env)
        return GridModel(
            name=name,
            load_names=tuple(map(str, grid.name_load)),
            gen_names=tuple(map(str, grid.name_gen)),
            line_names=tuple(map(str, grid.name_line)),
            kinds=tuple(map(str, grid.gen_type)),
            loads=make_load_model(
                env, places[grid.load_to_subid], recorded, _peaks(folder), _json(folder / "params_load.json") or {}
            ),
            renewables=make_renewable_model(
                env, places[grid.gen_to_subid], recorded, _json(folder / "params_res.json")
            ),
            dispatch=make_dispatch_model(env, recorded, _json(folder / "params_opf.json") or {}),
            power_flow=PowerFlow(env),
            maintenance=read_plan(env),
            prod_v=recorded[0].prod_v,
            recorded=recorded,
        )
    finally:
        env.close()


def _places(env: Any) -> np.ndarray:
    """Substations on the map, (n_sub, 2), the longer side being MAP_SIDE."""
    if env.grid_layout is None:
        raise ValueError(f"{env.name}: grid_layout.json is missing, and with it the distances between substations")
    places = np.array([env.grid_layout[name] for name in type(env).name_sub], dtype=float)
    return (places - places.min(axis=0)) * MAP_SIDE / np.ptp(places, axis=0).max()


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _peaks(folder: Path) -> dict[str, float] | None:
    path = folder / "loads_charac.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: float(row["Pmax"]) for row in csv.DictReader(file)}
