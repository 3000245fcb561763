"""Grid2Op's scorers on recorded episodes: their scale, the episodes they play, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grid2op
import numpy as np
import pytest
from grid2op.Agent import BaseAgent

from grid2op_zones import ZonedGridEnv
from grid2op_zones.agents import DispatcherAgent
from rllib_mafql.evaluation.policies import RulePolicy, SetupError
from rllib_mafql.evaluation.rollouts import play
from rllib_mafql.evaluation.scoring import METRICS, SCORERS, score
from rllib_mafql.evaluation.scoring_series import record_episodes

STEPS = 12

#: One series in the split, so that the second episode plays it again; limits at which dispatchers act.
CASE14 = {
    "grid": "educ_case14_storage",
    "thermal_limit_scale": 0.9,
    "max_steps": STEPS,
    "scenarios": {"split": "test", "weeks": [0, 1]},
}

EPISODE_METRICS = ("survival", "score", "safety", "cost", "renewables", "alive", "overload_steps", "steps")


class Saboteur(BaseAgent):
    """Cuts a load off in its first step."""

    def act(self, observation: Any, reward: float, done: bool = False) -> Any:
        return self.action_space({"set_bus": {"loads_id": [(0, 2)]}})


def maker(name: str, config: dict[str, Any]) -> Callable[[Any], BaseAgent]:
    return partial(DispatcherAgent, env_config=config, name=name)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def package() -> dict[str, tuple[int, int]]:
    return listing(Path(grid2op.__file__).parent)


@pytest.fixture(scope="module")
def results(package: dict[str, tuple[int, int]]) -> dict[str, Any]:
    told: list[tuple[str, int, int]] = []
    agents = {
        "do_nothing": maker("do_nothing", CASE14),
        "qp_zones": maker("qp_zones", CASE14),
        "saboteur": lambda simulator: Saboteur(simulator.action_space),
    }
    found = score(agents, CASE14, 2, on_progress=lambda *now: told.append(now))
    runs = [f"{scorer.__name__}: {what}" for scorer in SCORERS.values() for what in ("references", *agents)]
    assert list(dict.fromkeys(run for run, *_ in told)) == [*runs, "done"]
    steps = [step for _, step, _ in told]
    assert steps == sorted(steps)
    assert {total for *_, total in told} == {steps[-1]} == {2 * (2 + len(agents)) * 2 * STEPS}
    return found


def test_keys_are_the_documented_ones(results: dict[str, Any]) -> None:
    assert results["format"] == 1
    assert set(results["settings"]) == {"grid", "env_config", "episodes", "grid2op", "wall_s"}
    for agent in results["agents"].values():
        assert tuple(agent["metrics"]) == METRICS
        for k, episode in enumerate(agent["episodes"]):
            assert tuple(episode) == ("episode", "seed", "scenario", "possible_steps", *METRICS)
            assert (episode["episode"], episode["possible_steps"]) == (k, STEPS)
        values = [episode["score_l2rpn_2022"] for episode in agent["episodes"]]
        assert agent["metrics"]["score_l2rpn_2022"] == pytest.approx(np.mean(values))


def test_a_series_played_twice_is_two_episodes(results: dict[str, Any]) -> None:
    first, second = results["agents"]["do_nothing"]["episodes"]
    assert first["scenario"].split(" row ")[0] == second["scenario"].split(" row ")[0]
    assert first["scenario"] != second["scenario"]
    assert first["score"] != second["score"]


def test_the_scale_is_grid2op_s(results: dict[str, Any]) -> None:
    agents = results["agents"]
    for metric in SCORERS:
        assert [episode[metric] for episode in agents["do_nothing"]["episodes"]] == [0.0, 0.0]
        # all of the load is lost, but for the first step
        assert -100.0 < agents["saboteur"]["metrics"][metric] < -100.0 * (1.0 - 1.5 / STEPS)
    assert agents["saboteur"]["metrics"]["survival"] == agents["saboteur"]["metrics"]["score"] == 0.0
    assert agents["saboteur"]["metrics"]["sandbox_cost"] is None
    assert agents["qp_zones"]["metrics"]["sandbox_cost"] > agents["do_nothing"]["metrics"]["sandbox_cost"] > 0.0


@pytest.mark.parametrize("name", ["do_nothing", "qp_zones"])
def test_the_composite_score_is_that_of_evaluation(results: dict[str, Any], name: str) -> None:
    env = ZonedGridEnv(CASE14)
    for k, found in enumerate(results["agents"][name]["episodes"]):
        result = play(env, RulePolicy(name, env), name, k)
        expected = {**result.metrics, "survival": result.metrics["survived"]}
        assert found["seed"] == result.spec["seed"]
        assert found["scenario"].endswith(f" row {result.spec['options']['start']}")
        for metric in EPISODE_METRICS:
            assert found[metric] == pytest.approx(expected[metric], abs=2e-4), metric
    env.close()


def test_grid2op_s_package_is_left_as_it_was(results: dict[str, Any], package: dict[str, tuple[int, int]]) -> None:
    assert results["agents"]
    assert listing(Path(grid2op.__file__).parent) == package


def test_dispatch_pays_where_doing_nothing_ends_in_a_blackout() -> None:
    config = {"max_steps": 40, "auto_reconnect": False, "scenarios": {"split": "test"}}
    agents = {name: maker(name, config) for name in ("do_nothing", "qp_zones")}
    found = score(agents, config, 1)["agents"]
    nothing, dispatcher = found["do_nothing"]["metrics"], found["qp_zones"]["metrics"]
    assert (nothing["survival"], dispatcher["survival"]) == (0.0, 1.0)
    for metric in SCORERS:
        assert nothing[metric] == 0.0
        assert 0.0 < dispatcher[metric] <= 100.0


def test_generated_weeks_are_recorded_as_well(tmp_path: Path) -> None:
    generated = {"source": "generated", "path": str(tmp_path), "split": "test", "weeks": 1}
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox", "max_steps": 6, "scenarios": generated})
    (episode,) = record_episodes(env, 1)
    expected = []
    env.reset(**env.episode_spec(0))
    for _ in range(6):
        expected.append(env.grid_state.load_p.copy())
        env.step(env.behavior_policy("do_nothing").act())
    env.close()
    assert episode.scenario.startswith("generated/")
    assert episode.steps == 6
    loads = [row.values[1]["injection"]["load_p"] for row in episode.rows[:6]]
    np.testing.assert_allclose(loads, expected, rtol=1e-5)
    # without forecasts of its own, the next step is expected to be like this one
    when, ahead = episode.rows[0].forecasts[0]
    assert when == episode.rows[1].values[0]
    np.testing.assert_array_equal(ahead["injection"]["load_p"], loads[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [({"grid": "l2rpn_case14"}, "unknown grid 'l2rpn_case14'; the nearest is"), ({"gird": "x"}, "unknown key 'gird'")],
)
def test_a_wrong_configuration_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        score({}, config, 1)


def test_an_agent_that_cannot_be_built_is_told() -> None:
    with pytest.raises(SetupError, match="unknown name 'qp_zone'"):
        score({"qp_zone": maker("qp_zone", CASE14)}, CASE14, 1)
    with pytest.raises(ValueError, match="episodes must be at least 1"):
        score({}, CASE14, 0)
