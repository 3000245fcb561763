"""The folder of an export and those of its zones: what is in them, and how they are written, read and checked.

Of a zone, `manifest.json` says for which grid and units it is, `policy.onnx` is the policy, `zone.npz` holds the
numbers that scale measurements and bound actions. Nothing here imports Ray, torch or Grid2Op.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.limits import StorageLimits
from grid2op_zones.measurement import QUANTITIES, Elements
from grid2op_zones.safety.devices import UnitData
from grid2op_zones.safety.lines import Bounds, LineData, Movers
from grid2op_zones.view import References

#: Changes whenever a folder of one version cannot be read as another's.
FORMAT = "mafql-zone/3"

MANIFEST, POLICY, ARRAYS = "manifest.json", "policy.onnx", "zone.npz"

#: What the folder of an export says of itself.
EXPORT = "export.json"
EXPORT_FORMAT = "mafql-export/1"

#: Folder of the centralised policy.
CENTRALIZED = "centralized"

UNITS_OF_MEASURE = {
    "rho": "share of the thermal limit",
    "p_or": "MW",
    "q_or": "MVAr",
    "v_or": "kV",
    "thermal_limit": "A",
    "line_status": "connected",
    "timestep_overflow": "steps",
    "time_before_cooldown_line": "steps",
    "time_next_maintenance": "steps, -1 for none",
    "gen_p": "MW",
    "gen_p_delta": "MW",
    "gen_p_before_curtail": "MW",
    "curtailment_limit": "share of pmax",
    "actual_dispatch": "MW",
    "target_dispatch": "MW",
    "gen_bus": "busbar, -1 for none",
    "load_p": "MW",
    "storage_charge": "MWh",
    "storage_power": "MW, positive charges",
    "storage_bus": "busbar, -1 for none",
}


class PackageError(ValueError):
    """A folder that is no exported zone, is damaged, or is another version's or grid's; the message says which."""


@dataclass(frozen=True, eq=False)
class ZonePackage:
    """What is known of a zone.

    Attributes:
        grid: The grid's name.
        zone: The zone's name.
        elements: What it measures, in order.
        references: What scales the measurements.
        units: Its units.
        lines: Its lines and the rest of the grid as it knows it.
        bounds: What the projection assumes.
        level: How far actions are projected, "units" or "lines".
        step_minutes: Time between decisions.
        flow_steps: Of the policy.
        versions: Of the software that wrote it.
    """

    grid: str
    zone: str
    elements: Elements
    references: References
    units: UnitData
    lines: LineData
    bounds: Bounds
    level: str
    step_minutes: float
    flow_steps: int
    versions: Mapping[str, str]


def write_package(folder: Path, package: ZonePackage, policy: bytes) -> None:
    """Writes a zone's folder, which must not hold one yet."""
    folder.mkdir(parents=True)
    (folder / POLICY).write_bytes(policy)
    with (folder / ARRAYS).open("wb") as file:
        np.savez_compressed(file, **_arrays(package))
    manifest = {
        "format": FORMAT,
        "grid": package.grid,
        "zone": package.zone,
        "step_minutes": package.step_minutes,
        "policy": {
            "flow_steps": package.flow_steps,
            "observation": package.references.size,
            "action": max(len(package.units.names), 1),
            "normalisation": "inside the model",
            "noise": "zeros unless given",
        },
        "actions": list(package.units.names),
        "measures": package.elements._asdict(),
        "own": {"lines": len(package.lines.lines)},
        "quantities": {kind: {name: UNITS_OF_MEASURE[name] for name in names} for kind, names in QUANTITIES.items()},
        "safety": {"level": package.level, **package.bounds._asdict()},
        "balanced": package.units.balanced,
        "curtail_step": package.units.curtail_step,
        "versions": dict(package.versions),
        "sha256": {name: _sha256(folder / name) for name in (POLICY, ARRAYS)},
    }
    manifest["fingerprint"] = fingerprint(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_package(folder: str | Path, grid: str | None = None) -> ZonePackage:
    """Reads and checks a zone's folder.

    Args:
        folder: Written by `mafql export`.
        grid: The grid that it must be for; None takes any.

    Raises:
        PackageError: It is none, is damaged, is of another format, or is for another grid.
    """
    folder = Path(folder)
    for name in (MANIFEST, POLICY, ARRAYS):
        if not (folder / name).is_file():
            raise PackageError(f"{folder} is not an exported zone: it has no {name}")
    manifest = _read_json(folder / MANIFEST, FORMAT)
    try:
        return _package(folder, manifest, grid)
    except (KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{folder} is damaged: {type(error).__name__}: {error}") from error


def _package(folder: Path, manifest: dict[str, Any], grid: str | None) -> ZonePackage:
    if grid is not None and manifest["grid"] != grid:
        raise PackageError(f"{folder} is for grid {manifest['grid']!r}, not for {grid!r}")
    for name in (POLICY, ARRAYS):
        if _sha256(folder / name) != manifest["sha256"][name]:
            raise PackageError(f"{folder / name} is damaged or not the one that was exported: its checksum differs")
    elements = Elements(*(tuple(manifest["measures"][kind]) for kind in QUANTITIES))
    names = tuple(manifest["actions"])
    if fingerprint(manifest) != manifest["fingerprint"]:
        raise PackageError(f"{folder / MANIFEST}: its zone, elements or units were changed: the fingerprint differs")
    safety = dict(manifest["safety"])
    level = safety.pop("level")
    with np.load(folder / ARRAYS, allow_pickle=False) as file:
        arrays = dict(file)
    return ZonePackage(
        grid=manifest["grid"],
        zone=manifest["zone"],
        elements=elements,
        references=_references(arrays),
        units=_unit_data(arrays, names, manifest["curtail_step"], manifest["balanced"]),
        lines=_line_data(arrays, manifest["balanced"]),
        bounds=Bounds(**safety),
        level=level,
        step_minutes=manifest["step_minutes"],
        flow_steps=manifest["policy"]["flow_steps"],
        versions=manifest["versions"],
    )


def read_export(folder: Path) -> dict[str, Any]:
    """What the folder of an export, which holds its zones' folders, says of itself.

    Raises:
        PackageError: It is none, is damaged, or of another format.
    """
    path = folder / EXPORT
    if not path.is_file():
        raise PackageError(f"{folder} is no export: it has no {EXPORT}")
    manifest = _read_json(path, EXPORT_FORMAT)
    missing = sorted({"algorithm", "zones", "centralized", "env_config"} - manifest.keys())
    if missing:
        raise PackageError(f"{path} is damaged: it has no {missing[0]!r}")
    return manifest


def _read_json(path: Path, wanted: str) -> dict[str, Any]:
    """A manifest of the format that is wanted."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackageError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise PackageError(f"{path} is damaged: it holds no mapping")
    if manifest.get("format") != wanted:
        raise PackageError(f"{path} has format {manifest.get('format')!r}, this version reads {wanted!r}: export anew")
    return manifest


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Digest of which zone it is, and of the names and order of what it measures and moves.

    The level and the bounds of the projection are left out: they are the operator's to choose.
    """
    fixed = ("grid", "zone", "step_minutes", "actions", "measures", "balanced", "curtail_step")
    return hashlib.sha256(json.dumps([manifest[name] for name in fixed]).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_UNIT_ARRAYS = ("redispatchable", "curtailable", "storages", "pmin", "pmax", "ramp_up", "ramp_down", "curtail_pmax")
_LINE_ARRAYS = ("lines", "substations", "susceptance", "start", "end", "n_sub", "compensation")
_MOVERS = ("loads", "renewables", "schedules")


def _arrays(package: ZonePackage) -> dict[str, Any]:
    references, units, lines = package.references, package.units, package.lines
    arrays = {f"references.{name}": value for name, value in references._asdict().items()}
    arrays |= {f"units.{name}": getattr(units, name) for name in _UNIT_ARRAYS}
    arrays |= {f"storage.{name}": value for name, value in units.storage_limits._asdict().items()}
    arrays |= {f"lines.{name}": getattr(lines, name) for name in _LINE_ARRAYS}
    movers = {name: getattr(lines, name) for name in _MOVERS}
    movers |= {f"others.{k}": zone for k, zone in enumerate(lines.others)}
    for name, mover in movers.items():
        arrays |= {f"{name}.{field}": value for field, value in mover._asdict().items()}
    return arrays


def _references(arrays: Mapping[str, np.ndarray]) -> References:
    values: dict[str, Any] = {name: arrays[f"references.{name}"] for name in References._fields}
    return References(**{**values, "per_overflow": float(values["per_overflow"])})


def _unit_data(
    arrays: Mapping[str, np.ndarray], names: tuple[str, ...], curtail_step: float, balanced: bool
) -> UnitData:
    return UnitData(
        names=names,
        **{name: arrays[f"units.{name}"] for name in _UNIT_ARRAYS},
        storage_limits=StorageLimits(*(arrays[f"storage.{name}"] for name in StorageLimits._fields)),
        curtail_step=curtail_step,
        balanced=balanced,
    )


def _line_data(arrays: Mapping[str, np.ndarray], balanced: bool) -> LineData:
    def movers(name: str) -> Movers:
        return Movers(arrays[f"{name}.substations"], arrays[f"{name}.most"], bool(arrays[f"{name}.balanced"]))

    count = sum(name.startswith("others.") and name.endswith(".most") for name in arrays)
    values: dict[str, Any] = {name: arrays[f"lines.{name}"] for name in _LINE_ARRAYS}
    values |= {name: movers(name) for name in _MOVERS}
    values |= {"n_sub": int(values["n_sub"]), "others": tuple(movers(f"others.{k}") for k in range(count))}
    return LineData(**values, balanced=balanced)
