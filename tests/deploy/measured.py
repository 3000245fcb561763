"""A zone that is measured while all its units are in use, and what must hold of a controller's decisions there."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grid2op_zones.limits import RAMP_SHARE
from grid2op_zones.measurement import QUANTITIES, Measurement
from grid2op_zones.safety.devices import ZoneUnits
from grid2op_zones.safety.projection import SafetyProjection
from rllib_mafql.deploy.controller import Decision, ZoneController
from rllib_mafql.deploy.package import MANIFEST, POLICY, ZonePackage

STEP = timedelta(minutes=5)

KINDS = {name: kind for kind, names in QUANTITIES.items() for name in names}


class Zone(NamedTuple):
    """A zone's folder and what is measured there while its dispatch, caps and storages are in use."""

    folder: Path
    measured: Measurement

    def controller(self, **options: Any) -> ZoneController:
        return ZoneController(self.folder, **options)

    def changed(self, **values: np.ndarray) -> Measurement:
        """What is measured, with other values of some quantities."""
        return self.measured._replace(**values)

    def with_one(self, name: str, position: int, value: Any) -> Measurement:
        """What is measured, with another value of one quantity of one element."""
        values = getattr(self.measured, name).copy()
        values[position] = value
        return self.changed(**{name: values})


def values_of(measurement: Measurement) -> dict[str, Any]:
    return {name: getattr(measurement, name) for name in KINDS}


def assert_within_limits(package: ZonePackage, m: Measurement, decision: Decision) -> None:
    """What is sent keeps to what the units allow: by the projection's own account, and reckoned here once more."""
    certificate, orders, data = decision.certificate, decision.orders, package.units
    assert certificate is not None and orders is not None
    room = ZoneUnits(data).room(m)
    size = np.maximum(1.0, np.maximum(np.abs(room.low), np.abs(room.high)))
    assert (certificate.change >= room.low - 1e-9 * size).all() and (
        certificate.change <= room.high + 1e-9 * size
    ).all()
    assert room.sums[0] - 1e-6 <= certificate.change.sum() <= room.sums[1] + 1e-6
    assert not data.balanced or room.sums == (room.total, room.total)

    near = 1e-3
    red, cur, sto = data.redispatchable, data.curtailable, data.storages
    moves, caps, power = certificate.plan
    assert (moves <= RAMP_SHARE * data.ramp_up).all() and (moves >= -RAMP_SHARE * data.ramp_down).all()
    assert (moves[m.gen_bus[red] < 1] == 0.0).all()
    scheduled = m.gen_p[red] - m.gen_p_delta[red]
    assert (scheduled + moves <= np.maximum(data.pmax, scheduled) + near).all()
    assert (scheduled + moves >= np.minimum(data.pmin, scheduled) - near).all()
    assert (orders.redispatch <= data.ramp_up).all() and (orders.redispatch >= -data.ramp_down).all()

    assert (caps >= 0.0).all() and (caps <= 1.0).all()
    np.testing.assert_array_equal(orders.curtail, caps.astype(np.float32))
    available, present = m.gen_p_before_curtail[cur], m.gen_p[cur] - m.gen_p_delta[cur]
    injected = np.minimum(caps * data.curtail_pmax, available)
    assert (np.abs(injected - present) <= data.curtail_step * data.curtail_pmax + near).all()

    limits, on = data.storage_limits, m.storage_bus[sto] >= 1
    assert (power <= limits.absorb).all() and (power >= -limits.produce).all() and (power[~on] == 0.0).all()
    charge = m.storage_charge[sto] + power / np.where(power > 0.0, limits.charge_rate, limits.discharge_rate)
    assert (charge <= limits.e_max + near).all() and (charge >= limits.e_min - near).all()
    np.testing.assert_array_equal(orders.storage, power.astype(np.float32))

    assert list(decision.setpoints) == list(package.units.names)
    np.testing.assert_array_equal(list(decision.setpoints.values()), np.concatenate(certificate.plan))


def assert_nothing_sent(decision: Decision, *named: str) -> None:
    assert decision.orders is None and decision.certificate is None and decision.setpoints == {}
    for name in named:
        assert name in str(decision.problem)


def assert_released(controller: ZoneController, m: Measurement, decision: Decision, *named: str) -> None:
    """Hold and release was projected, whatever the policy says."""
    for name in named:
        assert name in str(decision.problem)
    assert_within_limits(controller.package, m, decision)
    projection = SafetyProjection(ZoneUnits(controller.package.units), controller.projection.lines)
    assert decision.certificate is not None
    np.testing.assert_array_equal(decision.certificate.change, projection.project(None, m, "because").change)
    if decision.certificate.how == "closed form":
        room = projection.units.room(m)
        released = projection.units.nearest(projection.units.release(room), room)
        np.testing.assert_array_equal(decision.certificate.change, released)


def with_policy(zone: Zone, path: Path, content: bytes) -> Path:
    """A copy of the zone's folder with another policy, and the checksum to it."""
    shutil.copytree(zone.folder, path)
    (path / POLICY).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["sha256"][POLICY] = hashlib.sha256(content).hexdigest()
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path
