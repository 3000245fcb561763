"""Which part of the recorded series is trained on and which is held out, and how episodes are drawn from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)

#: Five-minute steps of a day, the unit in which series are cut.
DAY = 288

#: Drawn episodes can last this long at least, wherever the part is long enough.
MIN_DRAWN_STEPS = 96

#: Seeds of numbered episodes start here, away from the small seeds that people give.
SPEC_SEED = 10_000

#: Step of a low-discrepancy sequence that spreads the starts of numbered episodes.
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Segment:
    """Rows ``first`` to ``last``, both included, of one series. An episode from ``start`` lasts at most last - start
    steps.
    """

    series: int
    first: int
    last: int

    @property
    def steps(self) -> int:
        return self.last - self.first


def split_series(rows: Sequence[int], split: str) -> list[Segment]:
    """Cut series of the given numbers of rows into the segments of a split.

    The test set is the last day of each series where all series have two days or more; otherwise, of two series or
    more, the last quarter of them, rounded, at least one; otherwise the last third of the only series. Train and test
    share no row.

    Args:
        rows: Rows of each series.
        split: ``train``, ``test`` or ``all``.

    Raises:
        ValueError: A series is too short to be cut.
    """
    if min(rows) < 4:
        raise ValueError(f"env_config.scenarios: a series needs at least 4 steps, one has {min(rows)}")
    whole = [Segment(k, 0, n - 1) for k, n in enumerate(rows)]
    if split == "all":
        return whole
    if min(rows) >= 2 * DAY:
        cuts = [n - DAY for n in rows]
    elif len(rows) >= 2:
        held_out = max(1, round(len(rows) / 4))
        return whole[:-held_out] if split == "train" else whole[-held_out:]
    else:
        cuts = [2 * rows[0] // 3]
        logger.warning("only one series of %d steps: its last third is the test set, so episodes are shorter", rows[0])
    if split == "train":
        return [Segment(k, 0, cut - 1) for k, cut in enumerate(cuts)]
    return [Segment(k, cut, n - 1) for k, (cut, n) in enumerate(zip(cuts, rows, strict=True))]


@dataclass(frozen=True)
class Episode:
    """A series, the row of the first observation, and the steps until the episode is truncated."""

    series: int
    start: int
    steps: int


class Scenarios:
    """The episodes of one split.

    Args:
        rows: Rows of each series.
        split: ``train``, ``test`` or ``all``.
        max_steps: Longest episode.
    """

    def __init__(self, rows: Sequence[int], split: str, max_steps: int) -> None:
        self.segments = split_series(rows, split)
        self.split, self.max_steps = split, max_steps
        # a drawn start leaves this many steps of its segment
        self._least = [min(max_steps, MIN_DRAWN_STEPS, segment.steps) for segment in self.segments]
        starts = np.array(
            [segment.steps - least + 1 for segment, least in zip(self.segments, self._least, strict=True)]
        )
        self._share = starts / starts.sum()

    def draw(self, rng: np.random.Generator) -> Episode:
        """An episode at random; every start that leaves min(max_steps, 96) steps is equally likely."""
        k = int(rng.choice(len(self.segments), p=self._share))
        segment = self.segments[k]
        return self.at(segment.series, int(rng.integers(segment.first, segment.last - self._least[k] + 1)))

    def numbered(self, k: int) -> tuple[int, Episode]:
        """Seed and episode number ``k``: cycles through the series, as long as max_steps where the data allow."""
        segment = self.segments[k % len(self.segments)]
        starts = max(segment.steps - self.max_steps, 0) + 1
        offset = int((k // len(self.segments)) * _GOLDEN % 1.0 * starts)
        return SPEC_SEED + k, self.at(segment.series, segment.first + offset)

    def at(self, series: int, start: int) -> Episode:
        """The episode from row ``start`` of a series.

        Raises:
            ValueError: The split has no such row, or no step is left after it.
        """
        for segment in self.segments:
            if segment.series == series and segment.first <= start < segment.last:
                return Episode(series, start, min(self.max_steps, segment.last - start))
        ranges = ", ".join(f"scenario {s.series}: start {s.first} to {s.last - 1}" for s in self.segments)
        raise ValueError(
            f"options: the split {self.split!r} has no scenario {series} with start {start}; it has {ranges}"
        )

    def pinned(self, series: int | None, start: int | None, rng: np.random.Generator) -> Episode:
        """The drawn episode, with its series, its start or both replaced by the given ones. Raises as ``at`` does."""
        if series is not None and start is not None:
            return self.at(series, start)
        if series is not None:
            options = [k for k, segment in enumerate(self.segments) if segment.series == series]
            if not options:
                return self.at(series, -1)
            segment = self.segments[options[0]]
            return self.at(series, int(rng.integers(segment.first, segment.last - self._least[options[0]] + 1)))
        if start is not None:
            raise ValueError("options: 'start' needs 'scenario', since starts belong to a series")
        return self.draw(rng)
