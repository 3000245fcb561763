"""What a zone measures in one step: quantities of its own elements, under the names and units of Grid2Op's observation.

Nothing here imports Grid2Op, so that a zone's controller runs without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

#: Quantities of each kind of element, and the type in which Grid2Op gives them.
QUANTITIES: dict[str, dict[str, type]] = {
    "lines": {
        "rho": np.float32,  # current over thermal limit
        "p_or": np.float32,  # MW at the origin
        "q_or": np.float32,  # MVAr at the origin
        "v_or": np.float32,  # kV at the origin
        "thermal_limit": np.float32,  # A
        "line_status": np.bool_,  # connected
        "timestep_overflow": np.int32,  # steps above the limit
        "time_before_cooldown_line": np.int32,  # steps before the line may be acted on
        "time_next_maintenance": np.int32,  # steps to the next planned maintenance, -1 for none
    },
    "generators": {
        "gen_p": np.float32,  # MW
        "gen_p_delta": np.float32,  # MW of it that the slack adds for the losses
        "gen_p_before_curtail": np.float32,  # MW available, of renewables
        "curtailment_limit": np.float32,  # cap as a share of pmax, 1 for none
        "actual_dispatch": np.float32,  # MW that redispatching adds to the schedule
        "target_dispatch": np.float32,  # MW that was asked for
        "gen_bus": np.int32,  # busbar, -1 where disconnected
    },
    "loads": {"load_p": np.float32},  # MW
    "storages": {
        "storage_charge": np.float32,  # MWh
        "storage_power": np.float32,  # MW, positive charges
        "storage_bus": np.int32,  # busbar, -1 where disconnected
    },
}


class Elements(NamedTuple):
    """Names of the elements that a zone measures, in the order of its measurements, its own first."""

    lines: tuple[str, ...]
    generators: tuple[str, ...]
    loads: tuple[str, ...]
    storages: tuple[str, ...]


class Measurement(NamedTuple):
    """One step's measurements; arrays in the order of `elements`, see `QUANTITIES` for their units and types."""

    elements: Elements
    time: datetime
    rho: np.ndarray
    p_or: np.ndarray
    q_or: np.ndarray
    v_or: np.ndarray
    thermal_limit: np.ndarray
    line_status: np.ndarray
    timestep_overflow: np.ndarray
    time_before_cooldown_line: np.ndarray
    time_next_maintenance: np.ndarray
    gen_p: np.ndarray
    gen_p_delta: np.ndarray
    gen_p_before_curtail: np.ndarray
    curtailment_limit: np.ndarray
    actual_dispatch: np.ndarray
    target_dispatch: np.ndarray
    gen_bus: np.ndarray
    load_p: np.ndarray
    storage_charge: np.ndarray
    storage_power: np.ndarray
    storage_bus: np.ndarray


class MeasurementError(ValueError):
    """A measurement that nothing can be decided from; the message names the quantity and the element."""


class Meter:
    """Takes a zone's measurements out of observations of the whole grid.

    Args:
        elements: What the zone measures.
        grid: A Grid2Op environment, observation or class, which tells the grid's order of elements.

    Raises:
        ValueError: The grid lacks an element.
    """

    def __init__(self, elements: Elements, grid: Any) -> None:
        self.elements = elements
        orders = (grid.name_line, grid.name_gen, grid.name_load, grid.name_storage)
        kinds = zip(QUANTITIES, elements, orders, strict=True)
        self._ids = [_positions(kind, wanted, order) for kind, wanted, order in kinds]

    def read(self, grid_obs: Any) -> Measurement:
        """The zone's part of a Grid2Op observation (or of a `GridState`), in new arrays."""
        values = [
            getattr(grid_obs, name).take(ids)
            for ids, names in zip(self._ids, QUANTITIES.values(), strict=True)
            for name in names
        ]
        return Measurement(self.elements, grid_obs.get_time_stamp(), *values)


def measurement_of(elements: Elements, time: datetime, values: Mapping[str, Any]) -> Measurement:
    """A measurement of values by quantity, each an array in the order of `elements`, or a mapping from names.

    Raises:
        MeasurementError: A quantity or an element is missing or unknown, an array has the wrong length, or a value is
            no number, or none of the quantity's kind. Of powers, currents and voltages, NaN stands for a missing one.
    """
    known = {name: (kind, dtype) for kind, names in QUANTITIES.items() for name, dtype in names.items()}
    if values.keys() != known.keys():
        missing, unknown = sorted(known.keys() - values.keys()), sorted(values.keys() - known.keys())
        raise MeasurementError(f"measurement: missing {missing}, unknown {unknown}")
    arrays: list[np.ndarray] = []
    for name, (kind, dtype) in known.items():
        wanted, given = getattr(elements, kind), values[name]
        if isinstance(given, Mapping):
            if given.keys() != set(wanted):
                missing, unknown = sorted(set(wanted) - given.keys()), sorted(given.keys() - set(wanted))
                raise MeasurementError(f"{name}: missing {missing}, unknown {unknown}")
            given = [given[element] for element in wanted]
        array = _typed(name, given, dtype)
        if array.shape != (len(wanted),):
            raise MeasurementError(
                f"{name}: expected {len(wanted)} values, one of each of the {kind}, found {array.shape}"
            )
        arrays.append(array)
    return Measurement(elements, time, *arrays)


def _typed(name: str, given: Any, dtype: type) -> np.ndarray:
    """The values as an array of the quantity's type, if that loses nothing."""
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{name}: not all values are numbers: {error}") from error
    with np.errstate(invalid="ignore", over="ignore"):
        typed: np.ndarray = values.astype(dtype)
    if dtype is not np.float32 and not np.array_equal(typed, values):
        raise MeasurementError(f"{name}: {values[typed != values][0]} is no {np.dtype(dtype).name}")
    return typed


def check_measurement(elements: Elements, measurement: Measurement) -> None:
    """Checks that a measurement is of these elements in this order, and complete.

    Raises:
        MeasurementError: It is not; the first wrong quantity and element are named.
    """
    if measurement.elements is not elements and measurement.elements != elements:
        for kind, wanted, given in zip(QUANTITIES, elements, measurement.elements, strict=True):
            for k, (one, other) in enumerate(zip(wanted, given, strict=False)):
                if one != other:
                    raise MeasurementError(f"{kind}: element {k} is {other!r}, expected {one!r}: wrong order or grid")
            if len(wanted) != len(given):
                raise MeasurementError(f"{kind}: expected {len(wanted)} elements, found {len(given)}")
    values = iter(measurement[2:])
    for names, owners in zip(QUANTITIES.values(), elements, strict=True):
        for name, dtype in names.items():
            value = next(values)
            if value.shape != (len(owners),):
                raise MeasurementError(f"{name}: expected {len(owners)} values, found shape {value.shape}")
            if value.dtype != dtype:
                raise MeasurementError(f"{name}: expected {np.dtype(dtype)}, found {value.dtype}")


def not_finite(measurement: Measurement) -> list[tuple[str, str, np.ndarray]]:
    """What is not a number in a measurement: (kind, quantity, positions) of each quantity that has some."""
    found = []
    for kind, name in _FLOATS:
        value = getattr(measurement, name)
        if not np.isfinite(value).all():
            found.append((kind, name, np.flatnonzero(~np.isfinite(value))))
    return found


_FLOATS = [(kind, name) for kind, names in QUANTITIES.items() for name, dtype in names.items() if dtype is np.float32]


def _positions(kind: str, wanted: Sequence[str], order: Sequence[str]) -> np.ndarray:
    at = {str(name): k for k, name in enumerate(order)}
    missing = [name for name in wanted if name not in at]
    if missing:
        raise ValueError(f"{kind}: the grid has no {missing[0]!r} ({len(missing)} of {len(wanted)} are missing)")
    return np.array([at[name] for name in wanted], dtype=np.int64)
