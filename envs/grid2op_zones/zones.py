"""Partitions of a power grid into zones, one zone per agent.

Where the zones come from, in this order: the caller's own map; the control areas that the grid's rules declare
(Grid2Op's ``RulesByArea``, the three areas of RTE on the 118-bus grids); a fixed table for the 14-bus grids; otherwise
a partition by electrical distance, which works for any grid.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from grid2op.Rules import RulesByArea
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

logger = logging.getLogger(__name__)

#: Grids that share the substations of l2rpn_idf_2023, hence its three control areas.
OFFICIAL_118_GRIDS = ("l2rpn_idf_2023", "l2rpn_wcci_2022_dev", "l2rpn_wcci_2022", "rte_case118_example")

#: Zones of the IEEE 14-bus grids: neighbours by electrical distance. The third has no redispatchable unit.
CASE14_ZONES = ((0, 1, 4), (2, 3, 6, 7, 8), (5, 9, 10, 11, 12, 13))
CASE14_GRIDS = ("l2rpn_case14_sandbox", "educ_case14_storage", "educ_case14_redisp", "rte_case14_redisp")

#: Iterations after which the clustering stops even if its centres still move.
MAX_CLUSTER_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Zone:
    """One zone: its substations and what is connected to them.

    Every array holds sorted int64 indices into Grid2Op's own vectors (``obs.rho[zone.lines]``,
    ``obs.gen_p[zone.generators]``).
    """

    name: str
    substations: np.ndarray
    lines: np.ndarray  #: lines with at least one end in the zone
    ties: np.ndarray  #: the lines with exactly one end in the zone; they belong to two zones
    redispatchable: np.ndarray  #: generators that accept redispatching
    curtailable: np.ndarray  #: renewable generators, which accept curtailment
    generators: np.ndarray
    loads: np.ndarray
    storages: np.ndarray

    @property
    def controllable(self) -> bool:
        """Whether the zone has any unit that an agent can act on."""
        return bool(self.redispatchable.size + self.curtailable.size + self.storages.size)


def make_zones(grid: Any, spec: Sequence[Sequence[int | str]] | int | None = None, count: int = 3) -> list[Zone]:
    """Partition the substations of ``grid`` into zones.

    Args:
        grid: A Grid2Op environment.
        spec: One list of substation ids or names per zone, which together must be a partition of the grid; or an int,
            the number of zones to make by electrical distance; or None for the grid's own areas (see the module's
            text).
        count: Number of zones where ``spec`` is None and the grid has no areas of its own.

    Returns:
        The zones, named ``zone_0``, ``zone_1``, ... in the order of ``spec`` or of the areas.

    Raises:
        ValueError: A substation is missing, repeated or unknown, a zone is empty, or the count does not fit the grid.
    """
    cls = type(grid)
    if spec is None:
        parts = _own_areas(grid) or electrical_partition(grid, count)
    elif isinstance(spec, (int, np.integer)) and not isinstance(spec, bool):
        parts = electrical_partition(grid, int(spec))
    else:
        parts = check_partition(spec, [str(name) for name in cls.name_sub])
    zones = [_zone(f"zone_{k}", np.array(sorted(part), dtype=np.int64), cls) for k, part in enumerate(parts)]
    for zone in zones:
        if not zone.controllable:
            logger.warning(
                "%s (%d substations) has no controllable unit: its action has no effect",
                zone.name,
                len(zone.substations),
            )
    return zones


def grid_name(grid: Any) -> str:
    """Name of the grid's environment, e.g. ``l2rpn_idf_2023``, without what Grid2Op appends to it."""
    # Grid2Op appends the backend's class and, for renamed copies, "_test"
    return str(grid.name).split("LightSimBackend")[0].removesuffix("_test")


def electrical_partition(grid: Any, count: int) -> list[list[int]]:
    """Cut the grid into ``count`` connected zones by electrical distance (the sum of reactances on the shortest path).

    Deterministic k-medoids: centres are added one by one where they shorten the total distance most (the BUILD step of
    PAM, Kaufman and Rousseeuw 1990), each substation joins the nearest one, each centre moves to the substation with
    the smallest total distance to its zone, until nothing moves. Zones are connected because cells of a shortest-path
    metric are. They come sorted by their lowest substation.

    Raises:
        ValueError: ``count`` is below 1 or above the number of substations.
    """
    cls = type(grid)
    if not 1 <= count <= cls.n_sub:
        raise ValueError(f"zones: {count} zones asked of {cls.n_sub} substations; the count must be in 1..{cls.n_sub}")
    distance = electrical_distance(grid)
    centres = [int(np.argmin(distance.sum(axis=0)))]
    while len(centres) < count:
        gain = np.maximum(distance[centres].min(axis=0) - distance, 0.0).sum(axis=1)
        gain[centres] = -1.0
        centres.append(int(np.argmax(gain)))
    owner = np.argmin(distance[centres], axis=0)
    for _ in range(MAX_CLUSTER_ITERATIONS):
        moved = [_medoid(distance, np.flatnonzero(owner == k)) for k in range(count)]
        if moved == centres:
            break
        centres = moved
        owner = np.argmin(distance[centres], axis=0)
    return sorted((np.flatnonzero(owner == k).tolist() for k in range(count)), key=min)


def electrical_distance(grid: Any) -> np.ndarray:
    """Shortest-path reactance between substations, per unit, shape (n_sub, n_sub)."""
    cls = type(grid)
    reactance = np.maximum(np.abs(line_reactance(grid)), 1e-6)
    origin, extremity = cls.line_or_to_subid, cls.line_ex_to_subid
    # parallel lines: admittances add up, so the graph's edge is the reactance of the bundle
    admittance = coo_matrix((1.0 / reactance, (origin, extremity)), shape=(cls.n_sub, cls.n_sub)).tocsr()
    admittance = admittance + admittance.T
    admittance.data = 1.0 / admittance.data
    return dijkstra(admittance, directed=False)


def line_reactance(grid: Any) -> np.ndarray:
    """Series reactance of every line and transformer, per unit, in Grid2Op's line order, shape (n_line,).

    Raises:
        ValueError: The grid does not run on LightSimBackend, the one backend that shows its reactances.
    """
    model: Any = getattr(grid.backend, "_grid", None)
    if not hasattr(model, "get_trafos"):
        raise ValueError(f"grid: reactances need LightSimBackend, this grid runs on {type(grid.backend).__name__}")
    # LightSimBackend lists powerlines first, transformers next
    return np.array([branch.x_pu for table in (model.get_lines(), model.get_trafos()) for branch in table])


def _own_areas(grid: Any) -> list[list[int]] | None:
    rules = grid._game_rules.legal_action
    if isinstance(rules, RulesByArea):
        return [list(map(int, subs)) for subs in rules.substations_id_by_area.values()]
    name = grid_name(grid)
    if name in OFFICIAL_118_GRIDS and type(grid).n_sub == 118:
        from grid2op.data.l2rpn_idf_2023.config import this_rules

        return [list(map(int, subs)) for subs in this_rules.substations_id_by_area.values()]
    if name in CASE14_GRIDS and type(grid).n_sub == 14:
        return [list(subs) for subs in CASE14_ZONES]
    return None


def check_partition(spec: Any, names: list[str]) -> list[list[int]]:
    """The ids of each zone's substations; ValueError unless ``spec`` is a partition of those called ``names``."""
    if isinstance(spec, (str, bytes)) or not isinstance(spec, Sequence):
        raise ValueError(f"zones: expected None, a number of zones or a list of lists of substations, found {spec!r}")
    parts = [[_substation(sub, k, names) for sub in _as_list(part, k)] for k, part in enumerate(spec)]
    for k, part in enumerate(parts):
        if not part:
            raise ValueError(f"zones[{k}] is empty: every zone needs at least one substation")
    seen = np.bincount(np.array([sub for part in parts for sub in part], dtype=np.int64), minlength=len(names))
    problems = [f"{names[i]} (id {i}) is in no zone" for i in np.flatnonzero(seen == 0)]
    problems += [f"{names[i]} (id {i}) stands {seen[i]} times" for i in np.flatnonzero(seen > 1)]
    if problems:
        raise ValueError(
            f"zones: each of the {len(names)} substations must be in exactly one zone; {'; '.join(problems)}"
        )
    return parts


def _as_list(part: Any, k: int) -> list[Any]:
    if isinstance(part, (str, bytes)) or not isinstance(part, (Sequence, np.ndarray)):
        raise ValueError(f"zones[{k}]: expected a list of substation ids or names, found {part!r}")
    return list(part)


def _substation(sub: Any, k: int, names: list[str]) -> int:
    if isinstance(sub, str):
        if sub not in names:
            near = get_close_matches(sub, names, n=1, cutoff=0.0)
            raise ValueError(f"zones[{k}]: unknown substation {sub!r}; the nearest name is {near[0]!r}")
        return names.index(sub)
    if isinstance(sub, bool) or not isinstance(sub, (int, np.integer)) or not 0 <= sub < len(names):
        raise ValueError(f"zones[{k}]: {sub!r} is no substation; ids run from 0 to {len(names) - 1}")
    return int(sub)


def _medoid(distance: np.ndarray, members: np.ndarray) -> int:
    return int(members[np.argmin(distance[np.ix_(members, members)].sum(axis=0))])


def _zone(name: str, subs: np.ndarray, cls: Any) -> Zone:
    def inside(to_substation: np.ndarray) -> np.ndarray:
        return np.isin(to_substation, subs)

    ends = inside(cls.line_or_to_subid).astype(int) + inside(cls.line_ex_to_subid)
    gens = inside(cls.gen_to_subid)
    return Zone(
        name=name,
        substations=subs,
        lines=np.flatnonzero(ends > 0),
        ties=np.flatnonzero(ends == 1),
        redispatchable=np.flatnonzero(gens & cls.gen_redispatchable),
        curtailable=np.flatnonzero(gens & cls.gen_renewable),
        generators=np.flatnonzero(gens),
        loads=np.flatnonzero(inside(cls.load_to_subid)),
        storages=np.flatnonzero(inside(cls.storage_to_subid)),
    )
