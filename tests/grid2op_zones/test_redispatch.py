"""The direct redispatch solver on a problem solved by hand; tests/bench compares it with Grid2Op's own."""

from __future__ import annotations

import numpy as np

from grid2op_zones.redispatch import closest_moves


def test_known_problem():
    # two units asked for +6 and 0 and one that never was; 3 MW to balance. The third takes -1 and is then at its bound,
    # so the others, of weights 1 and 2, share the 2 MW that are too much by 2 to 1
    moves = closest_moves(
        np.array([6.0, 0.0, 0.0]),
        np.array([True, True, False]),
        np.array([1.0, 2.0, 1.0]),
        np.array([-9.0, -9.0, -1.0]),
        np.full(3, 9.0),
        3.0,
    )
    np.testing.assert_allclose(moves, [6.0 - 4.0 / 3.0, -2.0 / 3.0, -1.0])
    # with room enough the third alone balances
    moves = closest_moves(
        np.array([6.0, 0.0, 0.0]), np.array([True, True, False]), np.ones(3), np.full(3, -9.0), np.full(3, 9.0), 3.0
    )
    np.testing.assert_allclose(moves, [6.0, 0.0, -3.0])
