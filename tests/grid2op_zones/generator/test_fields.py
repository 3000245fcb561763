"""Random fields have the variance and the correlations they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from grid2op_zones.generator.fields import KERNEL_SHARE, random_field, smooth_noise, spatial_factor


@pytest.mark.parametrize("minutes", [60.0, 360.0, 3000.0])
def test_noise_has_unit_variance_and_the_stated_autocorrelation(minutes: float) -> None:
    noise = smooth_noise(np.random.default_rng(0), 4000, 400, minutes)
    lag = int(minutes / 10)  # half of the correlation time, in steps
    expected = np.exp(-((0.5 / (2 * KERNEL_SHARE)) ** 2))
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    assert (noise[:-lag] * noise[lag:]).mean() == pytest.approx(expected, abs=0.05)


def test_noise_is_smooth_where_it_is_refined_by_a_spline() -> None:
    noise = smooth_noise(np.random.default_rng(0), 2016, 3, 10080.0)
    assert noise.shape == (2016, 3)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.01


def test_places_correlate_by_distance() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [100.0, 0.0], [1000.0, 0.0]])
    field = random_field(np.random.default_rng(1), spatial_factor(places, 200.0), 20000, 10.0)
    found = np.corrcoef(field.T)[0]
    assert found[1] == pytest.approx(1.0, abs=1e-6)
    assert found[2] == pytest.approx(np.exp(-(0.5**1.5)), abs=0.04)
    assert found[3] == pytest.approx(0.0, abs=0.04)
