"""What single units allow in one step: operating range, ramps, storage power and energy; and the nearest point."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from grid2op_zones import _kernels

#: Share of a ramp that may be asked for: Grid2Op calls a redispatch beyond the ramp, by any rounding, ambiguous.
RAMP_SHARE = 0.999

#: Dispatch leaves every unit this many steps of full ramp below pmax and above pmin. A unit pushed onto its limit
#: cannot follow its own schedule any more, and where the others cannot either, Grid2Op ends the episode
#: (ImpossibleRedispatching). Of 42 episodes of extreme actions on l2rpn_idf_2023 that ended 4 at 1.5 steps, 2 at 2,
#: none at 2.5 and 3.
HEADROOM_STEPS = 2.5

#: The headroom is at most this share of pmax - pmin on each side, so that units with steep ramps can move at all.
MAX_HEADROOM_SHARE = 0.25


class StorageLimits(NamedTuple):
    """What storages can do, (n_storage,) each."""

    absorb: np.ndarray  #: MW, largest charging power
    produce: np.ndarray  #: MW, largest discharging power
    e_max: np.ndarray  #: MWh
    e_min: np.ndarray  #: MWh
    charge_rate: np.ndarray  #: MW of charging that fill a MWh in a step
    discharge_rate: np.ndarray  #: MW of discharging that empty a MWh in a step


def operating_range(
    pmin: np.ndarray, pmax: np.ndarray, ramp_up: np.ndarray, ramp_down: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest output of redispatched units, MW: pmin and pmax less the headroom."""
    most = MAX_HEADROOM_SHARE * (pmax - pmin)
    return pmin + np.minimum(HEADROOM_STEPS * ramp_down, most), pmax - np.minimum(HEADROOM_STEPS * ramp_up, most)


def storage_box(
    charge: np.ndarray,
    connected: np.ndarray,
    absorb: np.ndarray,
    produce: np.ndarray,
    e_max: np.ndarray,
    e_min: np.ndarray,
    charge_rate: np.ndarray,
    discharge_rate: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest power of storages in a step, MW; for the limits see `ActionMap.storage_limits`."""
    most = np.minimum(absorb, np.maximum(e_max - charge, 0.0) * charge_rate)
    least = -np.minimum(produce, np.maximum(charge - e_min, 0.0) * discharge_rate)
    # power on a disconnected storage is illegal
    return np.where(connected, least, 0.0), np.where(connected, most, 0.0)


def ramp_box(
    scheduled: np.ndarray,
    dispatch: np.ndarray,
    ceiling: np.ndarray,
    floor: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest increment of units' dispatch in a step, MW, see `ActionMap.ramp_box`."""
    room_up = np.maximum(ceiling - scheduled, -np.maximum(dispatch, 0.0))
    room_down = np.maximum(scheduled - floor, -np.maximum(-dispatch, 0.0))
    return clip(-room_down, -down, up), clip(room_up, -down, up)


def clip(x: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """``np.clip`` at a quarter of its overhead, which is what counts for the few units of a zone."""
    return np.minimum(np.maximum(x, low), high)


def project(x: np.ndarray, low: np.ndarray, high: np.ndarray, weight: np.ndarray, total: float) -> np.ndarray:
    """Minimise sum_j weight_j (y_j - x_j)^2 subject to sum_j y_j = total and low <= y <= high. All arrays (n,) float64.

    Exact: the minimiser is y(m) = clip(x + m / weight, low, high) for one multiplier m, and the sum of y(m) is
    piecewise linear and non-decreasing between the 2n values of m at which a component meets a bound. A total out of
    reach gives the nearest bound.
    """
    y = x.copy()
    _kernels.project(y, low, high, weight, total)
    return y
