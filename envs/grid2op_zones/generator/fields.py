"""Random fields that are correlated over a grid's map and over time."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import cdist

#: Width of the smoothing kernel as a share of the correlation time: noise of correlation time tau then has the
#: autocorrelation exp(-(lag / (0.8 tau))^2), 0.68 at half of tau, close to the recorded wind of the 118-bus grids.
KERNEL_SHARE = 0.4

#: Exponent of the spatial decay exp(-(distance / length)^1.5), fitted on the same series.
DECAY = 1.5

#: A kernel wider than twice this many samples is applied to a coarser series, which a spline then refines.
WIDEST_KERNEL = 16


def spatial_factor(places: np.ndarray, length: float) -> np.ndarray:
    """A factor F (n, n) with F F' = the correlation of n places, (n, 2) in units of the map, at correlation ``length``.

    Places that coincide are fully correlated.
    """
    correlation = np.exp(-((cdist(places, places) / length) ** DECAY))
    # eigenvalues instead of Cholesky, since places that coincide make the matrix singular
    values, vectors = np.linalg.eigh(correlation)
    return vectors * np.sqrt(np.clip(values, 0.0, None))


def smooth_noise(rng: np.random.Generator, steps: int, channels: int, minutes: float) -> np.ndarray:
    """Stationary Gaussian noise (steps, channels) of 5-minute steps, unit variance, correlation time in minutes."""
    sigma = KERNEL_SHARE * minutes / 5.0
    stride = max(1, int(sigma // WIDEST_KERNEL) * 2)
    width = sigma / stride
    margin = int(np.ceil(4 * width)) + 2
    samples = -(-steps // stride) + 1
    white = rng.standard_normal((samples + 2 * margin, channels))
    # the variance of a smoothed white noise is the sum of the squared weights, which a unit impulse shows
    impulse = np.zeros(2 * margin + 1)
    impulse[margin] = 1.0
    gain = np.sqrt((gaussian_filter1d(impulse, width, mode="constant", truncate=4.0) ** 2).sum())
    coarse = gaussian_filter1d(white, width, axis=0, mode="constant", truncate=4.0)[margin:-margin] / gain
    if stride == 1:
        return coarse[:steps]
    return CubicSpline(np.arange(samples) * stride, coarse, axis=0)(np.arange(steps))


def random_field(rng: np.random.Generator, factor: np.ndarray, steps: int, minutes: float) -> np.ndarray:
    """Gaussian field (steps, n) of unit variance: ``smooth_noise`` mixed over places by a ``spatial_factor``."""
    return smooth_noise(rng, steps, factor.shape[1], minutes) @ factor.T
