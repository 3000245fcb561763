"""Learning curves of a training run, from the metrics that Ray Tune wrote beside its checkpoints."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from rllib_mafql.evaluation.style import LEARNED, RULE, TRAINING, house_style, legend_below, save, zone_color

Row = dict[str, float]

STEPS = "num_env_steps_sampled_lifetime"
ITERATION = "training_iteration"
UPDATES = "num_learner_updates"  # MAFQL's: it also learns while no steps are sampled
AXES = {UPDATES: "learner updates", STEPS: "environment steps", ITERATION: "training iterations"}
_DASHES = (":", "--", "-.", (0, (8, 3)), (0, (1, 4)))


class Panel(NamedTuple):
    """One panel: its title, its unit, and the metrics in it; "*" in a metric stands for every module that has it."""

    title: str
    unit: str
    metrics: tuple[tuple[str, str], ...]  # metric, legend label; "" labels lines by module
    percent: bool = False
    result: str | None = None  # the metric of evaluation results that is measured on the same scale


_TRAINED_AND_HELD_OUT = (("env_runners/{}", "training"), ("evaluation/env_runners/{}", "held-out evaluation"))


def _outcome(title: str, unit: str, metric: str, percent: bool = False, result: str | None = None) -> Panel:
    lines = tuple((path.format(metric), label) for path, label in _TRAINED_AND_HELD_OUT)
    return Panel(title, unit, lines, percent, result)


def _loss(title: str, metric: str, unit: str = "loss") -> Panel:
    return Panel(title, unit, ((f"learners/*/{metric}", ""),))


PANELS = (
    _outcome("Survival", "share of episodes", "survived", percent=True, result="survival"),
    _outcome("Composite score", "per step of a full episode", "score", result="score"),
    _outcome("Episode return", "sum of rewards", "episode_return_mean"),
    # MAFQL
    _loss("Flow matching", "flow_matching_loss", "squared error"),
    _loss("Distillation", "distillation_loss", "squared error"),
    _loss("Behaviour cloning", "bc_loss", "squared error"),
    _loss("Conservative Q-learning: TD error", "td_loss", "squared error"),
    _loss("Conservative Q-learning: penalty", "conservative_loss", "Q of sampled - recorded"),
    _loss("Mean Q of recorded actions", "q_mean", "discounted return"),
    # RLlib's own algorithms
    _loss("Policy loss", "policy_loss"),
    _loss("Value loss", "vf_loss"),
    _loss("Q loss", "qf_loss"),
    _loss("Mean Q", "qf_mean", "discounted return"),
    _loss("Entropy", "entropy", "nats"),
    _loss("Temperature", "alpha_value", "alpha"),
)


def trial_folder(checkpoint: Path) -> Path | None:
    """The Tune trial that a checkpoint belongs to: the nearest folder above it with metrics; None without one."""
    for folder in list(checkpoint.resolve().parents)[:2]:
        if (folder / "result.json").is_file() or (folder / "progress.csv").is_file():
            return folder
    return None


def read_progress(trial: Path) -> list[Row]:
    """The metrics of every training iteration, nested names joined by "/" as in progress.csv; numbers only.

    Tune's result.json is read where there is one: progress.csv has only the columns of its first row, so it may lack
    those of evaluation.

    Raises:
        FileNotFoundError: the folder holds neither file.
    """
    if (trial / "result.json").is_file():
        with (trial / "result.json").open(encoding="utf-8") as file:
            return parse_results(file)
    if (trial / "progress.csv").is_file():
        with (trial / "progress.csv").open(newline="", encoding="utf-8") as file:
            return [
                {key: number for key, text in row.items() if (number := _number(text)) is not None}
                for row in csv.DictReader(file)
            ]
    raise FileNotFoundError(f"{trial} has neither result.json nor progress.csv")


def parse_results(lines: Iterable[str]) -> list[Row]:
    """The metrics in lines of result.json, nested names joined by "/"; numbers only."""
    return [_fresh(_flat(json.loads(line))) for line in lines if line.strip()]


def _fresh(row: Row) -> Row:
    """The row without an evaluation that RLlib carried over from the iteration before."""
    if row.get(ITERATION, 0.0) % (row.get("config/evaluation_interval") or 1.0) == 0:
        return row
    return {key: value for key, value in row.items() if not key.startswith("evaluation/")}


def _flat(nested: dict, prefix: str = "") -> Row:
    flat: Row = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[prefix + key] = float(value)
    return flat


def held_out_curve(checkpoint: Path) -> dict[str, list[float]] | None:
    """How a run did on held-out episodes while it was trained, told by what Ray Tune wrote beside its checkpoint.

    Returns:
        "updates" (learner updates, 0 where there are none), "steps" (environment steps), "seconds" (of training, from
        its start), "score" and "survival", one value for each evaluation; None where nothing is told.
    """
    trial = trial_folder(checkpoint)
    keys = {
        "updates": UPDATES,
        "steps": STEPS,
        "seconds": "time_total_s",
        "score": "evaluation/env_runners/score",
        "survival": "evaluation/env_runners/survived",
    }
    rows = [] if trial is None else [row for row in read_progress(trial) if keys["score"] in row]
    if not rows:
        return None
    return {name: [round(row.get(key, 0.0), 4) for row in rows] for name, key in keys.items()}


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def series(rows: Sequence[Row], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) and values (n,) of a metric, where it was reported and is finite.

    Steps are those of `x_axis`.
    """
    x_key = x_axis(rows)
    points = [
        (row[x_key], row[metric]) for row in rows if x_key in row and metric in row and math.isfinite(row[metric])
    ]
    return (np.array([x for x, _ in points]), np.array([y for _, y in points]))


def x_axis(rows: Sequence[Row]) -> str:
    """Learner updates where they are told, else environment steps if they grow, else training iterations."""
    if any(UPDATES in row for row in rows):
        return UPDATES
    steps = [row[STEPS] for row in rows if STEPS in row]
    return STEPS if (len(steps) > 1 and steps[-1] > steps[0]) or (len(rows) == 1 and steps) else ITERATION


def learning_curves(
    rows: Sequence[Row], path: Path, *, title: str, references: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Draw outcome and losses against steps, every panel for which there are numbers.

    Args:
        rows: from `read_progress`.
        path: PNG to write.
        title: above the panels.
        references: label -> {"survival": ..., "score": ...} of agents to draw as level lines, such as the dispatchers.

    Raises:
        ValueError: none of the known metrics is in `rows`.
    """
    lines = {panel: _lines(panel, rows) for panel in PANELS}
    panels = [panel for panel in PANELS if lines[panel]]
    if any(panel.title == "Composite score" for panel in panels):  # the return is the score times the episode's length
        panels = [panel for panel in panels if panel.title != "Episode return"]
    if not panels:
        raise ValueError("no known metric in the training run's results; nothing to draw")
    columns = min(len(panels), 3 if len(panels) in (3, 5, 6, 9) else 4)
    grid_rows = math.ceil(len(panels) / columns)
    with house_style():
        figure = Figure(figsize=(4.1 * columns, 3.0 * grid_rows + 0.7), layout="constrained")
        axes = figure.subplots(grid_rows, columns, squeeze=False).flatten()
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, panel, lines[panel])
            _draw_references(ax, panel, references or {})
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.set_xlabel(AXES[x_axis(rows)])
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        legend_below(figure, list(axes[: len(panels)]))
        save(figure, path)


def _lines(panel: Panel, rows: Sequence[Row]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(label, steps, values) of every line of a panel that has values."""
    keys = {key for row in rows for key in row}
    found = []
    for metric, label in panel.metrics:
        pattern = re.compile(re.escape(metric).replace(r"\*", "([^/]+)"))
        for key in sorted(keys):
            match = pattern.fullmatch(key)
            if match:
                x, y = series(rows, key)
                if len(x):
                    found.append((label or match.group(1), x, y))
    return found


def _draw(ax: Axes, panel: Panel, lines: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    ax.set_title(panel.title)
    ax.set_ylabel(panel.unit)
    for label, x, y in lines:
        ax.plot(x, y, label=_legend(label), color=_color(label), marker="o" if len(x) < 25 else None, markersize=3.5)
    if panel.unit == "squared error" and all((y > 0).all() for _, _, y in lines):
        ax.set_yscale("log")
    if panel.percent:
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_references(ax: Axes, panel: Panel, references: Mapping[str, Mapping[str, float]]) -> None:
    for i, (label, metrics) in enumerate(references.items()):
        if panel.result is not None and panel.result in metrics:
            ax.axhline(
                metrics[panel.result], color=RULE, linestyle=_DASHES[i % len(_DASHES)], linewidth=1.4, label=label
            )


def _color(label: str) -> str:
    number = re.fullmatch(r"zone_(\d+)", label)
    if number:
        return zone_color(int(number.group(1)))
    return {"training": TRAINING, "held-out evaluation": LEARNED}.get(label, "#444444")


def _legend(label: str) -> str:
    return label if label in ("training", "held-out evaluation") or label.startswith("zone_") else f"_{label}"
