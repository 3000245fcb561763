"""All zones' projections in one environment: each zone projects its own action, with its own measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from grid2op_zones.action import ActionMap, Orders
from grid2op_zones.measurement import Meter
from grid2op_zones.observation import ZoneObserver
from grid2op_zones.safety.build import elements_of, line_data, unit_data
from grid2op_zones.safety.devices import ZoneUnits
from grid2op_zones.safety.lines import Bounds, ZoneLines
from grid2op_zones.safety.projection import Certificate, SafetyProjection
from grid2op_zones.zones import Zone


class Projected(NamedTuple):
    """What the zones' projections made of a joint action."""

    orders: Orders
    action: np.ndarray  #: (sum m_i,) float32 in [-1, 1], as executed
    certificates: list[Certificate]  #: of the zones, in joint order


class ZoneProjection:
    """One zone's projection, and where its units are in the grid."""

    def __init__(
        self,
        grid: Any,
        zones: Sequence[Zone],
        zone: Zone,
        action_map: ActionMap,
        observer: ZoneObserver,
        config: Mapping[str, Any],
        loads: np.ndarray,
    ) -> None:
        seen = observer.elements[zone.name]
        cls = type(grid)
        self.meter = Meter(elements_of(seen, cls), cls)
        data = unit_data(grid, zone, action_map, config["actions"], seen)
        lines = None
        if config["safety"]["level"] == "lines":
            bounds = Bounds(**{name: config["safety"][name] for name in Bounds._fields})
            lines = ZoneLines(line_data(grid, zones, zone, action_map, config["actions"], loads), bounds)
        self.projection = SafetyProjection(ZoneUnits(data), lines, self.meter.elements.lines)
        self.redispatchable = seen["generator"][data.redispatchable]
        self.curtailable = seen["generator"][data.curtailable]
        self.storages = seen["storage"][data.storages]


class JointProjection:
    """The zones' projections side by side.

    Args:
        grid: A Grid2Op environment.
        zones: Its partition.
        action_map: The environment's.
        observer: The environment's, which knows what the zones measure.
        config: The environment's full configuration.
        loads: (n_load,) MW, the loads' references.
    """

    def __init__(
        self,
        grid: Any,
        zones: Sequence[Zone],
        action_map: ActionMap,
        observer: ZoneObserver,
        config: Mapping[str, Any],
        loads: np.ndarray,
    ) -> None:
        cls = type(grid)
        self._n_gen, self._n_storage = cls.n_gen, cls.n_storage
        self.zones = [ZoneProjection(grid, zones, zone, action_map, observer, config, loads) for zone in zones]
        ends = np.cumsum([0, *action_map.sizes.values()])
        self._parts = [slice(start, end) for start, end in pairwise(ends)]

    def reset(self) -> None:
        """To be called where an episode begins, so that it does not depend on the ones before, not even by rounding."""
        for zone in self.zones:
            zone.projection.reset()

    def project(self, action: np.ndarray | None, grid_obs: Any) -> Projected:
        """What becomes of a joint action (sum m_i,) in [-1, 1]; of holding what there is, if it is None."""
        redispatch = np.zeros(self._n_gen, dtype=np.float32)
        curtail = np.full(self._n_gen, -1.0, dtype=np.float32)
        storage = np.zeros(self._n_storage, dtype=np.float32)
        certificates = []
        for zone, part in zip(self.zones, self._parts, strict=True):
            measurement = zone.meter.read(grid_obs)
            if action is None:
                certificate = zone.projection.hold(measurement)
            else:
                certificate = zone.projection.project(action[part], measurement)
            redispatch[zone.redispatchable] = certificate.orders.redispatch
            curtail[zone.curtailable] = certificate.orders.curtail
            storage[zone.storages] = certificate.orders.storage
            certificates.append(certificate)
        capped = curtail >= 0.0
        changed = bool((np.abs(curtail - grid_obs.curtailment_limit)[capped] > 1e-6).any())
        orders = Orders(redispatch, curtail if changed else None, storage if storage.any() else None)
        return Projected(orders, np.concatenate([one.action for one in certificates]), certificates)
