"""One held-out episode as a grid engineer sees it: the highest line loading, and what each zone dispatched for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from rllib_mafql.evaluation.rollouts import EpisodeResult, Trace
from rllib_mafql.evaluation.style import LEARNED, LIMIT, RULE, house_style, save, zone_color


def choose_episode(reference: Sequence[EpisodeResult], agent: Sequence[EpisodeResult]) -> int | None:
    """The number of the episode worth drawing, None if the two have none in common.

    It is the first that `agent` survives and `reference` does not, else the first the reference loses, else the first.
    """
    own = {result.episode: result for result in agent if result.trace is not None}
    both = [result for result in reference if result.trace is not None and result.episode in own]
    lost = [result.episode for result in both if not result.metrics["survived"]]
    saved = [k for k in lost if own[k].metrics["survived"]]
    return next(iter([*saved, *lost, *(result.episode for result in both)]), None)


def episode_figure(
    path: Path,
    *,
    reference: tuple[str, EpisodeResult],
    agent: tuple[str, EpisodeResult],
    grid: str,
) -> None:
    """Draw one episode of two agents.

    Args:
        path: PNG to write.
        reference: label and result of the agent drawn in grey, do-nothing.
        agent: label and result of the agent drawn in colour; the same episode.
        grid: its name, for the title.
    """
    (old_label, old), (new_label, new) = reference, agent
    if old.trace is None or new.trace is None:
        raise ValueError("an episode can be drawn of results with a trace only")
    zones = list(new.trace.raised_mw)
    with house_style():
        figure = Figure(figsize=(11, 3.6 + 1.35 * len(zones)), layout="constrained")
        axes = figure.subplots(1 + len(zones), 1, sharex=True, height_ratios=[2.6] + [1.0] * len(zones))
        _draw_loading(axes[0], old_label, old, new_label, new)
        limits = _common_limits(
            [values for t in (old.trace, new.trace) for d in (t.raised_mw, t.lowered_mw) for values in d.values()]
        )
        for i, zone in enumerate(zones):
            _draw_zone(axes[i + 1], zone, zone_color(i), old.trace, new.trace)
            axes[i + 1].set_ylim(*limits)
            if not old.metrics["survived"]:
                axes[i + 1].axvline(_end(old), color=RULE, linestyle=":", linewidth=1.4)
        axes[1].set_title(
            "Dispatch of each zone: MW above (up) and below (down) schedule, redispatch, curtailment and storage"
        )
        _draw_clock(axes[-1], new.trace, span=max(_end(old), _end(new)))
        day = datetime.fromisoformat(new.trace.start)
        figure.suptitle(
            f"{grid}, held-out episode {new.episode} ({day:%A} {day.day} {day:%B}, from {day:%H:%M})",
            x=0.01, ha="left", fontweight="bold", fontsize=13,
        )  # fmt: skip
        save(figure, path)


def _draw_loading(ax: Axes, old_label: str, old: EpisodeResult, new_label: str, new: EpisodeResult) -> None:
    ax.axhline(100, color=LIMIT, linestyle="--", linewidth=1.4, label="thermal limit")
    tops = []
    for label, result, color in ((old_label, old, RULE), (new_label, new, LEARNED)):
        trace = result.trace
        assert trace is not None
        loading = 100 * trace.rho_max
        ax.plot(_hours(trace), loading, color=color, label=label)
        tops.append(float(loading.max()))
        if not result.metrics["survived"]:
            _mark_blackout(ax, label, _end(result), float(loading[-1]), color, height=8 if result is old else 44)
    ax.set_ylim(0, min(max(*tops, 100.0) * 1.12, 250))
    ax.set_ylabel("highest line loading\n(% of thermal limit)")
    ax.set_title("Most loaded line of the grid")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=3)


def _mark_blackout(ax: Axes, label: str, hour: float, loading: float, color: str, *, height: float) -> None:
    ax.axvline(hour, color=color, linestyle=":", linewidth=1.4)
    ax.plot([hour], [min(loading, 245)], marker="X", markersize=10, color=color, markeredgecolor="white", zorder=5)
    early = hour < 4  # the text goes to the side where there is room
    minutes = round(60 * hour)
    ax.annotate(
        f"{label}: blackout\nafter {minutes // 60} h {minutes % 60:02d} min",
        xy=(hour, 0),
        xycoords=("data", "axes fraction"),
        xytext=(7 if early else -7, height),
        textcoords="offset points",
        ha="left" if early else "right",
        va="bottom",
        color="#555555",
        fontsize=9.5,
    )


def _draw_zone(ax: Axes, zone: str, color: str, old: Trace, new: Trace) -> None:
    ax.axhline(0, color="#999999", linewidth=0.8)
    for values in (new.raised_mw[zone], new.lowered_mw[zone]):
        ax.fill_between(_hours(new), 0, values, color=color, alpha=0.35, linewidth=0)
        ax.plot(_hours(new), values, color=color, linewidth=1.4)
    for values in (old.raised_mw[zone], old.lowered_mw[zone]):
        ax.plot(_hours(old), values, color=RULE, linewidth=1.4)
    ax.set_ylabel(f"{zone}\n(MW)")


def _draw_clock(ax: Axes, trace: Trace, span: float) -> None:
    start = datetime.fromisoformat(trace.start)
    offset = start.hour + start.minute / 60
    step = next((s for s in (0.25, 0.5, 1, 2, 3, 6, 12) if span / s <= 10), 24)

    def clock(hour: float, _: int) -> str:
        minutes = round(60 * (hour + offset)) % (24 * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"

    ax.set_xlim(0, span * 1.01)
    ax.xaxis.set_major_locator(FixedLocator(np.arange(-(offset % step) % step, span * 1.01, step).tolist()))
    ax.xaxis.set_major_formatter(FuncFormatter(clock))
    ax.set_xlabel("time of day")


def _hours(trace: Trace) -> np.ndarray:
    """(T,) hours since the episode's start."""
    return np.arange(len(trace.rho_max)) * trace.step_minutes / 60


def _end(result: EpisodeResult) -> float:
    """Hours from the episode's start to its last step, in which the grid went down or the episode was complete."""
    assert result.trace is not None
    return result.metrics["steps"] * result.trace.step_minutes / 60


def _common_limits(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    room = 0.1 * max(high - low, 10.0)
    return min(low - room, -room), max(high + room, room)
