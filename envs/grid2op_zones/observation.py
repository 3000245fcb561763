"""What a zone sees: numbers of about unit size, scaled by physical references that the grid alone fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grid2op_zones import _kernels
from grid2op_zones.opponent import threatened_lines
from grid2op_zones.ptdf import LinearFlow, outage_factors
from grid2op_zones.view import CONSTANTS, References, calendar

if TYPE_CHECKING:
    from grid2op_zones import simulator
    from grid2op_zones.zones import Zone

LINE_FEATURES = ("rho", "excess", "flow", "state")
#: Features of lines that, with ``outages``, are seen of the whole grid.
EXCESSES = ("excess", "excess_after")
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
    - with ``outages``, line: ``excess_after`` as ``excess``, of what the line will carry without the worst of the
      maintainable lines that an opponent may attack or whose maintenance begins within 2 hours; by the linear model of
      the whole grid (see `outage_factors`)
    - redispatchable unit: ``output`` p / pmax; ``dispatch`` / pmax; ``lag`` (target - dispatch) / ramp; ``room_up`` and
      ``room_down`` the share of the ramp that pmax and pmin leave
    - renewable unit: ``available`` power before curtailment / pmax; ``cap`` curtailment limit as a share of pmax
    - load: ``load`` active power over its mean on the first day of the grid's first series
    - storage: ``charge`` / capacity; ``power`` / largest power, positive charges
    - the time of day and of the week as sine and cosine

    What a zone sees: with ``local`` what is connected to its own substations; with ``outages`` also the lines of other
    zones that may be taken out for maintenance, and ``excess`` and ``excess_after`` of all lines, so that it knows
    where its help is needed; with ``border`` what is connected to its substations and to those at the far ends of its
    ties; with ``global`` everything. Its own elements come first.

    Args:
        grid: A Grid2Op environment on LightSimBackend.
        zones: A partition of the grid.
        observability: ``local``, ``outages``, ``border`` or ``global``.
        load_reference: Size of each load, MW, (n_load,).
        maintainable: Lines that may be maintained, boolean (n_line,).
        threatened: Lines that may be lost at any time, boolean (n_line,).

    Attributes:
        elements: For each zone the ids of what it sees, own ones first, by kind (line, generator, load, storage).
        full_lines: For each zone the ids of the lines of which it sees all features, and not the excesses alone.
    """

    def __init__(
        self,
        grid: Any,
        zones: Sequence[Zone],
        observability: str,
        load_reference: np.ndarray,
        maintainable: np.ndarray,
        threatened: np.ndarray,
    ) -> None:
        cls = type(grid)
        red = np.flatnonzero(cls.gen_redispatchable)
        power = np.maximum(cls.storage_max_p_absorb, cls.storage_max_p_prod).astype(float)
        self.references = References(
            per_limit=1.0 / np.maximum(limit_mw(grid), 1e-6),
            maintainable=np.flatnonzero(maintainable),
            redispatchable=red,
            curtailable=np.flatnonzero(cls.gen_renewable),
            pmax=cls.gen_pmax[red].astype(float),
            pmin=cls.gen_pmin[red].astype(float),
            per_pmax=1.0 / np.maximum(cls.gen_pmax.astype(float), 1e-6),
            per_up=1.0 / np.maximum(cls.gen_max_ramp_up[red].astype(float), 1e-6),
            per_down=1.0 / np.maximum(cls.gen_max_ramp_down[red].astype(float), 1e-6),
            per_load=1.0 / np.maximum(np.abs(load_reference), 1.0),
            per_energy=1.0 / np.maximum(cls.storage_Emax.astype(float), 1e-6),
            per_power=1.0 / np.maximum(power, 1e-6),
            per_overflow=1.0 / max(int(grid.parameters.NB_TIMESTEP_OVERFLOW_ALLOWED), 1),
            after=intact_outage_factors(grid, np.flatnonzero(maintainable))
            if observability == "outages"
            else np.empty((0, 0)),
            threatened=threatened[maintainable],
            full=np.ones(cls.n_line, dtype=bool),
        )

        blocks = self._blocks(cls)
        sizes = [len(ids) for _, _, ids in blocks]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._all_names = np.array(
            [f"{feature}[{name}]" if name else feature for feature, names, _ in blocks for name in names]
        )
        self._picks: dict[str, np.ndarray] = {}
        self.elements: dict[str, dict[str, np.ndarray]] = {}
        self.full_lines: dict[str, np.ndarray] = {}
        for zone in zones:
            seen = self._seen(zone, observability, cls)
            own = self._elements(zone.substations, cls)
            full = np.union1d(own["line"], self.references.maintainable) if observability == "outages" else seen["line"]
            self.full_lines[zone.name] = full
            # own elements first
            ordered = {kind: ids[np.argsort(~np.isin(ids, own[kind]), kind="stable")] for kind, ids in seen.items()}
            self.elements[zone.name] = ordered
            picks = []
            for (feature, _, ids), offset in zip(blocks, offsets, strict=False):
                kind = _kind(feature)
                wanted = ids if kind == "calendar" else ordered[kind][np.isin(ordered[kind], ids)]
                if kind == "line" and feature not in EXCESSES:
                    wanted = wanted[np.isin(wanted, full)]
                picks.append(offset + np.searchsorted(ids, wanted))
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
        obs, r = grid_obs, self.references
        calendar(obs.get_time_stamp(), self._calendar)
        # all features of all elements, in the order of _blocks, and of these what each zone sees
        _kernels.observe(
            *(out, self._joint_picks, self._everything),
            *(obs.rho, obs.p_or, r.per_limit, obs.line_status, obs.timestep_overflow),
            *(obs.time_before_cooldown_line, r.maintainable, obs.time_next_maintenance),
            *(r.redispatchable, r.curtailable, obs.gen_p, obs.actual_dispatch, obs.target_dispatch),
            *(obs.gen_p_before_curtail, obs.curtailment_limit),
            *(r.pmax, r.pmin, r.per_pmax, r.per_up, r.per_down),
            *(obs.load_p, r.per_load, obs.storage_charge, r.per_energy, obs.storage_power, r.per_power),
            *(self._calendar, r.after, r.threatened),
            *(r.per_overflow, *CONSTANTS),
        )

    def blank(self) -> dict[str, np.ndarray]:
        """The observations of a grid that is down: zeros."""
        return {zone: np.zeros(len(picks), dtype=np.float32) for zone, picks in self._picks.items()}

    def _blocks(self, cls: Any) -> list[tuple[str, list[str], np.ndarray]]:
        """(feature, element names, element ids) of each block of ``_everything``."""
        tables: list[tuple[Sequence[str], np.ndarray, np.ndarray]] = [
            (LINE_FEATURES, cls.name_line, np.arange(cls.n_line)),
            (("maintenance",), cls.name_line, self.references.maintainable),
            (("excess_after",) * bool(self.references.after.size), cls.name_line, np.arange(cls.n_line)),
            (UNIT_FEATURES, cls.name_gen, self.references.redispatchable),
            (RENEWABLE_FEATURES, cls.name_gen, self.references.curtailable),
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
        seen = self._elements(substations, cls)
        if observability == "outages":
            seen["line"] = np.arange(cls.n_line)
        return seen

    @staticmethod
    def _elements(substations: np.ndarray, cls: Any) -> dict[str, np.ndarray]:
        ends = np.isin(cls.line_or_to_subid, substations) | np.isin(cls.line_ex_to_subid, substations)
        return {
            "line": np.flatnonzero(ends),
            "generator": np.flatnonzero(np.isin(cls.gen_to_subid, substations)),
            "load": np.flatnonzero(np.isin(cls.load_to_subid, substations)),
            "storage": np.flatnonzero(np.isin(cls.storage_to_subid, substations)),
        }


def make_observer(
    grid: Any, zones: Sequence[Zone], config: Mapping[str, Any], references: simulator.References
) -> ZoneObserver:
    """The observer of an environment's full configuration, with the references of its grid."""
    threatened = np.isin(np.arange(type(grid).n_line), threatened_lines(grid))
    return ZoneObserver(grid, zones, config["observability"], references.loads, references.maintainable, threatened)


def intact_outage_factors(grid: Any, lines: np.ndarray) -> np.ndarray:
    """(n_line, k) MW on a line per MW that one of k lines carries, all others being closed; 0 for a bridge."""
    cls = type(grid)
    start, end = cls.line_or_to_subid.astype(np.int64), cls.line_ex_to_subid.astype(np.int64)
    ptdf = LinearFlow(grid).of_status(np.ones(cls.n_line, dtype=bool))
    factors = np.zeros((cls.n_line, len(lines)))
    if ptdf is not None:
        found, kept = outage_factors(ptdf, lines, start, end)
        factors[:, np.isin(lines, kept)] = found
    return factors


def limit_mw(grid: Any) -> np.ndarray:
    """Each line's thermal limit at the nominal voltage of its origin, MW, (n_line,). Needs LightSimBackend."""
    # LightSimBackend numbers the first bus of each substation like the substation
    volts = np.asarray(grid.backend._grid.get_bus_vn_kv(), dtype=float)[type(grid).line_or_to_subid]
    return np.sqrt(3.0) * volts * grid.get_thermal_limit().astype(float) / 1000.0


def _kind(feature: str) -> str:
    if feature in (*LINE_FEATURES, "maintenance", "excess_after"):
        return "line"
    if feature in (*UNIT_FEATURES, *RENEWABLE_FEATURES):
        return "generator"
    if feature in STORAGE_FEATURES:
        return "storage"
    return "calendar" if feature in CALENDAR else "load"
