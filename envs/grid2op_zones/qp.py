"""One-step optimal dispatch: a small quadratic program around the measured state, with priced line limits."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace

import daqp
import numpy as np

from grid2op_zones.area import IN_USE_MW, Area, Snapshot

logger = logging.getLogger(__name__)

EQUAL, SOFT = 5, 8  # DAQP's codes for kinds of constraints


class SolverError(RuntimeError):
    """The solver found no optimum; the message holds its exit flag and the size of the program."""


@dataclass(frozen=True)
class QuadraticProgram:
    """Minimise sum_u (h_u x_u^2 / 2 + f_u x_u) + price / 2 sum_l s_l^2.

    Subject to `lower <= x <= upper`, `equal @ x == total` and `row_lower - s <= rows @ x <= row_upper + s`. The slacks
    s leave the program feasible whatever the lines carry; their squares press the worst line first.

    Attributes:
        hessian: (n,) h > 0, a diagonal.
        linear: (n,) f.
        lower, upper: (n,) bounds, `lower <= upper`.
        equal, total: (k, n) and (k,), k may be 0. Must be feasible within the bounds.
        rows, row_lower, row_upper: (m, n), (m,) and (m,), m may be 0. Rows of zeros are left out: nothing moves them.
        price: Weight of the squared slacks, > 0.
    """

    hessian: np.ndarray
    linear: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    equal: np.ndarray
    total: np.ndarray
    rows: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray
    price: float

    def solve(self) -> np.ndarray:
        """The optimum x, (n,), by DAQP's dual active-set method (Arnström, Bemporad and Axehill, 2022).

        Raises:
            SolverError: None was found within the solver's tolerances and iterations.
        """
        # in units that make the Hessian 1 the solver's tolerances do not depend on MW and prices
        scale = 1.0 / np.sqrt(self.hessian)
        kept = np.abs(self.rows).max(axis=1, initial=0.0) > 1e-9
        rows = self.rows[kept] * scale
        n, k, m = len(scale), len(self.equal), len(rows)
        lower = np.concatenate([self.lower / scale, self.total, self.row_lower[kept]])
        upper = np.concatenate([self.upper / scale, self.total, self.row_upper[kept]])
        sense = np.repeat(np.array([0, EQUAL, SOFT], dtype=np.int32), [n, k, m])
        softness = np.repeat([1.0, 1.0, 1.0 / self.price], [n, k, m])
        model = daqp.Model()
        flag, _ = model.setup(
            np.eye(n), self.linear * scale, np.vstack([self.equal * scale, rows]), upper, lower, sense
        )
        if flag >= 0:
            model.soft_weights(rho_l=softness, rho_u=softness)
            x, _, flag, _ = model.solve()
        if flag < 1:
            raise SolverError(f"DAQP exit flag {flag} on a program of {n} variables, {k} equalities, {m} line limits")
        return np.clip(x * scale, self.lower, self.upper)


@dataclass(frozen=True)
class QPSettings:
    """What the optimal dispatch goes by. Loadings are current over thermal limit; redispatch costs 1 per MW^2."""

    act_above: float = 0.88  #: loading of a watched line from which units move; those in use move at any loading
    margin: float = 0.89  #: loading that no line shall exceed
    watch_above: float = 0.60  #: lines loaded less are left out of the program
    price: float = 1e7  #: of a line's squared loading above the margin
    curtail_cost: float = 16.0  #: of curtailed power, per MW^2
    storage_cost: float = 2.0  #: of storage power, per MW^2
    move_cost: float = 1.0  #: of the change in this step, per MW^2, which makes the dispatch gentle


class QPDispatcher:
    """Moves an area's units by the optimum of one step.

    The program's variables are the changes of the units' injections. What dispatch, curtailment and storage amount to
    after them has a cost, so that they return to zero by themselves as far as the lines allow.

    Attributes:
        area: The lines watched and the units moved.
        counts: "solver_failed": programs that were not solved, where what there is was held.
    """

    def __init__(self, area: Area, settings: QPSettings | None = None) -> None:
        self.area = area
        self.counts: Counter[str] = Counter()
        self._base = self._settings = settings or QPSettings()
        sizes = [len(area.redispatchable), len(area.curtailable), len(area.storages)]
        self._base_cost = self._cost = np.repeat([1.0, self._base.curtail_cost, self._base.storage_cost], sizes)

    def draw(self, rng: np.random.Generator, noise: float) -> None:
        """For the episode to come: log-normal costs of the units (`noise`: std of the logarithm), shifted margin."""
        self._cost = self._base_cost * np.exp(noise * rng.standard_normal(self.area.size))
        shift = float(np.clip(0.02 * noise * rng.standard_normal(), -0.03, 0.03))
        self._settings = replace(self._base, margin=self._base.margin + shift)

    def changes(self, snapshot: Snapshot) -> np.ndarray | None:
        """Changes of the units' injections, MW, (n,); None where nothing is to be done and nothing is in use."""
        quiet = snapshot.loading[self.area.lines].max(initial=0.0) < self._settings.act_above
        if self.area.size == 0 or (quiet and not (np.abs(self.area.displaced(snapshot)) > IN_USE_MW).any()):
            return None
        try:
            return self.program(snapshot).solve()
        except SolverError as error:
            logger.warning("%s: dispatch held, %s", self.area.name, error)
            self.counts["solver_failed"] += 1
            return np.zeros(self.area.size)

    def program(self, snapshot: Snapshot) -> QuadraticProgram:
        """The program of this step.

        A line's limit on active power leaves room for the reactive power that it carries,
        sqrt((margin sqrt(3) V I_max)^2 - q^2). Each group's dispatch is brought to what it curtails and charges.
        """
        area, settings, obs = self.area, self._settings, snapshot.observation
        present = area.displaced(snapshot)
        low, high = area.room(snapshot)
        lines = area.lines[snapshot.loading[area.lines] > settings.watch_above]
        capacity = snapshot.capacity[lines]
        flow, reactive = obs.p_or[lines].astype(float), obs.q_or[lines].astype(float)
        # a line full of reactive power alone is left a little room, so that its limit stays one
        limit = np.sqrt(np.maximum((settings.margin * capacity) ** 2 - reactive**2, (0.05 * capacity) ** 2))
        return QuadraticProgram(
            hessian=2.0 * (self._cost + settings.move_cost),
            linear=2.0 * self._cost * present,
            lower=low,
            upper=high,
            equal=area.balanced,
            total=np.clip(-area.balanced @ present, area.balanced @ low, area.balanced @ high),
            rows=area.effects(snapshot.ptdf, lines) / capacity[:, None],
            row_lower=(-limit - flow) / capacity,
            row_upper=(limit - flow) / capacity,
            price=settings.price,
        )
