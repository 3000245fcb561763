"""Train and test weeks."""

from __future__ import annotations

import pytest

from grid2op_zones.generator import split_weeks


def test_train_and_test_share_neither_dates_nor_seeds() -> None:
    train, test = split_weeks("train", 200, 0), split_weeks("test", 100, 0)
    assert not {day for day, _ in train} & {day for day, _ in test}
    assert not {seed for _, seed in train} & {seed for _, seed in test}
    assert len({day for day, _ in train}) == 39 and len({day for day, _ in test}) == 13
    assert len(set(train)) == 200 and all(day.weekday() == 0 for day, _ in train + test)


def test_other_seeds_of_the_split_keep_train_and_test_apart() -> None:
    assert {seed % 2 for _, seed in split_weeks("train", 50, 7)} == {0}
    assert {seed % 2 for _, seed in split_weeks("test", 50, 8)} == {1}
    assert split_weeks("train", 5, 0) != split_weeks("train", 5, 1)


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_a_longer_list_begins_with_the_shorter_and_few_weeks_span_the_year(split: str) -> None:
    assert split_weeks(split, 20, 3)[:8] == split_weeks(split, 8, 3)
    assert len({(day.month - 1) // 3 for day, _ in split_weeks(split, 8, 3)}) == 4


def test_all_is_three_quarters_train() -> None:
    weeks = split_weeks("all", 40, 0)
    assert sum(seed % 2 for _, seed in weeks) == 10


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="'train'"):
        split_weeks("trian", 1, 0)
    with pytest.raises(ValueError, match="weeks"):
        split_weeks("train", 0, 0)
