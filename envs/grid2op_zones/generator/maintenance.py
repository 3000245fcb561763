"""Planned maintenance of lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
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
        for day in range(steps // DAY):
            date = start + timedelta(days=day)
            if date.weekday() >= 5:
                continue
            drawn = self.lines[rng.random(len(self.lines)) < self.daily[date.month - 1]]
            most = int(self.most[date.month - 1])
            if len(drawn) > most:
                drawn = rng.choice(drawn, most, replace=False)
            outages += [(line, day * DAY + self.hours[0] * 12, day * DAY + self.hours[1] * 12) for line in drawn]
        return np.array(sorted(outages), dtype=np.int32).reshape(-1, 3)


def make_plan(env: Any, meta: Mapping[str, Any] | None) -> MaintenancePlan:
    """The plan of a grid from its maintenance_meta.json; without one (None) there is no maintenance."""
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
