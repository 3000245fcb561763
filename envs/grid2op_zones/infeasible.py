"""Overloads that no dispatch prevents: the least loading that a grid's units could bring its lines to.

Weeks have planned outages that nobody survives. Whether a better agent would is asked here of the best dispatch that
there could be: in one row of the series, every unit may stand anywhere within its limits. Ramps, minimum times, the
energy in storages and how one came there do not count, nor does who sees what; so what is overloaded even then is
overloaded for every agent that can only dispatch.

Found by successive linear programs around AC power flows (Stott and Marinho, "Linear programming for power-system
network security applications", 1979), whose sensitivities are those of the AC flows themselves. Such a search ends
where no small change of dispatch helps; that no large one does is not proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from grid2op_zones.area import make_areas
from grid2op_zones.generator.powerflow import ITERATIONS, TOLERANCE, copy_grid
from grid2op_zones.program import SolverError

if TYPE_CHECKING:
    from grid2op_zones.env import ZonedGridEnv
    from grid2op_zones.generator.week import Week

#: Linear programs of a row at most.
PROGRAMS = 60

#: Least share of the units' ranges that a program may move them by; halved from 1 on where the linear model misleads.
NEAREST = 1.0 / 512.0

#: MW by which a unit is moved to see what that does.
NUDGE = 0.5


class Row(NamedTuple):
    """What dispatch could do in one row of a week. Loadings are current over thermal limit, of the highest line."""

    row: int
    out: tuple[int, ...]  #: ids of the lines that are out as planned
    idle: float  #: loading with nothing done
    least: float  #: the least that was found; `idle` where that is within the limits
    line: int  #: id of the line that is loaded highest then
    moved: float  #: MW, sum of how far the units stand from their schedules then

    @property
    def feasible(self) -> bool:
        """Whether a dispatch was found that keeps all lines within their limits."""
        return self.least <= 1.0


class _Flows(NamedTuple):
    """An AC power flow."""

    loading: np.ndarray  #: (n_line,) current over thermal limit, with the sign of the active flow
    voltage: np.ndarray  #: (n_bus,) complex, p.u.

    @property
    def highest(self) -> float:
        return float(np.abs(self.loading).max())


class LeastLoading:
    """Finds the least loading in rows of weeks.

    Args:
        env: On LightSimBackend, reset before; its thermal limits and kinds of `actions` count. What units do is
            balanced over the whole grid, whatever its `balance` is.

    Raises:
        PowerFlowError: The grid as it was reset has no power flow.
        ValueError: No unit may be redispatched, so that nothing balances the others.
    """

    def __init__(self, env: ZonedGridEnv) -> None:
        simulator = env.simulator
        self._grid, self._start = copy_grid(simulator)
        (self._area,) = make_areas(simulator, env.zones, "grid", env.config["actions"], central=True)
        if not len(self._area.balanced):
            raise ValueError(f"actions: redispatch has to be among them, found {env.config['actions']}")
        self._limit = np.array(simulator.get_thermal_limit(), dtype=float)
        self._shape = type(simulator)

    def rows(self, week: Week, rows: Sequence[int]) -> Iterator[Row]:
        """What dispatch could do in each row; rows whose outages split the grid or have no power flow are left out."""
        for row in rows:
            found = self.row(week, row)
            if found is not None:
                yield found

    def row(self, week: Week, row: int) -> Row | None:
        """What dispatch could do in one row, with the lines out that are planned to be; None without a power flow.

        Raises:
            SolverError: A linear program was not solved.
        """
        out = tuple(sorted(int(line) for line, first, end in week.outages if first <= row < end))
        grid = self._without(out)
        low, high = self._ends(week, row)
        x = np.zeros(len(low))
        flows = self._solve(grid, week, row, x, self._start)
        if flows is None:
            return None
        idle, reach, effects = flows.highest, 1.0, None
        for _ in range(PROGRAMS):
            if flows.highest <= 1.0 or reach < NEAREST:
                break
            if effects is None:
                effects = self._effects(grid, week, row, x, flows)
            box = reach * (high - low)
            step = self._program(effects, flows.loading, np.maximum(low - x, -box), np.minimum(high - x, box))
            there = self._solve(grid, week, row, x + step, flows.voltage)
            if there is not None and there.highest < flows.highest:
                x, flows, effects = x + step, there, None
            else:
                reach /= 2.0
        line = int(np.abs(flows.loading).argmax())
        return Row(row, out, idle, flows.highest, line, float(np.abs(x).sum()))

    def _without(self, out: tuple[int, ...]) -> Any:
        grid = self._grid.copy()
        lines = len(grid.get_lines())
        for line in out:  # Grid2Op's lines are the grid's lines, then its transformers
            if line < lines:
                grid.deactivate_powerline(line)
            else:
                grid.deactivate_trafo(line - lines)
        return grid

    def _ends(self, week: Week, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest change of the units' injections from their schedules, MW, each (n,)."""
        area, shape = self._area, self._shape
        p = week.prod_p[row].astype(float)
        red, cur = p[area.redispatchable], p[area.curtailable]
        low = [np.minimum(shape.gen_pmin[area.redispatchable] - red, 0.0), -np.maximum(cur, 0.0)]
        high = [np.maximum(shape.gen_pmax[area.redispatchable] - red, 0.0), np.zeros(len(cur))]
        low.append(-shape.storage_max_p_absorb[area.storages].astype(float))
        high.append(shape.storage_max_p_prod[area.storages].astype(float))
        return np.concatenate(low), np.concatenate(high)

    def _solve(self, grid: Any, week: Week, row: int, x: np.ndarray, start: np.ndarray) -> _Flows | None:
        """The power flow with changes of the units' injections, MW, (n,); None where there is no solution."""
        area = self._area
        gens, renewables, storages = np.split(x, np.cumsum([len(area.redispatchable), len(area.curtailable)]))
        p = week.prod_p[row].astype(float)
        p[area.redispatchable] += gens
        p[area.curtailable] += renewables
        charged = np.zeros(self._shape.n_storage)
        charged[area.storages] = -storages
        for update, values in (
            (grid.update_gens_p, p),
            (grid.update_loads_p, week.load_p[row]),
            (grid.update_loads_q, week.load_q[row]),
            (grid.update_storages_p, charged),
        ):
            update(np.ones(len(values), dtype=bool), np.asarray(values, dtype=np.float32))
        voltage = grid.ac_pf(start.copy(), ITERATIONS, TOLERANCE)
        if not voltage.size:
            return None
        active, _, _, current = (
            np.concatenate(pair) for pair in zip(grid.get_line_res1()[:4], grid.get_trafo_res1()[:4], strict=True)
        )
        return _Flows(np.copysign(current * 1e3 / self._limit, active), voltage)

    def _effects(self, grid: Any, week: Week, row: int, x: np.ndarray, flows: _Flows) -> np.ndarray:
        """Loading of each line per MW of each unit, the slack making up for it, (n_line, n)."""
        columns = []
        for unit in np.eye(len(x)):
            nudged = self._solve(grid, week, row, x + NUDGE * unit, flows.voltage)
            # a unit without such a flow is not counted on
            columns.append(np.zeros_like(flows.loading) if nudged is None else (nudged.loading - flows.loading) / NUDGE)
        return np.stack(columns, axis=1)

    def _program(self, effects: np.ndarray, loading: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The change of injections that lowers the highest loading most, by the linear model, (n,) MW."""
        n = len(low)
        highest = -np.ones((len(loading), 1))
        balanced = np.hstack([self._area.balanced, np.zeros((len(self._area.balanced), 1))])
        found = linprog(
            np.append(np.zeros(n), 1.0),
            A_ub=np.vstack([np.hstack([effects, highest]), np.hstack([-effects, highest])]),
            b_ub=np.concatenate([-loading, loading]),
            A_eq=balanced,
            b_eq=np.zeros(len(balanced)),
            bounds=[*zip(low, high, strict=True), (0.0, None)],
        )
        if found.x is None:
            raise SolverError(found.message)
        return found.x[:n]


def episode_rows(env: ZonedGridEnv, start: int, every: int) -> tuple[Week, list[int]]:
    """The week that `env` plays, and the rows to look at: every so many, and those in which outages begin."""
    week = env.simulator.chronics_handler.real_data.week
    end = min(start + env.scenarios.max_steps, len(week.load_p) - 1)
    begin = {int(first) for _, first, _ in week.outages}
    return week, sorted({*range(start, end + 1, every), *(row for row in begin if start <= row <= end)})
