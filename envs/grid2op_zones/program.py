"""A small quadratic program of injections and line limits, and its optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import daqp
import numpy as np

ACTIVE, AT_LOWER, EQUAL, SOFT = 1, 2, 5, 8  # DAQP's codes for kinds and states of constraints
INFEASIBLE = -1  # its exit flag

#: By how much a row may miss its limits and still count as feasible.
BEYOND = 1e-9


class SolverError(RuntimeError):
    """The solver found no optimum; the message holds its exit flag and the size of the program."""


class InfeasibleError(SolverError):
    """No point meets the constraints."""


class Optimum(NamedTuple):
    """Solution of a program."""

    x: np.ndarray  #: (n,)
    multipliers: np.ndarray  #: (n + k + m,) of bounds, equalities and rows; > 0 at an upper, < 0 at a lower bound


@dataclass(frozen=True)
class QuadraticProgram:
    """Minimise sum_u (h_u x_u^2 / 2 + f_u x_u) + price / 2 sum_l s_l^2.

    Subject to `lower <= x <= upper`, `equal @ x == total` and `row_lower - s <= rows @ x <= row_upper + s`. The slacks
    s leave the program feasible whatever the lines carry; their squares press the worst line first. Without a price
    there are no slacks.

    Attributes:
        hessian: (n,) h > 0, a diagonal.
        linear: (n,) f.
        lower, upper: (n,) finite bounds, `lower <= upper`.
        equal, total: (k, n) and (k,), k may be 0. Must be feasible within the bounds.
        rows, row_lower, row_upper: (m, n), (m,) and (m,), m may be 0.
        price: Weight of the squared slacks, > 0; None allows none.
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
    price: float | None

    def solve(self, start: np.ndarray | None = None) -> Optimum:
        """The optimum by DAQP's dual active-set method (Arnström, Bemporad and Axehill, 2022).

        Args:
            start: Multipliers of a similar program; the search begins with the constraints that were active there.

        Raises:
            InfeasibleError: No point meets the constraints.
            SolverError: None was found within the solver's tolerances and iterations.
        """
        # in units that make the Hessian 1 the solver's tolerances do not depend on MW and prices
        scale = 1.0 / np.sqrt(self.hessian)
        kept = self._pressed()
        rows = self.rows[kept] * scale
        n, k, m = len(scale), len(self.equal), len(rows)
        used = np.concatenate([np.ones(n + k, dtype=bool), kept])
        lower = np.concatenate([self.lower / scale, self.total, self.row_lower[kept]])
        upper = np.concatenate([self.upper / scale, self.total, self.row_upper[kept]])
        sense = np.repeat(np.array([0, EQUAL, 0 if self.price is None else SOFT], dtype=np.int32), [n, k, m])
        if start is not None:
            sense |= np.where(start[used] > 0.0, ACTIVE, 0) | np.where(start[used] < 0.0, ACTIVE | AT_LOWER, 0)
            sense[n : n + k] = EQUAL
        model = daqp.Model()
        flag, _ = model.setup(
            np.eye(n), self.linear * scale, np.vstack([self.equal * scale, rows]), upper, lower, sense
        )
        if flag >= 0:
            if self.price is not None and m > 0:
                softness = np.repeat([1.0, 1.0, 1.0 / self.price], [n, k, m])
                model.soft_weights(rho_l=softness, rho_u=softness)
            x, _, flag, info = model.solve()
        if flag < 1:
            error = InfeasibleError if flag == INFEASIBLE else SolverError
            raise error(f"DAQP exit flag {flag} on a program of {n} variables, {k} equalities, {len(kept)} line limits")
        multipliers = np.zeros(len(used))
        multipliers[used] = info["lam"]
        return Optimum(np.clip(x * scale, self.lower, self.upper), multipliers)

    def _pressed(self) -> np.ndarray:
        """Which rows (m,) the bounds alone do not keep within their limits; rows of zeros nothing moves.

        Raises:
            InfeasibleError: There is no price, and nothing within the bounds keeps some row within its limits.
        """
        size = np.abs(self.rows)
        middle = self.rows @ (0.5 * (self.lower + self.upper))
        reach = size @ (0.5 * (self.upper - self.lower))
        if self.price is None:
            beyond = np.maximum(middle - reach - self.row_upper, self.row_lower - middle - reach)
            if (beyond > BEYOND).any():
                raise InfeasibleError(f"{(beyond > BEYOND).sum()} line limits are out of reach")
        pressed = (middle + reach > self.row_upper) | (middle - reach < self.row_lower)
        return pressed & (size.max(axis=1, initial=0.0) > 1e-9)
