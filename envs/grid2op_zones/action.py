"""What zones may do: normalised actions, set-points in MW, and the legal Grid2Op action between them.

The way of one step is ``decode`` (numbers in [-1, 1] to MW), ``feasible`` (what ramps, headroom, energy and the balance
allow), ``orders`` (what Grid2Op is to be told) and ``action``; ``encode`` is the inverse of ``decode``, for dispatchers
that compute MW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.config import ACTION_KINDS
from grid2op_zones.limits import RAMP_SHARE, StorageLimits, clip, operating_range, ramp_box, storage_box

if TYPE_CHECKING:
    from grid2op_zones.zones import Zone

#: Share of a unit's dispatch that returns to schedule in one step unless the action holds it. A policy's small errors
#: then fade, where they would add up to a dispatch that nobody wanted; dispatch reaches ramp / RETURN_SHARE.
RETURN_SHARE = 0.1

#: What ``encode`` says for a unit without a cap. All of [0, 1] means that; a value inside keeps a policy that imitates
#: it with a small error from curtailing.
NOT_CURTAILED = 0.05

#: A target moved by less than this (MW) is left alone; Grid2Op itself tolerates a mismatch of 0.01 MW.
TARGET_TOLERANCE_MW = 1e-3


class Setpoints(NamedTuple):
    """What is wanted of every unit in one step, in Grid2Op's order of units."""

    redispatch: np.ndarray  #: (n_gen,) MW, wanted increment of actual_dispatch in this step
    curtail: np.ndarray  #: (n_gen,) cap as a ratio of pmax in [0, 1]; 1 is not curtailed
    storage: np.ndarray  #: (n_storage,) MW, positive charges


class Orders(NamedTuple):
    """What is sent to Grid2Op in one step, in its own order of units and its own meaning of the numbers."""

    redispatch: np.ndarray  #: (n_gen,) float32, MW, change of the target of redispatching
    curtail: np.ndarray | None  #: (n_gen,) float32, caps as ratios of pmax, -1 leaves a cap as it is; None leaves all
    storage: np.ndarray | None  #: (n_storage,) float32, MW, positive charges; None leaves all idle


class Plan(NamedTuple):
    """Set-points of the units in use alone, in joint order."""

    redispatch: np.ndarray  #: MW, wanted increment of actual_dispatch
    cap: np.ndarray  #: ratio of pmax
    power: np.ndarray  #: MW, positive charges


class ActionMap:
    """Maps the zones' normalised actions to set-points and to legal Grid2Op actions, and back.

    A zone's action lists its redispatchable units, then its curtailable units, then its storages, as far as ``actions``
    allows, each in [-1, 1]; all zeros lets dispatch return to schedule, lifts every cap and leaves the storages idle:

    - redispatch: a share of the unit's ramp, up for a > 0, down for a < 0, less RETURN_SHARE of its present dispatch
    - curtail: for a < 0 the share of the presently available output that is cut off, from 0 on no cap; the output
      changes by at most ``curtail_step`` of pmax a step
    - storage: a share of the largest charging (a > 0) or discharging (a < 0) power

    A zone without any such unit has one component without effect, so that every algorithm works with it.

    Args:
        grid: A Grid2Op environment.
        zones: A partition of the grid.
        actions: Which of ``redispatch``, ``curtail`` and ``storage`` the agents have.
        balance: ``zone`` makes each zone's dispatch sum to its own curtailed and charged power, ``grid`` the dispatch
            of all zones together; ``auto`` is ``zone`` where every zone with units has redispatchable ones, else
            ``grid``.
        curtail_step: Largest change of a curtailed unit's output in one step, as a share of pmax.

    Attributes:
        names: For each zone the names of its components, e.g. ``redispatch[gen_7_2]``.
        size: Number of components of all zones together, sum m_i.
        balance: ``zone`` or ``grid``.
    """

    def __init__(
        self,
        grid: Any,
        zones: Sequence[Zone],
        actions: Sequence[str] = ACTION_KINDS,
        balance: str = "auto",
        curtail_step: float = 0.1,
    ) -> None:
        cls = type(grid)
        self._action_space = grid.action_space
        self._n_gen, self._n_storage = cls.n_gen, cls.n_storage
        self.curtail_step = float(curtail_step)
        self.pmax, self.pmin = cls.gen_pmax.astype(float), cls.gen_pmin.astype(float)
        self.ramp_up, self.ramp_down = cls.gen_max_ramp_up.astype(float), cls.gen_max_ramp_down.astype(float)
        self._floor, self._ceiling = operating_range(self.pmin, self.pmax, self.ramp_up, self.ramp_down)
        self._max_target = RAMP_SHARE * (self.pmax - self.pmin)
        self._weight = 1.0 / np.maximum(self.ramp_up + self.ramp_down, 1e-6)
        self._inverse_pmax = 1.0 / np.maximum(self.pmax, 1e-6)
        self.max_absorb, self.max_produce = cls.storage_max_p_absorb.astype(float), cls.storage_max_p_prod.astype(float)
        hours = float(grid.delta_time_seconds) / 3600.0
        self.storage_limits = StorageLimits(
            self.max_absorb,
            self.max_produce,
            cls.storage_Emax.astype(float),
            cls.storage_Emin.astype(float),
            1.0 / (hours * cls.storage_charging_efficiency.astype(float)),
            cls.storage_discharging_efficiency.astype(float) / hours,
        )

        empty = np.zeros(0, dtype=np.int64)
        units = [
            (
                zone.redispatchable if "redispatch" in actions else empty,
                zone.curtailable if "curtail" in actions else empty,
                zone.storages if "storage" in actions else empty,
            )
            for zone in zones
        ]
        self.agents = [zone.name for zone in zones]
        self.names = {
            zone.name: [f"redispatch[{cls.name_gen[g]}]" for g in red]
            + [f"curtail[{cls.name_gen[g]}]" for g in cur]
            + [f"storage[{cls.name_storage[s]}]" for s in sto]
            or ["inert"]
            for zone, (red, cur, sto) in zip(zones, units, strict=True)
        }
        self.sizes = {agent: len(names) for agent, names in self.names.items()}
        self._red, self._cur, self._sto = (np.concatenate([u[k] for u in units]) for k in range(3))
        red, cur, sto = self._red, self._cur, self._sto
        self._ramp_up_red, self._ramp_down_red = self.ramp_up[red], self.ramp_down[red]
        self._weight_red = self._weight[red]
        self._box_red = (
            self._ceiling[red],
            self._floor[red],
            RAMP_SHARE * self.ramp_up[red],
            RAMP_SHARE * self.ramp_down[red],
        )
        self._max_target_red = self._max_target[red]
        self._pmax_cur, self._inverse_pmax_cur = self.pmax[cur], self._inverse_pmax[cur]
        self._absorb_sto, self._produce_sto = self.max_absorb[sto], self.max_produce[sto]
        # positions of the units of each kind in the joint action vector
        kinds = np.concatenate([np.repeat([0, 1, 2, 3], [*map(len, u), 0 if sum(map(len, u)) else 1]) for u in units])
        self._red_at, self._cur_at, self._sto_at = (np.flatnonzero(kinds == k) for k in range(3))
        self.size = kinds.size
        self._splits = np.cumsum([self.sizes[agent] for agent in self.agents])[:-1]
        self.balance = balance
        if balance == "auto":
            self.balance = "zone" if all(len(red) or not len(cur) + len(sto) for red, cur, sto in units) else "grid"
        groups = units if self.balance == "zone" else [(self._red, self._cur, self._sto)]
        # without a unit to redispatch a group cannot balance itself: Grid2Op does it with the other groups' units
        groups = [group for group in groups if len(group[0])]
        self._groups = len(groups)
        # of each unit in use of each kind, the number of its group, -1 for none
        self._group_of = [
            sum((k + 1) * np.isin(ids, group[kind]) for k, group in enumerate(groups))
            - np.ones(len(ids), dtype=np.int64)
            for kind, ids in enumerate((self._red, self._cur, self._sto))
        ]

    def joint(self, actions: Mapping[str, np.ndarray]) -> np.ndarray:
        """The zones' actions side by side, clipped to [-1, 1], shape (sum m_i,).

        Raises:
            ValueError: An agent is missing or unknown, an action has the wrong shape, or a component is not finite.
        """
        if actions.keys() != self.sizes.keys():
            missing, unknown = sorted(self.sizes.keys() - actions.keys()), sorted(actions.keys() - self.sizes.keys())
            raise ValueError(
                f"actions must hold exactly the agents {self.agents}; missing {missing}, unknown {unknown}"
            )
        parts = [np.asarray(actions[agent], dtype=float) for agent in self.agents]
        for agent, part in zip(self.agents, parts, strict=True):
            if part.shape != (self.sizes[agent],):
                raise ValueError(f"action of {agent}: expected shape ({self.sizes[agent]},), found {part.shape}")
        vector = np.concatenate(parts)
        if not np.isfinite(vector).all():
            agent, k = next(
                (a, k) for a, p in zip(self.agents, parts, strict=True) for k in np.flatnonzero(~np.isfinite(p))
            )
            raise ValueError(
                f"action of {agent}: component {k} ({self.names[agent][k]}) is {actions[agent][k]}, not a number"
            )
        return clip(vector, -1.0, 1.0)

    def checked(self, action: np.ndarray) -> np.ndarray:
        """A joint action (sum m_i,), clipped to [-1, 1].

        Raises:
            ValueError: Its shape is wrong, or a component is not finite.
        """
        action = np.asarray(action, dtype=float)
        if action.shape != (self.size,):
            raise ValueError(f"joint action: expected shape ({self.size},), found {action.shape}")
        if not np.isfinite(action).all():
            self.joint(dict(zip(self.agents, np.split(action, self._splits), strict=True)))  # names the component
        return clip(action, -1.0, 1.0)

    def idle(self) -> Setpoints:
        """Set-points that hold the dispatch, lift every cap and leave the storages idle; the arrays are new."""
        return Setpoints(np.zeros(self._n_gen), np.ones(self._n_gen), np.zeros(self._n_storage))

    def decode(self, actions: Mapping[str, np.ndarray], grid_obs: Any) -> Setpoints:
        """Normalised actions to set-points, before any limit of the grid's state. Raises as ``joint`` does."""
        return self.decode_joint(self.joint(actions), grid_obs)

    def decode_joint(self, vector: np.ndarray, grid_obs: Any) -> Setpoints:
        """``decode`` of a joint action (sum m_i,) in [-1, 1]."""
        return self._spread(self._decode(vector, grid_obs))

    def plan(self, vector: np.ndarray, grid_obs: Any) -> Orders:
        """What a joint action (sum m_i,) in [-1, 1] comes to: ``decode``, ``feasible`` and ``orders`` in one."""
        return self._order(self._allow(self._decode(vector, grid_obs), grid_obs), grid_obs)

    def _decode(self, vector: np.ndarray, grid_obs: Any) -> Plan:
        plan = Plan(np.empty(len(self._red)), np.empty(len(self._cur)), np.empty(len(self._sto)))
        _kernels.decode(
            vector,
            *(self._red_at, self._cur_at, self._sto_at, self._red, self._cur),
            *(grid_obs.actual_dispatch, grid_obs.gen_p_before_curtail),
            *(self._ramp_up_red, self._ramp_down_red, self._inverse_pmax_cur, self._absorb_sto, self._produce_sto),
            *plan,
            RETURN_SHARE,
        )
        return plan

    def _spread(self, plan: Plan) -> Setpoints:
        setpoints = self.idle()
        setpoints.redispatch[self._red], setpoints.curtail[self._cur], setpoints.storage[self._sto] = plan
        return setpoints

    def _gather(self, setpoints: Setpoints) -> Plan:
        return Plan(setpoints.redispatch[self._red], setpoints.curtail[self._cur], setpoints.storage[self._sto])

    def encode(self, setpoints: Setpoints, grid_obs: Any) -> dict[str, np.ndarray]:
        """Set-points to normalised actions, float32: ``decode`` gives them back; what is out of reach is clipped.

        A cap above what is presently available counts as none.
        """
        vector = np.zeros(self.size)
        red, sto = setpoints.redispatch[self._red] + self._returning(grid_obs), setpoints.storage[self._sto]
        ramp = np.where(red > 0.0, self.ramp_up[self._red], self.ramp_down[self._red])
        power = np.where(sto > 0.0, self.max_absorb[self._sto], self.max_produce[self._sto])
        vector[self._red_at] = red / np.maximum(ramp, 1e-9)
        available = np.maximum(grid_obs.gen_p_before_curtail[self._cur].astype(float), 1e-6)
        excess = setpoints.curtail[self._cur] * self.pmax[self._cur] / available - 1.0
        vector[self._cur_at] = np.where(excess < 0.0, excess, NOT_CURTAILED)
        vector[self._sto_at] = sto / np.maximum(power, 1e-9)
        vector = clip(vector, -1.0, 1.0).astype(np.float32)
        return dict(zip(self.agents, np.split(vector, self._splits), strict=True))

    def _returning(self, grid_obs: Any) -> np.ndarray:
        """What returns to schedule in this step, MW, of the redispatchable units in use."""
        return RETURN_SHARE * grid_obs.actual_dispatch[self._red].astype(float)

    def feasible(self, setpoints: Setpoints, grid_obs: Any) -> Setpoints:
        """The nearest set-points that the state of the grid allows.

        Redispatch keeps within ramps and leaves headroom below pmax and above pmin (where a unit's own schedule has
        used the headroom up, dispatch is taken back); outputs approach caps by ``curtail_step``; storages keep their
        energy limits. Then each balancing group (a zone, or all zones) has the increments projected, weighted by ramps
        as Grid2Op does itself, so that its dispatch sums to its curtailed and charging power. Where the ramps cannot
        follow, the group's changes of curtailment and storage shrink in proportion.
        """
        return self._spread(self._allow(self._gather(setpoints), grid_obs))

    def _allow(self, plan: Plan, grid_obs: Any) -> Plan:
        """``feasible``, in place."""
        _kernels.allow(
            *plan,
            *(grid_obs.gen_p, grid_obs.gen_p_delta, grid_obs.actual_dispatch, grid_obs.gen_p_before_curtail),
            *(grid_obs.storage_power, self._red, self._cur, self._sto),
            *(*self._box_red, self._weight_red, self._inverse_pmax_cur, self._pmax_cur),
            *self.storage_box(grid_obs),
            *self._group_of,
            self.curtail_step,
            TARGET_TOLERANCE_MW,
            self._groups,
        )
        return plan

    def orders(self, setpoints: Setpoints, grid_obs: Any) -> Orders:
        """What to send to Grid2Op to get ``setpoints``.

        Grid2Op's redispatch moves the target, not the dispatch, so what is sent is the wanted dispatch less the present
        target, clipped to ``RAMP_SHARE`` of the ramps. Only what changes is sent; storage power lasts one step and is
        sent whenever it is not zero.

        A target of exactly zero means that Grid2Op counts the unit as never redispatched: the first increment then
        starts from its actual dispatch, whatever that is. So a unit that Grid2Op has moved is claimed by a tiny
        increment, and a target that comes back to zero stops short of it.
        """
        return self._order(self._gather(setpoints), grid_obs)

    def _order(self, plan: Plan, grid_obs: Any) -> Orders:
        redispatch = np.zeros(self._n_gen, dtype=np.float32)
        curtail = np.full(self._n_gen, -1.0, dtype=np.float32)
        storage = np.zeros(self._n_storage, dtype=np.float32)
        _, _, up, down = self._box_red
        changes = _kernels.order(
            *plan,
            *(self._red, self._cur, self._sto),
            *(grid_obs.target_dispatch, grid_obs.actual_dispatch, grid_obs.curtailment_limit),
            *(self._max_target_red, up, down, self._absorb_sto, self._produce_sto),
            *(redispatch, curtail, storage),
            TARGET_TOLERANCE_MW,
        )
        return Orders(redispatch, curtail if changes & 1 else None, storage if changes & 2 else None)

    def action(self, orders: Orders, reconnect: int | None = None) -> Any:
        """The Grid2Op action that sends ``orders`` and, if given, closes the line ``reconnect``."""
        return grid2op_action(self._action_space, orders, reconnect)

    def ramp_box(self, scheduled: np.ndarray, dispatch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest increment of each unit's dispatch in this step, MW, each (n_gen,): ramps and headroom.

        Args:
            scheduled: (n_gen,) MW, ``gen_p - gen_p_delta``: output without what the slack adds for the losses.
            dispatch: (n_gen,) MW, ``actual_dispatch``.
        """
        up, down = RAMP_SHARE * self.ramp_up, RAMP_SHARE * self.ramp_down
        return ramp_box(scheduled, dispatch, self._ceiling, self._floor, up, down)

    def storage_box(self, grid_obs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest power of each storage in this step, MW, each (n_storage,): power limits and energy."""
        connected = grid_obs.storage_bus >= 1
        return storage_box(grid_obs.storage_charge.astype(float), connected, *self.storage_limits)


def grid2op_action(action_space: Any, orders: Orders, reconnect: int | None = None) -> Any:
    """The Grid2Op action that sends ``orders`` and, if given, closes the line ``reconnect``."""
    action = action_space()
    if orders.redispatch.any():
        action.redispatch = orders.redispatch
    if orders.curtail is not None:
        action.curtail = orders.curtail
    if orders.storage is not None:
        action.storage_p = orders.storage
    if reconnect is not None:
        action.line_set_status = [(int(reconnect), 1)]
    return action


def line_to_reconnect(grid_obs: Any) -> int | None:
    """The open line that may be closed at once, the lowest of several: rules allow one in each area and step."""
    closable = np.flatnonzero(~grid_obs.line_status & (grid_obs.time_before_cooldown_line == 0))
    return int(closable[0]) if closable.size else None
