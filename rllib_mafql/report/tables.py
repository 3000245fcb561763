"""Tables of results: summary.json, README's, and those of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from rllib_mafql.evaluation.results import title
from rllib_mafql.report.results_folder import Results, Summary

#: Names of dispatchers that see the whole grid, where they stand beside those that do not.
CALLED = {name: f"{name}_central" for name in ("qp", "qp_n1", "proportional")}

#: What others are compared with on the page.
REFERENCE = "qp_zones"
#: What is compared with all others in summary.json and README.
SUBJECT = "mafql_decentralized"


def summarize(results: Results) -> dict[str, Any]:
    """The content of summary.json, from the main evaluations.

    {"settings": {setting: {"played", "command", "commit", "agents": {name: {"label", "kind" ("learned" or "rule"),
    "seeds", "episodes", "survival", "score", "ci" [low, high], "by_seed": each seed's score, "iqm", "decision_ms",
    "subject_less" [mean, low, high]: the score of `SUBJECT` less this agent's on the same episodes, None without
    it}}}}}
    """
    return {"settings": {name: _setting(summary) for name, summary in sorted(results.main.items(), key=_order)}}


def _order(item: tuple[str, Summary]) -> tuple[bool, float, bool]:
    config = item[1]["settings"]["env_config"]
    return item[0] == "14", -config["thermal_limit_scale"], config["opponent"]


def _setting(summary: Summary) -> dict[str, Any]:
    settings = summary["settings"]
    compared = summary["agents"].get(SUBJECT, {}).get("comparisons", {})
    agents = {
        CALLED.get(name, name): {**_agent(agent), "subject_less": _rounded(compared.get(name))}
        for name, agent in summary["agents"].items()
        if agent["metrics"]
    }
    return {
        "played": title(summary),
        "command": settings["command"],
        "commit": settings["commit"],
        "agents": dict(sorted(agents.items(), key=lambda item: -item[1]["score"])),
    }


def _agent(agent: Mapping[str, Any]) -> dict[str, Any]:
    metrics, score = agent["metrics"], agent["metrics"]["score"]
    return {
        "label": agent["label"],
        "kind": "rule" if agent["kind"] == "rule" else "learned",
        "seeds": len(agent["checkpoints"] or [None]),
        "episodes": len({one["episode"] for one in agent["episodes"]}),
        "survival": round(metrics["survival"]["mean"], 4),
        "score": round(score["mean"], 4),
        "ci": [None if score[end] is None else round(score[end], 4) for end in ("low", "high")],
        "by_seed": [round(score, 4) for score in _by_seed(agent)],
        "iqm": round(agent["iqm"]["score"]["mean"], 4),
        "decision_ms": round(metrics["decision_ms"]["mean"], 3),
    }


def _by_seed(agent: Mapping[str, Any]) -> list[float]:
    """Each run's mean score, in the order of runs."""
    scores: dict[int, list[float]] = {}
    for episode in agent["episodes"]:
        scores.setdefault(episode["run"], []).append(episode["score"])
    return [fmean(scores[run]) for run in sorted(scores)]


def _rounded(comparison: Mapping[str, Any] | None) -> list[float | None] | None:
    if comparison is None:
        return None
    return [None if value is None else round(value, 4) for value in comparison["difference"].values()]


def readme_table(summary: Summary) -> str:
    """Survival and score of every agent in every setting, and what `SUBJECT` has more than each, as Markdown."""
    names: dict[str, str] = {}
    for setting in summary["settings"].values():
        for name, agent in setting["agents"].items():
            names.setdefault(name, agent["label"])
    table = _markdown(summary, "", names, _cell)
    if SUBJECT in names:
        heading = f"score of {names.pop(SUBJECT)} less that of"
        table += "\n" + _markdown(summary, heading, names, _less)
    return table


def _markdown(
    summary: Summary, heading: str, names: Mapping[str, str], cell: Callable[[Mapping[str, Any] | None], str]
) -> str:
    settings = summary["settings"]
    lines = [f"| {heading} | " + " | ".join(settings) + " |", "|:--|" + "--:|" * len(settings)]
    for name, label in names.items():
        cells = [cell(setting["agents"].get(name)) for setting in settings.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _less(agent: Mapping[str, Any] | None) -> str:
    if agent is None or agent["subject_less"] is None:
        return "–"
    mean, low, high = agent["subject_less"]
    return f"{mean:+.3f}" + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")


def _cell(agent: Mapping[str, Any] | None) -> str:
    if agent is None:
        return "–"
    low, high = agent["ci"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{agent['survival']:.0%}, {agent['score']:.3f}{interval}"


class Column(NamedTuple):
    """A column of the page's tables: heading, explanation, metric and form."""

    heading: str
    tells: str
    metric: str
    form: str
    interval: bool = False


COLUMNS = (
    Column("Survival", "share of episodes played to their last step", "survival", "{:.0%}", True),
    Column("Score", "composite score per step, in [0, 1]; 0 after a blackout", "score", "{:.3f}", True),
    Column("IQM", "score: mean of the middle half", "iqm", "{:.3f}"),
    Column("Overload", "steps of an episode with a line above its limit", "overload_steps", "{:.1f}"),
    Column("Dispatched", "MWh of redispatch, either way, in an episode", "dispatched_mwh", "{:,.0f}"),
    Column("Curtailed", "MWh of wind and sun not used", "curtailed_mwh", "{:,.0f}"),
    Column("Cost", "component of the score: 1 is free", "cost", "{:.3f}"),
    Column("ms", "of a decision, all zones together", "decision_ms", "{:.2f}"),
)


def page_rows(summary: Summary) -> Iterator[dict[str, Any]]:
    """The agents of an evaluation, best first: label, kind, seeds with scores, cells, and the difference to the QP."""
    agents = [(name, agent) for name, agent in summary["agents"].items() if agent["metrics"]]
    for name, agent in sorted(agents, key=lambda item: -item[1]["metrics"]["score"]["mean"]):
        yield {
            "label": agent["label"],
            "kind": "rule" if agent["kind"] == "rule" else "learned",
            "seeds": _seeds(_by_seed(agent)),
            "cells": [_value(agent, column) for column in COLUMNS],
            "difference": _difference(agent["comparisons"].get(REFERENCE)) if name != REFERENCE else "",
        }


def _seeds(scores: list[float]) -> str:
    """How many, and of several the lowest and the highest score."""
    return f"{len(scores)}, {min(scores):.3f} to {max(scores):.3f}" if len(scores) > 1 else "1"


def _value(agent: Mapping[str, Any], column: Column) -> str:
    value = agent["iqm"]["score"] if column.metric == "iqm" else agent["metrics"][column.metric]
    text = column.form.format(value["mean"])
    if column.interval and value["low"] is not None:
        text += f" [{column.form.format(value['low'])}, {column.form.format(value['high'])}]"
    return text


def _difference(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return "–"
    value = comparison["difference"]
    interval = "" if value["low"] is None else f" [{value['low']:+.3f}, {value['high']:+.3f}]"
    return f"{value['mean']:+.3f}{interval}, P {comparison['probability']['mean']:.2f}"
