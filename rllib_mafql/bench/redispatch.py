"""How the direct redispatch solver differs from Grid2Op's own, on the same problems of random play."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from grid2op.Environment.dispatch import (
    BaseRedispatchSolver,
    DefaultRedispatchSolver,
    RedispatchConstraints,
    RedispatchResult,
    RedispatchState,
)

from grid2op_zones import ZonedGridEnv
from grid2op_zones.redispatch import DirectRedispatchSolver

#: Objectives this close count as equal: SLSQP meets the balance within its tolerance only, which lets it go below.
OBJECTIVE_TOLERANCE = 1e-4


class BothSolvers(BaseRedispatchSolver):
    """Solves every problem by both solvers, goes on with the direct one's dispatch, and keeps what came of each.

    Attributes:
        problems: for each problem the verdicts (direct, SLSQP), the objectives, the greatest difference of a unit's
            dispatch (MW), by how much each misses the balance (MW), and the seconds that each took.
    """

    def __init__(self) -> None:
        super().__init__()
        self._solvers = DirectRedispatchSolver(), DefaultRedispatchSolver()
        self.problems: list[dict[str, Any]] = []

    def solve(self, constraints: RedispatchConstraints, state: RedispatchState) -> RedispatchResult:
        """The direct solver's result."""
        results, seconds = [], []
        for solver in self._solvers:
            before = time.perf_counter()
            results.append(solver.solve(constraints, state))
            seconds.append(time.perf_counter() - before)
        problem: dict[str, Any] = {"solved": [result.success for result in results], "seconds": seconds}
        if all(problem["solved"]):
            moves = [np.subtract(result.actual_dispatch, state.actual_dispatch, dtype=float) for result in results]
            total = constraints.power_to_compensate_mw
            problem["objective"] = [objective(move, constraints, state) for move in moves]
            problem["difference"] = float(np.abs(moves[0] - moves[1]).max())
            problem["imbalance"] = [abs(float(move.sum()) - total) for move in moves]
        self.problems.append(problem)
        return results[0]


def objective(moves: np.ndarray, constraints: RedispatchConstraints, state: RedispatchState) -> float:
    """Grid2Op's objective of changes of dispatch (n_gen,), MW: weighted squares of what units lack of their targets."""
    asked = state.already_modified_gen & constraints.gen_participating
    if not asked.any():
        asked = constraints.gen_participating
    weight = 1.0 / (constraints.ramp_up + constraints.ramp_down + constraints.epsilon).astype(float)
    lacking = np.subtract(state.target_dispatch, state.actual_dispatch, dtype=float)
    return float((weight * np.square(moves - lacking))[asked].sum())


def compare_solvers(
    grid: str, steps: int, seed: int = 0, on_steps: Callable[[int], None] = lambda steps: None
) -> dict[str, Any]:
    """Plays uniformly random joint actions, half of the episodes at a tenth of their size, and solves twice.

    Returns:
        problems: compared; same_verdict: those that both or neither solve; worse_objective: those where the direct
        objective is above SLSQP's; objective_excess: how far SLSQP's objective is above the direct one, median and max;
        difference_mw: greatest difference of a unit's dispatch in a problem, median, p99, max; imbalance_mw: the most
        that each solver misses the balance by; solve_us: median time of each.
    """
    env = ZonedGridEnv({"grid": grid, "redispatch_solver": "direct"})
    both = BothSolvers().bind(env.simulator)
    env.simulator._redispatch_solver = both
    rng, out = np.random.default_rng(seed), np.zeros(sum(env.observer.sizes.values()), np.float32)
    over, episode = True, 0
    for _ in range(steps):
        if over:
            env.joint_reset(out, seed=seed + episode)
            scale, episode = (1.0, 0.1)[episode % 2], episode + 1
        _, terminated, truncated, _ = env.joint_step(rng.uniform(-scale, scale, env.action_map.size), out)
        over = terminated or truncated
        on_steps(1)
    env.close()
    solved = [problem for problem in both.problems if all(problem["solved"])]
    direct, slsqp = np.array([problem["objective"] for problem in solved]).T
    difference = np.array([problem["difference"] for problem in solved])
    seconds = np.array([problem["seconds"] for problem in both.problems])
    return {
        "problems": len(both.problems),
        "same_verdict": sum(len(set(problem["solved"])) == 1 for problem in both.problems),
        "worse_objective": int((direct > slsqp + OBJECTIVE_TOLERANCE).sum()),
        "objective_excess": {"median": float(np.median(slsqp - direct)), "max": float((slsqp - direct).max())},
        "difference_mw": {
            "median": float(np.median(difference)),
            "p99": float(np.percentile(difference, 99)),
            "max": float(difference.max()),
        },
        "imbalance_mw": dict(
            zip(("direct", "slsqp"), np.max([p["imbalance"] for p in solved], axis=0).tolist(), strict=True)
        ),
        "solve_us": dict(zip(("direct", "slsqp"), (1e6 * np.median(seconds, axis=0)).tolist(), strict=True)),
    }
