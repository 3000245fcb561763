"""What the grid measures now, read where Grid2Op keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np


class GridState:
    """The present state under the names, units and types of Grid2Op's observation, without its copies.

    Building an observation copies about 60 arrays; a zone reads 15 of them. The arrays here are
    Grid2Op's own or the power flow's: they are not to be written to, and change with the next step.

    Args:
        simulator: A Grid2Op environment on LightSimBackend.

    Attributes:
        p_or, q_or, v_or, a_or: (n_line,) MW, MVAr, kV and A at the origin.
        rho: (n_line,) current over thermal limit.
        gen_p: (n_gen,) MW.
        load_p: (n_load,) MW.
    """

    rho: np.ndarray

    def __init__(self, simulator: Any) -> None:
        self._simulator, self._backend, self._dispatch = simulator, simulator.backend, simulator._dispatch_state
        cls = type(simulator)
        self._storage_pos, self._gen_pos = cls.storage_pos_topo_vect, cls.gen_pos_topo_vect
        self._flows = np.empty((4, cls.n_line), np.float32)
        self.p_or, self.q_or, self.v_or, self.a_or = self._flows
        self.gen_p, self.load_p = np.empty(cls.n_gen, np.float32), np.empty(cls.n_load, np.float32)
        self.read()

    def read(self) -> None:
        """Takes over the results of the last power flow, as the backend does for an observation."""
        backend = self._backend
        backend._fetch_grid_data()
        lines, trafos = backend._lineor_res, backend._trafo_hv_res
        count = len(lines[0])
        for flow, of_lines, of_trafos in zip(self._flows, lines, trafos, strict=False):  # angles come last
            flow[:count] = of_lines
            flow[count:] = of_trafos
        self.a_or *= 1000.0  # from kA
        if not np.isfinite(self._flows).all():
            self.a_or[~np.isfinite(self.a_or)] = 0.0
            self.v_or[~np.isfinite(self.v_or)] = 0.0
        self.gen_p[:], self.load_p[:] = backend._gen_res[0], backend._load_res[0]
        self.rho = self.a_or / backend.thermal_limit_a

    # Lines -----------------------------------------------------------------------------------------------------

    @property
    def line_status(self) -> np.ndarray:
        """(n_line,) whether connected."""
        return self._simulator._line_status

    @property
    def thermal_limit(self) -> np.ndarray:
        """(n_line,) A."""
        return self._backend.thermal_limit_a

    @property
    def timestep_overflow(self) -> np.ndarray:
        """(n_line,) steps that a line has been above its limit."""
        return self._simulator._timestep_overflow

    @property
    def time_before_cooldown_line(self) -> np.ndarray:
        """(n_line,) steps before a line may be acted on."""
        return self._simulator._times_before_line_status_actionable

    @property
    def time_next_maintenance(self) -> np.ndarray:
        """(n_line,) steps to the next planned maintenance, -1 for none."""
        return self._simulator._time_next_maintenance

    @property
    def topo_vect(self) -> np.ndarray:
        """Busbar of every element, -1 where disconnected."""
        return self._backend.topo_vect

    # Generators, loads, storages ---------------------------------------------------------------------------------

    @property
    def gen_p_delta(self) -> np.ndarray:
        """(n_gen,) MW that the slack adds for the losses."""
        return self._simulator._delta_gen_p

    @property
    def gen_p_before_curtail(self) -> np.ndarray:
        """(n_gen,) MW available, of renewables."""
        return self._dispatch.gen_before_curtailment

    @property
    def curtailment_limit(self) -> np.ndarray:
        """(n_gen,) cap as a share of pmax; 1 is none."""
        return np.minimum(self._dispatch.limit_curtailment, np.float32(1.0))

    @property
    def actual_dispatch(self) -> np.ndarray:
        """(n_gen,) MW that redispatching adds to the schedule."""
        return self._dispatch.actual_dispatch

    @property
    def target_dispatch(self) -> np.ndarray:
        """(n_gen,) MW that was asked for."""
        return self._dispatch.target_dispatch

    @property
    def storage_charge(self) -> np.ndarray:
        """(n_storage,) MWh."""
        return self._dispatch.storage_current_charge

    @property
    def storage_power(self) -> np.ndarray:
        """(n_storage,) MW, positive charges."""
        return self._dispatch.storage_power

    @property
    def storage_bus(self) -> np.ndarray:
        """(n_storage,) busbar, -1 where disconnected."""
        return self._backend.topo_vect[self._storage_pos]

    @property
    def gen_bus(self) -> np.ndarray:
        """(n_gen,) busbar, -1 where disconnected."""
        return self._backend.topo_vect[self._gen_pos]

    # Time ------------------------------------------------------------------------------------------------------

    @property
    def delta_time(self) -> float:
        """Minutes of a step."""
        return self._simulator.delta_time_seconds / 60.0

    def get_time_stamp(self) -> datetime:
        """When."""
        return self._simulator.time_stamp
