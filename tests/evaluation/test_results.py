"""The JSON's keys, which others rely on, and the tables made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from rich.console import Console

from grid2op_zones.config import check_env_config
from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.comparison_plot import comparison_figure
from rllib_mafql.evaluation.marl_eval import marl_eval
from rllib_mafql.evaluation.results import markdown, rich_table, summarize, title
from rllib_mafql.evaluation.rollouts import EpisodeResult

CONFIG = check_env_config({"grid": "educ_case14_storage", "max_steps": 100, "scenarios": {"split": "test"}})
SETTINGS = {"grid": "educ_case14_storage", "env_config": CONFIG, "episodes": 2, "workers": 0, "wall_s": 1.0}


def result(agent: str, k: int, survived: float, score: float, run: int = 0) -> EpisodeResult:
    metrics = dict.fromkeys(("safety", "cost", "renewables", "alive"), score)
    metrics |= {"survived": survived, "score": score, "overload_steps": 3.0, "illegal_actions": 0.0}
    metrics |= {"steps": 100 * score, "decision_ms": 0.25, "dispatched_mwh": 40.0, "curtailed_mwh": 2.5}
    spec = {"seed": 10_000 + k, "options": {"scenario": k, "start": 7}}
    reason = "end of episode" if survived else "overload"
    return EpisodeResult(agent, k, spec=spec, metrics=metrics, end_reason=reason, run=run)


@pytest.fixture
def summary(tmp_path: Path) -> dict[str, Any]:
    agents = [
        AgentSpec("do_nothing", "do nothing", "rule", CONFIG),
        AgentSpec(
            "mafql_decentralized",
            "MAFQL, decentralised",
            "learned",
            CONFIG,
            "MAFQL",
            "decentralized",
            tmp_path / "runs" / "ckpt",
        ),
        AgentSpec("qp", "QP, central", "rule", CONFIG),
    ]
    results = [
        result("do_nothing", 0, 0, 0.25),
        result("do_nothing", 1, 1, 0.75),
        result("mafql_decentralized", 0, 1, 0.875),
        EpisodeResult("mafql_decentralized", 1, error="its worker died 2 times"),
        *(EpisodeResult("qp", k, error="RuntimeError: no") for k in (0, 1)),
    ]
    (tmp_path / "here").mkdir()
    return summarize(agents, results, SETTINGS, tmp_path / "here")


def test_the_keys_are_those_documented(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary) == ["format", "settings", "agents"]
    assert summary["format"] == 2
    assert set(summary["settings"]) == {
        "grid",
        "env_config",
        "episodes",
        "confidence",
        "resamples",
        "workers",
        "wall_s",
    }
    assert list(summary["agents"]) == ["do_nothing", "mafql_decentralized", "qp"]
    metrics = [
        "survival",
        "score",
        "safety",
        "cost",
        "renewables",
        "alive",
        "overload_steps",
        "illegal_actions",
        "dispatched_mwh",
        "curtailed_mwh",
        "steps",
    ]
    metrics += ["decision_ms"]
    for agent in summary["agents"].values():
        assert list(agent) == [
            *("label", "kind", "algorithm", "execution", "checkpoints", "curves", "flow_steps", "interface"),
            *("metrics", "iqm", "comparisons", "episodes", "failed"),
        ]
        for episode in agent["episodes"]:
            assert list(episode) == ["run", "episode", "seed", "scenario", "start", "end_reason", *metrics]
    do_nothing = summary["agents"]["do_nothing"]
    assert list(do_nothing["metrics"]) == metrics
    assert all(list(value) == ["mean", "low", "high"] for value in do_nothing["metrics"].values())


def test_the_numbers_are_those_of_the_episodes(summary: dict[str, Any]) -> None:
    do_nothing = summary["agents"]["do_nothing"]
    assert do_nothing["metrics"]["survival"]["mean"] == 0.5
    assert do_nothing["metrics"]["score"] == {"mean": 0.5, "low": 0.25, "high": 0.75}
    assert [episode["score"] for episode in do_nothing["episodes"]] == [0.25, 0.75]
    learned = summary["agents"]["mafql_decentralized"]
    assert learned["checkpoints"] == ["../runs/ckpt"]
    assert learned["metrics"]["score"] == {"mean": 0.875, "low": None, "high": None}
    assert learned["failed"] == [{"run": 0, "episode": 1, "error": "its worker died 2 times"}]
    assert summary["agents"]["qp"]["metrics"] == {}


def test_markdown_has_a_row_per_agent(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    assert text.startswith("educ_case14_storage, test split, 2 episodes of up to 100 steps, thermal limits x1.")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == "| do nothing | 50% | 0.500 [0.250, 0.750] | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.25 |"
    assert rows[3] == "| MAFQL, decentralised | 100% | 0.875 | 0.875 | 0.875 | 0.875 | 0.875 | 0.875 | 0.25 |"
    assert rows[4] == "| QP, central |" + " – |" * 8
    assert "Without a result: 1 of MAFQL, decentralised, 2 of QP, central." in text


def test_repeated_starts_are_said_in_the_title(summary: dict[str, Any]) -> None:
    for episode in (e for agent in summary["agents"].values() for e in agent["episodes"]):
        episode["scenario"] = 0
    assert "2 episodes of up to 100 steps from 1 different starts" in markdown(summary)


def test_the_terminal_shows_the_same_cells(summary: dict[str, Any]) -> None:
    console = Console(record=True, width=160)
    console.print(rich_table(summary))
    text = console.export_text()
    assert "MAFQL, decentralised" in text
    assert "0.500 [0.250, 0.750]" in text


def test_runs_of_one_agent_are_put_together(tmp_path: Path) -> None:
    agents = [
        AgentSpec("m", "m", "learned", CONFIG, "MAFQL", "decentralized", tmp_path / f"{k}", run=k) for k in (0, 1)
    ]
    agents.append(AgentSpec("qp", "QP, central", "rule", CONFIG))
    results = [result("m", k, 1, 0.5 + 0.1 * k + 0.2 * run, run) for run in (0, 1) for k in (0, 1)]
    results += [result("m", 2, 0, 0.0), EpisodeResult("m", 2, error="no", run=1)]  # does not count: one run lacks it
    results += [result("qp", k, 1, 0.6) for k in (0, 1, 2)]
    summary = summarize(agents, results, SETTINGS, tmp_path)
    own = summary["agents"]["m"]
    assert own["checkpoints"] == ["0", "1"]
    assert own["metrics"]["score"]["mean"] == pytest.approx(0.65)
    assert own["metrics"]["survival"]["mean"] == 1.0
    assert [(e["run"], e["episode"]) for e in own["episodes"]] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]
    assert own["comparisons"]["qp"]["difference"]["mean"] == pytest.approx(0.05)
    assert own["comparisons"]["qp"]["probability"]["mean"] == pytest.approx(0.625)  # 0.5 < 0.6 = 0.6 < 0.7, 0.8
    assert own["failed"] == [{"run": 1, "episode": 2, "error": "no"}]

    runs = marl_eval(summary, "a day")["educ_case14_storage"]["a day"]["m"]
    assert list(runs) == ["run_0", "run_1"]
    assert runs["run_1"]["absolute_metrics"]["score"] == pytest.approx([0.7, 0.8])
    file = tmp_path / "comparison.png"
    comparison_figure(summary, file, title=title(summary))
    assert imread(file).std() > 0
