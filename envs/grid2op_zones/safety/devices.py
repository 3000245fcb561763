"""A zone's units: from what its policy proposes to changes of injections in MW, what the units allow, and the way back.

Every unit is counted by the change of its injection against the measured state, as in `area.py`: +1 MW is a generator
dispatched up, a cap eased or a storage that charges less. Units come in the order redispatchable, curtailable,
storages; n in all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.action import NOT_CURTAILED, RETURN_SHARE, TARGET_TOLERANCE_MW, Plan
from grid2op_zones.limits import RAMP_SHARE, StorageLimits, clip, operating_range, project, ramp_box
from grid2op_zones.measurement import Measurement

#: Share of a unit's step that counts as nothing; float32 loses 1e-7.
SAME = 1e-6

_NONE = np.zeros(0)

#: Share of its step that counts as a step where a renewable is curtailed: its power is dearer than that of others.
CURTAILED = 0.5


class UnitData(NamedTuple):
    """What is fixed about a zone's units. Positions are those in the zone's measurements."""

    names: tuple[str, ...]  #: of the action's components
    redispatchable: np.ndarray  #: (n_r,) positions among the generators
    curtailable: np.ndarray  #: (n_c,) positions among the generators
    storages: np.ndarray  #: (n_s,) positions among the storages
    pmin: np.ndarray  #: (n_r,) MW
    pmax: np.ndarray  #: (n_r,) MW
    ramp_up: np.ndarray  #: (n_r,) MW a step
    ramp_down: np.ndarray  #: (n_r,) MW a step
    curtail_pmax: np.ndarray  #: (n_c,) MW
    storage_limits: StorageLimits  #: (n_s,) each
    curtail_step: float  #: largest change of a curtailed unit's output in a step, share of pmax
    balanced: bool  #: whether the zone's dispatch makes up for what it curtails and charges


class Room(NamedTuple):
    """What the units allow in one step, from what they do now."""

    low: np.ndarray  #: (n,) lowest change of each unit's injection, MW
    high: np.ndarray  #: (n,)
    total: float  #: what the changes of a balanced zone sum to, MW, as near as low and high let them; else NaN
    gap: float  #: MW that the balance lacks even so
    #: MW, least and most that the changes may sum to: `total` both. Of a zone that does not balance itself infinite,
    #: but where units that a step of schedule may take to their limits give back more dispatch than its other
    #: generators can make up for: then 0 at most, or at least, or as near to it as low and high let them
    sums: tuple[float, float]
    #: MW: (n_r,) dispatch; (n_c,) that renewables could inject, (n_c,) that they inject and (n_c,) that are curtailed;
    #: (n_s,) that storages charge
    now: np.ndarray

    def bound(self, change: np.ndarray, tolerance: float = 0.0) -> float | None:
        """What the nearest changes within `sums` sum to, MW, where changes (n,) do not yet; of a balance always."""
        least, most = self.sums
        total = float(change.sum())
        if least < most and least - tolerance <= total <= most + tolerance:
            return None
        return min(max(total, least), most)


class Settled(NamedTuple):
    """What becomes of a proposal."""

    action: np.ndarray  #: (m,) float32 in [-1, 1], that proposes what is done; as it was asked for, where that is done
    plan: Plan  #: set-points
    distance: float  #: Euclidean distance from what was proposed, in units of `ZoneUnits.scale`


class ZoneOrders(NamedTuple):
    """What a zone tells Grid2Op in one step, in the order of its units; see `grid2op_zones.action.Orders`."""

    redispatch: np.ndarray  #: (n_r,) float32, MW, change of the target of redispatching
    curtail: np.ndarray  #: (n_c,) float32, caps as ratios of pmax
    storage: np.ndarray  #: (n_s,) float32, MW, positive charges


class ZoneUnits:
    """The units of one zone.

    Attributes:
        data: What is fixed about them.
        size: n.
        action_size: m, the components of the zone's action: n, or 1 without effect where there is no unit.
        scale: (n,) MW that count as a distance of 1: the ramp, half of `curtail_step`, and the storage's power.
    """

    def __init__(self, data: UnitData) -> None:
        self.data = data
        n_r, n_c, n_s = len(data.redispatchable), len(data.curtailable), len(data.storages)
        self.size = n_r + n_c + n_s
        self.action_size = max(self.size, 1)
        self._red, self._cur, self._sto = slice(n_r), slice(n_r, n_r + n_c), slice(n_r + n_c, self.size)
        self._curtailed, self._power = slice(n_r + 2 * n_c, n_r + 3 * n_c), slice(n_r + 3 * n_c, None)
        self._floor, self._ceiling = operating_range(data.pmin, data.pmax, data.ramp_up, data.ramp_down)
        # beyond these the next step's schedule may take a unit to its limits, where its dispatch has to be gone
        self._last_floor = np.minimum(self._floor, data.pmin + data.ramp_down)
        self._last_ceiling = np.maximum(self._ceiling, data.pmax - data.ramp_up)
        self._up, self._down = RAMP_SHARE * data.ramp_up, RAMP_SHARE * data.ramp_down
        self._max_target = RAMP_SHARE * (data.pmax - data.pmin)
        step_mw = data.curtail_step * data.curtail_pmax
        inverse_pmax = 1.0 / np.maximum(data.curtail_pmax, 1e-6)
        limits = data.storage_limits
        power = 0.5 * (limits.absorb + limits.produce)
        scale = np.concatenate([0.5 * (self._up + self._down), CURTAILED * step_mw, power])
        self.scale = np.maximum(scale, 1e-6)
        self._weight = 1.0 / self.scale**2
        self._index = [np.arange(n) for n in (n_r, n_c, n_s)]
        # what the kernels are told of the units, in their order
        own = (data.redispatchable, data.curtailable, data.storages)
        self._room = (*own, self._ceiling, self._floor, self._up, self._down, step_mw, *limits, TARGET_TOLERANCE_MW)
        ramps, powers = (data.ramp_up, data.ramp_down), (limits.absorb, limits.produce)
        self._propose = (*ramps, data.curtail_pmax, inverse_pmax, *powers, RETURN_SHARE)
        self._settle = (self.scale, *ramps, inverse_pmax, step_mw, *powers, SAME, RETURN_SHARE, NOT_CURTAILED)

    def room(self, m: Measurement) -> Room:
        """What ramps, headroom, curtailment steps, storage power and energy, and the zone's balance allow."""
        n_r, n_c, n_s = map(len, self._index)
        low, high, now = np.empty(self.size), np.empty(self.size), np.empty(n_r + 3 * n_c + n_s)
        wanted, lowest, highest = _kernels.zone_room(
            low,
            high,
            now,
            m.gen_p,
            m.gen_p_delta,
            m.gen_p_before_curtail,
            m.actual_dispatch,
            m.storage_charge,
            m.storage_power,
            m.gen_bus,
            m.storage_bus,
            *self._room,
        )
        if self.data.balanced:
            total = min(max(wanted, lowest), highest)
            return Room(low, high, total, wanted - total, (total, total), now)
        return Room(low, high, math.nan, 0.0, self._sums(low, high, now, m), now)

    def _sums(self, low: np.ndarray, high: np.ndarray, now: np.ndarray, m: Measurement) -> tuple[float, float]:
        """`Room.sums` of a zone that does not balance itself."""
        red, least, most = self._red, -math.inf, math.inf
        if low[red].sum() <= 0.0 <= high[red].sum():
            return least, most
        output = (m.gen_p - m.gen_p_delta)[self.data.redispatchable].astype(float)
        needs, leaves = ramp_box(output, now[red], self._last_ceiling, self._last_floor, self._up, self._down)
        connected = m.gen_bus[self.data.redispatchable] >= 1
        if needs[connected].sum() > 0.0:
            most = max(0.0, float(low.sum()))
        if leaves[connected].sum() < 0.0:
            least = min(0.0, float(high.sum()))
        return least, most

    def propose(self, action: np.ndarray, room: Room) -> np.ndarray:
        """Changes of injections, MW, (n,), that an action (m,) in [-1, 1] asks for, before any limit."""
        change = np.empty(self.size)
        _kernels.zone_propose(change, np.asarray(action, dtype=float), room.now, *self._propose)
        return change

    def hold(self, room: Room) -> np.ndarray:
        """The changes, MW, (n,), of holding the dispatch, lifting the caps and leaving the storages idle."""
        change = np.zeros(self.size)
        change[self._cur] = room.now[self._curtailed]
        change[self._sto] = room.now[self._power]
        return change

    def release(self, room: Room) -> np.ndarray:
        """The changes, MW, (n,), of hold and release: a tenth of dispatch and curtailment goes, the storages idle."""
        change = self.hold(room)
        change[self._red] = -RETURN_SHARE * room.now[self._red]
        change[self._cur] *= RETURN_SHARE
        return change

    def nearest(self, change: np.ndarray, room: Room) -> np.ndarray:
        """The nearest changes to `change` within the room, (n,), by the sum of squares over `scale`; exact."""
        within = clip(change, room.low, room.high)
        total = room.bound(within)
        return within if total is None else project(change, room.low, room.high, self._weight, total)

    def settle(self, change: np.ndarray, proposed: np.ndarray, asked: np.ndarray | None, room: Room) -> Settled:
        """Changes (n,) within the room as set-points and as an action.

        Args:
            change: MW, (n,), what is done.
            proposed: MW, (n,), what was asked for.
            asked: The action (m,) that proposed it; None where none did.
            room: Of the same measurement.
        """
        action = np.empty(self.action_size, dtype=np.float32)
        plan = Plan(*(np.empty(len(part)) for part in self._index))
        given = _NONE if asked is None else np.asarray(asked, dtype=float)
        squared = _kernels.zone_settle(action, *plan, change, proposed, given, room.high, room.now, *self._settle)
        return Settled(action, plan, math.sqrt(squared))

    def orders(self, plan: Plan, m: Measurement) -> ZoneOrders:
        """What to tell Grid2Op to get the set-points."""
        data = self.data
        red, cur = data.redispatchable, data.curtailable
        orders = ZoneOrders(*(np.zeros(len(part), dtype=np.float32) for part in self._index))
        _kernels.order(
            *plan,
            *self._index,
            *(m.target_dispatch[red], m.actual_dispatch[red], m.curtailment_limit[cur]),
            *(self._max_target, self._up, self._down, data.storage_limits.absorb, data.storage_limits.produce),
            *orders,
            TARGET_TOLERANCE_MW,
        )
        return orders
