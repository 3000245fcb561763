"""AC power flows of whole series: losses, and how loaded the lines are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from lightsim2grid.timeSerie import TimeSeriesCPP

#: Of the power flows: iterations at most, and the largest power mismatch in p.u.
ITERATIONS, TOLERANCE = 10, 1e-8


class PowerFlowError(RuntimeError):
    """An AC power flow of a series has no solution."""


def copy_grid(env: Any) -> tuple[Any, np.ndarray]:
    """lightsim2grid's model of a grid, and voltages to start power flows from, (n_bus,) complex p.u.

    Args:
        env: A Grid2Op environment with LightSimBackend that was reset.

    Raises:
        PowerFlowError: The grid as it was reset has no power flow.
    """
    grid, start = env.backend._grid.copy(), np.array(env.backend.V, dtype=complex)
    # a copy knows its admittances only after a power flow of its own
    if not grid.ac_pf(start.copy(), ITERATIONS, TOLERANCE).size:
        raise PowerFlowError("the power flow of the grid as it was reset has no solution")
    return grid, start


class Flows(NamedTuple):
    """What a series does to the grid."""

    losses: np.ndarray  #: (T,) MW
    loading: np.ndarray  #: (T, n_line) current over thermal limit


class PowerFlow:
    """Power flows of a grid with all lines in service.

    Args:
        env: A Grid2Op environment with LightSimBackend that was reset; its grid is copied.

    Raises:
        PowerFlowError: The grid as it was reset has no power flow.
    """

    def __init__(self, env: Any) -> None:
        self._grid, self._start = copy_grid(env)
        self._admittances = self._grid.get_Ybus_solver()
        self._buses = list(self._grid.id_ac_solver_to_me())
        self._scale = self._grid.get_sn_mva()
        self._limits = np.array(env.get_thermal_limit(), dtype=float)

    def solve(self, prod_p: np.ndarray, load_p: np.ndarray, load_q: np.ndarray) -> Flows:
        """Power flows of productions (T, n_gen) MW and loads (T, n_load) MW and MVAr.

        The generator at the slack bus makes up for what is missing in ``prod_p``.

        Raises:
            PowerFlowError: A row has no solution; its number is named.
        """
        series = TimeSeriesCPP(self._grid)
        status = series.compute_Vs(
            np.ascontiguousarray(prod_p, dtype=float),
            np.zeros((len(prod_p), 0)),  # no static generators
            np.ascontiguousarray(load_p, dtype=float),
            np.ascontiguousarray(load_q, dtype=float),
            self._start.copy(),
            ITERATIONS,
            TOLERANCE,
        )
        if status != 1:
            raise PowerFlowError(f"the power flow of row {series.nb_solved()} of {len(prod_p)} has no solution")
        voltages = np.asarray(series.get_voltages())[:, self._buses]
        injections = voltages * np.conj((self._admittances @ voltages.T).T)
        # what goes in at all buses and does not come out is lost
        losses = injections.real.sum(axis=1) * self._scale
        series.compute_flows()
        return Flows(losses, np.asarray(series.get_flows()) * 1000.0 / self._limits)
