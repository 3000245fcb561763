"""What the grid measures now, read where Grid2Op keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np


class GridState:
    """The present state under the names, units and types of Grid2Op's observation, without its copies.

    Building an observation copies about 60 arrays; a zone reads 15 of them. The arrays here are Grid2Op's own: they are
    not to be written to, and change with the next step.

    Args:
        simulator: A Grid2Op environment on LightSimBackend.

    Attributes:
        rho: (n_line,) current over thermal limit, as of the last ``refresh``.
    """

    rho: np.ndarray

    def __init__(self, simulator: Any) -> None:
        self._simulator = simulator
        cls = type(simulator)
        self._storage_pos = cls.storage_pos_topo_vect
        self.refresh()

    def refresh(self) -> None:
        """To be called after every step and reset."""
        self._backend, self._dispatch = self._simulator.backend, self._simulator._dispatch_state
        self.rho = self._backend.a_or / self._backend.thermal_limit_a

    # Lines -----------------------------------------------------------------------------------------------------

    @property
    def line_status(self) -> np.ndarray:
        """(n_line,) whether connected."""
        return self._simulator._line_status

    @property
    def p_or(self) -> np.ndarray:
        """(n_line,) MW at the origin."""
        return self._backend.p_or

    @property
    def q_or(self) -> np.ndarray:
        """(n_line,) MVAr at the origin."""
        return self._backend.q_or

    @property
    def v_or(self) -> np.ndarray:
        """(n_line,) kV at the origin."""
        return self._backend.v_or

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
    def gen_p(self) -> np.ndarray:
        """(n_gen,) MW."""
        return self._backend.prod_p

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
    def load_p(self) -> np.ndarray:
        """(n_load,) MW."""
        return self._backend.load_p

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

    # Time ------------------------------------------------------------------------------------------------------

    @property
    def delta_time(self) -> float:
        """Minutes of a step."""
        return self._simulator.delta_time_seconds / 60.0

    def get_time_stamp(self) -> datetime:
        """When."""
        return self._simulator.time_stamp
