"""The direct redispatch solver on problems solved by hand; tests/bench compares it with Grid2Op's own."""

from __future__ import annotations

import numpy as np
from grid2op.Environment.dispatch import RedispatchState

from grid2op_zones.redispatch import solve_directly


def moves(lowest, total):
    """Changes of three units of which two were asked for +6 and 0 MW; the third goes down by `lowest` at most."""
    state = RedispatchState.allocate(3, 0, 0)
    state.target_dispatch[:] = [6.0, 0.0, 0.0]
    state.already_modified_gen[:] = [True, True, False]
    state.gen_activeprod_t_redisp[:] = 50.0
    scheduled, ramps = np.full(3, 50.0, np.float32), np.array([20.0, 10.0, 20.0, 20.0, 10.0, 20.0], np.float32)
    pmin, pmax = np.array([0.0, 0.0, 50.0 - lowest], np.float32), np.full(3, 100.0, np.float32)
    return solve_directly(scheduled, state, np.ones(3, bool), pmin, pmax, ramps, total, 1e-4)


def test_what_was_not_asked_for_balances_first():
    np.testing.assert_allclose(moves(9.0, 3.0), [6.0, 0.0, -3.0], atol=1e-4)


def test_the_others_share_the_rest_by_their_ramps():
    # the third takes -1 and is then at its bound; the 2 MW that are too much go to ramps of 20 and 10 MW by 2 to 1
    np.testing.assert_allclose(moves(1.0, 3.0), [6.0 - 4.0 / 3.0, -2.0 / 3.0, -1.0], atol=1e-3)


def test_what_is_out_of_reach_has_no_solution():
    assert moves(1.0, 51.0) is None
    assert moves(1.0, 49.9) is not None
