"""Grid2Op's redispatch problem, solved exactly instead of by SLSQP.

At every step Grid2Op looks for the changes x of the units' dispatch that come closest to what was asked for,

    min  sum_j w_j (x_j - t_j)^2   over the units j that were ever redispatched, w_j = 1 / (ramp_up_j + ramp_down_j)
    s.t. sum_j x_j = b   over all units that may take part, low <= x <= high,

with t what a unit lacks of its target, b what curtailment and storage leave to be balanced, and the bounds from pmin,
pmax and the part of the ramps that the time series leave. The program is separable but for one equality, so a search
over its sorted breakpoints solves it. Units that were never redispatched cost nothing: they balance the rest first, as
far as their bounds go, nearest to 0 (weighted by ramps).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from grid2op.Environment.dispatch import (
    BaseRedispatchSolver,
    RedispatchConstraints,
    RedispatchResult,
    RedispatchState,
)

from grid2op_zones import _kernels


class DirectRedispatchSolver(BaseRedispatchSolver):
    """The optimum of Grid2Op's own redispatch problem, for ``grid2op.make(..., redispatch_solver=)``.

    Feasibility is judged as by Grid2Op's default solver. The objective is never above that solver's, which stops within
    a tolerance; dispatch therefore differs from it, see docs/speed.md for how much.
    """

    def solve(self, constraints: RedispatchConstraints, state: RedispatchState) -> RedispatchResult:
        """New dispatch of all units, MW, (n_gen,), or why there is none."""
        balance = constraints.power_to_compensate_mw, constraints.epsilon
        ramps = np.concatenate([constraints.ramp_up, constraints.ramp_down])
        limits = constraints.pmin, constraints.pmax, ramps
        dispatch = solve_directly(constraints.new_p, state, constraints.gen_participating, *limits, *balance)
        if dispatch is None:
            # Grid2Op's own verdict, its reasons, and the units that it turns on where they save the grid
            mask, _, failure = self._prepare_solver_inputs(constraints, state)
            if failure is not None:
                return failure
            dispatch = solve_directly(constraints.new_p, state, mask, *limits, *balance, anyway=True)
        return RedispatchResult(success=True, actual_dispatch=dispatch)


def solve_directly(
    scheduled: np.ndarray,
    state: Any,
    part: np.ndarray,
    pmin: np.ndarray,
    pmax: np.ndarray,
    ramps: np.ndarray,
    total: float,
    epsilon: float,
    anyway: bool = False,
) -> np.ndarray | None:
    """New dispatch of all units, MW, (n_gen,) float32; None where ``total`` is beyond their reach.

    Args:
        scheduled: (n_gen,) MW, production by the time series, after curtailment.
        state: Grid2Op's ``RedispatchState``.
        part: (n_gen,) whether a unit takes part.
        pmin, pmax: (n_gen,) MW.
        ramps: (2 n_gen,) MW a step, up, then down.
        total: MW to be balanced.
        epsilon: MW by which bounds are relaxed, half of it on either side, as in Grid2Op.
        anyway: come as near to ``total`` as bounds allow.
    """
    dispatch = np.empty_like(state.actual_dispatch)
    reached = _kernels.redispatch(
        dispatch,
        *(scheduled, state.gen_activeprod_t_redisp, state.actual_dispatch, state.target_dispatch),
        *(pmin, pmax, ramps, part, state.already_modified_gen),
        *(total, epsilon, anyway),
    )
    return dispatch if reached else None
