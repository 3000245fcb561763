"""Exports a checkpoint's policies: one folder a zone, each complete in itself."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

import rllib_mafql
from grid2op_zones import ZonedGridEnv, check_env_config
from grid2op_zones.safety.build import elements_of, line_data, unit_data
from grid2op_zones.safety.lines import Bounds
from grid2op_zones.simulator import TEST_DEV_ENVS, grid_references
from grid2op_zones.zones import grid_name
from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.package import CENTRALIZED, EXPORT, EXPORT_FORMAT, POLICY, ZonePackage, write_package
from rllib_mafql.deploy.session import Session
from rllib_mafql.deploy.weights import field_weights
from rllib_mafql.evaluation.checkpoint import TEACHER, CheckpointInfo, load_module, read_checkpoint

if TYPE_CHECKING:
    from rllib_mafql.modules import FlowPolicy

#: Keys of env_config that shape what zones see and do, and how their actions are projected.
KEPT_KEYS = (
    *("grid", "zones", "observability", "actions", "balance", "curtail_step"),
    *("thermal_limit_scale", "safety"),  # observations and projections depend on the limits
)

#: Most that an exported policy's action may differ from the module's, in [-1, 1].
PARITY = 1e-5


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        out: The folder.
        zones: Names of the zones.
        parity: Largest difference of an exported policy's actions from its module's.
        megabytes: Size of all files.
    """

    out: Path
    zones: list[str]
    parity: float
    megabytes: float


def export_checkpoint(
    checkpoint: Path, out: Path, *, flow_steps: int | None = None, level: str | None = None, centralized: bool = False
) -> Exported:
    """Exports a MAFQL checkpoint.

    Args:
        checkpoint: Its folder.
        out: The folder to write; it must not exist, or be empty.
        flow_steps: Euler steps that are unrolled, 1 to 5; None: those of training.
        level: "units" or "lines", how far controllers project; None: that of training, "lines" where it had none.
        centralized: Export the centralised policy, too.

    Raises:
        ValueError: No MAFQL checkpoint, a wrong number or level, an `out` that holds something, or a policy whose
            export differs from its module by more than `PARITY`.
    """
    if flow_steps is not None and not 1 <= flow_steps <= 5:
        raise ValueError(f"flow_steps must lie in 1..5, got {flow_steps}")
    if level not in (None, "units", "lines"):
        raise ValueError(f"safety: expected 'units' or 'lines', got {level!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; give another folder, or remove it")
    info = read_checkpoint(checkpoint)
    if not info.is_mafql:
        raise ValueError(f"{checkpoint} is of {info.algorithm}: only MAFQL's policies are exported")
    if not info.flows:
        raise ValueError(f"{checkpoint} is of {info.algorithm}: only flow policies are exported")
    if centralized and not info.centralized:
        raise ValueError(f"{checkpoint} has no centralised policy, only {', '.join(info.module_ids)}")
    config = check_env_config(info.env_config)
    # only the grid and its references matter here, not what is played, and these are of the first series: grids that
    # do not ship with Grid2Op may have a thousand
    weeks = None if config["grid"] in TEST_DEV_ENVS else 1
    config |= {"scenarios": {"split": "all", "weeks": weeks}, "opponent": False}
    safety = config["safety"]
    if level is not None or safety["level"] == "none":
        safety["level"] = level or "lines"
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with closing(ZonedGridEnv(config)) as env, TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as draft:
        folder = Path(draft, place.name)
        folder.mkdir()
        parity = _write(env, info, folder, flow_steps, centralized)
        if not parity <= PARITY:  # it may be NaN
            raise ValueError(f"{checkpoint}: an exported policy differs from its module by {parity:.1e}")
        folder.rename(place)  # fails if it holds something by now
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Exported(out, [zone.name for zone in env.zones], parity, size / 1e6)


def _write(env: ZonedGridEnv, info: CheckpointInfo, out: Path, flow_steps: int | None, centralized: bool) -> float:
    parity = []
    versions = software()
    zones = [zone.name for zone in env.zones]
    # the simulator's first series is the grid's, however many it holds
    loads = grid_references(env.simulator, {"scenarios": {"source": "bundled", "weeks": None}}).loads
    for zone in zones:
        if zone not in info.module_ids:
            raise ValueError(f"{info.path} has no policy of {zone}, only {', '.join(info.module_ids)}")
        module: Any = load_module(info.path, zone, flow_steps)
        _check_sizes(module, zone, env.observer.sizes[zone], env.action_map.sizes[zone])
        model = _model(module)
        write_package(out / zone, package(env, zone, loads, module.flow_steps, versions), model)
        parity.append(_difference(module, out / zone / POLICY))
    if centralized:
        module = load_module(info.path, TEACHER, flow_steps)
        (out / CENTRALIZED).mkdir()
        (out / CENTRALIZED / POLICY).write_bytes(_model(module))
        parity.append(_difference(module, out / CENTRALIZED / POLICY))
    manifest = {
        "format": EXPORT_FORMAT,
        "algorithm": info.algorithm,
        "zones": zones,
        "centralized": centralized,
        "env_config": {key: env.config[key] for key in KEPT_KEYS},
        "versions": versions,
    }
    (out / EXPORT).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return float(np.max(parity))


def package(env: ZonedGridEnv, zone: str, loads: np.ndarray, flow_steps: int, versions: dict[str, str]) -> ZonePackage:
    """What a zone of an environment has to know of itself; `loads` (n_load,) MW are the loads' references."""
    which = next(one for one in env.zones if one.name == zone)
    seen, grid, config = env.observer.elements[zone], env.simulator, env.config
    safety = config["safety"]
    return ZonePackage(
        grid=grid_name(grid),
        zone=zone,
        elements=elements_of(seen, type(grid)),
        references=env.observer.references.part(
            seen["line"], seen["generator"], seen["load"], seen["storage"], env.observer.full_lines[zone]
        ),
        units=unit_data(grid, which, env.action_map, config["actions"], seen),
        lines=line_data(grid, env.zones, which, env.action_map, config["actions"], loads),
        bounds=Bounds(**{name: safety[name] for name in Bounds._fields}),
        level=safety["level"],
        step_minutes=float(grid.delta_time_seconds) / 60.0,
        flow_steps=flow_steps,
        versions=versions,
    )


def software() -> dict[str, str]:
    """Versions of what makes and runs an export."""
    found = {"rllib-mafql": rllib_mafql.__version__}
    for name in ("torch", "grid2op", "lightsim2grid", "onnx", "onnxruntime", "daqp", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _model(module: FlowPolicy) -> bytes:
    return flow_model(field_weights(module.acting), module.flow_steps).SerializeToString()


def _check_sizes(module: Any, zone: str, obs_size: int, action_size: int) -> None:
    own = module.observation_space.shape[0], module.action_space.shape[0]
    if own != (obs_size, action_size):
        raise ValueError(
            f"{zone}: its policy maps {own[0]} numbers to {own[1]}, the grid's zone has {obs_size} and {action_size}"
        )


def _difference(module: FlowPolicy, path: Path, samples: int = 64) -> float:
    """Largest difference of a model's actions from the module's, over random observations and noise."""
    import torch

    session, rng = Session(path), np.random.default_rng(0)
    differences = []
    for _ in range(samples):
        obs = rng.normal(size=session.obs_size).astype(np.float32)
        noise = rng.normal(size=session.action_size).astype(np.float32)
        with torch.no_grad():
            wanted = module.act_on_average(torch.from_numpy(obs)[None], torch.from_numpy(noise)[None])[0].numpy()
        if not np.isfinite(wanted).all():
            raise ValueError(f"{path.parent.name}: the policy's actions are not numbers, its weights are damaged")
        differences.append(np.abs(session(obs, noise) - wanted).max())
    return float(np.max(differences))
