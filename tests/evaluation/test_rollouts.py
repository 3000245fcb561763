"""Playing episodes: the same ones for everybody, whoever plays them, and what happens when something breaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.rollouts import EpisodeResult, run_episodes

EnvCreator = Callable[[dict[str, Any]], Any]


def rules(*names: str, **env_config: Any) -> list[AgentSpec]:
    return [AgentSpec(name, name, "rule", {"max_steps": 20, **env_config}) for name in names]


def numbers(results: list[EpisodeResult]) -> list[tuple[Any, ...]]:
    """All that must not depend on who played."""
    timed = {"decision_ms"}
    return [
        (r.agent, r.episode, {k: v for k, v in r.metrics.items() if k not in timed}, r.trace.rho_max.tolist())
        for r in results
        if r.trace is not None
    ]


def test_results_tell_the_episode(toy_env_creator: EnvCreator) -> None:
    seen: list[EpisodeResult] = []
    results = run_episodes(rules("do_nothing", "qp"), 6, workers=0, on_result=seen.append, env_creator=toy_env_creator)
    assert [(r.agent, r.episode) for r in results] == [(a, k) for a in ("do_nothing", "qp") for k in range(6)]
    assert seen == results
    assert [r.metrics["survived"] for r in results] == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0]
    lost = results[4]  # 0.5 + 0.1 * 4 + 0.01 t passes 1 at t = 11
    assert lost.metrics["steps"] == 11
    assert lost.end_reason == "overload"
    assert lost.trace is not None
    np.testing.assert_allclose(
        lost.trace.rho_max, 0.9 + 0.01 * np.arange(11)
    )  # its start and the ten steps that were safe
    np.testing.assert_allclose(lost.trace.raised_mw["zone_0"], [1.0] * 11)
    np.testing.assert_allclose(
        lost.trace.lowered_mw["zone_0"], [-2.5] * 11
    )  # a generator 2 MW below schedule, 0.5 MW charging
    np.testing.assert_allclose(lost.trace.lowered_mw["zone_1"], [-4.0] * 11)  # curtailed
    assert lost.trace.start == "2035-08-14T00:00:00"
    assert 0 < lost.metrics["decision_ms"] < 10


def test_every_agent_plays_the_same_episodes(toy_env_creator: EnvCreator) -> None:
    results = run_episodes(rules("do_nothing", "qp"), 3, workers=0, env_creator=toy_env_creator)
    assert [r.spec for r in results[:3]] == [r.spec for r in results[3:]]


@pytest.mark.usefixtures("two_cpus")
def test_workers_play_what_this_process_plays(toy_env_creator: EnvCreator) -> None:
    agents = rules("random", "qp")
    alone = run_episodes(agents, 4, workers=0, env_creator=toy_env_creator)
    spread = run_episodes(agents, 4, workers=2, env_creator=toy_env_creator)
    assert numbers(spread) == numbers(alone)
    assert (
        len({r.metrics["steps"] for r in alone} | {tuple(numbers([r])[0][3]) for r in alone}) > 4
    )  # random differs by episode


@pytest.mark.usefixtures("two_cpus")
def test_a_worker_that_dies_is_reported_and_its_episode_played_once_more(
    toy_env_creator: EnvCreator, tmp_path: Path
) -> None:
    once, always = tmp_path / "once", tmp_path / "always"
    once.touch()
    always.touch()
    notes: list[str] = []
    agents = [*rules("do_nothing", crash=str(once), crash_once=True), *rules("qp", crash=str(always))]
    results = run_episodes(agents, 2, workers=2, on_note=notes.append, env_creator=toy_env_creator)
    assert [r.error for r in results] == [None, None, None, "its worker died 2 times"]
    assert sorted(note.partition(" (")[0] for note in notes) == [
        "a worker died again in episode 1 of qp, which is given up",
        "a worker died in episode 1 of do_nothing, which is played again",
        "a worker died in episode 1 of qp, which is played again",
    ]
    assert all("Worker unexpectedly exits" in note for note in notes)


def test_an_episode_that_raises_costs_no_other(toy_env_creator: EnvCreator) -> None:
    agents = rules("do_nothing", "qp", **{"raise": True})
    results = run_episodes(agents, 3, workers=0, env_creator=toy_env_creator)
    assert [r.error for r in results] == [None, "RuntimeError: the toy is broken", None] * 2


@pytest.mark.parametrize(
    ("episodes", "workers", "message"), [(0, 0, "episodes must be at least 1"), (1, -1, "workers must not")]
)
def test_nonsensical_numbers_are_refused(
    toy_env_creator: EnvCreator, episodes: int, workers: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_episodes(rules("qp"), episodes, workers=workers, env_creator=toy_env_creator)
