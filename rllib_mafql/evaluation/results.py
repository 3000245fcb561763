"""Evaluation results as one JSON-able dict, and that dict as a table.

The keys below are stable::

    format          2; raised when a key changes its meaning
    settings        grid, env_config (shared by all agents), episodes, confidence, resamples, workers, wall_s, and
                    command, version and commit (null outside a checkout) that made them
    agents          name -> one agent, in the order they were given:
        label           its name for people
        kind            "rule" or "learned"
        algorithm       RLlib algorithm's name, null for a rule
        execution       "decentralized", "centralized", null for a rule
        checkpoints     path of each run relative to the directory the command ran in, null for a rule
        curves          for each run, how it did on held-out episodes in training: lists "updates", "steps", "seconds",
                        "score" and "survival"; null where that is not known, and for a rule
        flow_steps      as asked for, null for those of training
        interface       its own env_config keys: zones, observability, actions, balance, curtail_step
        metrics         name -> {"mean", "low", "high"}; low and high are null for a single episode; {} if all failed
        iqm             the same for interquartile means
        comparisons     other agent's name -> {"difference", "probability"}, each {"mean", "low", "high"}, of the score:
                        this agent's mean less the other's, and the probability that it does better in an episode
        episodes        list, one per episode played: run, episode, seed, scenario, start, end_reason, and each metric
        failed          list, one per episode without a result: run, episode, error

Metrics: survival (share of episodes; 0 or 1 in an episode), score, safety, cost, renewables, alive (each per step of a
full episode, in [0, 1], a step after a blackout counting 0), overload_steps, illegal_actions, dispatched_mwh and
curtailed_mwh (of an episode), steps, decision_ms (milliseconds for all zones together).
Intervals: see `rllib_mafql.evaluation.statistics`; of episodes that an agent has no result of in one of its runs, none
counts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.rollouts import EpisodeResult
from rllib_mafql.evaluation.settings import INTERFACE_KEYS
from rllib_mafql.evaluation.statistics import CONFIDENCE, RESAMPLES, Interval, compare, run_intervals, wilson_share

FORMAT = 2

# Metric of the results -> key of the environment's episode metrics or of the rollout's own.
METRICS = {
    "survival": "survived",
    "score": "score",
    "safety": "safety",
    "cost": "cost",
    "renewables": "renewables",
    "alive": "alive",
    "overload_steps": "overload_steps",
    "illegal_actions": "illegal_actions",
    "dispatched_mwh": "dispatched_mwh",
    "curtailed_mwh": "curtailed_mwh",
    "steps": "steps",
    "decision_ms": "decision_ms",
}


FOOTNOTE = (
    "Survival is the share of episodes played to their last step. The score and its four components are per step of a "
    "full episode, in [0, 1]; a step after a blackout counts 0. Brackets: 95 % bootstrap interval over episodes, and "
    "over training runs where an agent has several; IQM: the mean of the middle half. "
    "One decision is that of all zones together."
)


class Column(NamedTuple):
    """One column of the table: a metric (or "iqm", the score's), its heading and form, and whether with interval."""

    metric: str
    heading: str
    form: str
    interval: bool = False


COLUMNS = (
    Column("survival", "Survival", "{:.0%}"),
    Column("score", "Score [95 % interval]", "{:.3f}", interval=True),
    Column("iqm", "IQM", "{:.3f}"),
    Column("safety", "Safety", "{:.3f}"),
    Column("cost", "Cost", "{:.3f}"),
    Column("renewables", "Renewables", "{:.3f}"),
    Column("alive", "Alive", "{:.3f}"),
    Column("decision_ms", "ms/decision", "{:.2f}"),
)


def summarize(
    agents: Sequence[AgentSpec],
    results: Sequence[EpisodeResult],
    settings: Mapping[str, Any],
    base: Path,
    curves: Mapping[tuple[str, int], Any] | None = None,
) -> dict[str, Any]:
    """Put results into the form this module's docstring describes.

    Args:
        agents: those that played.
        results: their episodes.
        settings: the "settings" entry, but for what this function adds: confidence and resamples.
        base: directory that checkpoint paths are made relative to.
        curves: (name, run) -> `held_out_curve` of that run's checkpoint; None: of none.
    """
    runs: dict[str, list[AgentSpec]] = defaultdict(list)
    for agent in agents:
        runs[agent.name].append(agent)
    own = {name: [result for result in results if result.agent == name] for name in runs}
    tables = {name: _table(own[name], len(runs[name])) for name in runs}
    return {
        "format": FORMAT,
        "settings": {**settings, "confidence": CONFIDENCE, "resamples": RESAMPLES},
        "agents": {name: _summarize_agent(runs[name], own[name], name, tables, base, curves or {}) for name in runs},
    }


class _Table(NamedTuple):
    """Values (runs, episodes, metrics) of an agent, and the episodes' numbers: those that every run has a result of."""

    values: np.ndarray
    episodes: list[int]


def _table(results: Sequence[EpisodeResult], runs: int) -> _Table:
    values = {
        (result.run, result.episode): [float(result.metrics[key]) for key in METRICS.values()]
        for result in results
        if result.error is None
    }
    episodes = sorted({k for _, k in values})
    episodes = [k for k in episodes if all((run, k) in values for run in range(runs))]
    return _Table(np.array([[values[run, k] for k in episodes] for run in range(runs)]), episodes)


def _summarize_agent(
    runs: Sequence[AgentSpec],
    results: Sequence[EpisodeResult],
    name: str,
    tables: Mapping[str, _Table],
    base: Path,
    curves: Mapping[tuple[str, int], Any],
) -> dict[str, Any]:
    agent, table = runs[0], tables[name]
    means: dict[str, Interval] = {}
    middles: dict[str, Interval] = {}
    if table.episodes:
        intervals, of_middles = run_intervals(table.values)
        means, middles = dict(zip(METRICS, intervals, strict=True)), dict(zip(METRICS, of_middles, strict=True))
        survived = table.values[..., list(METRICS).index("survival")]
        means["survival"] = wilson_share(survived.ravel(), independent=len(table.episodes))
    return {
        "label": agent.label,
        "kind": agent.kind,
        "algorithm": agent.algorithm,
        "execution": agent.execution,
        "checkpoints": None
        if agent.checkpoint is None
        else [relative_path(run.checkpoint, base) for run in runs if run.checkpoint is not None],
        "curves": None if agent.checkpoint is None else [curves.get((name, run.run)) for run in runs],
        "flow_steps": agent.flow_steps,
        "interface": {key: agent.env_config[key] for key in INTERFACE_KEYS},
        "metrics": {metric: interval._asdict() for metric, interval in means.items()},
        "iqm": {metric: interval._asdict() for metric, interval in middles.items()},
        "comparisons": _comparisons(name, tables),
        "episodes": [
            {
                "run": result.run,
                "episode": result.episode,
                "seed": result.spec["seed"],
                **result.spec["options"],
                "end_reason": result.end_reason,
                **{metric: float(result.metrics[key]) for metric, key in METRICS.items()},
            }
            for result in results
            if result.error is None
        ],
        "failed": [
            {"run": result.run, "episode": result.episode, "error": result.error}
            for result in results
            if result.error is not None
        ],
    }


def _comparisons(name: str, tables: Mapping[str, _Table]) -> dict[str, Any]:
    """The score of an agent beside that of every other, on the episodes that both have."""
    score, own, found = list(METRICS).index("score"), tables[name], {}
    for other, table in tables.items():
        common = sorted(set(own.episodes) & set(table.episodes))
        if other == name or not common:
            continue
        columns = [[one.episodes.index(k) for k in common] for one in (own, table)]
        result = compare(own.values[:, columns[0], score], table.values[:, columns[1], score])
        found[other] = {key: interval._asdict() for key, interval in result._asdict().items()}
    return found


def relative_path(path: Path, base: Path) -> str:
    """`path` seen from `base`, both absolute, with forward slashes; climbs up with ".." where it must."""
    return Path(os.path.relpath(path, base)).as_posix()


def title(summary: Mapping[str, Any]) -> str:
    """One line saying what was played."""
    settings = summary["settings"]
    config = settings["env_config"]
    starts = {(e["scenario"], e["start"]) for agent in summary["agents"].values() for e in agent["episodes"]}
    repeated = f" from {len(starts)} different starts" if 0 < len(starts) < settings["episodes"] else ""
    parts = [
        f"{settings['grid']}, {config['scenarios']['split']} split",
        f"{settings['episodes']} episodes of up to {config['max_steps']} steps{repeated}",
        f"thermal limits x{config['thermal_limit_scale']:g}",
    ]
    if config["opponent"]:
        parts.append("opponent")
    if config["safety"]["level"] != "none":
        parts.append(f"actions projected onto what {config['safety']['level']} allow")
    return ", ".join(parts)


def cells(agent: Mapping[str, Any]) -> list[str]:
    """One agent's row: its label and every column's text; a dash where there is nothing to tell."""
    row = [agent["label"]]
    for column in COLUMNS:
        value = agent["iqm"].get("score") if column.metric == "iqm" else agent["metrics"].get(column.metric)
        if value is None:
            row.append("–")
            continue
        text = column.form.format(value["mean"])
        if column.interval and value["low"] is not None:
            text += f" [{column.form.format(value['low'])}, {column.form.format(value['high'])}]"
        row.append(text)
    return row


def rich_table(summary: Mapping[str, Any]) -> Table:
    """The results for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("Agent")
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", no_wrap=not column.interval)
    for agent in summary["agents"].values():
        table.add_row(*cells(agent), style="bold" if agent["kind"] == "learned" else None)
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """The results as a Markdown section with a table."""
    heading = ["Agent", *(column.heading for column in COLUMNS)]
    lines = [title(summary) + ".", "", _markdown_row(heading), "|:--|" + "--:|" * len(COLUMNS)]
    lines += [_markdown_row(cells(agent)) for agent in summary["agents"].values()]
    lines += [
        "",
        FOOTNOTE,
    ]
    failed = {agent["label"]: len(agent["failed"]) for agent in summary["agents"].values() if agent["failed"]}
    if failed:
        lines += ["", "Without a result: " + ", ".join(f"{n} of {label}" for label, n in failed.items()) + "."]
    return "\n".join(lines) + "\n"


def _markdown_row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
