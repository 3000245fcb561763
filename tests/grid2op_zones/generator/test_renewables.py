"""Wind and sun: bounds, seasons, correlations."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from grid2op_zones.generator import GridModel
from grid2op_zones.generator.recorded import DAY


def _weeks(idf: GridModel, month: int, count: int = 6) -> np.ndarray:
    """Output of all units as shares of capacity, (count, 2016, n_gen)."""
    rng = np.random.default_rng(month)
    drawn = [idf.renewables.draw(rng, datetime(2035, month, 15), 7 * DAY) for _ in range(count)]
    return np.array(drawn) / idf.renewables.capacity


def test_output_keeps_within_capacity_and_sun_sets(idf: GridModel) -> None:
    output = _weeks(idf, 6, 2)
    renewable = np.append(idf.renewables.wind, idf.renewables.solar)
    assert output.min() >= 0.0 and output.max() <= 1.0
    assert not np.delete(output, renewable, axis=2).any()
    by_hour = output[:, :, idf.renewables.solar].reshape(-1, 24, 12, len(idf.renewables.solar)).mean(axis=(0, 2, 3))
    assert not by_hour[[0, 1, 2, 22, 23]].any()
    assert by_hour.argmax() in (11, 12)


def test_winter_has_more_wind_and_summer_more_sun(idf: GridModel) -> None:
    winter, summer = _weeks(idf, 1, 12), _weeks(idf, 7, 12)
    wind, solar = idf.renewables.wind, idf.renewables.solar
    assert winter[:, :, wind].mean() > summer[:, :, wind].mean()
    assert summer[:, :, solar].mean() > 2 * winter[:, :, solar].mean()
    assert winter[:, :, wind].mean() == pytest.approx(0.31, abs=0.05)  # recorded: 0.312
    assert summer[:, :, solar].mean() == pytest.approx(0.28, abs=0.05)


def test_wind_correlates_with_its_neighbours_and_its_past(idf: GridModel) -> None:
    output = np.concatenate(_weeks(idf, 1))[:, idf.renewables.wind]
    places = idf.renewables.places[idf.renewables.wind]
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    found = np.corrcoef(output.T)
    pairs = np.triu(np.ones_like(distance, dtype=bool), 1)
    assert found[pairs & (distance < 100)].mean() > 0.9
    assert found[pairs & (distance > 700)].mean() < 0.6
    hour = np.mean([np.corrcoef(column[:-12], column[12:])[0, 1] for column in output.T])
    assert 0.3 < hour < 0.85
