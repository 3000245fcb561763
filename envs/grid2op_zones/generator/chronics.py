"""Generated weeks as Grid2Op time series: nothing is parsed at reset, maintenance is the week's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from grid2op.Chronics import GridValue
from grid2op.dtypes import dt_bool, dt_int
from grid2op.Exceptions import ChronicsError

from grid2op_zones.generator.grid import grid_fingerprint
from grid2op_zones.generator.recorded import STEP
from grid2op_zones.generator.store import list_weeks, read_week, week_rows
from grid2op_zones.generator.week import Week

#: Weeks that stay in memory, about 2 MB each.
KEPT = 16


class GeneratedWeeks(GridValue):
    """Plays the weeks of a folder that ``write_weeks`` filled.

    ``grid2op.make(grid, chronics_class=GeneratedWeeks, chronics_path=folder)``; the "time serie id" is the place in
    ``list_weeks(folder)``, or in ``weeks`` where given, or the path of a file.

    Args:
        path: The folder.
        weeks: Places in ``list_weeks(folder)`` to play, None for all.
        kept: Weeks that stay in memory.
        time_interval, max_iter, start_datetime, chunk_size, others: What Grid2Op hands to every class of this kind;
            interval and start are the week's own.

    Attributes:
        further_outage: (line, first row, row after the last) that is planned beside the week's own, from the next
            reset on; None for none.

    Raises:
        WeekFileError: The folder holds no weeks, or a week cannot be read.
        ChronicsError: A week belongs to another grid.
    """

    MULTI_CHRONICS = True

    def __init__(
        self,
        path: str | Path,
        weeks: Sequence[int] | None = None,
        kept: int = KEPT,
        time_interval: timedelta = STEP,
        max_iter: int = -1,
        start_datetime: datetime = datetime(2035, 1, 1),
        chunk_size: int | None = None,
        **others: Any,
    ) -> None:
        self._max_iter: int
        super().__init__(time_interval=STEP, max_iter=max_iter, start_datetime=start_datetime, chunk_size=chunk_size)
        found = list_weeks(path)
        chosen = range(len(found)) if weeks is None else list(weeks)
        wrong = [k for k in chosen if not 0 <= k < len(found)]
        if wrong:
            raise ChronicsError(f"weeks: {path} has the weeks 0 to {len(found) - 1}, not {wrong}")
        self.path = str(path)
        self.subpaths = np.array([str(found[k]) for k in chosen])
        self.kept = kept
        self._weeks: OrderedDict[str, Week] = OrderedDict()
        self._place = 0
        self._row = -1
        self._fingerprint: str | None = None
        self.further_outage: tuple[int, int, int] | None = None

    @property
    def week(self) -> Week:
        """The week that is being played."""
        return self._week

    @property
    def rows(self) -> list[int]:
        """Rows of each week."""
        return [week_rows(path) for path in self.subpaths]

    def initialize(
        self,
        order_backend_loads: Sequence[str],
        order_backend_prods: Sequence[str],
        order_backend_lines: Sequence[str],
        order_backend_subs: Sequence[str],
        names_chronics_to_backend: Any = None,
    ) -> None:
        """Bring the next week into place; called by Grid2Op at every reset."""
        if self._fingerprint is None:
            self._fingerprint = grid_fingerprint(order_backend_loads, order_backend_prods, order_backend_lines)
            self.n_load, self.n_gen = len(order_backend_loads), len(order_backend_prods)
            self.n_line = len(order_backend_lines)
        self._week = week = self._read(self.get_id())
        if week.fingerprint != self._fingerprint:
            raise ChronicsError(f"{self.get_id()}: a week of {week.grid!r}, whose elements differ from this grid's")
        self._load_q = week.load_q
        self._outages = week.outages
        if self.further_outage is not None:
            self._outages = np.array(sorted([*map(tuple, week.outages), self.further_outage]), dtype=np.int32)
        self._no_hazard = np.full(self.n_line, -1, dtype=dt_int)
        # the first row is shown one step after the start
        self.start_datetime = self.current_datetime = week.start - STEP
        self._row, self.curr_iter = -1, 0
        last = len(week.load_p) - 1
        self._max_iter = last if self._max_iter <= 0 else min(self._max_iter, last)

    def load_next(self) -> tuple[datetime, dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """The next row, in Grid2Op's form.

        Raises:
            StopIteration: The week, or the episode that Grid2Op asked for, is over.
        """
        if self._row + 1 >= len(self._week.load_p) or self.curr_iter > self._max_iter > 0:
            raise StopIteration
        self._row += 1
        self.curr_iter += 1
        self.current_datetime += self.time_interval
        week = self._week
        out, ahead, duration = _maintenance(self._outages, self._row, self.n_line)
        changes = {
            "injection": {
                "load_p": week.load_p[self._row].copy(),
                "load_q": self._load_q[self._row].copy(),
                "prod_p": week.prod_p[self._row].copy(),
            },
            "maintenance": out,
        }
        prod_v = None if week.prod_v is None else week.prod_v.copy()
        return self.current_datetime, changes, ahead, duration, self._no_hazard.copy(), prod_v

    def fast_forward(self, nb_timestep: int) -> None:
        """Skip rows without reading them.

        Raises:
            StopIteration: The week has not that many.
        """
        if self._row + nb_timestep >= len(self._week.load_p):
            raise StopIteration
        self._row += nb_timestep
        self.curr_iter += nb_timestep
        self.current_datetime += nb_timestep * self.time_interval

    def done(self) -> bool:
        """Whether the week, or the episode that Grid2Op asked for, has no row left."""
        return self._row + 1 >= len(self._week.load_p) or self.curr_iter > self._max_iter > 0

    def max_timestep(self) -> int:
        """Steps of the episode."""
        return self._max_iter

    def check_validity(self, backend: Any) -> None:
        """That the week fits the grid was checked by its fingerprint."""

    def next_chronics(self) -> None:
        """Move on to the next week."""
        self._place = (self._place + 1) % len(self.subpaths)

    def tell_id(self, id_num: int | str, previous: bool = False) -> None:
        """Choose a week by its place or its file; ``previous`` for the one before, as Grid2Op moves on at reset.

        Raises:
            ChronicsError: There is no such file.
        """
        if isinstance(id_num, str):
            matches = [k for k, path in enumerate(self.subpaths) if id_num in (path, Path(path).name)]
            if not matches:
                raise ChronicsError(f"{self.path} has no week {id_num!r}; the first one is {self.subpaths[0]!r}")
            self._place = matches[0]
        else:
            self._place = int(id_num) % len(self.subpaths)
        if previous:
            self._place = (self._place - 1) % len(self.subpaths)

    def get_id(self) -> str:
        """File of the week that is played, or played next."""
        return str(self.subpaths[self._place])

    def shuffle(self, shuffler: Any = None) -> np.ndarray:
        """Reorder the weeks by ``shuffler``, an array of files to one of files, or at random; returns the files."""
        if shuffler is None:
            self.subpaths = self.subpaths[self.space_prng.permutation(len(self.subpaths))]
        else:
            self.subpaths = np.array(shuffler(self.subpaths))
        return self.subpaths

    def _read(self, path: str) -> Week:
        if path in self._weeks:
            self._weeks.move_to_end(path)
        else:
            self._weeks[path] = read_week(path)
            while len(self._weeks) > self.kept:
                self._weeks.popitem(last=False)
        return self._weeks[path]


def _maintenance(outages: np.ndarray, row: int, n_line: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per line at ``row``: out or not, steps until the next outage (0 in one, -1 for none), steps it will last."""
    out = np.zeros(n_line, dtype=dt_bool)
    ahead = np.full(n_line, -1, dtype=dt_int)
    duration = np.zeros(n_line, dtype=dt_int)
    # the latest first, so that of several outages of a line the next one is kept
    for line, first, end in outages[::-1]:
        if row < end:
            out[line] = row >= first
            ahead[line] = max(first - row, 0)
            duration[line] = end - max(first, row)
    return out, ahead, duration
