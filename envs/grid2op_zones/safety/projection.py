"""The safety projection: a zone's proposed action to the nearest one that its units allow and its lines can bear.

docs/safety.md states and proves what holds of the result. Three steps, each taken only where the one before does not
do: the nearest point that the units allow, in closed form; the nearest one that also keeps the lines within their
limits, by a quadratic program; and where there is none, the one with the least priced violation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from grid2op_zones.action import Plan
from grid2op_zones.measurement import Measurement
from grid2op_zones.program import InfeasibleError, Optimum, QuadraticProgram, SolverError
from grid2op_zones.safety.devices import Room, ZoneOrders, ZoneUnits
from grid2op_zones.safety.lines import Bounds, LineModel, ZoneLines

#: Price of squared violations (shares of the lines' limits) against squared distance, where limits cannot be kept.
PRICE = 1e6

#: Share of a limit that the program stays below it, more than the solver's tolerance.
TOLERANCE = 1e-5

#: MW by which a program without balance may miss what the changes may sum to, before that is made a condition.
SUM_TOLERANCE_MW = 1e-6

#: Why another change than the policy's is what the result is nearest to.
NOT_FINITE = "the policy gave no finite action"
WRONG_SHAPE = "the policy gave an action of the wrong shape"
LATE = "the policy was late"


@dataclass(frozen=True, eq=False)
class Certificate:
    """One projection: what is done, and what it rests on. Arrays of n are in the order of the zone's units.

    Attributes:
        action: (m,) float32 in [-1, 1], the executed action in the policy's terms: the policy's own wherever its change
            is executed. Clipped where the policy could not have proposed the change (of a large dispatch a part returns
            to schedule by itself, and the balance may want more than the rest of the ramp).
        plan: The executed set-points.
        orders: What Grid2Op is told.
        change: (n,) MW, the executed changes of the units' injections.
        distance: Euclidean distance from what was proposed, in steps of the units (`ZoneUnits.scale`).
        slack_mw: (L,) MW by which the worst case exceeds each line's limit; 0 where the limit is guaranteed.
        slack: The largest of `slack_mw` as a share of its line's limit; NaN where lines are not in the projection, by
            its level or because the zone's open lines leave islands. Then all that is (L,) is empty.
        margin_mw: (L,) MW that others may add to each line at worst.
        limit_mw: (L,) MW, the lines' limits; inf for open ones.
        worst_mw: (L,) MW, the largest flow on each line that the assumptions allow.
        room: The units' own limits.
        bounds: What the guarantee assumes; None where lines are not in the projection.
        how: "closed form", "program", or "least violation".
        fallback: Why the policy's action was not taken up at all; None where it was.
        names: The units' names.
        lines: The lines' names.
    """

    action: np.ndarray
    plan: Plan
    orders: ZoneOrders
    change: np.ndarray
    distance: float
    slack_mw: np.ndarray
    slack: float
    margin_mw: np.ndarray
    limit_mw: np.ndarray
    worst_mw: np.ndarray
    room: Room
    bounds: Bounds | None
    how: str
    fallback: str | None
    names: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def guaranteed(self) -> bool:
        """Whether every line of the zone stays within its limit under the assumptions."""
        return self.slack == 0.0

    @property
    def reserve_mw(self) -> tuple[float, float]:
        """MW that the redispatched units may still go down and up in this step, for what comes unplanned."""
        count = len(self.plan.redispatch)
        change = self.change[:count].sum()
        return float(change - self.room.low[:count].sum()), float(self.room.high[:count].sum() - change)

    @property
    def active(self) -> list[str]:
        """The constraints that hold with equality: "low" and "high" of units, "limit" of lines, "balance" or "sum".

        A line above its limit counts, too.
        """
        near = 1e-6 * np.maximum(1.0, np.abs(self.change))
        found = [f"low {self.names[k]}" for k in np.flatnonzero(self.change - self.room.low <= near)]
        found += [f"high {self.names[k]}" for k in np.flatnonzero(self.room.high - self.change <= near)]
        full = self.worst_mw >= (1.0 - 3.0 * TOLERANCE) * self.limit_mw
        found += [f"limit {self.lines[k]}" for k in np.flatnonzero(full)]
        least, most = self.room.sums
        if least == most:
            found.append("balance")
        elif not least + SUM_TOLERANCE_MW < self.change.sum() < most - SUM_TOLERANCE_MW:
            found.append("sum")
        return found


class _Result(NamedTuple):
    change: np.ndarray
    how: str


class SafetyProjection:
    """Projects one zone's actions.

    Args:
        units: Its units.
        lines: Its lines; None leaves them out: units and balance only.
        line_names: Names of the lines, for certificates.

    Attributes:
        failures: Programs that the solver did not solve, where the units' own limits alone were kept.
    """

    def __init__(self, units: ZoneUnits, lines: ZoneLines | None, line_names: tuple[str, ...] = ()) -> None:
        self.units = units
        self.lines = lines
        self.failures = 0
        self._line_names = line_names
        self.reset()
        self._hessian = 1.0 / units.scale**2

    def reset(self) -> None:
        """Forgets the last programs, from which the next ones are started: then equal episodes have equal results."""
        self._starts: dict[tuple[str, int], np.ndarray] = {}

    def project(self, action: np.ndarray | None, m: Measurement, fallback: str | None = None) -> Certificate:
        """Projects an action (m,) in [-1, 1].

        Args:
            action: What the policy proposes, clipped to [-1, 1]; None where `fallback` says why it is not to be taken
                up.
            m: The zone's measurements.
            fallback: Hold and release in place of the action, for this reason.
        """
        units = self.units
        if fallback is None and action is not None and np.shape(action) != (units.action_size,):
            fallback = WRONG_SHAPE
        if fallback is None and (action is None or not np.isfinite(action).all()):
            fallback = NOT_FINITE
        room = units.room(m)
        if fallback is not None or action is None:
            return self._certify(units.release(room), None, room, m, fallback)
        action = np.clip(action, -1.0, 1.0)
        return self._certify(units.propose(action, room), action, room, m, None)

    def hold(self, m: Measurement) -> Certificate:
        """Projects holding the dispatch, with caps lifted and storages idle."""
        room = self.units.room(m)
        return self._certify(self.units.hold(room), None, room, m, None)

    def _certify(
        self, proposed: np.ndarray, action: np.ndarray | None, room: Room, m: Measurement, fallback: str | None
    ) -> Certificate:
        units = self.units
        change, how = units.nearest(proposed, room), "closed form"
        none = np.zeros(0)
        slack_mw, slack, margin, limit, worst = none, float("nan"), none, none, none
        bounds = None
        if self.lines is not None:
            count = len(self.lines.data.lines)
            model = self.lines.model(m.line_status[:count])
            if model is not None:
                bounds, limit = self.lines.bounds, self.lines.limits(m)
                flow, margin = m.p_or[:count].astype(float), model.margin
                worst = np.abs(flow + model.effects @ change) + margin
                if units.size > 0 and (worst > limit).any():
                    change, how = self._within(proposed, change, room, model, flow, limit)
                    worst = np.abs(flow + model.effects @ change) + margin
                slack_mw = np.maximum(worst - limit, 0.0)
                shares = np.where(slack_mw > 0.0, np.inf, 0.0)  # of a dead line's limit, 0
                slack = float(np.divide(slack_mw, limit, out=shares, where=limit > 0.0).max(initial=0.0))
        settled = units.settle(change, proposed, action, room)
        return Certificate(
            action=settled.action,
            plan=settled.plan,
            orders=units.orders(settled.plan, m),
            change=change,
            distance=settled.distance,
            slack_mw=slack_mw,
            slack=slack,
            margin_mw=margin,
            limit_mw=limit,
            worst_mw=worst,
            room=room,
            bounds=bounds,
            how=how,
            fallback=fallback,
            names=units.data.names,
            lines=self._line_names,
        )

    def _within(
        self,
        proposed: np.ndarray,
        allowed: np.ndarray,
        room: Room,
        model: LineModel,
        flow: np.ndarray,
        limit: np.ndarray,
    ) -> _Result:
        """The nearest changes to `proposed` within the lines' limits, or those of the least violation.

        allowed: what the units allow, for where the solver fails.
        """
        program = partial(self.program, proposed, room, model, flow, limit)
        try:
            total = None if math.isnan(room.total) else room.total
            optimum, how = self._optimum(partial(program, total))
            if total is None and (total := room.bound(optimum.x, SUM_TOLERANCE_MW)) is not None:
                optimum, how = self._optimum(partial(program, total))
        except SolverError:
            self.failures += 1
            self.reset()
            return _Result(allowed, "closed form")
        # the solver keeps the balance to its tolerance only, this exactly
        return _Result(self.units.nearest(optimum.x, room), how)

    def _optimum(self, program: Callable[[float | None], QuadraticProgram]) -> tuple[Optimum, str]:
        """The optimum within the lines' limits, or of the least violation, and which it is; `program` is of a price."""
        try:
            return self._solved("program", program(None))
        except SolverError:  # there is none, or the solver has gone in circles over that
            return self._solved("least violation", program(PRICE))

    def _solved(self, how: str, program: QuadraticProgram) -> tuple[Optimum, str]:
        kind = how, len(program.total)  # others have multipliers of other conditions
        optimum = _solve(program, self._starts.get(kind))
        self._starts[kind] = optimum.multipliers
        return optimum, how

    def program(
        self,
        proposed: np.ndarray,
        room: Room,
        model: LineModel,
        flow: np.ndarray,
        limit: np.ndarray,
        total: float | None,
        price: float | None,
    ) -> QuadraticProgram:
        """The program of this step: changes nearest to `proposed` that sum to `total`, lines' limits as shares of them.

        Raises:
            InfeasibleError: There is no price, and others alone may fill a line.
        """
        closed = np.isfinite(limit) & (limit > 0.0)  # of a dead line nothing can be said
        inverse = np.where(closed, 1.0 / np.where(closed, limit, 1.0), 0.0)
        free = 1.0 - TOLERANCE - model.margin * inverse
        if price is None and (free < 0.0).any():
            raise InfeasibleError("others alone may fill a line")
        free = np.maximum(free, 0.0)
        return QuadraticProgram(
            hessian=self._hessian,
            linear=-self._hessian * proposed,
            lower=room.low,
            upper=room.high,
            equal=np.ones((int(total is not None), self.units.size)),
            total=np.full(int(total is not None), total, dtype=float),
            rows=model.effects * inverse[:, None],
            row_lower=-free - flow * inverse,
            row_upper=free - flow * inverse,
            price=price,
        )


def _solve(program: QuadraticProgram, start: np.ndarray | None) -> Optimum:
    """The optimum, searched for from a similar program's multipliers, and from none where that leads nowhere."""
    try:
        return program.solve(start)
    except InfeasibleError:
        raise
    except SolverError:
        if start is None:
            raise
        return program.solve()
