"""Which part of the series is trained on and which is held out, and how episodes are drawn from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

#: Five-minute steps of a day, the unit in which series are cut.
DAY = 288

#: Of this many series or more, whole ones are held out: every fourth.
MANY_SERIES = 8
HELD_OUT_EVERY, HELD_OUT_PLACE = 4, 2

#: How the files of generated weeks end.
WEEK_SUFFIX = ".week.npz"

#: Drawn episodes can last this long at least, wherever the part is long enough.
MIN_DRAWN_STEPS = 96

#: Rows before a planned outage in which the episodes drawn for it begin: 4 hours, as far as zones see it come.
NOTICE = 48

#: Seeds of numbered episodes start here, away from the small seeds that people give.
SPEC_SEED = 10_000

#: Step of a low-discrepancy sequence that spreads the starts of numbered episodes.
_GOLDEN = 0.6180339887498949

#: Another one, of the starts within one generated week, where the first spreads the weeks' first starts.
_SILVER = 0.41421356237309515


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


def held_out_series(count: int) -> list[int]:
    """Which of ``count`` series, ordered by name, are the test set where whole ones are held out.

    Of MANY_SERIES or more every fourth, from the third on, so that the year is covered by both parts; of fewer the last
    quarter, rounded, at least one. Of one series it is the only one.
    """
    if count >= MANY_SERIES:
        return list(range(HELD_OUT_PLACE, count, HELD_OUT_EVERY))
    return list(range(count - max(1, round(count / 4)), count))


def split_series(rows: Sequence[int], split: str) -> list[Segment]:
    """Cut series of the given numbers of rows into the segments of a split.

    Of MANY_SERIES or more, the test set is every fourth series, whole. Of fewer it is the last day of each where all
    have two days or more; otherwise, of two series or more, the last quarter of them, rounded, at least one; otherwise
    the last third of the only series. Train and test share no row.

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
    many = len(rows) >= MANY_SERIES
    if min(rows) >= 2 * DAY and not many:
        cuts = [n - DAY for n in rows]
    elif len(rows) >= 2:
        test = set(held_out_series(len(rows)))
        return [segment for segment in whole if (segment.series in test) == (split == "test")]
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
    outage: tuple[int, int, int] | None = None  #: planned beside the week's own: (line, first row, row after the last)


class _Ahead(NamedTuple):
    """An outage that may be planned beside a week's own, and the drawn starts in the `NOTICE` rows before it."""

    segment: int
    outage: tuple[int, int, int]  # (line, first row, row after the last)
    starts: np.ndarray  # (n,) rows


class Scenarios:
    """The episodes of one split.

    Recorded series are cut into train and test; generated weeks belong to one split as they are, and each is a segment.

    Args:
        rows: Rows of each series.
        split: ``train``, ``test`` or ``all``.
        max_steps: Longest episode.
        calm: For generated weeks: of each, the rows from which an episode may start.
        outages: For generated weeks: of each, outages that might be planned beside its own, rows (line, first row, row
            after the last); needed for `before_outages`.
        before_outages: For generated weeks: share of drawn episodes with one of these outages, and a start in the
            `NOTICE` rows before it; first a line is drawn, then one of its outages.

    Raises:
        ValueError: A series is too short, or no week has a calm row that leaves ``max_steps``; or there is to be a
            share of episodes before outages, and no outage has such a start.
    """

    def __init__(
        self,
        rows: Sequence[int],
        split: str,
        max_steps: int,
        calm: Sequence[np.ndarray] | None = None,
        outages: Sequence[np.ndarray] = (),
        before_outages: float = 0.0,
    ) -> None:
        self.split, self.max_steps = split, max_steps
        self._drawn: list[np.ndarray]  # per segment, the starts of drawn episodes
        self._numbered: list[np.ndarray]  # the same of numbered ones
        if calm is None:
            self.segments = split_series(rows, split)
            least = [min(max_steps, MIN_DRAWN_STEPS, segment.steps) for segment in self.segments]
            self._drawn = [np.arange(s.first, s.last - n + 1) for s, n in zip(self.segments, least, strict=True)]
            self._numbered = [np.arange(s.first, max(s.last - max_steps, s.first) + 1) for s in self.segments]
            sizes = np.array([len(starts) for starts in self._drawn])
            self._strides = (_GOLDEN, 0.0)  # from turn to turn, from one series to the next
        else:
            self.segments = [Segment(k, 0, n - 1) for k, n in enumerate(rows)]
            self._drawn = [own[own <= n - 1 - max_steps] for n, own in zip(rows, calm, strict=True)]
            self._numbered = self._drawn
            # weeks are equally likely, so that those with few calm rows, the harder ones, are not rarer
            sizes = np.array([float(len(starts) > 0) for starts in self._drawn])
            self._strides = (_SILVER, _GOLDEN)
            if not sizes.any():
                raise ValueError(
                    f"env_config.max_steps: no generated week has a calm start that leaves {max_steps} steps; they "
                    f"have {max(rows)} rows"
                )
            if not sizes.all():
                logger.warning("%d of %d weeks have no calm start and are not played", (sizes == 0).sum(), len(rows))
        self._before_outages = before_outages
        self._ahead = self._starts_ahead(outages) if before_outages else {}
        if before_outages and not self._ahead:
            raise ValueError(
                "env_config.scenarios.before_outages: no outage that might be planned would overload a line, or "
                "none has a calm start shortly before it"
            )
        self._share = sizes / sizes.sum()
        self._played = [int(k) for k in np.flatnonzero(sizes)]

    def draw(self, rng: np.random.Generator) -> Episode:
        """An episode at random.

        Of recorded series, every start that leaves min(max_steps, 96) steps is equally likely; of generated weeks,
        every week, and in it every calm start that leaves max_steps, but for the share that begins before an outage of
        its own.
        """
        if self._before_outages and rng.random() < self._before_outages:
            of_line = self._ahead[int(rng.choice(list(self._ahead)))]
            ahead = of_line[rng.integers(len(of_line))]
            episode = self.at(self.segments[ahead.segment].series, int(rng.choice(ahead.starts)))
            return replace(episode, outage=ahead.outage)
        return self._from_segment(int(rng.choice(len(self.segments), p=self._share)), rng)

    def numbered(self, k: int) -> tuple[int, Episode]:
        """Seed and episode number ``k``: cycles through the series, as long as max_steps where the data allow."""
        turn, place = divmod(k, len(self._played))
        chosen = self._played[place]
        starts = self._numbered[chosen]
        start = int(starts[int((turn * self._strides[0] + place * self._strides[1]) % 1.0 * len(starts))])
        return SPEC_SEED + k, self.at(self.segments[chosen].series, start)

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
            options = [k for k in self._played if self.segments[k].series == series]
            return self._from_segment(options[0], rng) if options else self.at(series, -1)
        if start is not None:
            raise ValueError("options: 'start' needs 'scenario', since starts belong to a series")
        return self.draw(rng)

    def _starts_ahead(self, outages: Sequence[np.ndarray]) -> dict[int, list[_Ahead]]:
        """Line -> those of its outages that have such starts."""
        found: dict[int, list[_Ahead]] = {}
        for k, (possible, starts) in enumerate(zip(outages, self._drawn, strict=True)):
            for line, first, end in possible.tolist():
                near = starts[(starts >= first - NOTICE) & (starts < first)]
                if near.size:
                    found.setdefault(line, []).append(_Ahead(k, (line, first, end), near))
        return dict(sorted(found.items()))

    def _from_segment(self, k: int, rng: np.random.Generator) -> Episode:
        starts = self._drawn[k]
        return self.at(self.segments[k].series, int(starts[rng.integers(len(starts))]))
