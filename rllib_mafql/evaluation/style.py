"""One look for all figures: what colour means what, and how axes are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 150

# Okabe and Ito's palette, which people with colour-blindness can tell apart.
LEARNED = "#0072B2"
RULE = "#7F7F7F"
TRAINING = "#8DB9D9"
LIMIT = "#C1272D"
ZONES = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of this project's figures, inside the block only."""
    from matplotlib import rc_context

    with rc_context(_RC):
        yield


def zone_color(index: int) -> str:
    """Colour of the index-th zone, the same in every figure."""
    return ZONES[index % len(ZONES)]


def legend_below(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for the figure, below its panels, each label once."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=len(entries))


def save(figure: Figure, path: Path | IO[bytes]) -> None:
    """Write a figure as PNG, without any window system."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, facecolor="white", format="png")
