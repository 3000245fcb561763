"""Grid2Op's redispatch problem, solved exactly instead of by SLSQP.

At every step Grid2Op looks for the changes x of the units' dispatch that come closest to what was asked for,

    min  sum_j w_j (x_j - t_j)^2   over the units j that were ever redispatched, w_j = 1 / (ramp_up_j + ramp_down_j)
    s.t. sum_j x_j = b   over all units that may take part, low <= x <= high,

with t what a unit lacks of its target, b what curtailment and storage leave to be balanced, and the bounds from pmin,
pmax and the ramps. The program is separable but for one equality, so a sort of its breakpoints solves it.
"""

from __future__ import annotations

import numpy as np
from grid2op.Environment.dispatch import (
    BaseRedispatchSolver,
    RedispatchConstraints,
    RedispatchResult,
    RedispatchState,
)

from grid2op_zones.action import clip, project


class DirectRedispatchSolver(BaseRedispatchSolver):
    """The optimum of Grid2Op's own redispatch problem, for ``grid2op.make(..., redispatch_solver=)``.

    Feasibility is judged as by Grid2Op's default solver. The objective is never above that solver's, which stops within
    a tolerance; dispatch therefore differs from it, see docs/speed.md for how much. Units that were never redispatched
    cost nothing in the objective: they balance the rest first, each by as little as possible (weighted by ramps).
    """

    def solve(self, constraints: RedispatchConstraints, state: RedispatchState) -> RedispatchResult:
        """New dispatch of all units, MW, (n_gen,), or why there is none."""
        units = np.flatnonzero(constraints.gen_participating)
        total = float(constraints.power_to_compensate_mw)
        low, high = move_range(constraints, state, units)
        if not low.sum() <= total <= high.sum():
            # Grid2Op's own verdict, its reasons, and the units that it turns on where they save the grid
            mask, _, failure = self._prepare_solver_inputs(constraints, state)
            if failure is not None:
                return failure
            units = np.flatnonzero(mask)
            low, high = move_range(constraints, state, units)
        actual = state.actual_dispatch[units].astype(float)
        slack = 0.5 * float(constraints.epsilon)
        asked = state.already_modified_gen[units]
        if not asked.any():
            asked = np.ones_like(asked)
        moves = closest_moves(
            state.target_dispatch[units] - actual,
            asked,
            1.0 / (constraints.ramp_up[units] + constraints.ramp_down[units] + float(constraints.epsilon)),
            low - slack,
            np.maximum(high, low) + slack,
            total,
        )
        dispatch = state.actual_dispatch.copy()
        dispatch[units] += moves
        return RedispatchResult(success=True, actual_dispatch=dispatch)


def move_range(
    constraints: RedispatchConstraints, state: RedispatchState, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest change of the units' dispatch in this step, MW: pmin, pmax, and the ramps' part that the time
    series leave."""
    before = state.gen_activeprod_t_redisp[units].astype(float)
    increase = constraints.new_p[units] + state.actual_dispatch[units] - before
    low = np.maximum(constraints.pmin[units] - before, -constraints.ramp_down[units]) - increase
    high = np.minimum(constraints.pmax[units] - before, constraints.ramp_up[units]) - increase
    return low, high


def closest_moves(
    lacking: np.ndarray, asked: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray, total: float
) -> np.ndarray:
    """Minimise sum over asked of weight (x - lacking)^2 subject to sum x = total, low <= x <= high. All arrays (n,).

    What is not asked costs nothing, and so takes up the balance as far as its bounds go, nearest to 0.
    """
    moves = clip(lacking, low, high)
    free = ~asked
    if free.any():
        moves[free] = _closest(
            np.zeros(int(free.sum())), low[free], high[free], weight[free], total - moves[asked].sum()
        )
        total = total - moves[free].sum()
    moves[asked] = _closest(lacking[asked], low[asked], high[asked], weight[asked], total)
    return moves


def _closest(x: np.ndarray, low: np.ndarray, high: np.ndarray, weight: np.ndarray, total: float) -> np.ndarray:
    return project(x[None], low[None], high[None], weight[None], np.array([total]))[0]
