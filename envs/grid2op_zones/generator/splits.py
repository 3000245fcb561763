"""Which weeks are trained on and which are held out."""

from __future__ import annotations

from datetime import date, timedelta
from difflib import get_close_matches

import numpy as np

#: First Monday of the generated year; the year of l2rpn_idf_2023.
FIRST_MONDAY = date(2035, 1, 1)

#: Weeks of the year, numbered from 0, of which every fourth is held out.
WEEKS_OF_YEAR = 52
HELD_OUT_EVERY, HELD_OUT_PLACE = 4, 2

SPLITS = ("train", "test", "all")

#: Step of a low-discrepancy sequence: any number of first weeks is spread evenly over the year.
_GOLDEN = 0.6180339887498949


def split_weeks(split: str, weeks: int, seed: int) -> list[tuple[date, int]]:
    """The first ``weeks`` weeks of a split, each as its Monday and the seed to generate it with.

    Train and test share no week of the year and no seed. More weeks than a split has Mondays repeat them with other
    seeds, and a longer list begins with the shorter one.

    Args:
        split: ``train``, ``test``, or ``all`` for three train weeks to each test week.
        weeks: At least 1.
        seed: At least 0; another one gives other seeds and another order.

    Raises:
        ValueError: An argument is out of its range.
    """
    if split not in SPLITS:
        near = get_close_matches(str(split), SPLITS, n=1, cutoff=0.0)[0]
        raise ValueError(f"split: expected one of {list(SPLITS)}, found {split!r}; the nearest is {near!r}")
    if weeks < 1 or seed < 0:
        raise ValueError(f"weeks and seed: expected at least 1 and at least 0, found {weeks} and {seed}")
    if split == "all":
        train, test = split_weeks("train", weeks, seed), split_weeks("test", weeks, seed)
        return [test[k // 4] if k % 4 == 3 else train[k - k // 4] for k in range(weeks)]
    held_out = split == "test"
    numbers = [k for k in range(WEEKS_OF_YEAR) if (k % HELD_OUT_EVERY == HELD_OUT_PLACE) == held_out]
    rng = np.random.default_rng([seed, held_out])
    shift = rng.random()
    chosen = []
    for k in range(weeks):
        if k % len(numbers) == 0:
            # each round goes through all Mondays once, in the order of the sequence
            order = np.argsort((np.arange(len(numbers)) * _GOLDEN + shift) % 1.0)
            order = np.argsort(order)
        monday = FIRST_MONDAY + timedelta(weeks=numbers[order[k % len(numbers)]])
        # an even seed trains, an odd one tests
        chosen.append((monday, 2 * int(rng.integers(2**30)) + int(held_out)))
    return chosen
