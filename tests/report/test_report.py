"""`mafql film` and `mafql report`: what is in the folder comes on the page, in summary.json and in README."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from grid2op_zones.config import check_env_config
from rllib_mafql.cli.mafql import app
from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.curves import held_out_curve
from rllib_mafql.evaluation.modes import MEASURES
from rllib_mafql.evaluation.results import summarize
from rllib_mafql.evaluation.rollouts import EpisodeResult
from rllib_mafql.report.cli import BEGIN, END
from rllib_mafql.report.tables import readme_table

HARD = check_env_config({"thermal_limit_scale": 0.9, "opponent": True, "scenarios": {"split": "test"}})
PROVENANCE = {"command": "mafql evaluate a=x,y qp_zones", "commit": "0123", "version": "0"}
SCORES = {"a": ([0.9, 0.7], [0.8, 0.6]), "qp_zones": ([0.8, 0.5],), "qp": ([0.75, 0.5],)}
#: What the learned agent did in training, as Tune tells it.
ROWS = [{"num_learner_updates": 100 * k, "time_total_s": 60.0 * k, "training_iteration": k} for k in (1, 2)]


def evaluation(folder: Path) -> dict[str, Any]:
    agents, results = [], []
    for name, runs in SCORES.items():
        for run, scores in enumerate(runs):
            trial = folder / f"trial_{run}"
            learned = {"algorithm": "A", "execution": "decentralized", "checkpoint": trial / "checkpoint_0"}
            if name == "a":
                trial.mkdir(exist_ok=True)
                held_out = {"evaluation": {"env_runners": {"score": 0.5 + run / 10, "survived": 1.0}}}
                lines = [json.dumps({**row, **(held_out if row["training_iteration"] == 2 else {})}) for row in ROWS]
                (trial / "result.json").write_text("\n".join(lines))
            agents.append(AgentSpec(name, f"<{name}>", "learned" if name == "a" else "rule", HARD, run=run))
            if name == "a":
                agents[-1] = AgentSpec(name, f"<{name}>", "learned", HARD, run=run, **learned)
            for k, value in enumerate(scores):
                metrics = dict.fromkeys(("score", "safety", "cost", "renewables", "alive"), value)
                metrics |= {"survived": float(value > 0.65), "overload_steps": 1.0, "illegal_actions": 0.0}
                metrics |= {"steps": 9.0, "decision_ms": 0.5, "dispatched_mwh": 1234.0, "curtailed_mwh": 0.0}
                spec = {"seed": k, "options": {"scenario": k, "start": 0}}
                results.append(EpisodeResult(name, k, spec=spec, metrics=metrics, end_reason="overload", run=run))
    settings = {"grid": HARD["grid"], "env_config": HARD, "episodes": 2, "workers": 0, "wall_s": 1.0, **PROVENANCE}
    curves = {(one.name, one.run): held_out_curve(one.checkpoint) for one in agents if one.checkpoint is not None}
    return summarize(agents, results, settings, folder, curves)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "118_x0.9_opponent.json").write_text(json.dumps(evaluation(tmp_path)))
    return folder


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "film.json"
    config = '{"max_steps": 12, "thermal_limit_scale": 0.6}'
    words = ["film", "do_nothing", "qp_zones", "--grid", "educ_case14_storage", "--config", config, "--episode", "3"]
    answer = run(*words, "--json", file)
    assert answer.exit_code == 0, answer.output
    return file


class Page(HTMLParser):
    """The addresses on a page, its text, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def modes() -> dict[str, Any]:
    """Of `mafql modes`, with one state and one agent beside the QP."""
    points = [[0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]
    names = {"qp_zones_again": "QP, other draws", "flow": "<flow>"}
    shown = {"episode": 3, "step": 7, "dispatches": points, "samples": dict.fromkeys(names, points)}
    config = {"grid": "l2rpn_idf_2023", "thermal_limit_scale": 0.9, "scenarios": {"split": "test"}}
    return {
        "kind": "modes",
        "settings": {"states": 1, "draws": 3, "noise": 1.0, "seed": 0, "env_config": config, **PROVENANCE},
        "measures": MEASURES,
        "agents": {n: {"label": label, "metrics": dict.fromkeys(MEASURES, 0.123)} for n, label in names.items()},
        "shown": [shown | {"coverage": dict.fromkeys(names, 0.456)}],
    }


def infeasible() -> dict[str, Any]:
    """Of `mafql scenarios infeasible`, with two episodes, one of them with rows that no dispatch helps."""
    worst = {"row": 444, "time": "Tue 13:00", "out": ["<1_2_3>"], "line": "4_5_6", "idle": 1.283, "least": 1.014}
    counts = {"scenario": 0, "unsolved": 0, "rows": 168, "overloaded": 61}
    episodes = [{**counts, "infeasible": k, "worst": {**worst, "moved_mw": 1.0}} for k in (0, 7)]
    settings = {"env_config": HARD, "episodes": 2, "every": 12, **PROVENANCE, "command": "mafql scenarios infeasible"}
    return {"kind": "infeasible", "settings": settings, "infeasible": 1, "episodes": episodes}


def test_the_page_has_all_results_and_needs_nothing_else(results: Path, film: Path, tmp_path: Path) -> None:
    shutil.copy(film, results)
    (results / "modes.json").write_text(json.dumps(modes()))
    (results / "infeasible_x0.9.json").write_text(json.dumps(infeasible()))
    answer = run("report", results, "--out", tmp_path / "page")
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "page" / "index.html").read_text()
    page = Page(text)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", text)
    assert "<a>" in page.text and "0.750 [" in page.text and PROVENANCE["command"] in page.text
    assert page.text.index("<a>") < page.text.index("<qp_zones>") < page.text.index("<qp>")  # best first
    assert "2, 0.700 to 0.800" in page.text  # its seeds' scores
    assert "+0.100 [" in page.text  # a's mean, 0.75, less qp_zones', 0.65
    assert "118_x0.9_opponent, episodes of 287 steps: 1 of 2" in page.text
    assert "<1_2_3>" in page.text and "1.014" in page.text
    assert "<flow>" in page.text and "12%" in page.text and MEASURES["units"] in text
    for name in ("118_x0.9_opponent", "curves_118_x0.9_opponent", "modes"):
        picture = (tmp_path / "page" / f"{name}.png").read_bytes()
        assert base64.b64encode(picture).decode() in text
        assert imread(tmp_path / "page" / f"{name}.png").std() > 0.01


def test_the_summary_tells_each_setting_s_agents(results: Path, tmp_path: Path) -> None:
    (results / "118_x0.9_opponent_days.json").write_text((results / "118_x0.9_opponent.json").read_text())
    assert run("report", results, "--out", tmp_path / "page").exit_code == 0
    summary = json.loads((results / "summary.json").read_text())
    assert list(summary["settings"]) == ["118_x0.9_opponent"]
    agents = summary["settings"]["118_x0.9_opponent"]["agents"]
    assert list(agents) == ["a", "qp_zones", "qp_central"]
    expected = {"kind": "learned", "seeds": 2, "episodes": 2, "survival": 0.75, "score": 0.75, "decision_ms": 0.5}
    assert {key: agents["a"][key] for key in expected} == expected
    assert agents["a"]["by_seed"] == [0.8, 0.7] and agents["qp_zones"]["by_seed"] == [0.65]
    low, high = agents["a"]["ci"]
    assert low < 0.75 < high
    assert agents["qp_zones"]["kind"] == "rule" and agents["qp_zones"]["seeds"] == 1
    assert run("report", results, "--out", tmp_path / "page").exit_code == 0  # summary.json is there, and no result


def test_readme_s_table_is_replaced_between_its_marks(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert run("report", results, "--out", tmp_path / "page", "--readme", readme).exit_code == 0
    table = readme_table(json.loads((results / "summary.json").read_text()))
    assert readme.read_text() == f"before\n{BEGIN}\n{table}{END}\nafter\n"
    rows = [line.split("|")[1:-1] for line in table.splitlines()]
    assert [row[0].strip() for row in rows[2:]] == ["<a>", "<qp_zones>", "<qp>"]
    assert rows[2][1].strip().startswith("75%, 0.750 [")


def test_mafql_is_compared_with_every_other_agent(results: Path, tmp_path: Path) -> None:
    file = results / "118_x0.9_opponent.json"
    content = json.loads(file.read_text())
    content["agents"]["mafql_decentralized"] = content["agents"].pop("a")
    file.write_text(json.dumps(content))
    assert run("report", results, "--out", tmp_path / "page").exit_code == 0
    summary = json.loads((results / "summary.json").read_text())
    agents = summary["settings"]["118_x0.9_opponent"]["agents"]
    mean, low, high = agents["qp_zones"]["subject_less"]
    assert mean == 0.1 and low < 0.1 < high
    assert agents["mafql_decentralized"]["subject_less"] is None
    first, second = readme_table(summary).split("\n\n")
    assert [line.split("|")[1].strip() for line in second.splitlines()[2:]] == ["<qp_zones>", "<qp>"]
    assert "| +0.100 [" in second and "| +0.125 [" in second and "+0.100" not in first


@pytest.mark.parametrize("text", ["nothing", f"{BEGIN}\nno end", f"{END}\n{BEGIN}\n"])
def test_a_readme_without_marks_is_left_alone(results: Path, tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    answer = run("report", results, "--out", tmp_path / "page", "--readme", readme)
    assert answer.exit_code == 2 and "must have the lines" in " ".join(answer.output.split())
    assert readme.read_text() == text and not (results / "summary.json").exists()


def test_evaluations_in_a_folder_are_one(results: Path, tmp_path: Path) -> None:
    whole = json.loads((results / "118_x0.9_opponent.json").read_text())
    folder = results / "118_x0.9_opponent"
    folder.mkdir()
    (results / "118_x0.9_opponent.json").rename(folder / "first.json")
    whole["agents"] = {"b": {**whole["agents"]["a"], "label": "b"}}
    (folder / "second.json").write_text(json.dumps(whole))
    assert run("report", results, "--out", tmp_path / "page").exit_code == 0
    agents = json.loads((results / "summary.json").read_text())["settings"]["118_x0.9_opponent"]["agents"]
    assert {name: agent["score"] for name, agent in agents.items()} == {
        **{"a": 0.75, "b": 0.75},
        **{"qp_zones": 0.65, "qp_central": 0.625},
    }
    whole["settings"]["env_config"]["opponent"] = False
    (folder / "third.json").write_text(json.dumps(whole))
    answer = run("report", results, "--out", tmp_path / "page")
    assert answer.exit_code == 2 and "third.json and first.json differ in env_config" in " ".join(answer.output.split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"a": 1}', "none of the results"),
        ("a.json", "[]", "none of the results"),
        ("118_x1.0.json", None, "that of its setting, 118_x0.9_opponent"),
        ("b.json", '{"settings": {}, "agents": {}, "format": 1}', "has format 1"),
    ],
)
def test_what_is_no_result_is_refused(results: Path, name: str, content: str | None, message: str) -> None:
    (results / name).write_text(content or (results / "118_x0.9_opponent.json").read_text())
    answer = run("report", results, "--out", results / "page")
    output = " ".join(answer.output.split())
    assert answer.exit_code == 2 and message in output and name.removesuffix(".json") in output
    assert not (results / "page").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "no result of `mafql evaluate" in run("report", tmp_path).output
    assert "no such folder" in run("report", tmp_path / "nowhere").output


def test_the_film_shows_what_the_grid_carried(film: Path) -> None:
    content = json.loads(film.read_text())
    assert [len(content[name]) for name in ("substations", "lines", "zones")] == [14, 20, 3]
    assert sum(line["tie"] for line in content["lines"]) > 0
    assert {one["zone"] for one in content["substations"]} == {0, 1, 2}
    for agent in content["agents"].values():
        loading = np.frombuffer(base64.b64decode(agent["loading"]), np.uint8).reshape(agent["steps"], 20)
        assert loading[loading < 254].max() > 30 and agent["steps"] == len(agent["raised_mw"]["zone_0"])
    idle, qp = content["agents"].values()
    assert max(map(max, idle["raised_mw"].values())) == 0.0
    assert idle["loading"][:24] == qp["loading"][:24]  # the same start


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_the_map(results: Path, film: Path, tmp_path: Path) -> None:
    shutil.copy(film, results)
    assert run("report", results, "--out", tmp_path / "page").exit_code == 0
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    address = (tmp_path / "page" / "index.html").as_uri()
    words = [str(CHROMIUM), *options.split(), f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]
    drawn = subprocess.run([*words, "--dump-dom", address], capture_output=True, text=True, timeout=60, check=True)
    assert len(re.findall(r"<title>\d+_\d+_\d+", drawn.stdout)) == 40  # each line, on both sides
    assert drawn.stdout.count("<div>Most loaded: ") == 2
