"""What a zone sees: numbers of about unit size, scaled by physical references that the grid alone fixes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.zones import Zone

#: Observations are clipped to this range.
BOUND = 10.0

#: Loading from which a line's excess counts. What dispatch has to do follows from the excess almost linearly, with the
#: flow's sign. From ``rho`` and ``flow`` alone a network has to find that bend anew for every line.
EXCESS_FROM = 0.85

#: Steps before a planned maintenance from which a line's maintenance component rises from 0 to 1 (4 hours).
MAINTENANCE_HORIZON = 48

#: Steps of cooldown that count in full for a disconnected line (1 hour).
COOLDOWN_HORIZON = 12

LINE_FEATURES = ("rho", "excess", "flow", "state")
UNIT_FEATURES = ("output", "dispatch", "lag", "room_up", "room_down")
RENEWABLE_FEATURES = ("available", "cap")
STORAGE_FEATURES = ("charge", "power")
CALENDAR = ("sin_day", "cos_day", "sin_week", "cos_week")


class ZoneObserver:
    """Turns a Grid2Op observation into one float32 vector per zone.

    Components, in this order, for the elements that the zone sees:

    - line: ``rho`` loading; ``excess`` loading above 85 %, 1 at the limit, signed like the flow; ``flow`` active power
      at the origin over the thermal limit in MW at nominal voltage, signed; ``state`` steps in overflow over the steps
      allowed for a closed line, -0.5 for an open one that may be closed, down to -1 for one that stays open for an hour
      or more
    - maintainable line: ``maintenance`` 0, rising to 1 over the 4 hours before a planned maintenance
    - redispatchable unit: ``output`` p / pmax; ``dispatch`` / pmax; ``lag`` (target - dispatch) / ramp; ``room_up`` and
      ``room_down`` the share of the ramp that pmax and pmin leave
    - renewable unit: ``available`` power before curtailment / pmax; ``cap`` curtailment limit as a share of pmax
    - load: ``load`` active power over its mean on the first day of the grid's first series
    - storage: ``charge`` / capacity; ``power`` / largest power, positive charges
    - the time of day and of the week as sine and cosine

    What a zone sees: with ``local`` what is connected to its own substations; with ``border`` also what is connected to
    the substations at the far ends of its ties; with ``global`` everything. Its own elements come first.

    Args:
        grid: A Grid2Op environment on LightSimBackend.
        zones: A partition of the grid.
        observability: ``local``, ``border`` or ``global``.
        load_reference: Size of each load, MW, (n_load,).
        maintainable: Lines that may be maintained, boolean (n_line,).
    """

    def __init__(
        self, grid: Any, zones: Sequence[Zone], observability: str, load_reference: np.ndarray, maintainable: np.ndarray
    ) -> None:
        cls = type(grid)
        self._red, self._cur = np.flatnonzero(cls.gen_redispatchable), np.flatnonzero(cls.gen_renewable)
        self._maintainable = np.flatnonzero(maintainable)
        limit_mw = np.sqrt(3.0) * nominal_voltage(grid) * grid.get_thermal_limit().astype(float) / 1000.0
        self._per_limit = 1.0 / np.maximum(limit_mw, 1e-6)
        self._per_overflow = 1.0 / max(int(grid.parameters.NB_TIMESTEP_OVERFLOW_ALLOWED), 1)
        self._pmax, self._pmin = cls.gen_pmax[self._red].astype(float), cls.gen_pmin[self._red].astype(float)
        self._per_pmax = 1.0 / np.maximum(cls.gen_pmax.astype(float), 1e-6)
        self._per_up = 1.0 / np.maximum(cls.gen_max_ramp_up[self._red].astype(float), 1e-6)
        self._per_down = 1.0 / np.maximum(cls.gen_max_ramp_down[self._red].astype(float), 1e-6)
        self._per_load = 1.0 / np.maximum(np.abs(load_reference), 1.0)
        self._per_energy = 1.0 / np.maximum(cls.storage_Emax.astype(float), 1e-6)
        power = np.maximum(cls.storage_max_p_absorb, cls.storage_max_p_prod).astype(float)
        self._per_power = 1.0 / np.maximum(power, 1e-6)

        blocks = self._blocks(cls)
        sizes = [len(ids) for _, _, ids in blocks]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._all_names = np.array(
            [f"{feature}[{name}]" if name else feature for feature, names, _ in blocks for name in names]
        )
        self._picks: dict[str, np.ndarray] = {}
        for zone in zones:
            seen = self._seen(zone, observability, cls)
            own = self._elements(zone.substations, cls)
            picks = []
            for (feature, _, ids), offset in zip(blocks, offsets, strict=False):
                kind = _kind(feature)
                at = np.arange(len(ids)) if kind == "calendar" else np.flatnonzero(np.isin(ids, seen[kind]))
                if kind != "calendar":  # own elements first
                    at = at[np.argsort(~np.isin(ids[at], own[kind]), kind="stable")]
                picks.append(offset + at)
            self._picks[zone.name] = np.concatenate(picks)
        self._joint_picks = np.concatenate(list(self._picks.values()))
        self._splits = np.cumsum([len(picks) for picks in self._picks.values()])[:-1]
        self._everything, self._calendar = np.empty(offsets[-1]), np.empty(len(CALENDAR))

    @property
    def sizes(self) -> dict[str, int]:
        """Number of components of each zone's observation."""
        return {zone: len(picks) for zone, picks in self._picks.items()}

    def names(self, zone: str) -> list[str]:
        """Name of each component of a zone's observation, e.g. ``rho[26_31_106]``."""
        return self._all_names[self._picks[zone]].tolist()

    def observe(self, grid_obs: Any) -> dict[str, np.ndarray]:
        """One vector per zone, float32, each (d_i,), within [-10, 10]."""
        joint = np.empty(len(self._joint_picks), dtype=np.float32)
        self.write(grid_obs, joint)
        return dict(zip(self._picks, np.split(joint, self._splits), strict=True))

    def write(self, grid_obs: Any, out: np.ndarray) -> None:
        """Writes the zones' observations side by side into ``out``, (sum d_i,) float32."""
        obs, now = grid_obs, grid_obs.get_time_stamp()
        day = 2.0 * np.pi * (now.hour + now.minute / 60.0) / 24.0
        week = (2.0 * np.pi * now.weekday() + day) / 7.0
        self._calendar[:] = math.sin(day), math.cos(day), math.sin(week), math.cos(week)
        # all features of all elements, in the order of _blocks, and of these what each zone sees
        _kernels.observe(
            *(out, self._joint_picks, self._everything),
            *(obs.rho, obs.p_or, self._per_limit, obs.line_status, obs.timestep_overflow),
            *(obs.time_before_cooldown_line, self._maintainable, obs.time_next_maintenance),
            *(self._red, self._cur, obs.gen_p, obs.actual_dispatch, obs.target_dispatch),
            *(obs.gen_p_before_curtail, obs.curtailment_limit),
            *(self._pmax, self._pmin, self._per_pmax, self._per_up, self._per_down),
            *(obs.load_p, self._per_load, obs.storage_charge, self._per_energy, obs.storage_power, self._per_power),
            self._calendar,
            *(self._per_overflow, EXCESS_FROM, float(COOLDOWN_HORIZON), float(MAINTENANCE_HORIZON), BOUND),
        )

    def blank(self) -> dict[str, np.ndarray]:
        """The observations of a grid that is down: zeros."""
        return {zone: np.zeros(len(picks), dtype=np.float32) for zone, picks in self._picks.items()}

    def _blocks(self, cls: Any) -> list[tuple[str, list[str], np.ndarray]]:
        """(feature, element names, element ids) of each block of ``_everything``."""
        tables: list[tuple[Sequence[str], np.ndarray, np.ndarray]] = [
            (LINE_FEATURES, cls.name_line, np.arange(cls.n_line)),
            (("maintenance",), cls.name_line, self._maintainable),
            (UNIT_FEATURES, cls.name_gen, self._red),
            (RENEWABLE_FEATURES, cls.name_gen, self._cur),
            (("load",), cls.name_load, np.arange(cls.n_load)),
            (STORAGE_FEATURES, cls.name_storage, np.arange(cls.n_storage)),
        ]
        blocks = [
            (feature, [str(names[k]) for k in ids], ids) for features, names, ids in tables for feature in features
        ]
        return blocks + [(feature, [""], np.zeros(1, dtype=np.int64)) for feature in CALENDAR]

    def _seen(self, zone: Zone, observability: str, cls: Any) -> dict[str, np.ndarray]:
        substations = zone.substations
        if observability == "border":
            substations = np.union1d(
                substations, np.concatenate([cls.line_or_to_subid[zone.ties], cls.line_ex_to_subid[zone.ties]])
            )
        elif observability == "global":
            substations = np.arange(cls.n_sub)
        return self._elements(substations, cls)

    @staticmethod
    def _elements(substations: np.ndarray, cls: Any) -> dict[str, np.ndarray]:
        ends = np.isin(cls.line_or_to_subid, substations) | np.isin(cls.line_ex_to_subid, substations)
        return {
            "line": np.flatnonzero(ends),
            "generator": np.flatnonzero(np.isin(cls.gen_to_subid, substations)),
            "load": np.flatnonzero(np.isin(cls.load_to_subid, substations)),
            "storage": np.flatnonzero(np.isin(cls.storage_to_subid, substations)),
        }


def nominal_voltage(grid: Any) -> np.ndarray:
    """Nominal voltage at the origin of each line, kV, (n_line,). Needs LightSimBackend."""
    # LightSimBackend numbers the first bus of each substation like the substation
    return np.asarray(grid.backend._grid.get_bus_vn_kv(), dtype=float)[type(grid).line_or_to_subid]


def _kind(feature: str) -> str:
    if feature in (*LINE_FEATURES, "maintenance"):
        return "line"
    if feature in (*UNIT_FEATURES, *RENEWABLE_FEATURES):
        return "generator"
    if feature in STORAGE_FEATURES:
        return "storage"
    return "calendar" if feature in CALENDAR else "load"
