"""A zone's units: from what its policy proposes to changes of injections in MW, what the units allow, and the way back.

Every unit is counted by the change of its injection against the measured state, as in `area.py`: +1 MW is a generator
dispatched up, a cap eased or a storage that charges less. Units come in the order redispatchable, curtailable,
storages; n in all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.action import NOT_CURTAILED, RETURN_SHARE, TARGET_TOLERANCE_MW, Plan
from grid2op_zones.limits import RAMP_SHARE, StorageLimits, clip, operating_range, project, ramp_box, storage_box
from grid2op_zones.measurement import Measurement

#: Share of a unit's step that counts as nothing; float32 loses 1e-7.
SAME = 1e-6

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
    """What the units allow in one step."""

    low: np.ndarray  #: (n,) lowest change of each unit's injection, MW
    high: np.ndarray  #: (n,)
    total: float  #: what the changes of a balanced zone sum to, MW, as near as low and high let them; else NaN
    gap: float  #: MW that the balance lacks even so


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
        self._at = [np.arange(n_r), np.arange(n_r, n_r + n_c), np.arange(n_r + n_c, self.size)]
        self._floor, self._ceiling = operating_range(data.pmin, data.pmax, data.ramp_up, data.ramp_down)
        self._up, self._down = RAMP_SHARE * data.ramp_up, RAMP_SHARE * data.ramp_down
        self._max_target = RAMP_SHARE * (data.pmax - data.pmin)
        self._step_mw = data.curtail_step * data.curtail_pmax
        self._inverse_pmax = 1.0 / np.maximum(data.curtail_pmax, 1e-6)
        limits = data.storage_limits
        power = 0.5 * (limits.absorb + limits.produce)
        scale = np.concatenate([0.5 * (self._up + self._down), CURTAILED * self._step_mw, power])
        self.scale = np.maximum(scale, 1e-6)
        self._weight = 1.0 / self.scale**2
        self._index = [np.arange(n) for n in (n_r, n_c, n_s)]

    def propose(self, action: np.ndarray, m: Measurement) -> np.ndarray:
        """Changes of injections, MW, (n,), that an action (m,) in [-1, 1] asks for, before any limit."""
        data = self.data
        plan = self._empty()
        _kernels.decode(
            np.asarray(action, dtype=float),
            *self._at,
            data.redispatchable,
            data.curtailable,
            m.actual_dispatch,
            m.gen_p_before_curtail,
            data.ramp_up,
            data.ramp_down,
            self._inverse_pmax,
            data.storage_limits.absorb,
            data.storage_limits.produce,
            *plan,
            RETURN_SHARE,
        )
        available, present, _ = self._output(m)
        injected = np.minimum(plan.cap * data.curtail_pmax, available)
        return np.concatenate(
            [plan.redispatch, injected - present, m.storage_power[data.storages].astype(float) - plan.power]
        )

    def hold(self, m: Measurement) -> np.ndarray:
        """The changes, MW, (n,), of holding the dispatch, lifting the caps and leaving the storages idle."""
        change = np.zeros(self.size)
        change[self._cur] = self._output(m)[2]
        change[self._sto] = m.storage_power[self.data.storages]
        return change

    def release(self, m: Measurement) -> np.ndarray:
        """The changes, MW, (n,), of hold and release: a tenth of dispatch and curtailment goes, the storages idle."""
        change = self.hold(m)
        change[self._red] = -RETURN_SHARE * m.actual_dispatch[self.data.redispatchable].astype(float)
        change[self._cur] = RETURN_SHARE * self._output(m)[2]
        return change

    def room(self, m: Measurement) -> Room:
        """What ramps, headroom, curtailment steps, storage power and energy, and the zone's balance allow."""
        data = self.data
        red, sto = data.redispatchable, data.storages
        dispatch = m.actual_dispatch[red].astype(float)
        scheduled = m.gen_p[red] - m.gen_p_delta[red].astype(float)
        red_low, red_high = ramp_box(scheduled, dispatch, self._ceiling, self._floor, self._up, self._down)
        on = m.gen_bus[red] >= 1
        if not on.all():
            red_low, red_high = red_low * on, red_high * on
        _, present, curtailed = self._output(m)
        power = m.storage_power[sto].astype(float)
        least, most = storage_box(m.storage_charge[sto].astype(float), m.storage_bus[sto] >= 1, *data.storage_limits)
        low = np.concatenate([red_low, -np.minimum(present, self._step_mw), power - most])
        high = np.concatenate([red_high, np.minimum(curtailed, self._step_mw), power - least])
        if not data.balanced:
            return Room(low, high, float("nan"), 0.0)
        wanted = float(curtailed.sum() + power.sum() - dispatch.sum())
        total = min(max(wanted, float(low.sum())), float(high.sum()))
        return Room(low, high, total, wanted - total)

    def nearest(self, change: np.ndarray, room: Room) -> np.ndarray:
        """The nearest changes to `change` within the room, (n,), by the sum of squares over `scale`; exact."""
        if self.data.balanced:
            return project(change, room.low, room.high, self._weight, room.total)
        return clip(change, room.low, room.high)

    def plan(self, change: np.ndarray, room: Room, m: Measurement) -> Plan:
        """Set-points of changes (n,) within the room."""
        data = self.data
        _, present, curtailed = self._output(m)
        injected = present + change[self._cur]
        cap = injected * self._inverse_pmax
        # an eased cap lies a step above the present output, so that wind that rises is let in as gradually
        free = self._free(change, room, curtailed)
        cap[free] = np.where(curtailed > 0.0, (present + self._step_mw) * self._inverse_pmax, 1.0)[free]
        power = m.storage_power[data.storages].astype(float) - change[self._sto]
        return Plan(change[self._red], clip(cap, 0.0, 1.0), power)

    def encode(self, change: np.ndarray, room: Room, m: Measurement) -> np.ndarray:
        """The action (m,) float32 that proposes changes (n,) within the room."""
        data = self.data
        action = np.zeros(self.action_size)
        move = change[self._red] + RETURN_SHARE * m.actual_dispatch[data.redispatchable].astype(float)
        action[self._red] = move / np.maximum(np.where(move > 0.0, data.ramp_up, data.ramp_down), 1e-9)
        available, present, curtailed = self._output(m)
        share = (present + change[self._cur]) / np.maximum(available, 1e-6) - 1.0
        free = self._free(change, room, curtailed)
        action[self._cur] = np.where(free, NOT_CURTAILED, share)
        power = m.storage_power[data.storages].astype(float) - change[self._sto]
        most = np.where(power > 0.0, data.storage_limits.absorb, data.storage_limits.produce)
        action[self._sto] = power / np.maximum(most, 1e-9)
        return clip(action, -1.0, 1.0).astype(np.float32)

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

    def _output(self, m: Measurement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """MW of the renewables that are available, that are injected, and that are curtailed, each (n_c,)."""
        cur = self.data.curtailable
        available = np.maximum(m.gen_p_before_curtail[cur].astype(float), 0.0)
        output = m.gen_p[cur] - m.gen_p_delta[cur].astype(float)
        curtailed = np.maximum(available - output, 0.0)
        curtailed[curtailed <= TARGET_TOLERANCE_MW] = 0.0
        return available, available - curtailed, curtailed

    def _free(self, change: np.ndarray, room: Room, curtailed: np.ndarray) -> np.ndarray:
        """Whether changes (n,) leave nothing of the renewables curtailed, (n_c,) boolean."""
        # a program's optimum comes as near to a bound as its solver's tolerance
        eased = change[self._cur] >= room.high[self._cur] - SAME * self._step_mw
        return eased & (curtailed <= self._step_mw)

    def _empty(self) -> Plan:
        return Plan(*(np.empty(len(part)) for part in self._index))
