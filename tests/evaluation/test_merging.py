"""Results of several commands, merged: as if one command had played all of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid2op_zones.config import check_env_config
from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.merging import merge
from rllib_mafql.evaluation.results import METRICS, summarize
from rllib_mafql.evaluation.rollouts import EpisodeResult

CONFIG = check_env_config({"grid": "educ_case14_storage", "scenarios": {"split": "test"}})
EPISODES = 5
SETTINGS = {"grid": CONFIG["grid"], "env_config": CONFIG, "episodes": EPISODES, "workers": 0, "wall_s": 1.0}


def played(runs: range, tmp_path: Path, command: str = "mafql evaluate a", lost: int | None = None) -> dict[str, Any]:
    """A learned agent's runs, each the same wherever it is played, and a dispatcher."""
    agents = [AgentSpec("qp", "QP", "rule", CONFIG)]
    results = []
    for place, run in enumerate(runs):
        path = tmp_path / f"run_{run}"
        agents.append(AgentSpec("a", "A", "learned", CONFIG, "MAFQL", "decentralized", path, run=place))
    for agent in agents:
        seed = 99 if agent.checkpoint is None else runs[agent.run]
        rng = np.random.default_rng(seed)
        for k in range(EPISODES):
            metrics = dict(zip(METRICS.values(), rng.random(len(METRICS)).tolist(), strict=True))
            metrics["survived"] = float(rng.random() < 0.5)
            spec = {"seed": k, "options": {"scenario": k, "start": 0}}
            lasted = EpisodeResult(agent.name, k, spec=spec, metrics=metrics, end_reason="overload", run=agent.run)
            failed = EpisodeResult(agent.name, k, error="its worker died", run=agent.run)
            results.append(failed if agent.checkpoint is not None and k == lost else lasted)
    curves = {("a", place): {"score": [float(run)]} for place, run in enumerate(runs)}
    settings = {**SETTINGS, "command": command, "version": "0", "commit": "0123"}
    return json.loads(json.dumps(summarize(agents, results, settings, Path.cwd(), curves)))


@pytest.mark.parametrize("lost", [None, 2])
def test_runs_of_several_files_are_those_of_one_command(tmp_path: Path, lost: int | None) -> None:
    together = played(range(4), tmp_path, lost=lost)
    parts = {"one": played(range(1), tmp_path, lost=lost), "two": played(range(1, 4), tmp_path, lost=lost)}
    merged = merge(parts)
    assert merged["settings"].pop("wall_s") == 2.0
    del together["settings"]["wall_s"]
    assert merged == together
    assert merged["agents"]["a"]["curves"] == [{"score": [float(run)]} for run in range(4)]


def test_a_file_by_itself_stays_as_it_is(tmp_path: Path) -> None:
    alone = played(range(2), tmp_path)
    assert merge({"alone": alone}) == alone


def test_what_made_them_is_kept(tmp_path: Path) -> None:
    merged = merge({name: played(range(k, k + 1), tmp_path, command=name) for k, name in enumerate(("x", "y"))})
    assert merged["settings"]["command"] == "x\ny"


def test_other_episodes_and_other_agents_are_refused(tmp_path: Path) -> None:
    one = played(range(1), tmp_path)
    for key, value in (("episodes", 6), ("env_config", {**CONFIG, "opponent": True})):
        other = copy.deepcopy(played(range(1, 2), tmp_path))
        other["settings"][key] = value
        with pytest.raises(ValueError, match=f"two and one differ in {key}"):
            merge({"one": one, "two": other})
    other = played(range(1, 2), tmp_path)
    other["agents"]["a"]["execution"] = "centralized"
    with pytest.raises(ValueError, match="a is not the same agent in two and one"):
        merge({"one": one, "two": other})
    with pytest.raises(ValueError, match="run_0 is there twice, in two again"):
        merge({"one": one, "two": played(range(1), tmp_path)})


def test_agents_may_see_the_grid_through_interfaces_of_their_own(tmp_path: Path) -> None:
    one, two = played(range(1), tmp_path), played(range(1, 2), tmp_path)
    two["agents"]["b"] = two["agents"].pop("a")
    two["settings"]["env_config"] = {**CONFIG, "observability": "border"}
    for agent in two["agents"].values():
        agent["interface"]["observability"] = "border"
    agents = merge({"one": one, "two": two})["agents"]
    assert {name: agent["interface"]["observability"] for name, agent in agents.items()} == {
        "qp": "local",
        "a": "local",
        "b": "border",
    }
    two["agents"]["a"] = two["agents"].pop("b")
    with pytest.raises(ValueError, match="a is not the same agent in two and one"):
        merge({"one": one, "two": two})
