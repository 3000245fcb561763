"""Evaluation results as one JSON-able dict, and that dict as a table.

The keys below are stable::

    format          1; raised when a key changes its meaning
    settings        grid, env_config (shared by all agents), episodes, confidence, resamples, workers, wall_s
    agents          name -> one agent, in the order they were given:
        label           its name for people
        kind            "rule" or "learned"
        algorithm       RLlib algorithm's name, null for a rule
        execution       "decentralized", "centralized", null for a rule
        checkpoint      path relative to the directory the command ran in, null for a rule
        flow_steps      as asked for, null for those of training
        interface       its own env_config keys: zones, observability, actions, balance, curtail_step
        metrics         name -> {"mean", "low", "high"}; low and high are null for a single episode; {} if all failed
        episodes        list, one per episode played: episode, seed, scenario, start, end_reason, and each metric
        failed          list, one per episode without a result: episode, error

Metrics: survival (share of episodes; 0 or 1 in an episode), score, safety, cost, renewables, alive (each per step of a
full episode, in [0, 1], a step after a blackout counting 0), overload_steps, illegal_actions, steps, decision_ms
(milliseconds for all zones together).
Intervals: Wilson's for survival, the percentile bootstrap over episodes for the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.rollouts import EpisodeResult
from rllib_mafql.evaluation.settings import INTERFACE_KEYS
from rllib_mafql.evaluation.statistics import CONFIDENCE, RESAMPLES, bootstrap_mean, wilson_share

FORMAT = 1

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
    "steps": "steps",
    "decision_ms": "decision_ms",
}


FOOTNOTE = (
    "Survival is the share of episodes played to their last step. The score and its four components are per step of a "
    "full episode, in [0, 1]; a step after a blackout counts 0. Brackets: 95 % bootstrap interval over episodes. "
    "One decision is that of all zones together."
)


class Column(NamedTuple):
    """One column of the table: a metric's heading, how its value is written, and whether its interval is."""

    metric: str
    heading: str
    form: str
    interval: bool = False


COLUMNS = (
    Column("survival", "Survival", "{:.0%}"),
    Column("score", "Score [95 % interval]", "{:.3f}", interval=True),
    Column("safety", "Safety", "{:.3f}"),
    Column("cost", "Cost", "{:.3f}"),
    Column("renewables", "Renewables", "{:.3f}"),
    Column("alive", "Alive", "{:.3f}"),
    Column("decision_ms", "ms/decision", "{:.2f}"),
)


def summarize(
    agents: Sequence[AgentSpec], results: Sequence[EpisodeResult], settings: Mapping[str, Any], base: Path
) -> dict[str, Any]:
    """Put results into the form this module's docstring describes.

    Args:
        agents: those that played.
        results: their episodes.
        settings: the "settings" entry, but for what this function adds: confidence and resamples.
        base: directory that checkpoint paths are made relative to.
    """
    return {
        "format": FORMAT,
        "settings": {**settings, "confidence": CONFIDENCE, "resamples": RESAMPLES},
        "agents": {
            agent.name: _summarize_agent(agent, [r for r in results if r.agent == agent.name], base) for agent in agents
        },
    }


def _summarize_agent(agent: AgentSpec, results: Sequence[EpisodeResult], base: Path) -> dict[str, Any]:
    played = [result for result in results if result.error is None]
    values = {metric: [float(result.metrics[key]) for result in played] for metric, key in METRICS.items()}
    return {
        "label": agent.label,
        "kind": agent.kind,
        "algorithm": agent.algorithm,
        "execution": agent.execution,
        "checkpoint": None if agent.checkpoint is None else relative_path(agent.checkpoint, base),
        "flow_steps": agent.flow_steps,
        "interface": {key: agent.env_config[key] for key in INTERFACE_KEYS},
        "metrics": {
            metric: (wilson_share(own) if metric == "survival" else bootstrap_mean(own))._asdict()
            for metric, own in values.items()
            if own
        },
        "episodes": [
            {
                "episode": result.episode,
                "seed": result.spec["seed"],
                **result.spec["options"],
                "end_reason": result.end_reason,
                **{metric: values[metric][i] for metric in METRICS},
            }
            for i, result in enumerate(played)
        ],
        "failed": [{"episode": r.episode, "error": r.error} for r in results if r.error is not None],
    }


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
        value = agent["metrics"].get(column.metric)
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
