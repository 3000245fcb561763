"""The direct redispatch solver against Grid2Op's own, and the command that compares them."""

from __future__ import annotations

import numpy as np
import pytest
from grid2op.Environment.dispatch import DefaultRedispatchSolver, RedispatchConstraints, RedispatchState
from hypothesis import given, settings
from hypothesis import strategies as st

from grid2op_zones.redispatch import DirectRedispatchSolver
from rllib_mafql.bench.redispatch import BothSolvers, compare_solvers


def problem(rng, n, total):
    """A step of n generators after some redispatching, as Grid2Op hands it to its solver."""
    state = RedispatchState.allocate(n, 0, 0)
    pmax, ramp = rng.uniform(50, 400, n).astype(np.float32), rng.uniform(2, 40, n).astype(np.float32)
    pmin = (0.2 * pmax * rng.random(n)).astype(np.float32)
    before = rng.uniform(pmin, pmax).astype(np.float32)
    state.actual_dispatch[:] = rng.normal(0, 5, n) * (rng.random(n) < 0.7)
    state.already_modified_gen[:] = rng.random(n) < 0.6
    state.target_dispatch[:] = np.where(
        state.already_modified_gen, state.actual_dispatch + rng.normal(0, 20, n), state.target_dispatch
    )
    state.gen_activeprod_t_redisp[:] = before
    scheduled = (before - state.actual_dispatch + rng.normal(0, 0.3, n) * ramp).astype(np.float32)
    nothing, everything = np.zeros(n, bool), np.ones(n, bool)
    constraints = RedispatchConstraints(
        new_p=scheduled,
        gen_participating=(scheduled > 0) | (np.abs(state.actual_dispatch) > 1e-7),
        gen_detached=nothing,
        power_to_compensate_mw=total,
        contributions={},
        pmin=pmin,
        pmax=pmax,
        ramp_up=ramp,
        ramp_down=ramp,
        redispatchable_mask=everything,
        can_use_all_redispatchable=True,
        epsilon=1e-4,
        tol=0.01,
    )
    return constraints, state


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), total=st.floats(-150, 150))
@settings(deadline=None, max_examples=300)
def test_same_verdict_and_never_a_worse_objective(seed, n, total):
    both = BothSolvers()
    constraints, state = problem(np.random.default_rng(seed), n, total)
    result = both.solve(constraints, state)
    (found,) = both.problems
    if result.success:
        moves = result.actual_dispatch.astype(float) - state.actual_dispatch
        assert moves.sum() == pytest.approx(total, abs=1e-3)
        produced = constraints.new_p + result.actual_dispatch
        part = constraints.gen_participating
        assert (
            produced[part] <= np.maximum(constraints.pmax, constraints.new_p + state.actual_dispatch)[part] + 0.01
        ).all()
    assert found["solved"][0] >= found["solved"][1]  # what SLSQP solves is solved
    if found["solved"][0] > found["solved"][1]:
        # SLSQP's own failures on a problem that has a solution: its iterations end before the balance is met
        assert DefaultRedispatchSolver()._prepare_solver_inputs(constraints, state)[2] is None
    if all(found["solved"]):
        assert found["objective"][0] <= found["objective"][1] + 1e-3


def test_an_impossible_balance_is_refused_with_grid2ops_reasons():
    constraints, state = problem(np.random.default_rng(0), 4, 1e4)
    result = DirectRedispatchSolver().solve(constraints, state)
    assert not result.success
    assert "should increase their total production" in str(result.exception)
    assert result.unserved_mw > 9e3


def test_problems_of_random_play():
    seen = []
    report = compare_solvers("educ_case14_storage", 150, on_steps=seen.append)
    assert sum(seen) == 150
    assert report["same_verdict"] == report["problems"] > 100
    assert report["worse_objective"] == 0
    assert 0 < report["difference_mw"]["median"] <= report["difference_mw"]["p99"] <= report["difference_mw"]["max"] < 5
    assert max(report["imbalance_mw"].values()) < 0.01
