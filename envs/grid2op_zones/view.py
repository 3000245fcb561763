"""A zone's observation from its own measurements, as the environment gives it, without Grid2Op."""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.measurement import Measurement

#: Observations are clipped to this range.
BOUND = 10.0

#: Loading from which a line's excess counts. What dispatch has to do follows from the excess almost linearly, with the
#: flow's sign. From ``rho`` and ``flow`` alone a network has to find that bend anew for every line.
EXCESS_FROM = 0.85

#: Steps before a planned maintenance from which a line's maintenance component rises from 0 to 1 (4 hours).
MAINTENANCE_HORIZON = 48

#: Steps before a planned maintenance from which the flows without the line count (2 hours).
AFTER_HORIZON = 24

#: Steps of cooldown that count in full for a disconnected line (1 hour).
COOLDOWN_HORIZON = 12

#: What ends the kernel's arguments, but for the steps that a line may be overloaded.
CONSTANTS = (EXCESS_FROM, float(COOLDOWN_HORIZON), float(MAINTENANCE_HORIZON), float(AFTER_HORIZON), BOUND)


class References(NamedTuple):
    """Sizes by which measurements are scaled; positions are those in the measurements.

    The whole grid's are in the order of its elements, a zone's in that of what it measures.
    """

    per_limit: np.ndarray  #: (lines,) 1 / MW of the thermal limit at nominal voltage
    maintainable: np.ndarray  #: positions of lines that may be maintained
    redispatchable: np.ndarray  #: positions of generators
    curtailable: np.ndarray  #: positions of generators
    pmax: np.ndarray  #: (redispatchable,) MW
    pmin: np.ndarray  #: (redispatchable,) MW
    per_pmax: np.ndarray  #: (generators,) 1 / MW
    per_up: np.ndarray  #: (redispatchable,) 1 / MW a step
    per_down: np.ndarray  #: (redispatchable,) 1 / MW a step
    per_load: np.ndarray  #: (loads,) 1 / MW
    per_energy: np.ndarray  #: (storages,) 1 / MWh
    per_power: np.ndarray  #: (storages,) 1 / MW
    per_overflow: float  #: 1 / steps that a line may be overloaded
    after: np.ndarray  #: (lines, maintainable) MW on a line per MW that the lost one carried; empty where not seen
    threatened: np.ndarray  #: (maintainable,) whether the line may be lost at any time
    full: np.ndarray  #: (lines,) whether all features of the line are seen, or only its excess

    def part(
        self, lines: np.ndarray, generators: np.ndarray, loads: np.ndarray, storages: np.ndarray, full: np.ndarray
    ) -> References:
        """Those of the elements with these positions, in that order; `full` are positions of lines."""

        def among(chosen: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Positions among the chosen of those that are in `positions`, and where in `positions` they are."""
            kept = np.flatnonzero(np.isin(chosen, positions))
            return kept, np.searchsorted(positions, chosen[kept])

        maintainable, among_all = among(lines, self.maintainable)
        redispatchable, red = among(generators, self.redispatchable)
        curtailable, _ = among(generators, self.curtailable)
        return References(
            self.per_limit[lines],
            maintainable,
            redispatchable,
            curtailable,
            self.pmax[red],
            self.pmin[red],
            self.per_pmax[generators],
            self.per_up[red],
            self.per_down[red],
            self.per_load[loads],
            self.per_energy[storages],
            self.per_power[storages],
            self.per_overflow,
            np.ascontiguousarray(self.after[np.ix_(lines, among_all)]) if self.after.size else self.after,
            self.threatened[among_all],
            np.isin(lines, full),
        )

    @property
    def components(self) -> np.ndarray:
        """Positions of what is seen among all features of all elements, as the kernel orders them."""
        every, full = np.ones(len(self.per_limit), dtype=bool), self.full
        others = (
            5 * len(self.redispatchable) + 2 * len(self.curtailable) + len(self.per_load) + 2 * len(self.per_energy) + 4
        )
        seen = [full, every, full, full, np.ones(len(self.maintainable), dtype=bool)]
        if self.after.size:
            seen.append(every)
        return np.flatnonzero(np.concatenate([*seen, np.ones(others, dtype=bool)]))

    @property
    def size(self) -> int:
        """Number of components that are seen."""
        return len(self.components)


def calendar(now: datetime, out: np.ndarray) -> None:
    """Writes the time of day and of the week as sine and cosine into `out` (4,)."""
    day = 2.0 * np.pi * (now.hour + now.minute / 60.0) / 24.0
    week = (2.0 * np.pi * now.weekday() + day) / 7.0
    out[:] = math.sin(day), math.cos(day), math.sin(week), math.cos(week)


class ZoneView:
    """Turns a zone's measurements into its observation, bit for bit as `ZoneObserver` does.

    Args:
        references: Of what the zone measures.
    """

    def __init__(self, references: References) -> None:
        self.references = references
        self._picks = references.components
        self.size = len(self._picks)
        self._everything = np.empty(self._picks[-1] + 1)
        self._calendar = np.empty(4)

    def observe(self, m: Measurement) -> np.ndarray:
        """The observation, (d_i,) float32 within [-10, 10]."""
        r = self.references
        out = np.empty(self.size, dtype=np.float32)
        calendar(m.time, self._calendar)
        _kernels.observe(
            *(out, self._picks, self._everything),
            *(m.rho, m.p_or, r.per_limit, m.line_status, m.timestep_overflow),
            *(m.time_before_cooldown_line, r.maintainable, m.time_next_maintenance),
            *(r.redispatchable, r.curtailable, m.gen_p, m.actual_dispatch, m.target_dispatch),
            *(m.gen_p_before_curtail, m.curtailment_limit),
            *(r.pmax, r.pmin, r.per_pmax, r.per_up, r.per_down),
            *(m.load_p, r.per_load, m.storage_charge, r.per_energy, m.storage_power, r.per_power),
            *(self._calendar, r.after, r.threatened),
            *(r.per_overflow, *CONSTANTS),
        )
        return out
