"""What a dispatcher watches and moves: the lines and units of an area, and what was measured of them in one step.

Every unit is counted by its injection: +1 MW is a generator dispatched up, a renewable's curtailment eased, or a
storage that charges less.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from grid2op_zones.action import ActionMap, Setpoints
from grid2op_zones.zones import Zone

#: Dispatch, curtailment or storage power up to this (MW) counts as none.
IN_USE_MW = 0.05

#: Ids of an area's redispatchable, curtailable and storage units.
Units = tuple[np.ndarray, np.ndarray, np.ndarray]


class Snapshot:
    """One step's measurements of the whole grid, in Grid2Op's order of elements.

    Limits are computed when first asked for.

    Args:
        grid_obs: A Grid2Op observation.
        action_map: The environment's, which knows the units' limits.
        ptdf: (n_line, n_sub), see `LinearFlow.ptdf`.

    Attributes:
        loading: (n_line,) current over thermal limit.
        dispatch: (n_gen,) MW that redispatching adds to the schedule at present.
        scheduled: (n_gen,) MW produced, less what the slack adds for the losses.
        available: (n_gen,) MW that renewables could produce.
        curtailed: (n_gen,) MW that curtailment takes at present.
        storage: (n_storage,) MW, positive charges.
    """

    def __init__(self, grid_obs: Any, action_map: ActionMap, ptdf: np.ndarray) -> None:
        self.observation = grid_obs
        self.action_map = action_map
        self.ptdf = ptdf
        self.loading = grid_obs.rho
        self.dispatch = grid_obs.actual_dispatch.astype(float)
        self.scheduled = grid_obs.gen_p - grid_obs.gen_p_delta.astype(float)
        self.available = grid_obs.gen_p_before_curtail.astype(float)
        taken = np.maximum(self.available - self.scheduled, 0.0)
        self.curtailed = np.where(grid_obs.curtailment_limit < 1.0, taken, 0.0)
        self.storage = grid_obs.storage_power.astype(float)

    @cached_property
    def capacity(self) -> np.ndarray:
        """Thermal limit as apparent power at the present voltage, sqrt(3) V I, MVA, (n_line,); > 0 for any line."""
        voltage = np.maximum(self.observation.v_or, 1.0).astype(float)
        return np.sqrt(3.0) * voltage * self.observation.thermal_limit * 1e-3

    def active_limit(self, loading: float) -> np.ndarray:
        """Active power at which lines come to a loading with the reactive power that they carry, MW, (n_line,).

        A line full of reactive power alone is left a little, so that its limit stays one.
        """
        reactive = self.observation.q_or.astype(float)
        return np.sqrt(np.maximum((loading * self.capacity) ** 2 - reactive**2, (0.05 * self.capacity) ** 2))

    @cached_property
    def generator_room(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of dispatch in this step, MW, each (n_gen,), as `ActionMap.feasible` will allow."""
        return self.action_map.ramp_box(self.scheduled, self.dispatch)

    @cached_property
    def curtailment_room(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of a renewable's injection in this step, MW, each (n_gen,)."""
        step = self.action_map.curtail_step * self.action_map.pmax
        return -np.minimum(np.maximum(self.scheduled, 0.0), step), np.minimum(self.curtailed, step)

    @cached_property
    def storage_room(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of a storage's injection in this step, MW, each (n_storage,)."""
        least, most = self.action_map.storage_box(self.observation)
        return self.storage - most, self.storage - least


@dataclass(frozen=True, eq=False)
class Area:
    """Lines and units of one dispatcher. Units come in the order redispatchable, curtailable, storages; n in all.

    Attributes:
        lines: Ids of the lines to watch.
        redispatchable, curtailable, storages: Ids of the units to move.
        substations: (n,) ids of the units' substations.
        balanced: (k, n) of 0 and 1: the members of each group whose dispatch makes up for its curtailment and charging.
        compensation: (n_sub,) shares that sum to 1: where the grid makes up for units that are in no group; or zeros.
        prices: (r,) of each redispatchable unit's energy, over the whole grid's mean; ones where the grid has none.
    """

    name: str
    lines: np.ndarray
    redispatchable: np.ndarray
    curtailable: np.ndarray
    storages: np.ndarray
    substations: np.ndarray
    balanced: np.ndarray
    compensation: np.ndarray
    prices: np.ndarray

    @property
    def size(self) -> int:
        """Number of units, n."""
        return len(self.substations)

    def effects(self, ptdf: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """MW on each of `lines` per MW injected by each unit, compensation included, (len(lines), n)."""
        rows = ptdf[lines]
        effects = rows[:, self.substations]
        if self.compensation.any():
            ungrouped = 1.0 - self.balanced.sum(axis=0)
            effects = effects - np.outer(rows @ self.compensation, ungrouped)
        return effects

    def room(self, snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of the units' injections in this step, MW, each (n,)."""
        kinds = (
            (snapshot.generator_room, self.redispatchable),
            (snapshot.curtailment_room, self.curtailable),
            (snapshot.storage_room, self.storages),
        )
        low, high = (np.concatenate([room[k][ids] for room, ids in kinds]) for k in (0, 1))
        return np.minimum(low, high), high

    def displaced(self, snapshot: Snapshot) -> np.ndarray:
        """Injection that dispatch, curtailment and storage add to the units' schedules at present, MW, (n,)."""
        return np.concatenate(
            [
                snapshot.dispatch[self.redispatchable],
                -snapshot.curtailed[self.curtailable],
                -snapshot.storage[self.storages],
            ]
        )

    def write(self, setpoints: Setpoints, snapshot: Snapshot, change: np.ndarray) -> None:
        """Put changes of the units' injections, MW, (n,), into `setpoints`, in place. Zeros hold what there is."""
        first = len(self.redispatchable)
        last = first + len(self.curtailable)
        setpoints.redispatch[self.redispatchable] = change[:first]
        taken = snapshot.curtailed[self.curtailable] - change[first:last]
        pmax = np.maximum(snapshot.action_map.pmax[self.curtailable], 1e-6)
        cap = np.clip((snapshot.available[self.curtailable] - taken) / pmax, 0.0, 1.0)
        setpoints.curtail[self.curtailable] = np.where(taken > IN_USE_MW, cap, 1.0)
        setpoints.storage[self.storages] = snapshot.storage[self.storages] - change[last:]


def make_areas(
    simulator: Any, zones: Sequence[Zone], balance: str, actions: Collection[str], *, central: bool
) -> list[Area]:
    """One area per zone, or one for the whole grid.

    Args:
        simulator: A Grid2Op environment.
        zones: Its partition.
        balance: `ActionMap.balance`. With "zone" every zone balances itself even under a central dispatcher, because
            the environment makes it so; with "grid" a zone's own dispatcher leaves the balance to the environment.
        actions: Which of "redispatch", "curtail" and "storage" may be used.
        central: One area for the whole grid.
    """
    none = np.zeros(0, dtype=np.int64)
    owned: list[Units] = [
        (
            zone.redispatchable if "redispatch" in actions else none,
            zone.curtailable if "curtail" in actions else none,
            zone.storages if "storage" in actions else none,
        )
        for zone in zones
    ]
    # a group without a unit to redispatch cannot balance itself
    groups: list[np.ndarray]
    if not central:
        areas = []
        for zone, units in zip(zones, owned, strict=True):
            groups = [np.ones(sum(map(len, units)))] if balance == "zone" and len(units[0]) else []
            areas.append(_area(simulator, zone.name, zone.lines, units, groups))
        return areas
    red, cur, sto = (np.concatenate([units[k] for units in owned]) for k in range(3))
    owner = np.concatenate([np.full(len(units[k]), z) for k in range(3) for z, units in enumerate(owned)])
    groups = [owner == z for z, units in enumerate(owned) if len(units[0])]
    if balance == "grid" and groups:
        groups = [np.ones(len(owner))]
    return [_area(simulator, "grid", np.arange(type(simulator).n_line), (red, cur, sto), groups)]


def _area(simulator: Any, name: str, lines: np.ndarray, units: Units, groups: Sequence[np.ndarray]) -> Area:
    cls = type(simulator)
    at = (cls.gen_to_subid[units[0]], cls.gen_to_subid[units[1]], cls.storage_to_subid[units[2]])
    substations = np.concatenate(at).astype(np.int64)
    balanced = np.array(groups, dtype=float).reshape(len(groups), len(substations))
    shares = np.zeros(cls.n_sub)
    if (balanced.sum(axis=0) == 0.0).any():
        # Grid2Op spreads what is not balanced over all redispatchable generators, by their ramps
        np.add.at(shares, cls.gen_to_subid, (cls.gen_max_ramp_up + cls.gen_max_ramp_down) * cls.gen_redispatchable)
        shares /= max(shares.sum(), 1e-9)
    prices = cls.gen_cost_per_MW.astype(float)
    mean = prices[cls.gen_redispatchable].mean()
    prices = prices[units[0]] / mean if mean > 0.0 else np.ones(len(units[0]))
    return Area(name, lines, *units, substations=substations, balanced=balanced, compensation=shares, prices=prices)
