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

#: Quarter-hourly means of a working day over its mean, halfway between two sets of days: the five of l2rpn_idf_2023 and
#: l2rpn_wcci_2022_dev, all Mondays or Tuesdays, and the nineteen working days of rte_case118_example.
WORKING_DAY = (
    1.002, 0.990, 0.968, 0.939, 0.915, 0.904, 0.900, 0.896, 0.889, 0.884, 0.878, 0.865,
    0.849, 0.838, 0.830, 0.823, 0.816, 0.814, 0.814, 0.814, 0.817, 0.828, 0.841, 0.853,
    0.865, 0.886, 0.911, 0.933, 0.953, 0.974, 0.995, 1.011, 1.023, 1.034, 1.044, 1.053,
    1.061, 1.070, 1.077, 1.082, 1.086, 1.089, 1.090, 1.093, 1.095, 1.097, 1.100, 1.106,
    1.110, 1.110, 1.109, 1.112, 1.114, 1.107, 1.096, 1.087, 1.082, 1.080, 1.076, 1.066,
    1.055, 1.048, 1.043, 1.037, 1.030, 1.024, 1.019, 1.015, 1.012, 1.011, 1.014, 1.019,
    1.026, 1.034, 1.044, 1.058, 1.072, 1.078, 1.078, 1.073, 1.065, 1.053, 1.040, 1.028,
    1.018, 1.011, 1.004, 0.996, 0.989, 0.986, 0.995, 1.019, 1.044, 1.047, 1.038, 1.032,
)  # fmt: skip

#: Parts of a day in which its shape is given: quarters of an hour, since means of hours lose the steepest ramps.
PARTS = 96

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

#: Level of a working day over the year, as a share of a load's Pmax: YEAR_LEVEL (5.5 + 1.5 cos) / 7, highest on
#: YEAR_PEAK. The curve is that of chronix2grid, which made the series of the 118-bus grids; the level is that of the
#: January and August series of l2rpn_idf_2023 and of the February one of l2rpn_wcci_2022_dev, all within 1 % of it.
YEAR_LEVEL, YEAR_PEAK = 1.031, 45

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

#: The same of the ups and downs of each load alone.
OWN_STD, OWN_MINUTES = 0.01, 60.0

#: No load falls below this share of its peak.
LEAST = 0.05


@dataclass(frozen=True, eq=False)
class LoadModel:
    """Consumption of a grid: ``peak * (week * (year + weather + region) + own) * (1 + rough)``, the last four noise."""

    peak: np.ndarray  #: (n_load,) MW, level of a winter working day
    q_ratio: np.ndarray  #: (n_load,) reactive over active power
    places: np.ndarray  #: (n_load, 2) on a map whose longer side is params["Lx"]
    working_day: np.ndarray  #: (PARTS,) means over the day's mean
    rough: float  #: standard deviation of what changes from step to step, share of the load
    params: Mapping[str, float]

    @property
    def region_std(self) -> float:
        """Standard deviation of ``region``, in the same units as that of the weather."""
        return REGION_STD * self.params["std_temperature_noise"] / REFERENCE_STD

    def pattern(self, start: datetime, steps: int) -> np.ndarray:
        """What all loads follow, (steps,) as a share of peak: yearly times weekly curve, without any noise."""
        week, year = self._curves(start, steps)
        return week * year

    def _curves(self, start: datetime, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The weekly and the yearly curve, (steps,) each."""
        minutes = (start - datetime(start.year, start.month, start.day)).total_seconds() / 60.0
        hours = start.weekday() * 24.0 + minutes / 60.0 + np.arange(steps) / 12.0
        days = start.timetuple().tm_yday + minutes / 1440.0 + np.arange(steps) / DAY
        return week_curve(self.working_day, hours), year_curve(days)

    def draw(self, rng: np.random.Generator, start: datetime, steps: int) -> np.ndarray:
        """Active power of every load, (steps, n_load) MW, from ``start`` on."""
        factor = spatial_factor(self.places, self.params["dx_corr"])
        weather = random_field(rng, factor, steps, self.params["temperature_corr"])
        region = random_field(rng, factor, steps, REGION_MINUTES)
        region -= (region @ self.peak / self.peak.sum())[:, None]
        own = smooth_noise(rng, steps, len(self.peak), OWN_MINUTES)
        week, year = (curve[:, None] for curve in self._curves(start, steps))
        share = week * (year + self.params["std_temperature_noise"] * weather + self.region_std * region)
        rough = 1.0 + self.rough * rng.standard_normal(share.shape)
        return self.peak * np.maximum(share + OWN_STD * own, LEAST) * rough


def week_curve(working_day: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Level at ``hours`` from Monday 0:00, 1 on average over a working day; ``working_day`` as in ``LoadModel``."""
    levels = np.concatenate([np.repeat(DAY_LEVEL, 24), WEEKEND_RATIO[5], WEEKEND_RATIO[6]])
    return _closed_spline(working_day, 24.0)(hours % 24.0) * _closed_spline(levels, 168.0)(hours % 168.0)


def _closed_spline(means: np.ndarray, period: float) -> CubicSpline:
    """A periodic curve through the means of equal parts of a period, each at its part's middle."""
    middles = (np.arange(len(means) + 1) + 0.5) * period / len(means)
    return CubicSpline(middles, np.append(means, means[0]), bc_type="periodic")


def year_curve(days: np.ndarray | float) -> np.ndarray:
    """Level of a working day over days of the year (1 is the first of January)."""
    return YEAR_LEVEL / 7.0 * (5.5 + 1.5 * np.cos(2 * np.pi * (np.asarray(days) - YEAR_PEAK) / 365.25))


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
    rough = _recorded_roughness(recorded)
    model = LoadModel(np.ones(len(active)), ratio, places, working_day, rough, known)
    expected = np.concatenate([model.pattern(s.start, len(s.load_p)) for s in recorded]).mean()
    if "std_temperature_noise" not in params:
        known["std_temperature_noise"] = _recorded_std(recorded, rough) * expected
    if peaks is not None:
        peak = np.array([peaks[name] for name in type(env).name_load], dtype=float)
    else:
        peak = active / expected
    return LoadModel(peak, ratio, places, working_day, rough, known)


def _recorded_roughness(recorded: Sequence[Series]) -> float:
    """Standard deviation of the steps' own noise as a share of the load: in second differences, little else is left."""
    found = []
    for series in recorded:
        mean = series.load_p.mean(axis=0)
        large = mean > np.median(mean)  # of small ones, what is seen is the rounding of the files
        change = np.diff(series.load_p[:, large], n=2, axis=0)
        found.append(np.median(change.std(axis=0) / mean[large]) / np.sqrt(6.0))
    return float(np.mean(found))


def _recorded_std(recorded: Sequence[Series], rough: float) -> float:
    """Standard deviation of the loads' shares of the total over their mean, without what each load does alone."""
    squares = []
    for series in recorded:
        shares = series.load_p / series.load_p.sum(axis=1, keepdims=True)
        used = shares.mean(axis=0) > 0
        squares.append(np.mean((shares.std(axis=0)[used] / shares.mean(axis=0)[used]) ** 2))
    return float(np.sqrt(max(np.mean(squares) - OWN_STD**2 - rough**2, 0.0)))


def _recorded_day(recorded: Sequence[Series]) -> np.ndarray:
    """Means of parts over the day's mean of the recorded working days, or of all days if none is a working day."""
    days, working = [], []
    for series in recorded:
        first = -((series.start.hour * 60 + series.start.minute) // 5) % DAY  # first row of the first whole day
        total = series.load_p[first:].sum(axis=1)
        for day in range(len(total) // DAY):
            means = total[day * DAY : (day + 1) * DAY].reshape(PARTS, -1).mean(axis=1)
            days.append(means / means.mean())
            working.append((series.start + (first + day * DAY) * STEP).weekday() < 5)
    chosen = [day for day, keep in zip(days, working, strict=True) if keep or not any(working)]
    return np.mean(chosen, axis=0)
