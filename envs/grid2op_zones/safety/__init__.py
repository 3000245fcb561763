"""The safety projection: what stands between a zone's policy and its units.

``SafetyProjection`` projects a zone's action onto what its units allow and its lines can bear, with what the zone
itself measures, and gives a ``Certificate``. docs/safety.md states what it guarantees, and proves it. Nothing here
imports Grid2Op but ``build`` and ``joint``, which the environment uses.
"""

from grid2op_zones.safety.devices import Room, UnitData, ZoneOrders, ZoneUnits
from grid2op_zones.safety.lines import Bounds, LineData, LineModel, Movers, ZoneLines
from grid2op_zones.safety.projection import Certificate, SafetyProjection

__all__ = [
    "Bounds",
    "Certificate",
    "LineData",
    "LineModel",
    "Movers",
    "Room",
    "SafetyProjection",
    "UnitData",
    "ZoneLines",
    "ZoneOrders",
    "ZoneUnits",
]
