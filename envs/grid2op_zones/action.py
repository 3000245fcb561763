"""What zones may do: normalised actions, set-points in MW, and the legal Grid2Op action between them.

The way of one step is ``decode`` (numbers in [-1, 1] to MW), ``feasible`` (what ramps, headroom, energy and the balance
allow) and ``to_grid2op``; ``encode`` is the inverse of ``decode``, for dispatchers that compute MW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from grid2op_zones.config import ACTION_KINDS
from grid2op_zones.zones import Zone

#: Share of a ramp that may be asked for: Grid2Op calls a redispatch beyond the ramp, by any rounding, ambiguous.
RAMP_SHARE = 0.999

#: Dispatch leaves every unit this many steps of full ramp below pmax and above pmin. A unit pushed onto its limit
#: cannot follow its own schedule any more, and where the others cannot either, Grid2Op ends the episode
#: (ImpossibleRedispatching). Of 42 episodes of extreme actions on l2rpn_idf_2023 that ended 4 at 1.5 steps, 2 at 2,
#: none at 2.5 and 3.
HEADROOM_STEPS = 2.5

#: The headroom is at most this share of pmax - pmin on each side, so that units with steep ramps can move at all.
MAX_HEADROOM_SHARE = 0.25

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
        span = self.pmax - self.pmin
        self._ceiling = self.pmax - np.minimum(HEADROOM_STEPS * self.ramp_up, MAX_HEADROOM_SHARE * span)
        self._floor = self.pmin + np.minimum(HEADROOM_STEPS * self.ramp_down, MAX_HEADROOM_SHARE * span)
        self._max_target = RAMP_SHARE * span
        self._weight = 1.0 / np.maximum(self.ramp_up + self.ramp_down, 1e-6)
        self._inverse_pmax = 1.0 / np.maximum(self.pmax, 1e-6)
        self.max_absorb, self.max_produce = cls.storage_max_p_absorb.astype(float), cls.storage_max_p_prod.astype(float)
        hours = float(grid.delta_time_seconds) / 3600.0
        self._e_max, self._e_min = cls.storage_Emax.astype(float), cls.storage_Emin.astype(float)
        self._charge_rate = 1.0 / (hours * cls.storage_charging_efficiency.astype(float))
        self._discharge_rate = cls.storage_discharging_efficiency.astype(float) / hours

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
        self._untouched = np.setdiff1d(np.arange(cls.n_gen), self._red)
        # positions of the units of each kind in the joint action vector
        kinds = np.concatenate([np.repeat([0, 1, 2, 3], [*map(len, u), 0 if sum(map(len, u)) else 1]) for u in units])
        self._red_at, self._cur_at, self._sto_at = (np.flatnonzero(kinds == k) for k in range(3))
        self._joint_size = kinds.size
        self._splits = np.cumsum([self.sizes[agent] for agent in self.agents])[:-1]
        self.balance = balance
        if balance == "auto":
            self.balance = "zone" if all(len(red) or not len(cur) + len(sto) for red, cur, sto in units) else "grid"
        groups = units if self.balance == "zone" else [(self._red, self._cur, self._sto)]
        # without a unit to redispatch a group cannot balance itself: Grid2Op does it with the other groups' units
        self._groups = [group for group in groups if len(group[0])]

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
        return np.clip(vector, -1.0, 1.0)

    def idle(self) -> Setpoints:
        """Set-points that hold the dispatch, lift every cap and leave the storages idle; the arrays are new."""
        return Setpoints(np.zeros(self._n_gen), np.ones(self._n_gen), np.zeros(self._n_storage))

    def decode(self, actions: Mapping[str, np.ndarray], grid_obs: Any) -> Setpoints:
        """Normalised actions to set-points, before any limit of the grid's state. Raises as ``joint`` does."""
        vector = self.joint(actions)
        wanted = self.idle()
        red, cur, sto = vector[self._red_at], vector[self._cur_at], vector[self._sto_at]
        pushed = red * np.where(red > 0.0, self.ramp_up[self._red], self.ramp_down[self._red])
        wanted.redispatch[self._red] = pushed - self._returning(grid_obs)
        available = np.maximum(grid_obs.gen_p_before_curtail[self._cur].astype(float), 0.0)
        capped = np.minimum((1.0 + cur) * available * self._inverse_pmax[self._cur], 1.0)
        wanted.curtail[self._cur] = np.where(cur < 0.0, capped, 1.0)
        wanted.storage[self._sto] = sto * np.where(sto > 0.0, self.max_absorb[self._sto], self.max_produce[self._sto])
        return wanted

    def encode(self, setpoints: Setpoints, grid_obs: Any) -> dict[str, np.ndarray]:
        """Set-points to normalised actions, float32: ``decode`` gives them back; what is out of reach is clipped.

        A cap above what is presently available counts as none.
        """
        vector = np.zeros(self._joint_size)
        red, sto = setpoints.redispatch[self._red] + self._returning(grid_obs), setpoints.storage[self._sto]
        ramp = np.where(red > 0.0, self.ramp_up[self._red], self.ramp_down[self._red])
        power = np.where(sto > 0.0, self.max_absorb[self._sto], self.max_produce[self._sto])
        vector[self._red_at] = red / np.maximum(ramp, 1e-9)
        available = np.maximum(grid_obs.gen_p_before_curtail[self._cur].astype(float), 1e-6)
        excess = setpoints.curtail[self._cur] * self.pmax[self._cur] / available - 1.0
        vector[self._cur_at] = np.where(excess < 0.0, excess, NOT_CURTAILED)
        vector[self._sto_at] = sto / np.maximum(power, 1e-9)
        vector = np.clip(vector, -1.0, 1.0).astype(np.float32)
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
        scheduled = grid_obs.gen_p - grid_obs.gen_p_delta.astype(float)  # without what the slack adds for the losses
        dispatch = grid_obs.actual_dispatch.astype(float)
        low, high = self.ramp_box(scheduled, dispatch)
        redispatch = np.zeros(self._n_gen)
        redispatch[self._red] = np.clip(setpoints.redispatch, low, high)[self._red]

        before = grid_obs.gen_p_before_curtail.astype(float)
        curtailed_now = np.maximum(before - scheduled, 0.0)
        output = scheduled * self._inverse_pmax
        highest = np.where(curtailed_now > TARGET_TOLERANCE_MW, output + self.curtail_step, 1.0)
        cap = np.ones(self._n_gen)
        cap[self._cur] = np.clip(np.clip(setpoints.curtail, output - self.curtail_step, highest), 0.0, 1.0)[self._cur]
        curtailed = np.maximum(before - cap * self.pmax, 0.0)

        least, most = self.storage_box(grid_obs)
        storage = np.zeros(self._n_storage)
        storage[self._sto] = np.clip(setpoints.storage, least, most)[self._sto]
        storage_now = grid_obs.storage_power.astype(float)

        for red, cur, sto in self._groups:
            moves = np.concatenate([curtailed[cur] - curtailed_now[cur], storage[sto] - storage_now[sto]])
            base = curtailed_now[cur].sum() + storage_now[sto].sum() - dispatch[red].sum()
            total = base + moves.sum()
            reach = float(np.clip(total, low[red].sum(), high[red].sum()))
            if total != reach:
                kept = _shrink(moves, total - reach)
                changed = np.flatnonzero(kept[: len(cur)] != moves[: len(cur)])
                units = cur[changed]
                cap[units] = np.clip(
                    (before[units] - curtailed_now[units] - kept[changed]) * self._inverse_pmax[units], 0.0, 1.0
                )
                storage[sto] = np.clip(storage_now[sto] + kept[len(cur) :], least[sto], most[sto])
            redispatch[red] = project(redispatch[red], self._weight[red], low[red], high[red], reach)
        return Setpoints(redispatch, cap, storage)

    def to_grid2op(self, setpoints: Setpoints, grid_obs: Any, reconnect: int | None = None) -> Any:
        """The Grid2Op action that asks for ``setpoints`` and, if given, closes the line ``reconnect``.

        Grid2Op's redispatch moves the target, not the dispatch, so what is sent is the wanted dispatch less the present
        target, clipped to ``RAMP_SHARE`` of the ramps. Only what changes is sent; storage power lasts one step and is
        sent whenever it is not zero.
        """
        action = self._action_space()
        sent = self._target_increment(setpoints.redispatch, grid_obs)
        if sent.any():
            action.redispatch = sent
        cap = setpoints.curtail[self._cur]
        if (np.abs(cap - grid_obs.curtailment_limit[self._cur]) > 1e-6).any():
            ratios = np.full(self._n_gen, -1.0, dtype=np.float32)  # -1 leaves a unit's cap as it is
            ratios[self._cur] = cap
            action.curtail = ratios
        if setpoints.storage.any():
            action.storage_p = np.clip(setpoints.storage, -self.max_produce, self.max_absorb).astype(np.float32)
        if reconnect is not None:
            action.line_set_status = [(int(reconnect), 1)]
        return action

    def _target_increment(self, redispatch: np.ndarray, grid_obs: Any) -> np.ndarray:
        """Change of the target, MW, (n_gen,) float32.

        A target of exactly zero means that Grid2Op counts the unit as never redispatched: the first increment then
        starts from its actual dispatch, whatever that is.
        """
        target, actual = grid_obs.target_dispatch.astype(float), grid_obs.actual_dispatch.astype(float)
        wanted = np.clip(actual + redispatch, -self._max_target, self._max_target)
        fresh = target == 0.0
        sent = wanted - np.where(fresh, actual, target)
        # a fresh unit that Grid2Op has moved is claimed by a tiny increment, so that it is held where it is
        claim = fresh & (np.abs(actual) > TARGET_TOLERANCE_MW) & (np.abs(sent) < TARGET_TOLERANCE_MW)
        sent[np.abs(sent) < TARGET_TOLERANCE_MW] = 0.0
        sent[claim] = TARGET_TOLERANCE_MW
        # a target that comes back to zero stops short of it, or the unit would look fresh again
        sent[~fresh & (np.abs(target + sent) < TARGET_TOLERANCE_MW)] += 2.0 * TARGET_TOLERANCE_MW
        sent[self._untouched] = 0.0
        return np.clip(sent, -RAMP_SHARE * self.ramp_down, RAMP_SHARE * self.ramp_up).astype(np.float32)

    def ramp_box(self, scheduled: np.ndarray, dispatch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest increment of each unit's dispatch in this step, MW, each (n_gen,): ramps and headroom.

        Args:
            scheduled: (n_gen,) MW, ``gen_p - gen_p_delta``: output without what the slack adds for the losses.
            dispatch: (n_gen,) MW, ``actual_dispatch``.
        """
        room_up = np.maximum(self._ceiling - scheduled, -np.maximum(dispatch, 0.0))
        room_down = np.maximum(scheduled - self._floor, -np.maximum(-dispatch, 0.0))
        up, down = RAMP_SHARE * self.ramp_up, RAMP_SHARE * self.ramp_down
        return np.clip(-room_down, -down, up), np.clip(room_up, -down, up)

    def storage_box(self, grid_obs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest power of each storage in this step, MW, each (n_storage,): power limits and energy."""
        charge = grid_obs.storage_charge.astype(float)
        connected = grid_obs.storage_bus >= 1  # power on a disconnected storage is illegal
        most = np.minimum(self.max_absorb, np.maximum(self._e_max - charge, 0.0) * self._charge_rate)
        least = -np.minimum(self.max_produce, np.maximum(charge - self._e_min, 0.0) * self._discharge_rate)
        return np.where(connected, least, 0.0), np.where(connected, most, 0.0)


def project(x: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray, total: float) -> np.ndarray:
    """Minimise sum_j weight_j (y_j - x_j)^2 subject to sum_j y_j = total and low <= y <= high. All arrays (n,).

    Exact: the minimiser is y(m) = clip(x + m / weight, low, high) for one multiplier m, and the sum of y(m) is
    piecewise linear and non-decreasing between the 2n values of m at which a component meets a bound. A total out of
    reach gives the nearest bound.
    """
    knots = np.sort(np.concatenate([(low - x) * weight, (high - x) * weight]))
    sums = np.clip(x + knots[:, None] / weight, low, high).sum(axis=1)
    return np.clip(x + np.interp(total, sums, knots) / weight, low, high)


def _shrink(moves: np.ndarray, excess: float) -> np.ndarray:
    """Scale down the moves of the excess' sign, in proportion, until their sum is smaller by ``excess`` or zero."""
    share = np.sign(excess) * moves > 0.0
    amount = moves[share].sum()
    if amount == 0.0:
        return moves
    return np.where(share, moves * max(0.0, 1.0 - excess / amount), moves)
