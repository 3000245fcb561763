"""Samples of policies beside the dispatches that answer one state equally well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rllib_mafql.evaluation.modes import QP, State
from rllib_mafql.evaluation.style import LEARNED, LIMIT, RULE, house_style, save


def modes_figure(states: Sequence[State], labels: Mapping[str, str], file: Path) -> None:
    """A row for each state, a panel for each agent: its samples over the QP's dispatches.

    The two axes are the directions in which the QP's dispatches of that state differ most (principal components).

    Args:
        states: those to show.
        labels: agent -> what it is called; one panel each.
        file: PNG to write.
    """
    with house_style():
        size = (2.9 * len(labels) + 0.4, 2.9 * len(states) + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        rows = figure.subplots(len(states), len(labels), squeeze=False, sharex="row", sharey="row")
        for panels, state in zip(rows, states, strict=True):
            middle = state.dispatches.mean(0)
            axes = np.linalg.svd(state.dispatches - middle, full_matrices=False)[2][:2].T
            base = (state.dispatches - middle) @ axes
            for panel, (name, label) in zip(panels, labels.items(), strict=True):
                own = (state.samples[name] - middle) @ axes
                panel.scatter(*base.T, s=26, color=RULE, alpha=0.35, linewidths=0, label="QP, perturbed costs")
                panel.scatter(*own.T, s=12, color=RULE if name == QP else LEARNED, alpha=0.8, label="samples")
                panel.plot(*own.mean(0), marker="X", markersize=9, color=LIMIT, linestyle="none", label="their average")
                panel.set_title(f"{label}\ncoverage {state.measures[name]['coverage']:.0%}", fontsize=9.5)
            panels[0].set_ylabel(f"episode {state.episode}, step {state.step}\nsecond direction")
            reach = 1.35 * np.abs(base).max(0) + 1e-3
            panels[0].set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
        for panel in rows[-1]:
            panel.set_xlabel("first direction")
        handles, names = rows[0][-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=3)
        save(figure, file)
