"""How agents came to what they can: held-out score against minutes of training, all runs of all learned agents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.figure import Figure

from rllib_mafql.evaluation.style import LEARNED, RULE, ZONES, house_style, save

#: Agents with a colour of their own, in the order in which they are given.
_COLORS = (LEARNED, *ZONES)


def curves_figure(summary: Mapping[str, Any], file: Path | IO[bytes], *, title: str) -> bool:
    """Draws the curves that an evaluation's agents have; False, and nothing is drawn, if they have none.

    Args:
        summary: see `rllib_mafql.evaluation.results`.
        file: PNG to write.
        title: above.
    """
    curves = {
        agent["label"]: [run for run in agent["curves"] if run is not None]
        for agent in summary["agents"].values()
        if agent.get("curves") and agent["execution"] != "centralized"
    }
    curves = {label: runs for label, runs in curves.items() if runs}
    if not curves:
        return False
    with house_style():
        figure = Figure(figsize=(9.5, 4.2), layout="constrained")
        ax = figure.subplots()
        for rank, (label, runs) in enumerate(curves.items()):
            color = _COLORS[rank] if rank < len(_COLORS) else RULE
            for run in runs:
                ax.plot(np.array(run["seconds"]) / 60.0, run["score"], color=color, linewidth=0.8, alpha=0.35)
            minutes, means = _mean(runs)
            ax.plot(minutes, means, color=color, linewidth=2.2, label=f"{label} ({len(runs)})")
        ax.set_xlabel("minutes of training on 2 cores, collecting and evaluating included")
        ax.set_ylabel("held-out score")
        ax.set_ylim(0.0, 1.0)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="agent (runs)")
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        save(figure, file)
    return True


def _mean(runs: list[Mapping[str, list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and mean score, at the evaluations that all runs had."""
    count = min(len(run["score"]) for run in runs)
    minutes, scores = (np.mean([run[name][:count] for run in runs], axis=0) for name in ("seconds", "score"))
    return minutes / 60.0, scores
