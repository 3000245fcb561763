"""The agent of all zones in Grid2Op's own tools, which know nothing of it."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid2op.Action import BaseAction
from grid2op.Agent import BaseAgent
from grid2op.Episode import EpisodeData
from grid2op.Runner import Runner

from grid2op_zones import ZonedGridEnv, check_env_config
from grid2op_zones.action import line_to_reconnect
from grid2op_zones.simulator import make_simulator
from rllib_mafql.deploy import MAFQLAgent
from rllib_mafql.deploy.agent import ZoneStation, caps_change, merged
from rllib_mafql.deploy.controller import Decision
from rllib_mafql.deploy.package import EXPORT, PackageError
from tests.deploy.conftest import GRID_14, GRID_118, Setup, env_config

ZONES = ["zone_0", "zone_1", "zone_2"]

STEPS = 8


@pytest.fixture(scope="module")
def simulator(case14: Setup) -> Iterator[Any]:
    """Plain Grid2Op on the small grid."""
    simulator = make_simulator(check_env_config(env_config(GRID_14)))
    yield simulator
    simulator.close()


@pytest.fixture
def agent(case14: Setup, simulator: Any) -> MAFQLAgent:
    return MAFQLAgent(simulator, case14.folder)


@pytest.fixture(scope="module")
def played(case14: Setup, simulator: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Folder and results of two short episodes by Grid2Op's runner."""
    path = tmp_path_factory.mktemp("runner")
    agent = MAFQLAgent(simulator, case14.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(**simulator.get_params_for_runner(), agentClass=None, agentInstance=agent)
        results = runner.run(
            nb_episode=2, max_iter=STEPS, path_save=str(path), env_seeds=[1, 2], add_detailed_output=True
        )
    return path, results


def start(simulator: Any, agent: MAFQLAgent | None = None) -> Any:
    """A first observation; with an agent, one from some steps on, where caps are in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = simulator.reset(seed=0, options={"time serie id": 0, "init ts": 140})
        if agent is not None:
            agent.reset(obs)
            for _ in range(3):
                obs, _, done, _ = simulator.step(agent.act(obs, 0.0))
                assert not done
    return obs


# Grid2Op's tools ---------------------------------------------------------------------------------------------------


def test_the_runner_plays_it(played: tuple[Path, list[Any]]) -> None:
    _, results = played
    for *_, steps, most, data in results:
        assert steps == most == STEPS
        assert data.legal[:STEPS].all() and not data.ambiguous[:STEPS].any()


def test_its_episodes_are_read_back(case14: Setup, simulator: Any, played: tuple[Path, list[Any]]) -> None:
    path, results = played
    for _, name, *_ in results:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = EpisodeData.from_disk(str(path), name)
        assert data.meta["nb_timestep_played"] == STEPS
        moved = 0
        agent = MAFQLAgent(simulator, case14.folder)
        agent.reset(data.observations[0])
        for k in range(STEPS):  # what it makes of the observations as they were written
            obs = data.observations[k]
            obs._thermal_limit[:] = simulator.get_thermal_limit()  # which Grid2Op does not write
            action = agent.act(obs, 0.0)
            for part in ("redispatch", "curtail", "storage_p", "line_set_status"):
                np.testing.assert_array_equal(getattr(action, part), getattr(data.actions[k], part))
            assert all(decision.problem is None for decision in agent.decisions)
            moved += bool(np.abs(action.redispatch).max() > 0.01) + bool(np.abs(action.storage_p).max() > 0.01)
        assert moved > STEPS


def test_episode_replay_draws_it(played: tuple[Path, list[Any]]) -> None:
    pytest.importorskip("imageio", reason="Grid2Op's EpisodeReplay needs imageio, which is no dependency here")
    import matplotlib

    matplotlib.use("Agg")
    from grid2op.Episode.EpisodeReplay import EpisodeReplay

    path, results = played
    name = results[0][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        EpisodeReplay(str(path)).replay_episode(name, gif_name="episode", display=False, end_step=2)
    assert (path / name / "episode.gif").stat().st_size > 1000


def test_it_is_a_grid2op_agent(simulator: Any, agent: MAFQLAgent) -> None:
    assert isinstance(agent, BaseAgent)
    obs = start(simulator)
    agent.reset(obs)
    action = agent.act(obs, 0.0, False)
    assert isinstance(action, BaseAction) and not action.is_ambiguous()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, _, _, info = simulator.step(action)
    assert not info["is_illegal"] and not info["is_ambiguous"] and not info["exception"]


# Its action --------------------------------------------------------------------------------------------------------


def test_its_action_is_what_the_zones_ordered(simulator: Any, agent: MAFQLAgent) -> None:
    obs = start(simulator, agent)
    obs.curtailment_limit[simulator.gen_renewable] = 0.9  # or caps might all be as they are
    action = agent.act(obs, 0.0)
    sent: dict[str, float] = {}
    for kind, values in (("redispatch", action.redispatch), ("curtail", action.curtail), ("storage", action.storage_p)):
        names = simulator.name_storage if kind == "storage" else simulator.name_gen
        sent |= {f"{kind}[{name}]": value for name, value in zip(names, values, strict=True)}
    for station, decision in zip(agent.stations, agent.decisions, strict=True):
        assert decision.orders is not None
        for name, value in zip(station.controller.units, np.concatenate(decision.orders), strict=True):
            assert sent.pop(name) == value
    assert {name.partition("[")[0]: value for name, value in sent.items()} in (
        {"redispatch": 0.0, "curtail": -1.0},  # of units that nobody moves
        {"redispatch": 0.0, "curtail": -1.0, "storage": 0.0},
    )


def test_a_zone_that_sends_nothing_leaves_its_units_alone(simulator: Any, agent: MAFQLAgent) -> None:
    obs = start(simulator)
    station = agent.stations[1]
    line = str(station.controller.package.elements.lines[0])
    obs.p_or[np.flatnonzero(obs.name_line == line)] = np.nan
    seeing = [one for one in agent.stations if line in one.controller.package.elements.lines]
    assert station in seeing and len(seeing) < 3
    action = agent.act(obs, 0.0)
    for one, decision in zip(agent.stations, agent.decisions, strict=True):
        units = (action.redispatch[one.redispatchable], action.curtail[one.curtailable], action.storage_p[one.storages])
        if one in seeing:
            assert decision.orders is None and f"p_or of {line} is nan" in str(decision.problem)
            assert [set(values.tolist()) - {idle} for values, idle in zip(units, (0.0, -1.0, 0.0), strict=True)] == [
                set()
            ] * 3
        else:
            assert decision.orders is not None


def test_caps_that_are_held_are_not_sent_again(simulator: Any, agent: MAFQLAgent, monkeypatch: Any) -> None:
    """As in the environment: rounding alone must not make the agent's episode another one."""
    obs = start(simulator, agent)
    agent.act(obs, 0.0)
    orders = merged(agent.stations, agent.decisions, obs.n_gen, obs.n_storage)
    assert orders.curtail is not None
    sent = orders.curtail >= 0.0
    assert sent.any() and not sent.all()
    for shift, changes in ((0.0, False), (5e-7, False), (1e-3, True)):
        limits = np.where(sent, orders.curtail - np.float32(shift), np.float32(1.0)).astype(np.float32)
        assert caps_change(orders.curtail, limits) == changes
        obs.curtailment_limit[:] = limits
        decided = iter(agent.decisions)
        monkeypatch.setattr(ZoneStation, "decide", lambda self, obs, decided=decided: next(decided))
        action = agent.act(obs, 0.0)
        assert ((action.curtail >= 0.0).any()) == changes
        monkeypatch.undo()


def test_where_no_zone_decides_nothing_is_sent(simulator: Any, agent: MAFQLAgent) -> None:
    orders = merged(agent.stations, [Decision(None, None, "so")] * 3, simulator.n_gen, simulator.n_storage)
    assert not orders.redispatch.any() and orders.curtail is None and orders.storage is None


@pytest.mark.parametrize("auto_reconnect", [True, False])
def test_lines_are_closed_again_if_so_wanted(case14: Setup, simulator: Any, auto_reconnect: bool) -> None:
    agent = MAFQLAgent(simulator, case14.folder, auto_reconnect=auto_reconnect)
    obs = start(simulator)
    agent.reset(obs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs, _, done, _ = simulator.step(simulator.action_space({"set_line_status": [(3, -1)]}))
        assert not done and not obs.line_status[3]
        waited = 0
        while obs.time_before_cooldown_line[3] > 0:
            assert line_to_reconnect(obs) is None
            action = agent.act(obs, 0.0)
            assert not action.line_set_status.any()
            obs, _, done, _ = simulator.step(action)
            waited += 1
            assert not done
        action = agent.act(obs, 0.0)
        assert waited > 0 and action.line_set_status[3] == int(auto_reconnect)
        obs, _, _, info = simulator.step(action)
    assert obs.line_status[3] == auto_reconnect and not info["is_illegal"]


def test_every_episode_begins_anew(simulator: Any, agent: MAFQLAgent) -> None:
    obs = start(simulator)
    agent.reset(obs)
    first = agent.act(obs, 0.0)
    agent.act(obs, 0.0)
    assert all("is stale" in str(decision.problem) for decision in agent.decisions)  # the same observation again
    agent.reset(obs)
    assert agent.act(obs, 0.0) == first


@pytest.mark.parametrize("level", ["units", "lines"])
def test_the_level_of_projection_may_be_another(case14: Setup, simulator: Any, level: str) -> None:
    agent = MAFQLAgent(simulator, case14.folder, level=level)
    agent.act(start(simulator), 0.0)
    for decision in agent.decisions:
        assert decision.certificate is not None and (decision.certificate.bounds is None) == (level == "units")


# What is refused ---------------------------------------------------------------------------------------------------


def test_another_grids_export_is_refused(case118: Setup, simulator: Any) -> None:
    with pytest.raises(PackageError, match=f"is for grid '{GRID_118}', not for '{GRID_14}'"):
        MAFQLAgent(simulator, case118.folder)


def test_a_grid_that_lacks_an_element_is_refused(case14: Setup, agent: MAFQLAgent, monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match="lines: the grid has no '0_1_0' "):
        ZoneStation(agent.stations[0].controller, Renamed(case14.env.simulator))


class Renamed:
    """A grid whose lines have other names."""

    def __init__(self, grid: Any) -> None:
        self.name_line = [f"line {name}" for name in grid.name_line]
        self.name_gen, self.name_load, self.name_storage = grid.name_gen, grid.name_load, grid.name_storage


def test_what_is_no_export_is_refused(case14: Setup, simulator: Any, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=f"zone_1 is no export: it has no {EXPORT}"):
        MAFQLAgent(simulator, case14.folder / "zone_1")
    out = Path(shutil.copytree(case14.folder, tmp_path / "out"))
    shutil.rmtree(out / "zone_2")
    with pytest.raises(PackageError, match="zone_2 is not an exported zone"):
        MAFQLAgent(simulator, out)
    shutil.copytree(out / "zone_1", out / "zone_2")
    with pytest.raises(PackageError, match="zone_2 is of 'zone_1'"):
        MAFQLAgent(simulator, out)
    manifest = json.loads((out / EXPORT).read_text())
    (out / EXPORT).write_text(json.dumps({**manifest, "zones": ZONES[:2]}))
    assert len(MAFQLAgent(simulator, out).stations) == 2


def test_environments_that_project_do_no_more_than_the_agent(case14: Setup) -> None:
    """The agent's zones are the environment's, unit by unit."""
    env: ZonedGridEnv = case14.env
    agent = MAFQLAgent(env.simulator, case14.folder)
    assert env.projection is not None
    for station, zone in zip(agent.stations, env.projection.zones, strict=True):
        for name in ("redispatchable", "curtailable", "storages"):
            np.testing.assert_array_equal(getattr(station, name), getattr(zone, name))
        assert station.meter.elements == zone.meter.elements
