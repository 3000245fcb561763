"""The composite reward: line loading, operating cost, use of renewables and staying alive, each in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from grid2op_zones import _kernels

COMPONENTS = ("safety", "cost", "renewables", "alive")

#: Loading from which a line counts against safety, and the summed excess at which safety is zero.
SAFE_LOADING = 0.9
LOADING_RANGE = 0.5

#: The cost component is zero when operation costs this share of what the grid's mean load costs at the mean price.
COST_SHARE = 0.4


class CompositeReward:
    """Weighted sum of four components of a Grid2Op observation.

    - safety: max(0, 1 - sum_l max(0, rho_l - 0.9) / 0.5)
    - cost: 1 - min(1, C / C_max), with C per hour the sum of |dispatch| at each unit's price, curtailed power and
      losses at the mean price, and storage power at its wear; C_max = ``COST_SHARE`` x mean load x mean price
    - renewables: energy used over energy available, 1 where there is none
    - alive: 1

    Prices are the grid's ``gen_cost_per_MW`` and ``storage_marginal_cost``, in its currency per MWh. The mean price is
    that of the redispatchable units, weighted by pmax.

    Args:
        grid: A Grid2Op environment.
        weights: Weight of each component, not negative.
        mean_load: Total load that sets the cost's scale, MW.
    """

    def __init__(self, grid: Any, weights: Mapping[str, float], mean_load: float) -> None:
        cls = type(grid)
        self.weights = {name: float(weights[name]) for name in COMPONENTS}
        dispatchable = cls.gen_redispatchable
        capacity = np.where(dispatchable, cls.gen_pmax, 0.0).astype(float)
        self.price = float(capacity @ cls.gen_cost_per_MW / max(capacity.sum(), 1e-6)) or 1.0
        self._dispatch_price = np.where(dispatchable, cls.gen_cost_per_MW, 0.0).astype(float)
        self._storage_price = cls.storage_marginal_cost.astype(float)
        self._renewable = np.flatnonzero(cls.gen_renewable)
        self.cost_scale = COST_SHARE * mean_load * self.price

    def components(self, grid_obs: Any) -> dict[str, float]:
        """The four components of an observation of a running grid."""
        overload, available, used, cost, lost = self._account(grid_obs)
        return {
            "safety": max(0.0, 1.0 - overload / LOADING_RANGE),
            "cost": 1.0 - min(1.0, self._cost(available, used, cost, lost) / self.cost_scale),
            "renewables": min(1.0, max(0.0, used / available)) if available > 1e-3 else 1.0,
            "alive": 1.0,
        }

    def operating_cost(self, grid_obs: Any) -> float:
        """Cost of an hour in the present state: dispatch, curtailment, storage and losses."""
        return self._cost(*self._account(grid_obs)[1:])

    def _cost(self, available: float, used: float, cost: float, lost: float) -> float:
        return cost + self.price * (max(available - used, 0.0) + max(lost, 0.0))

    def _account(self, obs: Any) -> tuple[float, float, float, float, float]:
        """Summed excess of loadings, MW of renewables available and used, cost of dispatch and storage, MW lost."""
        return _kernels.account(
            *(obs.rho, obs.gen_p_before_curtail, obs.gen_p, self._renewable, obs.load_p),
            *(obs.actual_dispatch, self._dispatch_price, obs.storage_power, self._storage_price, SAFE_LOADING),
        )

    def total(self, components: Mapping[str, float]) -> float:
        """The reward: the weighted sum of the components."""
        return sum(weight * components[name] for name, weight in self.weights.items())
