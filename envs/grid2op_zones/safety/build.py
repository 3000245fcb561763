"""Builds the zones' projections from a grid: what a zone has to know of its own units and of the rest of the grid."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from grid2op_zones.action import ActionMap
from grid2op_zones.limits import RAMP_SHARE, StorageLimits
from grid2op_zones.measurement import Elements
from grid2op_zones.ptdf import line_susceptance
from grid2op_zones.safety.devices import UnitData
from grid2op_zones.safety.lines import LineData, Movers
from grid2op_zones.zones import Zone

#: Ids of what a zone measures, by kind, own elements first; see `ZoneObserver.elements`.
Seen = dict[str, np.ndarray]


def elements_of(seen: Seen, grid: Any) -> Elements:
    """Names of what a zone measures."""
    orders = (grid.name_line, grid.name_gen, grid.name_load, grid.name_storage)
    kinds = ("line", "generator", "load", "storage")
    return Elements(*(tuple(str(order[k]) for k in seen[kind]) for kind, order in zip(kinds, orders, strict=True)))


def unit_data(grid: Any, zone: Zone, action_map: ActionMap, actions: Collection[str], seen: Seen) -> UnitData:
    """A zone's units; `seen` are the ids of what it measures."""
    red, cur, sto = _units(zone, actions)
    limits = action_map.storage_limits
    return UnitData(
        names=tuple(action_map.names[zone.name]) if len(red) + len(cur) + len(sto) else (),
        redispatchable=_among(seen["generator"], red),
        curtailable=_among(seen["generator"], cur),
        storages=_among(seen["storage"], sto),
        pmin=action_map.pmin[red],
        pmax=action_map.pmax[red],
        ramp_up=action_map.ramp_up[red],
        ramp_down=action_map.ramp_down[red],
        curtail_pmax=action_map.pmax[cur],
        storage_limits=StorageLimits(*(values[sto] for values in limits)),
        curtail_step=action_map.curtail_step,
        balanced=_balanced(zone, action_map, actions),
    )


def line_data(
    grid: Any, zones: Sequence[Zone], zone: Zone, action_map: ActionMap, actions: Collection[str], loads: np.ndarray
) -> LineData:
    """What a zone knows of the grid; `loads` (n_load,) MW are the loads' references."""
    cls = type(grid)
    compensation = np.zeros(cls.n_sub)
    ramps = np.maximum(action_map.ramp_up, action_map.ramp_down)
    # Grid2Op makes up for what is not balanced with all redispatchable generators, by their ramps
    both = action_map.ramp_up + action_map.ramp_down
    np.add.at(compensation, cls.gen_to_subid, both * cls.gen_redispatchable)
    compensation /= max(compensation.sum(), 1e-9)
    red, cur = cls.gen_redispatchable, cls.gen_renewable
    return LineData(
        lines=zone.lines,
        substations=_substations(cls, _units(zone, actions)),
        susceptance=line_susceptance(grid),
        start=np.asarray(cls.line_or_to_subid, dtype=np.int64),
        end=np.asarray(cls.line_ex_to_subid, dtype=np.int64),
        n_sub=int(cls.n_sub),
        others=tuple(_reach(cls, one, action_map, actions) for one in zones if one is not zone),
        loads=Movers(cls.load_to_subid.astype(np.int64), np.abs(loads.astype(float))),
        renewables=Movers(cls.gen_to_subid[cur].astype(np.int64), action_map.pmax[cur]),
        schedules=Movers(cls.gen_to_subid[red].astype(np.int64), ramps[red]),
        compensation=compensation,
        balanced=_balanced(zone, action_map, actions),
    )


def _balanced(zone: Zone, action_map: ActionMap, actions: Collection[str]) -> bool:
    """Whether the zone balances itself, for which it needs units to redispatch."""
    return action_map.balance == "zone" and len(_units(zone, actions)[0]) > 0


def _units(zone: Zone, actions: Collection[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    none = np.zeros(0, dtype=np.int64)
    return (
        zone.redispatchable if "redispatch" in actions else none,
        zone.curtailable if "curtail" in actions else none,
        zone.storages if "storage" in actions else none,
    )


def _substations(cls: Any, units: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    red, cur, sto = units
    at = (cls.gen_to_subid[red], cls.gen_to_subid[cur], cls.storage_to_subid[sto])
    return np.concatenate(at).astype(np.int64)


def _reach(cls: Any, zone: Zone, action_map: ActionMap, actions: Collection[str]) -> Movers:
    """What another zone's units can change in a step."""
    units = red, cur, sto = _units(zone, actions)
    most = [
        RAMP_SHARE * np.maximum(action_map.ramp_up[red], action_map.ramp_down[red]),
        action_map.curtail_step * action_map.pmax[cur],
        action_map.max_absorb[sto] + action_map.max_produce[sto],
    ]
    return Movers(_substations(cls, units), np.concatenate(most), _balanced(zone, action_map, actions))


def _among(seen: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Positions of `ids` in `seen`."""
    order = np.argsort(seen)
    return order[np.searchsorted(seen, ids, sorter=order)]
