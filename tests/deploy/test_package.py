"""Folders of exports and zones that are damaged, edited, or of something else are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rllib_mafql.deploy.package import ARRAYS, EXPORT, MANIFEST, POLICY, PackageError, read_export, read_package
from tests.deploy.conftest import GRID_14, GRID_118, Setup

ZONES = ["zone_0", "zone_1", "zone_2"]


@pytest.fixture
def zone(case14: Setup, tmp_path: Path) -> Path:
    """A copy of a zone's folder."""
    return Path(shutil.copytree(case14.folder / "zone_1", tmp_path / "zone_1"))


def edit(path: Path, **changes: Any) -> None:
    """Changes entries of a manifest; None removes one."""
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


@pytest.mark.parametrize("name", [MANIFEST, POLICY, ARRAYS])
def test_folders_that_lack_a_file_are_no_zones(zone: Path, name: str) -> None:
    (zone / name).unlink()
    with pytest.raises(PackageError, match=f"is not an exported zone: it has no {name}"):
        read_package(zone)


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_what_is_no_zone(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    for read, has_no in ((read_package, MANIFEST), (read_export, EXPORT)):
        with pytest.raises(PackageError, match=f"{name} is no.*: it has no {has_no}"):
            read(tmp_path / name)


def test_an_export_is_no_zone_and_a_zone_no_export(case14: Setup) -> None:
    with pytest.raises(PackageError, match="is not an exported zone"):
        read_package(case14.folder)
    with pytest.raises(PackageError, match="is no export"):
        read_export(case14.folder / "zone_1")


@pytest.mark.parametrize("name", [POLICY, ARRAYS])
@pytest.mark.parametrize("how", ["cut", "changed", "another's"])
def test_files_whose_checksum_differs_are_refused(case14: Setup, zone: Path, name: str, how: str) -> None:
    content = (zone / name).read_bytes()
    if how == "cut":
        content = content[:-100]
    elif how == "changed":
        content = content[:200] + bytes([content[200] ^ 1]) + content[201:]
    else:
        content = (case14.folder / "zone_2" / name).read_bytes()
    (zone / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} is damaged or not the one that was exported: its checksum"):
        read_package(zone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged: Expecting value"),
        (b'{"format": "mafql-z', "damaged: Unterminated string"),
        (b"\xff\xfe\x00", "damaged: .*decode"),
        (b"[1, 2]", "damaged: it holds no mapping"),
        (b"{}", "has format None, this version reads 'mafql-"),
    ],
)
def test_damaged_manifests_are_refused(case14: Setup, zone: Path, content: bytes, message: str) -> None:
    (zone / MANIFEST).write_bytes(content)
    (zone / EXPORT).write_bytes(content)
    with pytest.raises(PackageError, match=f"{MANIFEST}.*{message}"):
        read_package(zone)
    with pytest.raises(PackageError, match=f"{EXPORT}.*{message}"):
        read_export(zone)


def test_other_versions_and_grids_are_refused(zone: Path) -> None:
    with pytest.raises(PackageError, match=f"is for grid '{GRID_14}', not for '{GRID_118}'"):
        read_package(zone, GRID_118)
    assert read_package(zone, GRID_14).zone == "zone_1"
    edit(zone / MANIFEST, format="mafql-zone/4")
    with pytest.raises(PackageError, match="has format 'mafql-zone/4', this version reads 'mafql-zone/3': export anew"):
        read_package(zone, GRID_118)


@pytest.mark.parametrize("change", ["renamed", "reordered", "removed", "unit", "units"])
def test_edited_names_are_refused(zone: Path, change: str) -> None:
    manifest = json.loads((zone / MANIFEST).read_text())
    lines, units = manifest["measures"]["lines"], manifest["actions"]
    if change == "renamed":
        lines[0] = "0_1_99"
    elif change == "reordered":
        lines[:2] = lines[1::-1]
    elif change == "removed":
        lines.pop()
    elif change == "unit":
        units[0] = "redispatch[gen_9_9]"
    else:
        units.reverse()
    edit(zone / MANIFEST, **manifest)
    with pytest.raises(PackageError, match="its zone, elements or units were changed: the fingerprint differs"):
        read_package(zone)


@pytest.mark.parametrize(
    "key",
    [
        *("grid", "zone", "fingerprint", "step_minutes", "policy", "actions", "measures", "safety", "balanced"),
        *("curtail_step", "versions", "sha256"),
    ],
)
def test_manifests_that_lack_an_entry_are_refused(zone: Path, key: str) -> None:
    edit(zone / MANIFEST, **{key: None})
    with pytest.raises(PackageError, match=f"is damaged: KeyError: '{key}'"):
        read_package(zone, GRID_14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": {}}, "KeyError: 'policy.onnx'"),
        ({"sha256": []}, "TypeError"),
        ({"measures": {"lines": []}}, "KeyError: 'generators'"),
        ({"safety": {"level": "lines", "wind": 1.0}}, "TypeError.*wind"),
        ({"safety": {}}, "KeyError: 'level'"),
    ],
)
def test_manifests_with_wrong_entries_are_refused(zone: Path, changes: dict[str, Any], message: str) -> None:
    edit(zone / MANIFEST, **changes)
    with pytest.raises(PackageError, match=f"is damaged: {message}"):
        read_package(zone)


@pytest.mark.parametrize("key", ["algorithm", "zones", "centralized", "env_config"])
def test_exports_that_lack_an_entry_are_refused(case14: Setup, tmp_path: Path, key: str) -> None:
    shutil.copy(case14.folder / EXPORT, tmp_path)
    assert read_export(tmp_path)["zones"] == ZONES
    edit(tmp_path / EXPORT, **{key: None})
    with pytest.raises(PackageError, match=f"is damaged: it has no '{key}'"):
        read_export(tmp_path)
