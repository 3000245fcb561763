"""Learning curves of the trials of a search, the best in front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from rllib_mafql.evaluation.curves import AXES, Row, x_axis
from rllib_mafql.evaluation.style import LEARNED, RULE, ZONES, house_style, save

#: The best trials that have colours and names of their own; the others are grey.
NAMED = 5
_COLORS = (LEARNED, *ZONES[:3], ZONES[4])
_RESTORED: Any = {"marker": "D", "markersize": 6, "markerfacecolor": "white", "linestyle": "none"}


class TrialCurve(NamedTuple):
    """One trial."""

    label: str
    results: Sequence[Row]  # of all iterations, in the order in which they came in
    scored: bool  # whether it has a value of the metric, without which it is not named


def trial_curves(trials: Sequence[TrialCurve], file: Path | IO[bytes], *, metric: str, title: str) -> None:
    """Draw a metric of all trials.

    Args:
        trials: from best to worst.
        file: PNG to write.
        metric: its path, such as evaluation/env_runners/episode_return_mean.
        title: above the curves.
    """
    steps = x_axis([row for trial in trials for row in trial.results])
    parts = [_parts(trial.results, steps, metric) for trial in trials]
    named = sum(trial.scored for trial in trials[:NAMED])
    legend: list[Line2D] = []
    with house_style():
        figure = Figure(figsize=(9.0, 4.4 + 0.15 * named), layout="constrained")
        ax = figure.subplots()
        for rank, (trial, lines) in enumerate(zip(trials, parts, strict=True)):
            own, best = rank < named, rank == 0
            color, width = (_COLORS[rank], 2.8 if best else 1.6) if own else (RULE, 1.0)
            style: Any = {"color": color, "linewidth": width, "alpha": 1.0 if own else 0.4}
            above = len(trials) - rank
            for x, y in lines:
                ax.plot(x, y, marker="o" if own and len(x) < 25 else None, markersize=3.5, zorder=2 + above, **style)
            for x, y in lines[1:]:
                ax.plot(x[0], y[0], **_RESTORED, markeredgecolor=color, zorder=2.5 + above)
            if own:
                legend.append(Line2D([], [], label=f"best: {trial.label}" if best else trial.label, **style))
        if len(trials) > named:
            label = f"{len(trials) - named} more" if named else "trials"
            legend.append(Line2D([], [], color=RULE, linewidth=1.0, alpha=0.6, label=label))
        if any(len(lines) > 1 for lines in parts):
            legend.append(Line2D([], [], **_RESTORED, markeredgecolor=RULE, label="goes on from a checkpoint"))
        figure.legend(handles=legend, loc="outside lower left")
        ax.set_title(title)
        ax.set_ylabel(metric)
        ax.set_xlabel(AXES[steps])
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        save(figure, file)


def _parts(results: Sequence[Row], steps: str, metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(steps, values) of each part of a trial between two restorations."""
    parts: list[list[tuple[float, float]]] = [[]]
    begun = 0.0
    for row in results:
        since = row.get("iterations_since_restore", 0.0)
        if since <= begun and parts[-1]:
            parts.append([])
        begun = since
        if steps in row and np.isfinite(row.get(metric, np.nan)):
            parts[-1].append((row[steps], row[metric]))
    return [(np.array([x for x, _ in part]), np.array([y for _, y in part])) for part in parts if part]
