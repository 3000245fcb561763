"""`mafql bench rollout`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from grid2op_zones import ZonedGridEnv
from rllib_mafql.bench.players import as_dictionary, plain_player, record_random_play
from rllib_mafql.bench.rollout import WAYS
from rllib_mafql.cli.mafql import app

GRID = {"grid": "educ_case14_storage"}


def test_plain_grid2op_plays_the_recorded_episodes_as_they_were() -> None:
    env = ZonedGridEnv({**GRID, "fast_step": False})
    episodes = record_random_play(env, 60)
    assert sum(len(episode.sent) for episode in episodes) >= 60
    sent = {key for episode in episodes for action in episode.sent for key in action}
    assert {"redispatch", "curtail", "set_storage"} <= sent
    first = episodes[0]
    assert len(first.joint) == len(first.sent) == len(first.injections)

    env.reset(**first.arguments)
    sizes = np.cumsum([env.action_map.sizes[agent] for agent in env.possible_agents])[:-1]
    for joint in first.joint[:20]:
        env.step(dict(zip(env.possible_agents, np.split(joint, sizes), strict=True)))
    ours = env.simulator.get_obs()
    other = ZonedGridEnv({**GRID, "fast_step": False})
    player = plain_player(other.simulator, episodes)
    assert player.seconds(20) > 0
    assert player.resets.calls == 1
    theirs = other.simulator.get_obs()
    for name in ("rho", "gen_p", "actual_dispatch", "storage_charge", "curtailment_limit", "load_p"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-3), name


def test_an_action_is_written_as_a_dictionary_that_means_the_same() -> None:
    env = ZonedGridEnv(GRID)
    space = env.simulator.action_space
    given = {"redispatch": [(0, 1.5)], "curtail": [(2, 0.25)], "set_storage": [(1, -2.0)], "set_line_status": [(3, 1)]}
    assert as_dictionary(space(given)) == given
    assert as_dictionary(space({})) == {}


def test_the_command_compares_all_ways_to_play(tmp_path: Path) -> None:
    words = ["bench", "rollout", "--grid", "educ_case14_storage", "--steps", "30", "--repeats", "1"]
    result = CliRunner().invoke(app, [*words, "--workers", "1", "--json", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r").read_text())
    assert [report[name] for name in ("grid", "solver", "steps", "repeats")] == ["educ_case14_storage", "direct", 30, 1]
    rates = {way: report[f"{way}_steps_per_s"] for way in WAYS}
    assert all(rate > 0 for rate in rates.values())
    assert report["runner_over_plain"] == pytest.approx(rates["runner"] / rates["plain_grid2op"])
    assert report["runner_slsqp_over_plain"] == pytest.approx(rates["runner_slsqp"] / rates["plain_grid2op"])
    assert set(report["reset_ms"]) == set(WAYS)
    assert report["workers_steps_per_s"]["1"] > 0 and report["scaling_efficiency"] is None
    assert 100 < report["private_mb"] < report["rss_mb"] < 2000
    assert "plain_grid2op" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "educ_case14_storag"], "--grid 'educ_case14_storag' does not ship .*'educ_case14_storage'"),
        (["--workers", "one"], "--workers 'one': expected numbers"),
        (["--redispatch-solver", "fast"], "redispatch_solver: expected one of"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", "rollout", *words])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output
