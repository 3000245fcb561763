"""Intervals of shares, and the time of a reset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid2op_zones.generator.survival import wilson


@pytest.mark.parametrize(
    ("survived", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (0, 0, 0.0, 1.0)],
)
def test_known_intervals(survived: int, episodes: int, low: float, high: float) -> None:
    assert wilson(survived, episodes) == pytest.approx((low, high), abs=1e-4)


@given(episodes=st.integers(1, 500), share=st.floats(0, 1))
def test_an_interval_holds_the_share_and_mirrors(episodes: int, share: float) -> None:
    survived = round(share * episodes)
    low, high = wilson(survived, episodes)
    assert 0.0 <= low <= survived / episodes + 1e-12 and survived / episodes - 1e-12 <= high <= 1.0
    np.testing.assert_allclose(wilson(episodes - survived, episodes), (1.0 - high, 1.0 - low), atol=1e-12)
