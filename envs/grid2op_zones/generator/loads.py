"""Consumption: a weekly curve and a yearly one for all loads, and what differs from place to place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from grid2op_zones.generator.fields import random_field, smooth_noise, spatial_factor
from grid2op_zones.generator.recorded import DAY, STEP, Series

#: Hourly means of a working day over its mean: the five days of l2rpn_idf_2023 and l2rpn_wcci_2022_dev, all Mondays or
#: Tuesdays, and the nineteen working days of rte_case118_example.
WORKING_DAY = (
    0.957, 0.889, 0.866, 0.822, 0.804, 0.831, 0.902, 0.987, 1.039, 1.069, 1.083, 1.096,
    1.110, 1.101, 1.080, 1.053, 1.033, 1.026, 1.055, 1.093, 1.056, 1.015, 1.007, 1.042,
)  # fmt: skip

#: Mean of Monday to Friday over the mean working day, from the four weeks of rte_case118_example.
DAY_LEVEL = (0.97, 1.0, 1.005, 1.0125, 1.0125)

#: Hourly means of Saturday (5) and Sunday (6) over those of a working day, from the same weeks.
WEEKEND_RATIO = {
    5: (
        1.03, 1.024, 1.016, 1.008, 0.995, 0.965, 0.91, 0.856, 0.849, 0.868, 0.878, 0.876,
        0.887, 0.887, 0.867, 0.863, 0.862, 0.869, 0.88, 0.889, 0.904, 0.921, 0.939, 0.955,
    ),
    6: (
        0.97, 0.969, 0.958, 0.945, 0.926, 0.889, 0.826, 0.775, 0.765, 0.785, 0.808, 0.825,
        0.84, 0.84, 0.818, 0.809, 0.806, 0.814, 0.83, 0.848, 0.874, 0.896, 0.908, 0.917,
    ),
}  # fmt: skip

#: Level of a working day over the year, as a share of a load's Pmax: YEAR_MEAN + YEAR_SWING cos, highest on YEAR_PEAK.
#: From the January and August series of l2rpn_idf_2023 and the February one of l2rpn_wcci_2022_dev.
YEAR_MEAN, YEAR_SWING, YEAR_PEAK = 0.803, 0.225, 30

#: params_load.json of l2rpn_idf_2023, for grids that have no such file. Lengths on a map of Lx units.
DEFAULT_PARAMS: Mapping[str, float] = {
    "Lx": 1000.0,
    "dx_corr": 250.0,
    "temperature_corr": 400.0,
    "std_temperature_noise": 0.06,
    "load_q_from_p_coeff": 0.7,
}

#: Standard deviation and correlation time in minutes of what moves load from region to region for days, at the same
#: total: recorded loads differ by 0.06 in their mean over two days, of which the weather's 400 minutes leave 0.03.
REGION_STD, REGION_MINUTES = 0.055, 10080.0  # of a std_temperature_noise of REFERENCE_STD
REFERENCE_STD = 0.06

#: The same of the ups and downs of each load alone; planned_std of params.json.
OWN_STD, OWN_MINUTES = 0.01, 60.0

#: No load falls below this share of its peak.
LEAST = 0.05


@dataclass(frozen=True, eq=False)
class LoadModel:
    """Consumption of a grid: ``peak * (year * week + weather + region + own)``, the last three noise."""

    peak: np.ndarray  #: (n_load,) MW, level of a winter working day
    q_ratio: np.ndarray  #: (n_load,) reactive over active power
    places: np.ndarray  #: (n_load, 2) on a map whose longer side is params["Lx"]
    working_day: np.ndarray  #: (24,) hourly means over the day's mean
    params: Mapping[str, float]

    @property
    def region_std(self) -> float:
        """Standard deviation of ``region``, in the same units as that of the weather."""
        return REGION_STD * self.params["std_temperature_noise"] / REFERENCE_STD

    def pattern(self, start: datetime, steps: int) -> np.ndarray:
        """What all loads follow, (steps,) as a share of peak: yearly times weekly curve, without any noise."""
        minutes = (start - datetime(start.year, start.month, start.day)).total_seconds() / 60.0
        hours = start.weekday() * 24.0 + minutes / 60.0 + np.arange(steps) / 12.0
        days = start.timetuple().tm_yday + minutes / 1440.0 + np.arange(steps) / DAY
        return week_curve(self.working_day)(hours % 168.0) * year_curve(days)

    def draw(self, rng: np.random.Generator, start: datetime, steps: int) -> np.ndarray:
        """Active power of every load, (steps, n_load) MW, from ``start`` on."""
        factor = spatial_factor(self.places, self.params["dx_corr"])
        weather = random_field(rng, factor, steps, self.params["temperature_corr"])
        region = random_field(rng, factor, steps, REGION_MINUTES)
        region -= (region @ self.peak / self.peak.sum())[:, None]
        own = smooth_noise(rng, steps, len(self.peak), OWN_MINUTES)
        pattern = self.pattern(start, steps)[:, None]
        share = pattern + self.params["std_temperature_noise"] * weather + self.region_std * region + OWN_STD * own
        return self.peak * np.maximum(share, LEAST)


def week_curve(working_day: np.ndarray) -> CubicSpline:
    """Level over the hours [0, 168) from Monday 0:00, 1 on average over a working day."""
    hourly = np.array(
        [
            np.asarray(working_day) * WEEKEND_RATIO[day] if day in WEEKEND_RATIO else DAY_LEVEL[day] * working_day
            for day in range(7)
        ]
    ).ravel()
    middles = np.arange(168) + 0.5
    # one point more than a week closes the curve
    return CubicSpline(np.append(middles, 168.5), np.append(hourly, hourly[0]), bc_type="periodic")


def year_curve(days: np.ndarray | float) -> np.ndarray:
    """Level of a working day over days of the year (1 is the first of January)."""
    return np.asarray(YEAR_MEAN + YEAR_SWING * np.cos(2 * np.pi * (np.asarray(days) - YEAR_PEAK) / 365.25))


def make_load_model(
    env: Any,
    places: np.ndarray,
    recorded: Sequence[Series],
    peaks: Mapping[str, float] | None,
    params: dict[str, float],
) -> LoadModel:
    """The model of a grid.

    Args:
        env: The Grid2Op environment.
        places: (n_load, 2), see ``LoadModel.places``.
        recorded: The grid's own series: daily shape and peaks where ``peaks`` is None, reactive power where ``params``
            do not say.
        peaks: Pmax of each load by name, from loads_charac.csv, or None.
        params: params_load.json, {} where there is none.
    """
    active = np.concatenate([series.load_p for series in recorded]).mean(axis=0)
    reactive = np.concatenate([series.load_q for series in recorded]).mean(axis=0)
    if "load_q_from_p_coeff" in params:
        ratio = np.full(len(active), float(params["load_q_from_p_coeff"]))
    else:
        ratio = reactive / np.where(active == 0.0, 1.0, active)
    working_day = np.array(WORKING_DAY) if peaks is not None else _recorded_day(recorded)
    working_day /= working_day.mean()
    known = {**DEFAULT_PARAMS, **params}  # std_temperature_noise is completed below
    model = LoadModel(np.ones(len(active)), ratio, places, working_day, known)
    expected = np.concatenate([model.pattern(s.start, len(s.load_p)) for s in recorded]).mean()
    if "std_temperature_noise" not in params:
        known["std_temperature_noise"] = _recorded_std(recorded) * expected
    if peaks is not None:
        peak = np.array([peaks[name] for name in type(env).name_load], dtype=float)
    else:
        peak = active / expected
    return LoadModel(peak, ratio, places, working_day, known)


def _recorded_std(recorded: Sequence[Series]) -> float:
    """Standard deviation of the loads' shares of the total over their mean, without what each load does alone."""
    squares = []
    for series in recorded:
        shares = series.load_p / series.load_p.sum(axis=1, keepdims=True)
        used = shares.mean(axis=0) > 0
        squares.append(np.mean((shares.std(axis=0)[used] / shares.mean(axis=0)[used]) ** 2))
    return float(np.sqrt(max(np.mean(squares) - OWN_STD**2, 0.0)))


def _recorded_day(recorded: Sequence[Series]) -> np.ndarray:
    """Hourly means over the day's mean of the recorded working days, or of all days if none is a working day."""
    days, working = [], []
    for series in recorded:
        first = -((series.start.hour * 60 + series.start.minute) // 5) % DAY  # first row of the first whole day
        total = series.load_p[first:].sum(axis=1)
        for day in range(len(total) // DAY):
            hourly = total[day * DAY : (day + 1) * DAY].reshape(24, 12).mean(axis=1)
            days.append(hourly / hourly.mean())
            working.append((series.start + (first + day * DAY) * STEP).weekday() < 5)
    chosen = [day for day, keep in zip(days, working, strict=True) if keep or not any(working)]
    return np.mean(chosen, axis=0)
