"""Where series come from: a folder, generated weeks as a folder, the full data set; and what is refused."""

from __future__ import annotations

import bz2
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid2op.MakeEnv import PathUtils
from grid2op.MakeEnv.Make import TEST_DEV_ENVS

from grid2op_zones import ZonedGridEnv
from grid2op_zones.download import downloaded_folder
from grid2op_zones.generator import fill, list_weeks, read_week, write_week

GRID = "l2rpn_case14_sandbox"
OWN = Path(TEST_DEV_ENVS[GRID]) / "chronics"


def make(**scenarios: Any) -> ZonedGridEnv:
    return ZonedGridEnv({"grid": GRID, "scenarios": scenarios})


def played(env: ZonedGridEnv, episodes: int = 12) -> set[str]:
    """Names of the series that the first episodes play."""
    names = set()
    for k in range(episodes):
        _, infos = env.reset(**env.episode_spec(k))
        names.add(infos["zone_0"]["scenario"].split("/")[1].split(" ")[0])
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the grid's own series."""
    for series in OWN.iterdir():
        if series.is_dir():
            shutil.copytree(series, tmp_path / "series" / series.name)
    return tmp_path / "series"


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight generated weeks."""
    out = tmp_path_factory.mktemp("weeks")
    for path, _ in fill(GRID, "all", 8, 0, out):
        found = path.parent
    return found


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # port 9 discards; nothing listens there
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """Grid2Op's folder of data, empty."""
    before = PathUtils.DEFAULT_PATH_DATA
    PathUtils.DEFAULT_PATH_DATA = str(tmp_path)
    yield tmp_path
    PathUtils.DEFAULT_PATH_DATA = before


# ---------------------------------------------------------------- what an episode says


def test_reset_says_what_is_played() -> None:
    env = make()
    for k in range(4):
        spec = env.episode_spec(k)
        _, infos = env.reset(**spec)
        series, start = spec["options"]["scenario"], spec["options"]["start"]
        names = sorted(path.name for path in OWN.iterdir() if path.is_dir())
        assert [info["scenario"] for info in infos.values()] == [f"bundled/{names[series]} row {start}"] * 3
    env.close()


# ---------------------------------------------------------------- folders of series


def test_a_folder_of_series_plays_as_the_grids_own(folder: Path) -> None:
    own, copy = make(), make(source="folder", path=str(folder))
    for k in range(3):
        first, second = own.reset(**own.episode_spec(k))[0], copy.reset(**copy.episode_spec(k))[0]
        for agent in first:
            np.testing.assert_array_equal(first[agent], second[agent])
    own.close()
    copy.close()


def test_of_many_series_whole_ones_are_held_out(folder: Path) -> None:
    source = sorted(folder.iterdir())[0]
    for k in range(8):
        shutil.copytree(source, folder / f"more_{k}")
    every = sorted(path.name for path in folder.iterdir())
    train, test = (make(source="folder", path=str(folder), split=split) for split in ("train", "test"))
    assert played(test) == {name for k, name in enumerate(every) if k % 4 == 2}
    assert played(train) == set(every) - played(test)
    train.close()
    test.close()


def remove(series: Path) -> None:
    (series / "load_q.csv.bz2").unlink()


def empty(series: Path) -> None:
    shutil.rmtree(series)
    series.mkdir()


def cut(series: Path) -> None:
    path = series / "prod_p.csv.bz2"
    path.write_bytes(path.read_bytes()[:-2000])


def garble(series: Path) -> None:
    (series / "load_p.csv.bz2").write_bytes(b"not compressed")


def edited(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def edit(series: Path) -> None:
        path = series / f"{name}.csv.bz2"
        path.write_bytes(
            bz2.compress("\n".join(change(bz2.decompress(path.read_bytes()).decode().split("\n"))).encode())
        )

    return edit


def without_last_column(lines: list[str]) -> list[str]:
    return [line.rsplit(";", 1)[0] for line in lines]


def renamed(lines: list[str]) -> list[str]:
    return [lines[0].replace("load_1_0", "load_1_9"), *lines[1:]]


def with_a_gap(lines: list[str]) -> list[str]:
    return [*lines[:6], ";".join(["", *lines[6].split(";")[1:]]), *lines[7:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, r"BAD lacks load_q.csv.bz2; every series needs load_p.csv.bz2, .* complete or remove it"),
        (empty, r"BAD is empty; every series needs"),
        (cut, r"BAD/prod_p.csv.bz2 cannot be read \(.*end-of-stream.*\); copy or download it again"),
        (garble, r"BAD/load_p.csv.bz2 cannot be read \(Invalid data stream\); copy or download it again"),
        (edited("prod_p", without_last_column), r"BAD/prod_p.csv.bz2: 5 columns where the grid has 6 elements; lacks"),
        (
            edited("load_p", renamed),
            r"BAD/load_p.csv.bz2: .* lacks load_1_0; has 'load_1_9', which is no element of the grid \(the nearest",
        ),
        (edited("load_p", with_a_gap), r"BAD/load_p.csv.bz2 has no number in row 5"),
        (
            edited("load_q", lambda lines: lines[:300]),
            r"files of .*BAD have different numbers of rows: .*'load_q': 299",
        ),
    ],
)
def test_a_bad_series_is_named_before_anything_is_played(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    bad = sorted(folder.iterdir())[1]
    spoil(bad)
    with pytest.raises(ValueError, match="^env_config.scenarios.*" + message.replace("BAD", str(bad))):
        make(source="folder", path=str(folder))


def test_a_folder_without_series_says_what_it_needs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no series in .*none: it needs one folder for each, with load_p.csv.bz2"):
        make(source="folder", path=str(tmp_path / "none"))
    one = sorted(folder.iterdir())[0]
    with pytest.raises(ValueError, match=f"{one} is itself a series; give the folder that it lies in, {folder}$"):
        make(source="folder", path=str(one))


def test_series_of_another_grid_are_refused() -> None:
    other = Path(TEST_DEV_ENVS["l2rpn_idf_2023"]) / "chronics"
    with pytest.raises(ValueError, match=r"columns where the grid has 11 elements.* Give series of this grid"):
        make(source="folder", path=str(other))


def test_a_number_of_series_is_spread_over_all() -> None:
    env = ZonedGridEnv({"grid": "educ_case14_storage", "scenarios": {"weeks": 3, "split": "all"}})
    names = sorted(p.name for p in (Path(TEST_DEV_ENVS["educ_case14_storage"]) / "chronics").iterdir() if p.is_dir())
    assert played(env) == {names[0], names[2], names[4]}
    env.close()


# ---------------------------------------------------------------- generated weeks as a folder


def test_a_folder_of_weeks_is_played_from_calm_starts_and_split(weeks: Path) -> None:
    every = sorted(path.name.split(".")[0] for path in weeks.glob("*.npz"))
    train, test = (make(source="folder", path=str(weeks), split=split) for split in ("train", "test"))
    assert played(test) == {every[2], every[6]}
    assert played(train) == set(every) - {every[2], every[6]}
    for k in range(6):
        train.reset(**train.episode_spec(k))
        assert train.grid_observation.rho.max() < 1.0
        assert train._episode.steps == 287
    train.close()
    test.close()


def test_weeks_of_another_grid_are_refused(weeks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"week.npz: a week of 'l2rpn_case14_sandbox', whose elements differ"):
        ZonedGridEnv({"scenarios": {"source": "folder", "path": str(weeks)}})
    for path in weeks.glob("*.npz"):
        shutil.copy(path, tmp_path)
    foreign = replace(read_week(list_weeks(weeks)[0]), fingerprint="0" * 16, grid="other", date=date(2036, 1, 7))
    path = write_week(tmp_path, foreign)
    with pytest.raises(ValueError, match=rf"{path}: a week of 'other', whose elements differ"):
        make(source="folder", path=str(tmp_path), split="all")


def test_one_week_cannot_be_split(weeks: Path) -> None:
    with pytest.raises(ValueError, match=r"one week to play, which cannot be split; say split 'all'"):
        make(source="folder", path=str(weeks), weeks=[3])
    env = make(source="folder", path=str(weeks), weeks=[3], split="all")
    assert len(played(env)) == 1
    env.close()


# ---------------------------------------------------------------- the full data set


def test_a_data_set_that_is_here_is_played(data_folder: Path, no_network: None) -> None:
    shutil.copytree(TEST_DEV_ENVS[GRID], data_folder / GRID)
    for k in range(6):
        shutil.copytree(sorted(OWN.iterdir())[0], data_folder / GRID / "chronics" / f"full_{k}")
    assert downloaded_folder(GRID) == data_folder / GRID
    bundled, full = make(split="all"), make(source="downloaded", split="all")
    assert len(played(full)) == len(played(bundled)) + 6
    assert full.fingerprint == bundled.fingerprint
    first, infos = full.reset(**full.episode_spec(0))
    assert infos["zone_0"]["scenario"].startswith("downloaded/")
    for agent, space in full.observation_spaces.items():
        assert space.contains(first[agent])
    full.close()
    bundled.close()
    (data_folder / GRID / "chronics" / "full_3" / "load_p.csv.bz2").unlink()
    with pytest.raises(ValueError, match=r"full_3 lacks load_p.csv.bz2"):
        make(source="downloaded")


def test_without_a_network_the_message_says_what_to_do(data_folder: Path, no_network: None) -> None:
    with pytest.raises(
        ValueError,
        match=rf"the full data set of '{GRID}' is not in {data_folder}, and https://.* cannot be reached .*; use "
        "scenarios.source 'generated' .* or 'bundled' .* or 'folder'",
    ):
        make(source="downloaded")
    assert not list(data_folder.iterdir())


def test_a_grid_by_folder_has_no_data_set_to_download() -> None:
    with pytest.raises(ValueError, match=r"'downloaded' needs a grid by name, .* use 'bundled'"):
        ZonedGridEnv({"grid": TEST_DEV_ENVS[GRID], "scenarios": {"source": "downloaded"}})
