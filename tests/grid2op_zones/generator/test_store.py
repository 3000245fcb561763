"""Weeks on disk: exact, small, whole, and clear about files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from grid2op_zones.generator import (
    GridModel,
    Week,
    WeekFileError,
    generate,
    list_weeks,
    read_week,
    split_weeks,
    week_rows,
    write_week,
    write_weeks,
)

ARRAYS = ("load_p", "load_q", "prod_p", "q_ratio", "outages", "loading")


def test_a_week_comes_back_exactly_and_fits_into_a_megabyte(summer: Week, summer_folder: Path) -> None:
    path = list_weeks(summer_folder)[0]
    found = read_week(path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(summer, name))
    assert (found.grid, found.date, found.seed, found.prod_v) == (summer.grid, summer.date, summer.seed, None)
    assert path.stat().st_size < 300_000
    assert week_rows(path) == 2016


def test_the_same_week_gives_the_same_bytes(case14: GridModel, tmp_path: Path) -> None:
    day, seed = split_weeks("train", 1, 0)[0]
    paths = [write_week(tmp_path / name, generate(case14, day, seed)) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    np.testing.assert_array_equal(read_week(paths[0]).prod_v, case14.prod_v.astype(np.float32))


def test_a_folder_is_completed_not_rewritten(case14: GridModel, tmp_path: Path) -> None:
    weeks = split_weeks("train", 3, 0)
    assert [new for _, new in write_weeks(case14, weeks[:2], tmp_path)] == [True, True]
    assert [new for _, new in write_weeks(case14, weeks, tmp_path)] == [False, False, True]
    assert len(list_weeks(tmp_path)) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_week_of_another_grid_is_not_taken_for_ones_own(case14: GridModel, summer: Week, tmp_path: Path) -> None:
    write_week(tmp_path, summer)
    with pytest.raises(WeekFileError, match="l2rpn_idf_2023"):
        list(write_weeks(case14, [(summer.date, summer.seed)], tmp_path))


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_damaged_files_are_named(summer_folder: Path, tmp_path: Path, damage: str) -> None:
    whole = list_weeks(summer_folder)[0].read_bytes()
    path = tmp_path / "2035-01-01_0000000000.week.npz"
    path.write_bytes({"cut": whole[: len(whole) // 2], "foreign": b"load_p;load_q\n1;2\n", "empty": b""}[damage])
    for read in (read_week, week_rows):
        with pytest.raises(WeekFileError, match=path.name):
            read(path)


def test_another_format_is_refused(summer_folder: Path, tmp_path: Path) -> None:
    with np.load(list_weeks(summer_folder)[0]) as arrays:
        content = dict(arrays)
    meta = {**json.loads(content["meta"].tobytes()), "format": 99}
    path = tmp_path / "2035-01-01_0000000000.week.npz"
    np.savez(path, **{**content, "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)})
    with pytest.raises(WeekFileError, match="format 99"):
        read_week(path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeekFileError, match=tmp_path.name):
        list_weeks(tmp_path)
