"""The composite reward against values computed by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from grid2op_zones.reward import COST_SHARE, CompositeReward


class TwoUnitGrid:
    """One thermal unit at 50 per MWh, one wind unit, one storage that wears at 2 per MWh."""

    gen_redispatchable = np.array([True, False])
    gen_renewable = np.array([False, True])
    gen_pmax = np.array([100.0, 80.0], dtype=np.float32)
    gen_cost_per_MW = np.array([50.0, 0.0], dtype=np.float32)
    storage_marginal_cost = np.array([2.0], dtype=np.float32)


WEIGHTS = {"safety": 0.4, "cost": 0.2, "renewables": 0.2, "alive": 0.2}


def observation(**changes):
    state = {
        "rho": np.array([0.5, 0.8]),
        "gen_p": np.array([70.0, 40.0]),
        "gen_p_before_curtail": np.array([0.0, 40.0]),
        "load_p": np.array([110.0]),
        "storage_power": np.array([0.0]),
        "actual_dispatch": np.array([0.0, 0.0]),
    }
    return SimpleNamespace(**{name: value.astype(np.float32) for name, value in {**state, **changes}.items()})


@pytest.fixture
def reward():
    return CompositeReward(TwoUnitGrid(), WEIGHTS, mean_load=200.0)


def test_a_calm_grid_earns_everything(reward):
    components = reward.components(observation())
    assert components == {"safety": 1.0, "cost": 1.0, "renewables": 1.0, "alive": 1.0}
    assert reward.total(components) == pytest.approx(1.0)


def test_safety_falls_with_the_summed_excess_over_nine_tenths(reward):
    assert reward.components(observation(rho=np.array([1.0, 0.95])))["safety"] == pytest.approx(1 - 0.15 / 0.5)
    assert reward.components(observation(rho=np.array([1.5, 0.2])))["safety"] == 0.0
    assert reward.components(observation(rho=np.array([0.9, 0.9])))["safety"] == 1.0


def test_cost_adds_dispatch_curtailment_storage_and_losses(reward):
    grid = observation(
        actual_dispatch=np.array([-6.0, 0.0]),  # 6 MW at 50
        gen_p=np.array([75.0, 30.0]),
        gen_p_before_curtail=np.array([0.0, 40.0]),  # 10 MW curtailed at the mean price, 50
        load_p=np.array([98.0]),
        storage_power=np.array([4.0]),  # 4 MW at 2, and 105 - 98 - 4 = 3 MW of losses at 50
    )
    cost = 6 * 50 + 10 * 50 + 4 * 2 + 3 * 50
    assert reward.operating_cost(grid) == pytest.approx(cost)
    assert reward.cost_scale == pytest.approx(COST_SHARE * 200.0 * 50.0)
    assert reward.components(grid)["cost"] == pytest.approx(1 - cost / reward.cost_scale)
    assert reward.components(observation(actual_dispatch=np.array([1e6, 0.0])))["cost"] == 0.0


def test_renewables_are_the_share_used(reward):
    assert reward.components(observation(gen_p=np.array([80.0, 30.0])))["renewables"] == pytest.approx(0.75)
    dark = observation(gen_p=np.array([110.0, 0.0]), gen_p_before_curtail=np.array([0.0, 0.0]))
    assert reward.components(dark)["renewables"] == 1.0


def test_the_total_weighs_the_components(reward):
    components = {"safety": 0.5, "cost": 0.25, "renewables": 1.0, "alive": 1.0}
    assert reward.total(components) == pytest.approx(0.4 * 0.5 + 0.2 * 0.25 + 0.2 + 0.2)
