"""What an ablation showed: each variant's score less that of the whole, beside what was expected."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rllib_mafql.evaluation.ablations import ABLATIONS, BASE
from rllib_mafql.evaluation.style import LEARNED, RULE, house_style, save


class Row(NamedTuple):
    """One variant beside the whole."""

    name: str
    label: str
    expected: str
    score: float
    survival: float
    difference: float
    low: float | None
    high: float | None
    found: str  # "lower", "higher", or "same" where the interval holds 0


def rows(summary: Mapping[str, Any]) -> Iterator[Row]:
    """The variants in a summary of `rllib_mafql.evaluation.results`, as `mafql ablate` evaluates them."""
    for name, agent in summary["agents"].items():
        if name == BASE or not agent["metrics"] or BASE not in agent["comparisons"]:
            continue
        difference, low, high = agent["comparisons"][BASE]["difference"].values()
        found = "same" if low is None or low <= 0.0 <= high else "lower" if high < 0.0 else "higher"
        score, survival = (agent["metrics"][metric]["mean"] for metric in ("score", "survival"))
        yield Row(name, agent["label"], ABLATIONS[name].expected, score, survival, difference, low, high, found)


def markdown(summary: Mapping[str, Any]) -> str:
    """A table of the variants."""
    lines = [
        "| Variant | Survival | Score | Score less MAFQL's [95 % interval] | Expected | Found |",
        "|:--|--:|--:|--:|:--|:--|",
    ]
    whole = summary["agents"][BASE]["metrics"]
    lines.append(f"| MAFQL | {whole['survival']['mean']:.0%} | {whole['score']['mean']:.3f} | | | |")
    for row in rows(summary):
        interval = "" if row.low is None else f" [{row.low:+.3f}, {row.high:+.3f}]"
        lines.append(
            f"| {row.label} | {row.survival:.0%} | {row.score:.3f} | {row.difference:+.3f}{interval} "
            f"| {row.expected} | {row.found} |"
        )
    return "\n".join(lines) + "\n"


def figure(summary: Mapping[str, Any], file: Path | IO[bytes], *, title: str) -> None:
    """Draw the differences with their intervals; PNG."""
    shown = list(rows(summary))
    with house_style():
        canvas = Figure(figsize=(8.5, 1.75 + 0.3 * len(shown)), layout="constrained")
        ax = canvas.subplots()
        for place, row in enumerate(shown):
            color = RULE if row.found == "same" else LEARNED
            if row.low is not None and row.high is not None:
                ax.plot([row.low, row.high], [place, place], color=color, linewidth=5, alpha=0.4, solid_capstyle="butt")
            ax.plot(row.difference, place, marker="o", color=color)
        ax.axvline(0.0, color="#555555", linewidth=1.0)
        ax.set_yticks(range(len(shown)), [row.label for row in shown])
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(5))  # labels of variants leave little room
        ax.set_xlabel("score less MAFQL's, with 95 % interval\n(grey: the interval holds 0)")
        canvas.suptitle(textwrap.fill(title, 100), fontsize=10, x=0.01, ha="left")
        save(canvas, file)
