"""Wind and sun: what every renewable unit could produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from grid2op_zones.generator.fields import random_field, smooth_noise, spatial_factor
from grid2op_zones.generator.recorded import DAY, Series

#: params_res.json of l2rpn_idf_2023, for grids that have no such file. Lengths on a map of Lx units, times in minutes.
DEFAULT_PARAMS: Mapping[str, float] = {
    "Lx": 1000.0,
    "dx_corr": 800.0,
    "long_wind_corr": 10080.0,
    "medium_wind_corr": 360.0,
    "short_wind_corr": 60.0,
    "std_long_wind_noise": 0.2,
    "std_medium_wind_noise": 0.15,
    "std_short_wind_noise": 0.2,
    "scale_solar_coord_for_correlation": 2.0,
    "std_solar_noise": 0.8,
}

#: Wind of the grids without that file is slow: fitted on the recorded series of the 14-bus and rte_case118_example.
SLOW_WIND: Mapping[str, float] = {
    "std_long_wind_noise": 0.25,
    "std_medium_wind_noise": 0.1,
    "std_short_wind_noise": 0.02,
}

#: Mean output of wind over the year as a share of capacity, highest in January; from the recorded 118-bus series.
WIND_MEAN, WIND_SWING, WIND_PEAK = 0.255, 0.055, 20

#: Output grows with the wind's speed: log output = WIND_POWER * noise. Gives the recorded spread of log output, 0.45.
WIND_POWER = 1.7

#: Neither wind nor sun gives more than this share of capacity (the most recorded is 0.93).
MOST_OUTPUT = 0.95

#: Clear-sky output SUN_HEIGHT e^SUN_EXPONENT (1 - exp(-(e / SUN_EDGE)^SUN_RISE)) of the sine e of the sun's elevation,
#: fitted on the recorded series of January, February and August (root mean square error 0.024 of capacity).
SUN_HEIGHT, SUN_EXPONENT, SUN_EDGE, SUN_RISE = 0.794, 0.63, 0.217, 1.39

#: Latitude of France's middle in degrees, tilt of the earth's axis, day of the spring equinox.
LATITUDE, TILT, EQUINOX = 46.0, 23.44, 81

#: Spread of the log clearness per unit of std_solar_noise, held for the week; recorded units differ by 0.25 to 0.4.
CLEARNESS = 0.55

#: Clouds of the day and of the hour: standard deviations of the log clearness, correlation times in minutes.
DAY_CLOUDS, DAY_CLOUDS_MINUTES = 0.08, 1440.0
PASSING_CLOUDS, PASSING_CLOUDS_MINUTES = 0.02, 30.0


@dataclass(frozen=True, eq=False)
class RenewableModel:
    """Wind and solar units of a grid."""

    wind: np.ndarray  #: generator ids
    solar: np.ndarray
    capacity: np.ndarray  #: (n_gen,) MW
    places: np.ndarray  #: (n_gen, 2) on a map whose longer side is params["Lx"]
    params: Mapping[str, float]
    wind_scale: float = 1.0  #: output over that of the 118-bus grids at the same capacity
    solar_scale: float = 1.0

    def draw(self, rng: np.random.Generator, start: datetime, steps: int) -> np.ndarray:
        """Output that wind and sun allow, (steps, n_gen) MW; 0 for units of other kinds."""
        available = np.zeros((steps, len(self.capacity)))
        days = _days(start, steps)
        available[:, self.wind] = self.wind_scale * self._wind(rng, days)
        available[:, self.solar] = self.solar_scale * self._solar(rng, days)
        return np.minimum(available, MOST_OUTPUT) * self.capacity

    def _wind(self, rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
        """(steps, n_wind) as shares of capacity."""
        p = self.params
        factor = spatial_factor(self.places[self.wind], p["dx_corr"])
        log, variance = np.zeros((len(days), len(self.wind))), 0.0
        for term in ("long", "medium", "short"):
            std = WIND_POWER * p[f"std_{term}_wind_noise"]
            log += std * random_field(rng, factor, len(days), p[f"{term}_wind_corr"])
            variance += std**2
        return wind_mean(days)[:, None] * np.exp(log - variance / 2)

    def _solar(self, rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
        """(steps, n_solar) as shares of capacity."""
        p = self.params
        factor = spatial_factor(self.places[self.solar], p["dx_corr"] / p["scale_solar_coord_for_correlation"])
        week = CLEARNESS * p["std_solar_noise"]
        log = week * (factor @ rng.standard_normal(len(self.solar)))[None, :]
        log = log + DAY_CLOUDS * random_field(rng, factor, len(days), DAY_CLOUDS_MINUTES)
        log += PASSING_CLOUDS * smooth_noise(rng, len(days), len(self.solar), PASSING_CLOUDS_MINUTES)
        variance = week**2 + DAY_CLOUDS**2 + PASSING_CLOUDS**2
        return clear_sky(days)[:, None] * np.exp(log - variance / 2)


def wind_mean(days: np.ndarray) -> np.ndarray:
    """Mean output of wind, share of capacity, over days of the year (1 is the first of January)."""
    return WIND_MEAN + WIND_SWING * np.cos(2 * np.pi * (days - WIND_PEAK) / 365.25)


def clear_sky(days: np.ndarray) -> np.ndarray:
    """Mean output of sun, share of capacity, over days of the year with their fractions as solar time."""
    declination = np.radians(TILT) * np.sin(2 * np.pi * (days - EQUINOX) / 365.25)
    hour_angle = 2 * np.pi * (days % 1.0 - 0.5)
    latitude = np.radians(LATITUDE)
    sine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    sine = np.clip(sine, 0.0, None)
    return SUN_HEIGHT * sine**SUN_EXPONENT * (1.0 - np.exp(-((sine / SUN_EDGE) ** SUN_RISE)))


def make_renewable_model(
    env: Any, places: np.ndarray, recorded: Sequence[Series], params: dict[str, float] | None
) -> RenewableModel:
    """The model of a grid; ``params`` is params_res.json.

    Without it (None), wind is slow, and the mean outputs of wind and sun are scaled to the grid's own series, by 0.7 to
    1.3 for wind, whose mean over a few days says little.
    """
    kinds = np.asarray(type(env).gen_type)
    given = SLOW_WIND if params is None else params
    known = {key: float(given.get(key, default)) for key, default in DEFAULT_PARAMS.items()}
    model = RenewableModel(
        wind=np.flatnonzero(kinds == "wind"),
        solar=np.flatnonzero(kinds == "solar"),
        capacity=np.asarray(type(env).gen_pmax, dtype=float),
        places=places,
        params=known,
    )
    if params is not None:
        return model
    days = np.concatenate([_days(series.start, len(series.prod_p)) for series in recorded])
    output = np.concatenate([series.prod_p for series in recorded]).mean(axis=0)

    def scale(units: np.ndarray, expected: np.ndarray) -> float:
        return float(output[units].sum() / (model.capacity[units].sum() * expected.mean())) if units.size else 1.0

    return replace(
        model,
        wind_scale=float(np.clip(scale(model.wind, wind_mean(days)), 0.7, 1.3)),
        solar_scale=scale(model.solar, clear_sky(days)),
    )


def _days(start: datetime, steps: int) -> np.ndarray:
    """Day of the year with its fraction, (steps,), 1.0 being the first of January at 0:00."""
    tm = start.timetuple()
    return tm.tm_yday + (tm.tm_hour * 60 + tm.tm_min) / 1440.0 + np.arange(steps) / DAY
