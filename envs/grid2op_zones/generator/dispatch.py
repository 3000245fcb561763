"""Economic dispatch of a week: which unit produces what, as one linear programme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from grid2op_zones.generator.fields import smooth_noise
from grid2op_zones.generator.recorded import DAY, Series

#: params_opf.json of l2rpn_idf_2023, as far as used here: shares of pmax and ramps that the dispatch may plan with,
#: what divides the ramps of hydro units, expected losses in percent of the load.
DEFAULT_PARAMS: Mapping[str, Any] = {
    "PmaxErrorCorrRatio": 1.0,
    "RampErrorCorrRatio": 0.9,
    "hydro_ramp_reduction_factor": 1.0,
    "losses_pct": 2.5,
    "slack_name": None,
}

#: Output that water allows, share of a hydro unit's pmax: HYDRO_MEAN + HYDRO_SWING cos, highest on HYDRO_PEAK, plus
#: slow noise of HYDRO_STD. Recorded: .60 in January, .67 in February, .36 in August, the same for all units of a grid.
HYDRO_MEAN, HYDRO_SWING, HYDRO_PEAK = 0.51, 0.15, 45
HYDRO_STD, HYDRO_MINUTES = 0.03, 4 * 1440.0

#: Price of curtailing renewables, per MW: they have no cost of their own, so any unit is turned down before them.
CURTAILMENT_PRICE = 10.0

#: Shares of the dispatched total that vary by less than this part of themselves are constant: the series was not
#: dispatched by cost.
CONSTANT_SHARE = 0.1


class DispatchError(RuntimeError):
    """No dispatch meets the load within the units' limits."""


@dataclass(frozen=True, eq=False)
class DispatchModel:
    """Dispatchable units of a grid; all arrays are (n,) for its n dispatchable units."""

    units: np.ndarray  #: generator ids
    pmin: np.ndarray  #: MW
    pmax: np.ndarray  #: MW
    ramp: np.ndarray  #: (n, 2) MW per step, up and down
    cost: np.ndarray  #: per MW
    hydro: np.ndarray  #: boolean
    shares: np.ndarray | None  #: of the total, where the grid's own series follow shares instead of costs
    losses: float  #: expected, share of the load

    def water(self, rng: np.random.Generator, day_of_year: float, steps: int) -> np.ndarray:
        """Share of pmax that water allows to hydro units, (steps,)."""
        days = day_of_year + np.arange(steps) / DAY
        season = HYDRO_MEAN + HYDRO_SWING * np.cos(2 * np.pi * (days - HYDRO_PEAK) / 365.25)
        return np.clip(season + HYDRO_STD * smooth_noise(rng, steps, 1, HYDRO_MINUTES)[:, 0], 0.1, 0.9)

    def solve(self, demand: np.ndarray, renewable: np.ndarray, water: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cheapest dispatch of a week, known in advance.

        Args:
            demand: Load and losses, (T,) MW.
            renewable: Available from wind and sun, (T,) MW.
            water: See ``water``, (T,); ignored where the grid follows shares.

        Returns:
            Output of every unit, (T, n) MW, and how much of the renewables is used, (T,) MW.

        Raises:
            DispatchError: The units cannot follow the demand.
        """
        if self.shares is not None:
            net = np.maximum(demand - renewable, 0.0)
            return self._solve(demand, renewable, np.arange(len(self.units)), self.pmax, net[:, None] * self.shares)
        # units that differ in nothing are one unit for the programme: fewer unknowns, and they share its output
        traits = np.column_stack([self.cost, self.pmin, self.pmax, self.ramp, self.hydro])
        _, first, group, size = np.unique(traits, axis=0, return_index=True, return_inverse=True, return_counts=True)
        limit = np.where(self.hydro[first], water[:, None], 1.0) * self.pmax[first]
        output, used = self._solve(demand, renewable, first, limit, None, size)
        return (output / size)[:, group.ravel()], used

    def _solve(
        self,
        demand: np.ndarray,
        renewable: np.ndarray,
        units: np.ndarray,
        limit: np.ndarray,
        target: np.ndarray | None,
        size: np.ndarray | int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Groups of ``size`` equal units each; ``limit`` (T, n) or (n,) MW a unit; with a ``target`` (T, n) the cost is
        the distance from it.

        Unknowns, each for all steps: MW above the base of every group, with a target also MW below it, MW curtailed.
        The base is pmin or the target.
        """
        steps, n = len(demand), len(units)
        low = self.pmin[units] * size
        high = np.broadcast_to(limit * size, (steps, n))
        high = np.maximum(high, low)
        base = np.broadcast_to(low, (steps, n)) if target is None else np.clip(target, low, high)
        ramp = self.ramp[units] * np.reshape(size, (-1, 1))

        one_step = sp.diags([-np.ones(steps - 1), np.ones(steps - 1)], [0, 1], shape=(steps - 1, steps))
        change = sp.block_diag([one_step] * n)
        eye = sp.identity(steps)
        blocks, balance = [change], [eye] * n
        cost = [np.repeat(self.cost[units] if target is None else np.ones(n), steps)]
        upper = [(high - base).T.ravel()]
        if target is not None:
            blocks.append(-change)
            balance += [-eye] * n
            cost.append(np.ones(n * steps))
            upper.append((base - low).T.ravel())
        blocks.append(sp.csr_matrix((n * (steps - 1), steps)))
        balance.append(-eye)
        cost.append(np.full(steps, CURTAILMENT_PRICE))
        upper.append(renewable)

        ramps = sp.hstack(blocks).tocsr()
        moved = np.diff(base, axis=0).T.ravel()  # by the base alone
        found = linprog(
            np.concatenate(cost),
            A_ub=sp.vstack([ramps, -ramps]).tocsr(),
            b_ub=np.concatenate([np.repeat(ramp[:, 0], steps - 1) - moved, np.repeat(ramp[:, 1], steps - 1) + moved]),
            A_eq=sp.hstack(balance).tocsr(),
            b_eq=demand - renewable - base.sum(axis=1),
            bounds=np.column_stack([np.zeros(sum(map(len, upper))), np.concatenate(upper)]),
            method="highs-ds",
        )
        if not found.success:
            raise DispatchError(f"no dispatch meets the load within the units' limits: {found.message}")
        unknowns = found.x.reshape(-1, steps).T
        output = base + unknowns[:, :n] - (unknowns[:, n : 2 * n] if target is not None else 0.0)
        return output, renewable - unknowns[:, -1]


def make_dispatch_model(env: Any, recorded: Sequence[Series], params: Mapping[str, Any]) -> DispatchModel:
    """The model of a grid; ``params`` is params_opf.json, {} where there is none."""
    grid = type(env)
    p = {**DEFAULT_PARAMS, **{key: value for key, value in params.items() if value is not None}}
    units = np.flatnonzero(grid.gen_redispatchable)
    hydro = np.asarray(grid.gen_type)[units] == "hydro"
    pmin = np.asarray(grid.gen_pmin, dtype=float)[units]
    pmax = np.asarray(grid.gen_pmax, dtype=float)[units] * float(p["PmaxErrorCorrRatio"])
    ramp = np.column_stack([grid.gen_max_ramp_up[units], grid.gen_max_ramp_down[units]]).astype(float)
    ramp *= float(p["RampErrorCorrRatio"])
    ramp[hydro] /= float(p["hydro_ramp_reduction_factor"])
    slack = grid.name_gen[units] == p["slack_name"]
    if slack.any():
        # the unit that balances the losses keeps room for that
        pmin[slack], pmax[slack] = float(p["slack_pmin"]), float(p["slack_pmax"])
        ramp[slack] *= float(p["slack_ramp_limit_ratio"])
    return DispatchModel(
        units=units,
        pmin=pmin,
        pmax=pmax,
        ramp=ramp,
        cost=np.asarray(grid.gen_cost_per_MW, dtype=float)[units],
        hydro=hydro,
        shares=_constant_shares(np.concatenate([series.prod_p for series in recorded])[:, units]),
        losses=float(p["losses_pct"]) / 100.0,
    )


def _constant_shares(output: np.ndarray) -> np.ndarray | None:
    shares = output / output.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    return mean if (shares.std(axis=0) < CONSTANT_SHARE * mean).all() else None
