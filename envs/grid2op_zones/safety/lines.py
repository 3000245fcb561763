"""A zone's lines: how its units move the flows on them, and what may come on top from elsewhere in the same step.

The flows are those of the linear model of `ptdf.py`. What the others do is not known, but it is bounded: the units of
the other zones by their ramps and powers (each zone balancing itself), loads, wind, sun and schedules by stated shares
of their sizes (all of them together balanced). For each line the worst of that is its margin, in MW.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from grid2op_zones.measurement import Measurement
from grid2op_zones.ptdf import power_transfer

#: Least room of a line full of reactive power, share of its capacity.
LEAST_LIMIT = 0.05

#: Topologies whose models are kept.
CACHE_SIZE = 128


class Bounds(NamedTuple):
    """What the guarantee assumes of one step."""

    load: float = 0.01  #: largest change of a load, share of its reference
    renewable: float = 0.02  #: largest change of a renewable's available power, share of pmax
    schedule: float = 0.3  #: largest change of a generator's schedule, share of its ramp
    others: float = 1.0  #: share of the other zones' ramps, curtailment steps and storage powers that they use
    loading: float = 1.0  #: share of the thermal limits that lines are kept within


class Movers(NamedTuple):
    """What moves elsewhere: substations and the largest change of each injection, MW, up or down."""

    substations: np.ndarray
    most: np.ndarray
    balanced: bool = True  #: whether the changes sum to 0; if not, the grid makes up for them


class LineData(NamedTuple):
    """What is fixed about the grid, as a zone knows it."""

    lines: np.ndarray  #: (L,) ids of the zone's lines, in the order of its measurements
    substations: np.ndarray  #: (n,) ids of its units' substations
    susceptance: np.ndarray  #: (n_line,)
    start: np.ndarray  #: (n_line,) ids of substations
    end: np.ndarray  #: (n_line,)
    n_sub: int
    others: tuple[Movers, ...]  #: of each other zone
    loads: Movers  #: most: the loads' references
    renewables: Movers  #: most: pmax
    schedules: Movers  #: most: ramps
    compensation: np.ndarray  #: (n_sub,) shares in which the grid makes up for what zones do not balance themselves
    balanced: bool  #: whether the zone balances itself


class LineModel(NamedTuple):
    """The flows of the zone's lines in one topology."""

    effects: np.ndarray  #: (L, n) MW on each line for each MW that a unit injects and the grid makes up for
    margin: np.ndarray  #: (L,) MW that others may add


class ZoneLines:
    """The lines of one zone, ties included.

    The zone knows the state of its own lines. Those of others are taken to be connected.

    Attributes:
        data: What is fixed about the grid.
        bounds: What is assumed of the others.
    """

    def __init__(self, data: LineData, bounds: Bounds) -> None:
        self.data = data
        self.bounds = bounds
        moving = [(data.loads, bounds.load), (data.renewables, bounds.renewable), (data.schedules, bounds.schedule)]
        self._rest = Movers(
            np.concatenate([movers.substations for movers, _ in moving]),
            np.concatenate([share * movers.most for movers, share in moving]),
        )
        self._cache: OrderedDict[bytes, LineModel | None] = OrderedDict()

    def limits(self, m: Measurement) -> np.ndarray:
        """Largest active power of each line, MW, (L,), at its present voltage and reactive power; inf where it is open.

        sqrt((loading sqrt(3) V I_max)^2 - q^2)
        """
        count = len(self.data.lines)
        capacity = np.sqrt(3.0) * 1e-3 * self.bounds.loading * m.v_or[:count].astype(float) * m.thermal_limit[:count]
        limit = np.sqrt(np.maximum(capacity**2 - m.q_or[:count].astype(float) ** 2, (LEAST_LIMIT * capacity) ** 2))
        return np.where(m.line_status[:count], limit, np.inf)

    def model(self, status: np.ndarray) -> LineModel | None:
        """Effects and margins while the zone's lines are connected as `status` says, (L,) boolean.

        None where they leave islands, for which there is no linear model.
        """
        key = status.tobytes()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        model = self._cache[key] = self._compute(status)
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return model

    def _compute(self, status: np.ndarray) -> LineModel | None:
        data, bounds = self.data, self.bounds
        b = data.susceptance.copy()
        b[data.lines[~status]] = 0.0
        ptdf = power_transfer(b, data.start, data.end, data.n_sub)
        if ptdf is None:
            return None
        rows = ptdf[data.lines]
        margin = worst_balanced(rows[:, self._rest.substations], self._rest.most)
        made_up = (rows @ data.compensation)[:, None]
        # changes that sum to 0 owe nothing to what the grid makes up for; a balanced zone's need not, see `Room.total`
        effects = rows[:, data.substations] - made_up
        for zone in data.others:
            columns = rows[:, zone.substations]
            if zone.balanced:
                margin += bounds.others * worst_balanced(columns, zone.most)
            else:
                margin += bounds.others * np.abs(columns - made_up) @ zone.most
        return LineModel(np.ascontiguousarray(effects), margin)


def worst_balanced(rows: np.ndarray, most: np.ndarray) -> np.ndarray:
    """max |c y| over |y_k| <= most_k, sum y = 0, for each row c of `rows` (L, k); (L,).

    By duality it is the least of sum_k most_k |c_k - m| over m, which a weighted median of c attains.
    """
    if most.sum() <= 0.0:
        return np.zeros(len(rows))
    order = np.argsort(rows, axis=1)
    reached = np.cumsum(most[order], axis=1)
    middle = (reached < 0.5 * reached[:, -1:]).sum(axis=1)
    median = np.take_along_axis(rows, np.take_along_axis(order, middle[:, None], axis=1), axis=1)
    return np.abs(rows - median) @ most
