"""A zone's controller: from its measurements to what its units are told, with NumPy, ONNX Runtime and DAQP alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.measurement import (
    QUANTITIES,
    Measurement,
    MeasurementError,
    check_measurement,
    measurement_of,
    not_finite,
)
from grid2op_zones.safety.devices import ZoneOrders, ZoneUnits
from grid2op_zones.safety.lines import ZoneLines
from grid2op_zones.safety.projection import LATE, Certificate, SafetyProjection
from grid2op_zones.view import ZoneView
from rllib_mafql.deploy.package import POLICY, PackageError, ZonePackage, read_package
from rllib_mafql.deploy.session import Session

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decision:
    """What a controller decided in one step.

    Attributes:
        orders: What to tell the units, in the order of `ZoneController.units`; None sends nothing: targets and caps
            stay as they are, storages go idle.
        certificate: Of the projection; None where nothing is sent.
        problem: Why the policy's action was not taken up, and which input was wrong; None where it was.
    """

    orders: ZoneOrders | None
    certificate: Certificate | None
    problem: str | None

    @property
    def setpoints(self) -> dict[str, float]:
        """Unit -> MW of redispatch that is added in this step, cap as a share of pmax, or MW of storage power."""
        if self.certificate is None:
            return {}
        return dict(zip(self.certificate.names, np.concatenate(self.certificate.plan).tolist(), strict=True))


class ZoneController:
    """Decides for one zone. Nothing that it sends is unprojected.

    - Nothing is sent where measurements are incomplete, of the wrong type or order, not newer than the last ones or not
      of the present, or where one that the projection needs, of the zone's own units or lines, is no number.
    - Hold and release, projected, where any other measurement is no number, and where the policy fails, gives no number
      or is late: a tenth of dispatch and curtailment goes in a step, storages are left idle.
    - What the units allow, without the lines, where the solver fails.

    Args:
        folder: One zone's folder, from `mafql export`.
        grid: The grid that it must be for; None takes any.
        level: "units" or "lines" instead of the exported level of projection.
        deadline_ms: Time that the policy may take.
        policy: Acts in place of the exported one: observation (d,) and noise (m,) or None -> action (m,).

    Attributes:
        package: What is known of the zone.
        units: Names of the units, in the order of orders.
        policy: The exported policy, or what acts in its place.
        projection: The safety projection.

    Raises:
        PackageError: The folder is no exported zone, is damaged, or is another version's or grid's.
        ValueError: The level is unknown.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        grid: str | None = None,
        level: str | None = None,
        deadline_ms: float = 1000.0,
        policy: Callable[[np.ndarray, np.ndarray | None], np.ndarray] | None = None,
    ) -> None:
        self.package: ZonePackage = read_package(folder, grid)
        level = level or self.package.level
        if level not in ("units", "lines"):
            raise ValueError(f"level: expected 'units' or 'lines', found {level!r}")
        self.units = self.package.units.names
        self.deadline_ms = deadline_ms
        lines = ZoneLines(self.package.lines, self.package.bounds) if level == "lines" else None
        self.projection = SafetyProjection(ZoneUnits(self.package.units), lines, self.package.elements.lines)
        self._view = ZoneView(self.package.references)
        self.policy = policy or self._exported(Path(folder) / POLICY)
        self._own = self._own_positions()
        self.reset()

    def reset(self) -> None:
        """Forgets the last time and the last programs: another day begins, as it would in a new process."""
        self._last: datetime | None = None
        self.projection.reset()

    def measurement(self, time: datetime, values: Mapping[str, Any]) -> Measurement:
        """A measurement of values by quantity: arrays in the order of `package.elements`, or name -> value.

        Raises:
            MeasurementError: A quantity or an element is missing or unknown, or an array has the wrong length.
        """
        return measurement_of(self.package.elements, time, values)

    def decide(
        self, measurement: Measurement, *, noise: np.ndarray | None = None, now: datetime | None = None
    ) -> Decision:
        """Decides what the zone's units are told.

        Args:
            measurement: The zone's, of `measurement` or of a `Meter`.
            noise: (m,) from which the flow starts; None starts from zeros, deterministic.
            now: The present time; a measurement that is more than a step older or ahead is refused. None takes no
                notice of age.
        """
        try:
            measurement = self._checked(measurement)
            problem = self._faults(measurement)
            self._check_time(measurement.time, now)
        except MeasurementError as error:
            logger.warning("%s: nothing is sent: %s", self.package.zone, error)
            return Decision(None, None, str(error))
        self._last = measurement.time
        action = None
        if problem is None:
            action, problem = self._act(measurement, noise)
        certificate = self.projection.project(action, measurement, problem)
        if certificate.fallback is not None:
            logger.warning("%s: hold and release: %s", self.package.zone, certificate.fallback)
        return Decision(certificate.orders, certificate, certificate.fallback)

    def _exported(self, path: Path) -> Session:
        try:
            session = Session(path)
        except Exception as error:  # ONNX Runtime's own have no common base
            raise PackageError(f"{path} cannot be run: {error}") from error
        found, wanted = (session.obs_size, session.action_size), (self._view.size, self.projection.units.action_size)
        if found != wanted:
            raise PackageError(
                f"{path} maps {found[0]} numbers to {found[1]}, its zone has {wanted[0]} and {wanted[1]}"
            )
        return session

    def _act(self, measurement: Measurement, noise: np.ndarray | None) -> tuple[np.ndarray | None, str | None]:
        """The policy's action, or why there is none."""
        started = time.perf_counter()
        try:
            action = np.asarray(self.policy(self._view.observe(measurement), noise), dtype=float)
        except Exception as error:  # whatever goes wrong in the runtime, the units must be told something safe
            return None, f"the policy failed: {type(error).__name__}: {error}"
        took = 1e3 * (time.perf_counter() - started)
        if took > self.deadline_ms:
            return None, f"{LATE}: it took {took:.1f} ms of {self.deadline_ms:g}"
        return action, None

    def _checked(self, measurement: Measurement) -> Measurement:
        """The measurement, complete, in arrays that compiled code can read."""
        for name, value in zip(Measurement._fields[2:], measurement[2:], strict=True):
            if not isinstance(value, np.ndarray):
                raise MeasurementError(f"{name}: expected an array, found {type(value).__name__}")
        check_measurement(self.package.elements, measurement)
        return Measurement(*measurement[:2], *map(np.ascontiguousarray, measurement[2:]))

    def _check_time(self, measured: datetime, now: datetime | None) -> None:
        if not isinstance(measured, datetime):
            raise MeasurementError(f"time: expected a datetime, found {measured!r}")
        for other in (self._last, now):
            if other is not None and (other.tzinfo is None) != (measured.tzinfo is None):
                raise MeasurementError(f"time: {measured} cannot be compared with {other}: one of them has a time zone")
        if self._last is not None and measured <= self._last:
            raise MeasurementError(f"the measurement of {measured} is stale: one of {self._last} was used already")
        age = 0.0 if now is None else (now - measured).total_seconds() / (60.0 * self.package.step_minutes)
        if age > 1.0:
            raise MeasurementError(f"the measurement of {measured} is stale: it is {now}")
        if age < -1.0:  # taken for the last one, it would make all to come stale
            raise MeasurementError(f"the measurement of {measured} lies ahead: it is {now}")

    def _own_positions(self) -> dict[str, np.ndarray]:
        """Kind -> positions of the elements that the projection needs."""
        units, lines = self.package.units, self.projection.lines
        return {
            "lines": np.arange(0 if lines is None else len(lines.data.lines)),
            "generators": np.concatenate([units.redispatchable, units.curtailable]),
            "loads": np.zeros(0, dtype=np.int64),
            "storages": units.storages,
        }

    def _faults(self, measurement: Measurement) -> str | None:
        """What is not a number that the policy alone reads; raises for what the projection reads."""
        found = None
        for kind, name, positions in not_finite(measurement):
            own = np.isin(positions, self._own[kind])
            k = positions[own][0] if own.any() else positions[0]
            element, value = getattr(measurement.elements, kind)[k], getattr(measurement, name)[k]
            found = f"{name} of {element} is {value}, not a number"
            if own.any() and name in NEEDED:
                raise MeasurementError(found)
        return found


#: Quantities that the projection reads; of the others, the policy alone has need.
NEEDED = {*QUANTITIES["generators"], *QUANTITIES["storages"], "p_or", "q_or", "v_or", "thermal_limit", "line_status"}
