"""One generated week: load, wind and sun, dispatch, losses, maintenance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from zlib import crc32

import numpy as np

from grid2op_zones.generator.dispatch import DispatchError
from grid2op_zones.generator.grid import GridModel
from grid2op_zones.generator.powerflow import PowerFlowError
from grid2op_zones.generator.recorded import DAY

#: Rows of a week of 5-minute steps.
WEEK = 7 * DAY

#: Powers are multiples of this many MW, so that they are stored in 16 bits without loss (up to 655 MW).
RESOLUTION = 0.02

#: Rows that an episode shall have before anything is overloaded.
CALM_ROWS = 12

#: Losses are settled once they differ by less than this from those the dispatch was made for, MW.
SETTLED = 2.0

#: Dispatches of a week at most; losses settle in two or three.
DISPATCHES = 4


@dataclass(frozen=True, eq=False)
class Week:
    """A week of rows, 5 minutes each, from 0:00 of ``date`` on; powers in float32, in Grid2Op's order."""

    grid: str
    fingerprint: str  #: see ``grid_fingerprint``
    date: date
    seed: int
    load_p: np.ndarray  #: (T, n_load) MW
    q_ratio: np.ndarray  #: (n_load,) reactive over active power
    prod_p: np.ndarray  #: (T, n_gen) MW
    prod_v: np.ndarray | None  #: (n_gen,) kV
    outages: np.ndarray  #: planned, rows (line, first row, row after the last), (n, 3) int32
    loading: np.ndarray  #: (T,) highest current over thermal limit with all lines in service and nothing done

    @property
    def load_q(self) -> np.ndarray:
        """(T, n_load) MVAr."""
        return self.load_p * self.q_ratio

    @property
    def start(self) -> datetime:
        """Time of the first row."""
        return datetime.combine(self.date, time())

    def calm_rows(self, rows: int = CALM_ROWS, below: float = 1.0) -> np.ndarray:
        """Rows to start from: for ``rows`` rows the loading stays under ``below`` and no line is out; ascending."""
        calm = self.loading < below
        for _, first, end in self.outages:
            calm[first:end] = False
        windows = np.lib.stride_tricks.sliding_window_view(calm, rows)
        return np.flatnonzero(windows.all(axis=1))


def generate(grid: GridModel, day: date, seed: int, steps: int = WEEK) -> Week:
    """The week of ``grid`` that starts on ``day``; the same for the same grid, day and seed.

    Args:
        grid: From ``read_grid``.
        day: First day; its place in the year and in the week shapes the series.
        seed: At least 0.
        steps: Rows, two or more.

    Raises:
        DispatchError: The units cannot follow the load.
        PowerFlowError: A power flow has no solution.
    """
    start = datetime.combine(day, time())
    entropy = np.random.SeedSequence([crc32(grid.name.encode()), day.toordinal(), seed])
    # one stream for each part, so that a change of one leaves the others as they are
    loads, sky, water, plan = (np.random.default_rng(child) for child in entropy.spawn(4))

    load_p = _rounded(grid.loads.draw(loads, start, steps))
    load_q = load_p * grid.loads.q_ratio
    available = grid.renewables.draw(sky, start, steps)
    share = grid.dispatch.water(water, start.timetuple().tm_yday, steps)
    try:
        prod_p = _rounded(_dispatch(grid, load_p, load_q, available, share))
        loading = grid.power_flow.solve(prod_p, load_p, load_q).loading
    except (DispatchError, PowerFlowError) as error:
        raise type(error)(f"{grid.name}, week of {day}, seed {seed}: {error}") from error
    return Week(
        grid=grid.name,
        fingerprint=grid.fingerprint,
        date=day,
        seed=seed,
        load_p=load_p.astype(np.float32),
        q_ratio=grid.loads.q_ratio.astype(np.float32),
        prod_p=prod_p.astype(np.float32),
        prod_v=None if grid.prod_v is None else grid.prod_v.astype(np.float32),
        outages=grid.maintenance.draw(plan, start, steps),
        loading=loading.max(axis=1).astype(np.float32),
    )


def _dispatch(
    grid: GridModel, load_p: np.ndarray, load_q: np.ndarray, available: np.ndarray, water: np.ndarray
) -> np.ndarray:
    """Productions (T, n_gen) MW that meet load and AC losses."""
    load, renewable = load_p.sum(axis=1), available.sum(axis=1)
    losses = grid.dispatch.losses * load
    for _ in range(DISPATCHES):
        output, used = grid.dispatch.solve(load + losses, renewable, water)
        prod_p = available * (used / np.maximum(renewable, 1e-9))[:, None]
        prod_p[:, grid.dispatch.units] = output
        found = grid.power_flow.solve(prod_p, load_p, load_q).losses
        missing = found - losses
        losses = found
        if np.abs(missing).max() < SETTLED:
            break
    _share_out(prod_p, grid, missing)
    return prod_p


def _share_out(prod_p: np.ndarray, grid: GridModel, missing: np.ndarray) -> None:
    """Add ``missing`` (T,) MW to the dispatchable units of ``prod_p``, by their room upwards or downwards."""
    units = grid.dispatch.units
    output = prod_p[:, units]
    room = np.where(missing[:, None] > 0, grid.dispatch.pmax - output, output - grid.dispatch.pmin).clip(0.0)
    total = room.sum(axis=1)
    prod_p[:, units] = output + room * (missing / np.where(total == 0.0, 1.0, total))[:, None]


def _rounded(power: np.ndarray) -> np.ndarray:
    return np.rint(power / RESOLUTION) * RESOLUTION
