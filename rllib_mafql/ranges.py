"""What a setting that is a number may be: its kind, its range, and how a message says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

#: The most that a whole number may be where nothing else bounds it: one that every computation here can hold.
MOST = 10**12


@dataclass(frozen=True)
class Range:
    """A range of numbers; true and false, not-a-number and infinity are in none.

    Attributes:
        low, high: the ends, which belong to the range unless `above` (low) or `below` (high) says otherwise.
        whole: only whole numbers.
        optional: None, too.
        words: texts that may stand in a number's place, such as "auto".
        schedule: [[0, value], [step, value], ...] with growing steps, too.
        text: how a message says it, where not as `right` would.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False
    optional: bool = False
    words: tuple[str, ...] = ()
    schedule: bool = False
    text: str = ""

    @property
    def right(self) -> str:
        """What a value must be."""
        what = self.text or self._numbers()
        named = ["None"] * self.optional + [repr(word) for word in self.words]
        parts = [*named, what] + ["a schedule [[0, value], [step, value], ...] with growing steps"] * self.schedule
        return " or ".join(parts)

    def holds(self, value: Any) -> bool:
        """Whether a setting may be `value`."""
        if value is None:
            return self.optional
        if isinstance(value, str):
            return value in self.words
        if self.schedule and isinstance(value, (list, tuple)):
            return self._schedules(value)
        return self._contains(value)

    def _contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        return bool(low and high) and (not self.whole or abs(number) <= MOST) and math.isfinite(number)

    def _schedules(self, points: Sequence[Any]) -> bool:
        if len(points) < 2 or not all(isinstance(point, (list, tuple)) and len(point) == 2 for point in points):
            return False
        steps = [step for step, _ in points]
        if not all(Range(0, MOST).holds(step) for step in steps) or not all(
            self._contains(value) for _, value in points
        ):
            return False
        return steps[0] == 0 and all(one < next_ for one, next_ in pairwise(steps))

    def _numbers(self) -> str:
        kind = "an integer" if self.whole else "a number"
        low = f"{'above' if self.above else 'of at least'} {self.low:.12g}"
        if math.isinf(self.low):
            return kind
        if self.high >= MOST:
            return f"{kind} {low}"
        if self.above or self.below:
            return f"{kind} {low} and {'below' if self.below else 'at most'} {self.high:.12g}"
        return f"{kind} from {self.low:.12g} to {self.high:.12g}"
