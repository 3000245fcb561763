"""Checkpoints without training and their exports, on the 118-bus grid and on a small one with storages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ray import cloudpickle

import rllib_mafql
from grid2op_zones import ZonedGridEnv
from grid2op_zones.measurement import Meter
from rllib_mafql.deploy import export_checkpoint
from rllib_mafql.deploy.controller import ZoneController
from rllib_mafql.deploy.export import Exported
from rllib_mafql.evaluation.checkpoint import MODULES, TEACHER
from tests.deploy.measured import Zone

GRID_118, GRID_14 = "l2rpn_idf_2023", "educ_case14_storage"

Observations = list[dict[str, np.ndarray]]


class Setup(NamedTuple):
    """A grid with its checkpoint and its export."""

    env: ZonedGridEnv  #: held-out days, actions projected onto the lines
    observations: Observations  #: what the zones see along an episode
    checkpoint: Path
    exported: Exported

    @property
    def folder(self) -> Path:
        """The export's."""
        return self.exported.out


def env_config(grid: str, **changes: Any) -> dict[str, Any]:
    return {"grid": grid, "scenarios": {"split": "test"}, "safety": {"level": "lines"}, **changes}


def observed(env: ZonedGridEnv, steps: int = 40) -> Observations:
    """What the zones of an environment see while they act at random."""
    rng = np.random.default_rng(0)
    seen = [env.reset(**env.episode_spec(0))[0]]
    for _ in range(steps - 1):
        actions = {zone: rng.uniform(-1, 1, space.shape) for zone, space in env.action_spaces.items()}
        seen.append(env.step(actions)[0])
    return seen


@torch.no_grad()
def save_checkpoint(path: Path, env: ZonedGridEnv, observations: Observations, config: dict[str, Any]) -> Path:
    """A MAFQL checkpoint as `Algorithm.save_to_path` lays it out, as far as exports read it.

    Its weights are random. Its normalisers are fitted to the observations, so that actions change along an episode.
    """
    rllib_mafql.register()
    settings = rllib_mafql.MAFQLConfig().environment("grid2op_zones", env_config=config)
    settings.training(actor_hidden=32, teacher_hidden=48, critic_hidden=8, flow_steps=2, teacher_flow_steps=3)
    spaces = {zone: (env.observation_spaces[zone], env.action_spaces[zone]) for zone in env.possible_agents}
    torch.manual_seed(0)
    modules: Any = settings.get_multi_rl_module_spec(spaces=spaces).build()
    rows = {zone: np.stack([seen[zone] for seen in observations]) for zone in env.possible_agents}
    rows[TEACHER] = np.concatenate(list(rows.values()), axis=1)
    for name, o in rows.items():
        for field in (modules[name].field, modules[name].average):  # what is trained and what acts are not the same
            for parameter in field.parameters():
                parameter += 1.5 * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
            field.normalizer.fit(torch.from_numpy(o.mean(0)), torch.from_numpy(o.std(0)))
            size = field.action_size
            field.action_normalizer.fit(0.1 * torch.randn(size), 0.2 + 0.5 * torch.rand(size))
    modules.save_to_path(str(path / MODULES))
    info = {"class": rllib_mafql.MAFQL, "ctor_args_and_kwargs": ((settings.get_state(),), {})}
    (path / "class_and_ctor_args.pkl").write_bytes(cloudpickle.dumps(info))
    return path


def set_up(grid: str, home: Path) -> Iterator[Setup]:
    env = ZonedGridEnv(env_config(grid))
    observations = observed(env)
    checkpoint = save_checkpoint(home / "checkpoint", env, observations, {"grid": grid})
    yield Setup(env, observations, checkpoint, export_checkpoint(checkpoint, home / "export", centralized=True))
    env.close()


@pytest.fixture(scope="session")
def case118(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """The 118-bus grid."""
    yield from set_up(GRID_118, tmp_path_factory.mktemp("case118"))


@pytest.fixture(scope="session")
def case14(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """A 14-bus grid with storages."""
    yield from set_up(GRID_14, tmp_path_factory.mktemp("case14"))


@pytest.fixture(params=["case118", "case14"])
def case(request: pytest.FixtureRequest) -> Setup:
    """Either grid."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=["case118", "case14"])
def zone(request: pytest.FixtureRequest) -> Zone:
    """A zone with units of all kinds: one that balances itself, and a small one that does not."""
    case: Setup = request.getfixturevalue(request.param)
    env, folder = case.env, case.folder / "zone_1"
    elements = ZoneController(folder).package.elements
    share = {"redispatch": 0.3, "curtail": -0.5, "storage": 0.5}
    actions = {
        zone: np.array([share[name.partition("[")[0]] for name in names])
        for zone, names in env.action_map.names.items()
    }
    spec = env.episode_spec(0)
    spec["options"]["start"] += 110  # at dawn neither wind nor sun may be lacking
    env.reset(**spec)
    for _ in range(6):
        env.step(actions)
    measured = Meter(elements, env.simulator).read(env.grid_observation)
    assert np.abs(measured.actual_dispatch).max() > 0.5
    assert np.abs(measured.storage_power).max() > 0.5
    assert (measured.gen_p_before_curtail - measured.gen_p).max() > 0.5
    return Zone(folder, measured)


@pytest.fixture
def controller(zone: Zone) -> ZoneController:
    return zone.controller()


@pytest.fixture
def bold(zone: Zone) -> Callable[..., ZoneController]:
    """A controller whose policy asks for more than the units allow."""

    def make(sign: float = 1.0, **options: Any) -> ZoneController:
        size = len(zone.controller().units)
        action = sign * np.where(np.arange(size) % 2, 1.0, -1.0).astype(np.float32)
        return zone.controller(policy=lambda obs, noise: action, **options)

    return make
