"""Samples of policies beside the dispatches that answer one state equally well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.figure import Figure

from rllib_mafql.evaluation.modes import QP, State
from rllib_mafql.evaluation.style import LEARNED, LIMIT, RULE, house_style, save


def shown_state(state: State) -> dict[str, Any]:
    """What the figure needs of a state, as JSON: points in the two directions in which its dispatches differ most.

    These directions are the dispatches' principal components; all points are relative to their mean.
    """
    middle = state.dispatches.mean(0)
    axes = np.linalg.svd(state.dispatches - middle, full_matrices=False)[2][:2].T
    return {
        "episode": state.episode,
        "step": state.step,
        "dispatches": _points(state.dispatches - middle, axes),
        "samples": {name: _points(samples - middle, axes) for name, samples in state.samples.items()},
        "coverage": {name: round(measures["coverage"], 4) for name, measures in state.measures.items()},
    }


def _points(vectors: np.ndarray, axes: np.ndarray) -> list[list[float]]:
    return np.round(vectors @ axes, 4).tolist()


def modes_figure(summary: Mapping[str, Any], file: Path | IO[bytes], *, title: str) -> None:
    """A row for each state that is shown, a panel for each agent: its samples over the QP's dispatches.

    Args:
        summary: what `mafql modes --json` writes.
        file: PNG to write.
        title: above the panels.
    """
    states, agents = summary["shown"], summary["agents"]
    with house_style():
        figure = Figure(figsize=(2.9 * len(agents) + 0.4, 2.9 * len(states) + 1.0), layout="constrained")
        rows = figure.subplots(len(states), len(agents), squeeze=False, sharex="row", sharey="row")
        for panels, state in zip(rows, states, strict=True):
            base = np.array(state["dispatches"])
            for panel, (name, agent) in zip(panels, agents.items(), strict=True):
                own = np.array(state["samples"][name])
                panel.scatter(*base.T, s=26, color=RULE, alpha=0.35, linewidths=0, label="QP, perturbed costs")
                panel.scatter(*own.T, s=12, color=RULE if name == QP else LEARNED, alpha=0.8, label="samples")
                panel.plot(*own.mean(0), marker="X", markersize=9, color=LIMIT, linestyle="none", label="their average")
                panel.set_title(f"{agent['label']}\ncoverage {state['coverage'][name]:.0%}", fontsize=9.5)
            panels[0].set_ylabel(f"episode {state['episode']}, step {state['step']}\nsecond direction")
            reach = 1.35 * np.abs(base).max(0) + 1e-3
            panels[0].set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
        for panel in rows[-1]:
            panel.set_xlabel("first direction")
        handles, names = rows[0][-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=3)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        save(figure, file)
