"""Which outages matter: what the lines carry without one of them, by the linear model of the whole grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from grid2op_zones.generator.maintenance import read_plan
from grid2op_zones.observation import intact_outage_factors, limit_mw
from grid2op_zones.ptdf import LinearFlow

if TYPE_CHECKING:
    from grid2op_zones.generator.week import Week

#: Rows between those at which an outage is looked at (1 hour).
EVERY = 12

#: Share of a line's limit by which an outage has to load it further, to be what overloads it.
RISE = 0.05


class OverloadingOutages:
    """Picks the outages that would overload a line if nothing were done.

    Args:
        simulator: A Grid2Op environment on LightSimBackend, whose thermal limits count.
    """

    def __init__(self, simulator: Any) -> None:
        cls = type(simulator)
        self._limit = limit_mw(simulator)
        ptdf = LinearFlow(simulator).of_status(np.ones(cls.n_line, dtype=bool))
        assert ptdf is not None, "a grid whose lines are all closed is in one piece"
        self._of_gens, self._of_loads = ptdf[:, cls.gen_to_subid], ptdf[:, cls.load_to_subid]
        self._factors = intact_outage_factors(simulator, np.arange(cls.n_line))
        self._plan = read_plan(simulator)

    def further(self, week: Week) -> np.ndarray:
        """Those that might be planned beside a week's own, rows (line, first row, row after the last)."""
        planned = {tuple(outage) for outage in week.outages}
        possible = self._plan.possible(week.start, len(week.load_p))
        return self.among(week, np.array([o for o in possible if tuple(o) not in planned]).reshape(-1, 3))

    def among(self, week: Week, outages: np.ndarray) -> np.ndarray:
        """Those of some outages in a week, rows (line, first row, row after the last)."""
        flows: dict[tuple[int, int], np.ndarray] = {}
        for first, end in {(int(first), int(end)) for _, first, end in outages}:
            rows = slice(first, end, EVERY)
            flows[first, end] = self._of_gens @ week.prod_p[rows].T - self._of_loads @ week.load_p[rows].T
        return outages[[self._overloads(flows[first, end], line) for line, first, end in outages]]

    def _overloads(self, flow: np.ndarray, line: int) -> bool:
        """flow: (n_line, rows) MW with all lines closed."""
        after = np.abs(flow + self._factors[:, [line]] * flow[line]) / self._limit[:, None]
        before = np.abs(flow) / self._limit[:, None]
        return bool(((after > 1.0) & (after > before + RISE)).any())
