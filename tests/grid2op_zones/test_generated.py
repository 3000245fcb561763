"""The environment on generated weeks: what it plays, replays and refuses."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid2op.Exceptions import EnvError

from grid2op_zones import ZonedGridEnv
from grid2op_zones.env import GIVEN_STARTS
from grid2op_zones.generator import cache_folder, default_cache, fill, list_weeks, read_week

GRID = "l2rpn_case14_sandbox"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def make(cache: Path, split: str = "train", **scenarios: Any) -> ZonedGridEnv:
    return ZonedGridEnv(
        {
            "grid": GRID,
            "scenarios": {"source": "generated", "path": str(cache), "split": split, "weeks": 2, **scenarios},
        }
    )


@pytest.fixture(scope="module")
def env(cache: Path) -> Iterator[ZonedGridEnv]:
    env = make(cache)
    yield env
    env.close()


def play(env: ZonedGridEnv, reset: dict[str, Any], steps: int = 30) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    obs, _ = env.reset(**reset)
    seen = [np.concatenate(list(obs.values()))]
    for _ in range(steps):
        actions = {a: rng.uniform(-0.3, 0.3, space.shape) for a, space in env.action_spaces.items()}
        obs, rewards, terminated, truncated, _ = env.step(actions)
        seen.append(np.concatenate([*obs.values(), [rewards["zone_0"]]]))
        if terminated["__all__"] or truncated["__all__"]:
            break
    return seen


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("spec", [{"seed": 8}, None])
def test_a_seed_replays_an_episode_in_any_environment(
    env: ZonedGridEnv, cache: Path, spec: dict[str, Any] | None
) -> None:
    spec = spec or env.episode_spec(3)
    first = play(env, spec)
    play(env, {"seed": 77}, steps=3)
    assert_same(first, play(env, spec))
    other = make(cache)
    assert_same(first, play(other, spec))
    other.close()


def test_the_first_observation_shows_the_start(env: ZonedGridEnv, cache: Path) -> None:
    weeks = [read_week(path) for path in list_weeks(cache_folder(GRID, "train", 2, 0, cache))]
    for k in range(4):
        spec = env.episode_spec(k)
        env.reset(**spec)
        series, start = spec["options"]["scenario"], spec["options"]["start"]
        assert start in weeks[series].calm_rows()
        np.testing.assert_allclose(env.grid_observation.load_p, weeks[series].load_p[start], atol=1e-3)
        assert env.grid_observation.rho.max() < 1.0


def test_episodes_last_max_steps(env: ZonedGridEnv) -> None:
    for seed in range(50):
        env.reset(seed=seed)
        assert env._episode.steps == 287
    env.reset(**env.episode_spec(1))
    zeros = {agent: np.zeros(space.shape) for agent, space in env.action_spaces.items()}
    for step in range(287):
        _, _, terminated, truncated, infos = env.step(zeros)
        assert not terminated["__all__"]
        assert truncated["__all__"] == (step == 286)
    assert infos["zone_0"]["end_reason"] == "max_steps"


def test_train_and_test_share_no_week(env: ZonedGridEnv, cache: Path) -> None:
    test = make(cache, "test")
    weeks = {
        split: [read_week(path) for path in list_weeks(cache_folder(GRID, split, 2, 0, cache))]
        for split in ("train", "test")
    }
    assert not {w.date for w in weeks["train"]} & {w.date for w in weeks["test"]}
    assert not {w.seed for w in weeks["train"]} & {w.seed for w in weeks["test"]}
    assert env.fingerprint == test.fingerprint
    test.close()


def test_another_seed_gives_other_weeks(env: ZonedGridEnv, cache: Path) -> None:
    other = make(cache, seed=1)
    assert cache_folder(GRID, "train", 2, 1, cache).is_dir()
    env.reset(**env.episode_spec(0))
    other.reset(**env.episode_spec(0))
    assert not np.array_equal(env.grid_observation.load_p, other.grid_observation.load_p)
    other.close()


# ---------------------------------------------------------------- starts that break the grid


def test_a_given_start_that_breaks_the_grid_is_replaced(
    env: ZonedGridEnv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = env.episode_spec(2)
    own, tries = env._reset_simulator, []

    def broken_at_start(seed: int) -> Any:
        tries.append(env._episode.start)
        if env._episode.start == spec["options"]["start"]:
            raise EnvError("the grid fell apart")
        return own(seed)

    monkeypatch.setattr(env, "_reset_simulator", broken_at_start)
    with caplog.at_level(logging.WARNING):
        first = play(env, spec, steps=5)
    assert len(tries) == GIVEN_STARTS + 1
    assert f"cannot start at {spec['options']['start']}" in caplog.text
    assert env._episode.series == spec["options"]["scenario"]
    assert_same(first, play(env, spec, steps=5))


# ---------------------------------------------------------------- the cache


def test_what_is_there_is_not_generated_again(env: ZonedGridEnv, cache: Path) -> None:
    files = list_weeks(cache_folder(GRID, "train", 2, 0, cache))
    before = [path.stat().st_mtime_ns for path in files]
    assert sorted(fill(GRID, "train", 2, 0, cache)) == [(path, False) for path in files]
    make(cache).close()
    assert [path.stat().st_mtime_ns for path in files] == before


def test_processes_that_fill_one_folder_share_the_weeks(tmp_path: Path) -> None:
    program = (
        "import sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from grid2op_zones.generator import fill\n"
        f"print(sum(seconds > 0 for _, seconds in fill({GRID!r}, 'test', 6, 0, sys.argv[1])))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    made = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(made) == 6
    folder = cache_folder(GRID, "test", 6, 0, tmp_path)
    assert len([read_week(path) for path in list_weeks(folder)]) == 6
    assert not list(folder.glob("*.part"))


def test_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache().is_relative_to(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache().is_relative_to(Path.home() / ".cache")


def test_grids_of_one_name_in_two_folders_do_not_share_weeks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "grid").mkdir(parents=True)
    first, second = (cache_folder(str(tmp_path / name / "grid"), "test", 1, 0, tmp_path) for name in ("a", "b"))
    assert first != second
    assert first.parent.parent == second.parent.parent == tmp_path


# ---------------------------------------------------------------- errors


def test_a_damaged_week_is_named(env: ZonedGridEnv, tmp_path: Path) -> None:
    folder = cache_folder(GRID, "train", 2, 0, tmp_path)
    list(fill(GRID, "train", 2, 0, tmp_path))
    bad = list_weeks(folder)[1]
    bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{bad.name}: no readable week .* delete it and generate it again"):
        make(tmp_path)


def test_a_foreign_week_in_the_folder_is_refused(tmp_path: Path) -> None:
    folder = cache_folder(GRID, "train", 2, 0, tmp_path)
    list(fill(GRID, "train", 2, 0, tmp_path))
    [extra] = [path for path, _ in fill(GRID, "test", 1, 0, tmp_path)]
    extra.rename(folder / extra.name)
    with pytest.raises(ValueError, match="holds 3 weeks instead of 2"):
        make(tmp_path)


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"env_config.scenarios.path: .*file' is no folder"):
        make(tmp_path / "file")
    with pytest.raises(ValueError, match=r"env_config.scenarios.path: cannot write generated weeks"):
        make(tmp_path / "file" / "below")


def test_an_unknown_grid_is_named_before_anything_is_generated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown grid 'l2rpn_idf_2032'; the nearest is 'l2rpn_idf_2023'"):
        ZonedGridEnv({"grid": "l2rpn_idf_2032", "scenarios": {"source": "generated", "path": str(tmp_path)}})
    assert not list(tmp_path.iterdir())
