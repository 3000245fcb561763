"""Planned maintenance of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.generator.recorded import DAY


@dataclass(frozen=True, eq=False)
class MaintenancePlan:
    """Which lines may be taken out, how often and when; the keys of Grid2Op's maintenance_meta.json."""

    lines: np.ndarray  #: line ids
    hours: tuple[int, int]  #: of the day, first and last
    daily: np.ndarray  #: (12,) probability of each line and working day, by month
    most: np.ndarray  #: (12,) lines on one day at most, by month

    def draw(self, rng: np.random.Generator, start: datetime, steps: int) -> np.ndarray:
        """Outages as rows (line, first row, row after the last), (n, 3) int32, sorted; ``start`` is at 0:00.

        As in Grid2Op, every line is drawn anew each working day.
        """
        outages = []
        for day, month in _working_days(start, steps):
            drawn = self.lines[rng.random(len(self.lines)) < self.daily[month]]
            most = int(self.most[month])
            if len(drawn) > most:
                drawn = rng.choice(drawn, most, replace=False)
            outages += [self._outage(line, day) for line in drawn]
        return np.array(sorted(outages), dtype=np.int32).reshape(-1, 3)

    def possible(self, start: datetime, steps: int) -> np.ndarray:
        """Every outage that `draw` may give, in the same form."""
        days = [day for day, month in _working_days(start, steps) if self.daily[month] > 0 and self.most[month] >= 1]
        outages = [self._outage(line, day) for line in self.lines for day in days]
        return np.array(sorted(outages), dtype=np.int32).reshape(-1, 3)

    def _outage(self, line: int, day: int) -> tuple[int, int, int]:
        return line, day * DAY + self.hours[0] * 12, day * DAY + self.hours[1] * 12


def _working_days(start: datetime, steps: int) -> list[tuple[int, int]]:
    """(day, month from 0) of the days that are no weekend."""
    dates = [(day, start + timedelta(days=day)) for day in range(steps // DAY)]
    return [(day, date.month - 1) for day, date in dates if date.weekday() < 5]


def read_plan(env: Any) -> MaintenancePlan:
    """The plan in the files of a Grid2Op environment. Raises as `make_plan`."""
    path = Path(env.get_path_env()) / "maintenance_meta.json"
    return make_plan(env, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None)


def make_plan(env: Any, meta: Mapping[str, Any] | None) -> MaintenancePlan:
    """The plan of a grid from its maintenance_meta.json; without one (None) there is no maintenance.

    Raises:
        ValueError: It names a line that the grid has not.
    """
    if meta is None:
        return MaintenancePlan(np.zeros(0, dtype=np.int64), (0, 0), np.zeros(12), np.zeros(12))
    names = list(type(env).name_line)
    missing = [name for name in meta["line_to_maintenance"] if name not in names]
    if missing:
        raise ValueError(f"maintenance_meta.json: the grid has no lines {missing}")
    return MaintenancePlan(
        lines=np.array([names.index(name) for name in meta["line_to_maintenance"]], dtype=np.int64),
        hours=(int(meta["maintenance_starting_hour"]), int(meta["maintenance_ending_hour"])),
        daily=np.array(meta["daily_proba_per_month_maintenance"], dtype=float),
        most=np.array(meta["max_daily_number_per_month_maintenance"], dtype=float),
    )
