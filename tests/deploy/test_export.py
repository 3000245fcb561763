"""Exports act as their checkpoints do, say what they are, and are written whole or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.torch import TorchRLModule

import rllib_mafql.pretrained
from grid2op_zones import ZonedGridEnv
from rllib_mafql.deploy import export, export_checkpoint
from rllib_mafql.deploy.package import ARRAYS, EXPORT, MANIFEST, POLICY, read_export, read_package
from rllib_mafql.deploy.session import Session
from rllib_mafql.evaluation.agents import AgentSpec, resolve_agents
from rllib_mafql.evaluation.checkpoint import MODULES, TEACHER, load_module
from rllib_mafql.evaluation.policies import JointPolicy, SetupError, ZonePolicy, build_policy, module_action
from tests.deploy.conftest import GRID_14, GRID_118, Setup

ZONES = ["zone_0", "zone_1", "zone_2"]


def resolve(*words: str | Path, **options: Any) -> list[AgentSpec]:
    return resolve_agents([str(word) for word in words], find_checkpoint=lambda path: path, **options)[0]


@pytest.fixture
def quick(case14: Setup, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Exports of the small grid in an environment that is there already; what it was to be configured with."""
    return lend(case14.env, monkeypatch)


def lend(env: ZonedGridEnv, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    configs: list[dict[str, Any]] = []
    monkeypatch.setattr(export, "ZonedGridEnv", lambda config: configs.append(config) or env)
    monkeypatch.setattr(env, "close", lambda: None)
    return configs


def copied(case: Setup, path: Path, **env_config: Any) -> Path:
    """A copy of the checkpoint that was trained with other settings of the environment."""
    shutil.copytree(case.checkpoint, path)
    file = path / "class_and_ctor_args.pkl"
    info = pickle.loads(file.read_bytes())
    info["ctor_args_and_kwargs"][0][0]["env_config"].update(env_config)
    file.write_bytes(cloudpickle.dumps(info))
    return path


# What is exported --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_actions_are_the_modules_on_what_zones_see(
    case: Setup, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend(case.env, monkeypatch)
    out = export_checkpoint(case.checkpoint, tmp_path / "out", flow_steps=steps, centralized=True).out
    learned, exported = resolve(case.checkpoint, flow_steps=steps), resolve(out)
    assert [agent.name for agent in exported] == [agent.name for agent in learned]
    for agent, module_agent in zip(exported, learned, strict=True):
        policy, modules = build_policy(agent, case.env), build_policy(module_agent, case.env)
        policy.start(0)
        actions = []
        for seen in case.observations:
            action, wanted = policy.act(seen), modules.act(seen)
            assert list(action) == ZONES
            for zone in ZONES:
                np.testing.assert_allclose(action[zone], wanted[zone], rtol=0, atol=1e-5)
            actions.append(np.concatenate(list(action.values())))
        assert np.std(actions, axis=0).mean() > 0.05  # along the episode
        assert np.abs(actions).max() == 1.0
    read = {zone: read_package(out / zone).flow_steps for zone in ZONES}
    assert read == dict.fromkeys(ZONES, steps)


def test_without_steps_they_are_those_of_training(case14: Setup) -> None:
    seen = case14.observations[-1]
    for name, model, steps in (("zone_1", "zone_1", 2), (TEACHER, "centralized", 3)):
        obs = seen["zone_1"] if name == "zone_1" else np.concatenate(list(seen.values()))
        actions = [module_action(load_module(case14.checkpoint, name, k), obs) for k in (1, 2, 3, 4, 5)]
        action = Session(case14.folder / model / POLICY)(obs)
        assert np.argmin([np.abs(action - other).max() for other in actions]) == steps - 1
        np.testing.assert_allclose(action, actions[steps - 1], rtol=0, atol=1e-5)
    assert read_package(case14.folder / "zone_1").flow_steps == 2


def test_the_averaged_weights_act(case14: Setup) -> None:
    module: Any = load_module(case14.checkpoint, "zone_1")
    obs = torch.from_numpy(case14.observations[-1]["zone_1"])[None]
    trained = module.act(obs, torch.zeros(1, 3))[0].detach().numpy()
    assert np.abs(trained - Session(case14.folder / "zone_1" / POLICY)(obs[0].numpy())).max() > 0.05


def test_it_says_what_was_exported(case: Setup) -> None:
    exported = case.exported
    assert exported.zones == ZONES and exported.parity < 1e-5
    files = [path for path in case.folder.rglob("*") if path.is_file()]
    assert exported.megabytes == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    per_zone = [f"{zone}/{name}" for zone in ZONES for name in (MANIFEST, POLICY, ARRAYS)]
    assert {str(path.relative_to(case.folder)) for path in files} == {EXPORT, f"centralized/{POLICY}", *per_zone}
    grid = case.env.config["grid"]
    manifest = read_export(case.folder)
    assert (manifest["algorithm"], manifest["zones"], manifest["centralized"]) == ("MAFQL", ZONES, True)
    assert manifest["env_config"]["grid"] == grid and manifest["env_config"]["safety"]["level"] == "lines"
    for zone in case.env.zones:
        package = read_package(case.folder / zone.name, grid)
        assert (package.grid, package.zone, package.level, package.step_minutes) == (grid, zone.name, "lines", 5.0)
        assert list(package.units.names) == case.env.action_map.names[zone.name]
        assert package.references.size == case.env.observer.sizes[zone.name]
        assert package.elements.lines[: len(zone.lines)] == tuple(type(case.env.simulator).name_line[zone.lines])
        assert package.versions["rllib-mafql"] == rllib_mafql.__version__
        assert {"torch", "grid2op", "onnxruntime", "numpy"} <= package.versions.keys()


def test_folders_are_readable_by_all_whom_the_mask_allows(case14: Setup) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert case14.folder.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize(
    ("trained", "level", "wanted"),
    [
        (None, None, "lines"),
        ({"level": "none"}, None, "lines"),
        ({"level": "none"}, "units", "units"),
        ({"level": "units", "load": 0.05}, None, "units"),
        ({"level": "units", "load": 0.05}, "lines", "lines"),
        ({"level": "lines", "loading": 0.9}, "units", "units"),
    ],
)
def test_level_and_bounds_are_those_of_training_or_as_asked(
    case14: Setup, tmp_path: Path, trained: dict[str, Any] | None, level: str | None, wanted: str
) -> None:
    checkpoint = copied(case14, tmp_path / "checkpoint", **({} if trained is None else {"safety": trained}))
    out = export_checkpoint(checkpoint, tmp_path / "out", level=level).out
    for zone in ZONES:
        package = read_package(out / zone)
        assert package.level == wanted
        assert package.bounds.load == (trained or {}).get("load", 0.01)
        assert package.bounds.loading == (trained or {}).get("loading", 1.0)
    kept = read_export(out)["env_config"]
    assert kept["safety"] == {**package.bounds._asdict(), "level": wanted}
    assert not (out / "centralized").exists() and read_export(out)["centralized"] is False


def test_settings_that_scale_observations_are_kept(case14: Setup, tmp_path: Path) -> None:
    checkpoint = copied(case14, tmp_path / "checkpoint", thermal_limit_scale=0.8, curtail_step=0.2)
    out = export_checkpoint(checkpoint, tmp_path / "out").out
    scaled, stock = (read_package(folder / "zone_1") for folder in (out, case14.folder))
    np.testing.assert_allclose(scaled.references.per_limit, stock.references.per_limit / 0.8)
    assert scaled.units.curtail_step == 0.2
    (agent,) = resolve(out)
    assert (agent.env_config["thermal_limit_scale"], agent.env_config["curtail_step"]) == (0.8, 0.2)


def test_of_grids_that_do_not_ship_with_grid2op_one_series_is_read(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]]
) -> None:
    for grid, weeks in ((GRID_14, None), ("rte_case118_example_of_another_place", 1)):
        scenarios = {"source": "generated", "weeks": 700, "split": "test"}
        checkpoint = copied(case14, tmp_path / f"checkpoint {grid}", grid=grid, scenarios=scenarios, opponent=True)
        export_checkpoint(checkpoint, tmp_path / f"out {grid}")
        assert quick[-1]["scenarios"] == {"split": "all", "weeks": weeks} and not quick[-1]["opponent"]


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 6, -1])
def test_steps_out_of_range_are_refused(case14: Setup, tmp_path: Path, steps: int) -> None:
    with pytest.raises(ValueError, match=rf"flow_steps must lie in 1\.\.5, got {steps}"):
        export_checkpoint(case14.checkpoint, tmp_path / "out", flow_steps=steps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("level", ["none", "line", ""])
def test_unknown_levels_are_refused(case14: Setup, tmp_path: Path, level: str) -> None:
    with pytest.raises(ValueError, match=rf"expected 'units' or 'lines', got {level!r}"):
        export_checkpoint(case14.checkpoint, tmp_path / "out", level=level)
    assert not list(tmp_path.iterdir())


def test_folders_that_hold_something_are_refused_and_left_alone(case14: Setup, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine too")
    for out in (full, file):
        with pytest.raises(ValueError, match=f"{out} is there already"):
            export_checkpoint(case14.checkpoint, out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "notes.txt"]
    assert (full / "notes.txt").read_text() == "mine" and file.read_text() == "mine too"


def test_what_is_written_in_the_meantime_is_not_overwritten(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "out", export._write

    def beside_another(*args: Any) -> float:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        return written(*args)

    monkeypatch.setattr(export, "_write", beside_another)
    with pytest.raises(OSError, match="not empty"):
        export_checkpoint(case14.checkpoint, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "notes.txt"]


@pytest.mark.parametrize("place", ["", "empty", "link", "dangling", "new/folder"])
def test_where_exports_may_be_written(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "target")
    (tmp_path / ".out.part").mkdir()  # no business of an export
    monkeypatch.chdir(tmp_path / "empty")
    out = Path(".") if place == "" else tmp_path / place
    export_checkpoint(case14.checkpoint, out)
    assert read_export((tmp_path / (place or "empty")).resolve())["zones"] == ZONES
    left = {path.name for path in tmp_path.iterdir()} - {"target", "new"}
    assert left == {"empty", "link", "dangling", ".out.part"}


@pytest.mark.parametrize("broken", ["ZonedGridEnv", "load_module", "write_package", "_difference", "software"])
def test_half_an_export_is_none(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    works, calls = getattr(export, broken), []

    def breaks(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 2 or broken in ("ZonedGridEnv", "software"):
            raise RuntimeError("the disk is full")
        return works(*args)

    monkeypatch.setattr(export, broken, breaks)
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "out", tmp_path / "empty"):
        calls.clear()
        with pytest.raises(RuntimeError, match="the disk is full"):
            export_checkpoint(case14.checkpoint, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("model", ["zone_2", TEACHER])
def test_policies_that_differ_from_their_modules_are_refused(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    def weights(field: Any) -> Any:
        found = works(field)
        wrong = field.action_size == {"zone_2": 3, TEACHER: 8}[model]
        return found._replace(action_mean=found.action_mean + 2e-5) if wrong else found

    works = export.field_weights
    monkeypatch.setattr(export, "field_weights", weights)
    with pytest.raises(ValueError, match=r"an exported policy differs from its module by 2\.\de-05"):
        export_checkpoint(case14.checkpoint, tmp_path / "out", centralized=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "folder"), [("zone_1", "zone_1"), (TEACHER, "centralized")])
def test_policies_that_give_no_numbers_are_refused(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]], name: str, folder: str, value: float
) -> None:
    checkpoint = copied(case14, tmp_path / "checkpoint")
    module: Any = TorchRLModule.from_checkpoint(str(checkpoint / MODULES / name))
    with torch.no_grad():
        module.average.obs_in.weight[3, 3] = value
    module.save_to_path(str(checkpoint / MODULES / name))
    with pytest.raises(ValueError, match=f"{folder}: the policy's actions are not numbers"):
        export_checkpoint(checkpoint, tmp_path / "out", centralized=True)
    assert not (tmp_path / "out").exists()


def test_other_algorithms_are_refused(case14: Setup, tmp_path: Path) -> None:
    config = PPOConfig().environment("grid2op_zones", env_config={"grid": GRID_14})
    (tmp_path / "ppo" / MODULES).mkdir(parents=True)
    info = {"class": PPO, "ctor_args_and_kwargs": ((config.get_state(),), {})}
    (tmp_path / "ppo" / "class_and_ctor_args.pkl").write_bytes(cloudpickle.dumps(info))
    with pytest.raises(ValueError, match="is of PPO: only MAFQL's policies are exported"):
        export_checkpoint(tmp_path / "ppo", tmp_path / "out")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        export_checkpoint(case14.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_lack_a_policy_are_refused(case14: Setup, tmp_path: Path, quick: list[dict[str, Any]]) -> None:
    checkpoint = copied(case14, tmp_path / "checkpoint")
    shutil.rmtree(checkpoint / MODULES / TEACHER)
    with pytest.raises(ValueError, match="has no centralised policy, only critic, zone_0, zone_1, zone_2"):
        export_checkpoint(checkpoint, tmp_path / "out", centralized=True)
    assert export_checkpoint(checkpoint, tmp_path / "without").zones == ZONES
    shutil.rmtree(checkpoint / MODULES / "zone_1")
    with pytest.raises(ValueError, match="has no policy of zone_1, only critic, zone_0, zone_2"):
        export_checkpoint(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_policies_of_other_sizes_than_the_zones_are_refused(case14: Setup, tmp_path: Path) -> None:
    checkpoint = copied(case14, tmp_path / "checkpoint", actions=["redispatch"])
    with pytest.raises(ValueError, match="zone_1: its policy maps 56 numbers to 3, the grid's zone has 56 and 1"):
        export_checkpoint(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


# Exports as agents of evaluation -----------------------------------------------------------------------------------


def test_an_export_is_two_agents_and_a_suffix_picks_one(case14: Setup) -> None:
    both = resolve(case14.folder)
    assert [(agent.name, agent.execution) for agent in both] == [
        ("mafql_decentralized", "decentralized"),
        ("mafql_centralized", "centralized"),
    ]
    assert {agent.kind for agent in both} == {"exported"} and both[0].checkpoint == case14.folder
    (central,) = resolve(f"{case14.folder}:centralized")
    assert central == both[1]
    assert isinstance(build_policy(both[0], case14.env), ZonePolicy)
    assert isinstance(build_policy(central, case14.env), JointPolicy)
    assert both[0].env_config["safety"]["level"] == "lines" and both[0].env_config["scenarios"]["split"] == "test"


def test_a_checkpoint_acts_in_evaluation_as_its_modules_do(case14: Setup) -> None:
    seen = case14.observations[-1]
    for agent in resolve(case14.checkpoint, flow_steps=3):
        actions = build_policy(agent, case14.env).act(seen)
        if agent.execution == "centralized":
            joint = module_action(load_module(case14.checkpoint, TEACHER, 3), np.concatenate(list(seen.values())))
            np.testing.assert_allclose(np.concatenate(list(actions.values())), joint, rtol=0, atol=1e-5)
            continue
        for zone, action in actions.items():
            wanted = module_action(load_module(case14.checkpoint, zone, 3), seen[zone])
            np.testing.assert_allclose(action, wanted, rtol=0, atol=1e-5)


def test_an_export_and_its_checkpoint_side_by_side(case14: Setup) -> None:
    kinds = [(agent.kind, agent.flow_steps) for agent in resolve(case14.folder, case14.checkpoint, flow_steps=4)]
    assert kinds == [("exported", None), ("exported", None), ("learned", 4), ("learned", 4)]
    with pytest.raises(ValueError, match="none of the agents is a MAFQL checkpoint"):
        resolve(case14.folder, flow_steps=4)


def test_an_export_without_a_centralised_policy_refuses_that_suffix(
    case14: Setup, tmp_path: Path, quick: list[dict[str, Any]]
) -> None:
    out = export_checkpoint(case14.checkpoint, tmp_path / "out").out
    assert [agent.execution for agent in resolve(out)] == ["decentralized"]
    with pytest.raises(ValueError, match="offers :decentralized, not :centralized"):
        resolve(f"{out}:centralized")


def test_exports_of_another_grid_or_damaged_are_refused(case14: Setup, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"trained on grid '{GRID_14}' and cannot act on grid '{GRID_118}'"):
        resolve(case14.folder, grid=GRID_118)
    out = tmp_path / "out"
    shutil.copytree(case14.folder, out)
    (agent, central) = resolve(out)
    shutil.rmtree(out / "zone_1")
    with pytest.raises(SetupError, match="has no policy of 'zone_1'"):
        build_policy(agent, case14.env)
    shutil.copytree(out / "zone_2", out / "zone_1")
    with pytest.raises(SetupError, match="zone_1's policy maps 52 numbers to 3, here they are 56 and 3"):
        build_policy(agent, case14.env)
    shutil.copy(out / "zone_2" / POLICY, out / "centralized" / POLICY)
    with pytest.raises(SetupError, match="centralized's policy maps 52 numbers to 3, here they are 152 and 8"):
        build_policy(central, case14.env)


def test_pretrained_exports_are_found_by_their_grid(
    case14: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(case14.folder, tmp_path / GRID_14)
    monkeypatch.setattr(rllib_mafql.pretrained, "__file__", str(tmp_path / "__init__.py"))
    (agent, central) = resolve("pretrained", grid=GRID_14)
    assert agent.checkpoint == tmp_path / GRID_14 and agent.kind == "exported"
    assert resolve("pretrained:centralized", overrides={"grid": GRID_14}) == [central]
    with pytest.raises(
        ValueError, match=f"no export for grid '{GRID_118}' ships with this package, only for {GRID_14}"
    ):
        resolve("pretrained")
