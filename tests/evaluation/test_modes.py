"""Samples against several good dispatches: what the measures say of known samples, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grid2op_zones.env import ZonedGridEnv
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.mafql import app
from rllib_mafql.evaluation.agents import resolve_agents
from rllib_mafql.evaluation.modes import DISPATCHER, MEASURES, _Effect, _measures, _sampler, _until_begun

LOADED = "{thermal_limit_scale: 0.6, max_steps: 60, scenarios: {split: test}}"


def two_modes(seed: int, count: int = 64) -> np.ndarray:
    """Half of them near (-1, 0, 0), half near (1, 0, 0)."""
    rng = np.random.default_rng(seed)
    points = 0.05 * rng.standard_normal((count, 3))
    points[:, 0] += np.where(np.arange(count) % 2, 1.0, -1.0)
    return points


def measured(samples: np.ndarray) -> dict[str, float]:
    return _measures(two_modes(0), samples, lambda action: (0.9, 3.0, 2))


def test_samples_of_the_same_distribution_reach_all_of_it() -> None:
    same = measured(two_modes(1))
    assert same.keys() == MEASURES.keys()
    assert same["coverage"] > 0.9 and same["precision"] > 0.9 and abs(same["energy"]) < 0.05
    assert (same["worst_loading"], same["moved_mw"], same["units"]) == (pytest.approx(0.9), 3.0, 2.0)


def test_one_mode_is_precise_and_covers_half() -> None:
    one = two_modes(1)
    one[:, 0] = np.abs(one[:, 0])
    found = measured(one)
    assert found["precision"] > 0.9 and 0.4 < found["coverage"] < 0.6 and found["energy"] > 0.2


def test_the_average_of_two_modes_is_neither() -> None:
    average = measured(0.05 * np.random.default_rng(1).standard_normal((64, 3)))
    assert average["coverage"] == average["precision"] == 0.0 and average["energy"] > 0.3
    assert average["average_distance"] > 0.6  # as far from either as half the way between them
    assert measured(two_modes(0)[:1])["average_distance"] < 1e-6


def test_the_dispatcher_s_first_action_relieves_the_grid() -> None:
    env = ZonedGridEnv({"grid": "educ_case14_storage", "thermal_limit_scale": 0.6, "max_steps": 200})
    observations, _ = env.reset(**env.episode_spec(0))
    begun = _until_begun(env, observations)
    assert begun is not None
    effect, joint = _Effect(env), env.action_map.joint
    nothing = effect(joint(env.action_map.encode(env.action_map.idle(), env.grid_state)))
    acting = effect(joint(env.behavior_policy(DISPATCHER).act()))
    assert nothing[1:] == (0.0, 0) and nothing[0] == pytest.approx(env.grid_state.rho.max(), rel=0.05)
    assert acting[0] < nothing[0] and acting[1] > 1.0 and acting[2] >= 2
    env.close()


def test_a_policy_s_samples_are_measured_and_drawn(mafql_run: Path, tmp_path: Path) -> None:
    out, figure = tmp_path / "modes.json", tmp_path / "modes.png"
    words = ["modes", str(mafql_run), "--states", "2", "--draws", "8", "--config", LOADED]
    result = CliRunner().invoke(app, [*words, "--json", str(out), "--figure", str(figure)], terminal_width=200)
    assert result.exit_code == 0, result.output
    agents = json.loads(out.read_text())["agents"]
    assert list(agents) == [f"{DISPATCHER}_again", "mafql_decentralized", "mafql_centralized"]
    for agent in agents.values():
        assert agent["metrics"].keys() == MEASURES.keys() and np.isfinite(list(agent["metrics"].values())).all()
    assert agents["qp_zones_again"]["metrics"]["energy"] < agents["mafql_decentralized"]["metrics"]["energy"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(out.read_text())["shown"]
    assert len(shown) == 2 and np.shape(shown[0]["dispatches"]) == np.shape(shown[0]["samples"]["mafql_decentralized"])
    np.testing.assert_allclose(np.mean(shown[0]["dispatches"], 0), 0.0, atol=1e-3)


def test_a_zone_s_samples_depend_on_what_it_sees_and_the_teacher_s_on_what_all_see(mafql_run: Path) -> None:
    specs, _ = resolve_agents([str(mafql_run)], find_checkpoint=find_checkpoint)
    assert [spec.execution for spec in specs] == ["decentralized", "centralized"]
    env = ZonedGridEnv(specs[0].env_config)
    observations, _ = env.reset(**env.episode_spec(0))
    elsewhere = observations | {"zone_2": observations["zone_2"] + 1.0}
    size = env.action_spaces["zone_0"].shape[0]
    for spec in specs:
        drawn = []
        for seen in (observations, elsewhere):
            torch.manual_seed(0)
            drawn.append(_sampler(spec, env)(seen, 8)[:, :size])
        assert np.array_equal(*drawn) == (spec.execution == "decentralized")
        assert len(np.unique(drawn[0], axis=0)) == 8
    env.close()


@pytest.mark.parametrize(
    ("agent", "states", "message"),
    [
        ("ppo", "1", "no checkpoint of MAFQL"),
        ("qp_zones", "1", "no checkpoint of MAFQL"),
        ("mafql", "1", "only 0 of 10"),
    ],
)
def test_what_cannot_be_sampled_is_named(agent: str, states: str, message: str, mafql_run: Path, ppo_run: Path) -> None:
    word = {"ppo": str(ppo_run), "mafql": str(mafql_run)}.get(agent, agent)
    calm = '{"grid": "educ_case14_storage", "thermal_limit_scale": 2.0, "max_steps": 3, "scenarios": {"split": "test"}}'
    result = CliRunner().invoke(app, ["modes", word, "--states", states, "--config", calm], terminal_width=200)
    assert result.exit_code == 2 and message in result.output, result.output
