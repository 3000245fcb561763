"""Agents beside each other: scores with their intervals, and performance profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.figure import Figure

from rllib_mafql.evaluation.style import LEARNED, RULE, ZONES, house_style, save

#: Agents with a colour of their own in the profiles, from the best one on; the others are grey.
_COLORS = (LEARNED, *ZONES[:3], ZONES[4])


def comparison_figure(summary: Mapping[str, Any], file: Path | IO[bytes], *, title: str) -> None:
    """Draw the scores of all agents that have results.

    Args:
        summary: see `rllib_mafql.evaluation.results`.
        file: PNG to write.
        title: above both panels.
    """
    agents = [agent for agent in summary["agents"].values() if agent["metrics"]]
    agents.sort(key=lambda agent: -agent["metrics"]["score"]["mean"])
    with house_style():
        figure = Figure(figsize=(11.0, 2.4 + 0.36 * len(agents)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        for row, agent in enumerate(agents):
            score, middle = agent["metrics"]["score"], agent["iqm"]["score"]
            color = RULE if agent["kind"] == "rule" else LEARNED
            if score["low"] is not None:
                left.barh(row, score["high"] - score["low"], left=score["low"], height=0.55, color=color, alpha=0.35)
            left.plot([score["mean"]] * 2, [row - 0.275, row + 0.275], color=color, linewidth=2.5)
            left.plot(middle["mean"], row, marker="o", color=color, markerfacecolor="white", markersize=5)
        left.use_sticky_edges = False
        left.set_yticks(range(len(agents)), [agent["label"] for agent in agents])
        left.invert_yaxis()
        left.grid(axis="y", visible=False)
        left.set_xlabel("score: mean (line) with 95 % interval, interquartile mean (ring)")
        left.set_title("Score of an episode")
        _profiles(right, agents)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        save(figure, file)


def _profiles(ax: Any, agents: list[dict[str, Any]]) -> None:
    """Share of episodes with a score above tau, as a function of tau (Agarwal et al., NeurIPS 2021)."""
    scores = {agent["label"]: np.sort([episode["score"] for episode in agent["episodes"]]) for agent in agents}
    for rank, (label, own) in enumerate(scores.items()):
        named = rank < len(_COLORS)
        style: Any = {"color": _COLORS[rank] if named else RULE, "linewidth": 2.4 if rank == 0 else 1.6}
        style |= {"alpha": 1.0 if named else 0.5, "zorder": 3 - 0.1 * rank, "label": label if named else None}
        least = min(values[0] for values in scores.values())
        ax.stairs(1.0 - np.arange(len(own) + 2)[:-1] / len(own), [least - 0.02, *own, 1.0], baseline=None, **style)
    ax.set_xlabel("score \N{GREEK SMALL LETTER TAU}")
    ax.set_ylabel("share of episodes above \N{GREEK SMALL LETTER TAU}")
    ax.set_ylim(-0.02, 1.04)
    ax.set_title("Performance profiles")
    ax.legend(loc="lower left")
