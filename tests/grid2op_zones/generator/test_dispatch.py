"""The linear programme of the dispatch, on systems small enough to know the answer."""

from __future__ import annotations

import numpy as np
import pytest

from grid2op_zones.generator.dispatch import DispatchError, DispatchModel


def _model(
    cost: list[float], pmax: list[float], ramp: float = 1000.0, shares: list[float] | None = None
) -> DispatchModel:
    n = len(cost)
    return DispatchModel(
        units=np.arange(n),
        pmin=np.zeros(n),
        pmax=np.array(pmax),
        ramp=np.full((n, 2), ramp),
        cost=np.array(cost),
        hydro=np.zeros(n, dtype=bool),
        shares=None if shares is None else np.array(shares),
        losses=0.0,
    )


def test_the_cheapest_unit_runs_first() -> None:
    demand = np.array([50.0, 120.0, 80.0])
    output, used = _model([10.0, 20.0], [100.0, 100.0]).solve(demand, np.full(3, 5.0), np.ones(3))
    np.testing.assert_allclose(output, [[45.0, 0.0], [100.0, 15.0], [75.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(used, 5.0)


def test_ramps_are_foreseen() -> None:
    # 40 MW more at once, of which the cheap unit's ramp gives 10: the dear one makes room before
    demand = np.array([60.0, 60.0, 60.0, 100.0, 100.0])
    output, _ = _model([10.0, 20.0], [200.0, 200.0], ramp=25.0).solve(demand, np.zeros(5), np.ones(5))
    np.testing.assert_allclose(output.sum(axis=1), demand)
    assert np.abs(np.diff(output, axis=0)).max() <= 25.0 + 1e-6
    assert output[3, 1] == pytest.approx(15.0)


def test_units_alike_share_their_output() -> None:
    output, _ = _model([10.0, 10.0, 30.0], [50.0, 50.0, 50.0]).solve(np.full(2, 70.0), np.zeros(2), np.ones(2))
    np.testing.assert_allclose(output, [[35.0, 35.0, 0.0]] * 2, atol=1e-6)


def test_renewables_are_curtailed_only_when_nothing_else_helps() -> None:
    output, used = _model([10.0], [100.0]).solve(np.array([30.0, 50.0]), np.array([40.0, 40.0]), np.ones(2))
    np.testing.assert_allclose(used, [30.0, 40.0], atol=1e-6)
    np.testing.assert_allclose(output[:, 0], [0.0, 10.0], atol=1e-6)


def test_shares_are_kept_as_far_as_limits_allow() -> None:
    model = _model([1.0, 99.0], [100.0, 100.0], shares=[0.25, 0.75])
    output, _ = model.solve(np.array([80.0, 160.0]), np.zeros(2), np.ones(2))
    np.testing.assert_allclose(output, [[20.0, 60.0], [60.0, 100.0]], atol=1e-6)


def test_water_limits_hydro_units() -> None:
    model = _model([1.0, 50.0], [100.0, 100.0])
    model.hydro[0] = True
    output, _ = model.solve(np.full(2, 70.0), np.zeros(2), np.array([0.6, 0.5]))
    np.testing.assert_allclose(output, [[60.0, 10.0], [50.0, 20.0]], atol=1e-6)


def test_too_much_load_is_an_error() -> None:
    with pytest.raises(DispatchError, match="limits"):
        _model([10.0], [100.0]).solve(np.array([90.0, 150.0]), np.zeros(2), np.ones(2))
