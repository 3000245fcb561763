"""Generated weeks played in Grid2Op."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid2op.Agent import DoNothingAgent
from grid2op.Chronics import GridValue
from grid2op.Exceptions import ChronicsError
from grid2op.Runner import Runner

from grid2op_zones.generator import GeneratedWeeks, GridModel, Week, WeekFileError, split_weeks, write_weeks
from grid2op_zones.generator.chronics import _maintenance
from grid2op_zones.generator.survival import do_nothing, make_env


@pytest.fixture(scope="module")
def idf_env(summer_folder: Path) -> Iterator[Any]:
    env = make_env("l2rpn_idf_2023", summer_folder)
    yield env
    env.close()


@pytest.fixture(scope="module")
def case14_folder(case14: GridModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case14_weeks")
    list(write_weeks(case14, split_weeks("train", 3, 0), folder))
    return folder


@pytest.fixture(scope="module")
def case14_env(case14_folder: Path) -> Iterator[Any]:
    env = make_env("l2rpn_case14_sandbox", case14_folder)
    yield env
    env.close()


def test_an_episode_shows_the_rows_of_the_week(idf_env: Any, summer: Week) -> None:
    obs = idf_env.reset(options={"init ts": 500})
    for row in (500, 501, 502):
        np.testing.assert_allclose(obs.load_p, summer.load_p[row], atol=1e-3)
        np.testing.assert_allclose(obs.load_q, summer.load_q[row], atol=1e-3)
        # with no line out, the slack has nothing to make up for
        np.testing.assert_allclose(obs.gen_p, summer.prod_p[row], atol=1.0)
        assert obs.rho.max() == pytest.approx(summer.loading[row], abs=0.01)
        assert (obs.day, obs.hour_of_day, obs.minute_of_hour) == (21, 17, 40 + 5 * (row - 500))
        obs, _, done, _ = idf_env.step(idf_env.action_space())
        assert not done


def test_the_first_row_is_midnight(idf_env: Any, summer: Week) -> None:
    obs = idf_env.reset()
    np.testing.assert_allclose(obs.load_p, summer.load_p[0], atol=1e-3)
    assert (obs.month, obs.day, obs.hour_of_day, obs.minute_of_hour) == (8, 20, 0, 0)


def test_planned_maintenance_is_announced_and_happens(idf_env: Any, summer: Week) -> None:
    line, first, end = summer.outages[0]
    obs = idf_env.reset(options={"init ts": int(first) - 2})
    assert obs.time_next_maintenance[line] == 2 and obs.duration_next_maintenance[line] == end - first
    for _ in range(2):
        assert obs.line_status[line]
        obs, _, _, _ = idf_env.step(idf_env.action_space())
    assert not obs.line_status[line] and obs.time_next_maintenance[line] == 0


def test_maintenance_is_counted_as_grid2op_counts_it() -> None:
    outages = np.array([[0, 5, 8], [0, 12, 14], [2, 5, 6]], dtype=np.int32)
    planned = np.zeros((20, 3))
    for line, first, end in outages:
        planned[first:end, line] = 1
    for row in range(20):
        out, ahead, duration = _maintenance(outages, row, 3)
        np.testing.assert_array_equal(out, planned[row] == 1)
        for line in range(3):
            assert ahead[line] == GridValue.get_maintenance_time_1d(planned[:, line])[row]
            assert duration[line] == GridValue.get_maintenance_duration_1d(planned[:, line])[row]


def test_the_series_id_chooses_the_week(case14_env: Any, case14_folder: Path) -> None:
    files = [str(path) for path in sorted(case14_folder.iterdir())]
    for k in (2, 0, 1, 1):
        case14_env.reset(options={"time serie id": k})
        assert case14_env.chronics_handler.get_id() == files[k]
    case14_env.reset(options={"time serie id": files[0]})
    assert case14_env.chronics_handler.get_id() == files[0]
    case14_env.reset()
    assert case14_env.chronics_handler.get_id() == files[1]
    with pytest.raises(ChronicsError, match="nowhere"):
        case14_env.reset(options={"time serie id": "nowhere"})


def test_an_episode_ends_with_the_week(case14_env: Any) -> None:
    case14_env.reset(options={"time serie id": 0, "init ts": 2010})
    done, steps = False, 0
    while not done:
        _, _, done, _ = case14_env.step(case14_env.action_space())
        steps += 1
    assert steps == 5
    assert case14_env.chronics_handler.real_data.rows == [2016] * 3


def test_max_step_shortens_an_episode(case14_env: Any) -> None:
    case14_env.reset(options={"time serie id": 0, "init ts": 100, "max step": 7})
    done, steps = False, 0
    while not done:
        _, _, done, _ = case14_env.step(case14_env.action_space())
        steps += 1
    assert steps == 7


def test_episodes_do_not_end_in_their_first_steps(idf_env: Any, summer: Week) -> None:
    starts = [(0, int(row)) for row in summer.calm_rows()[::400]]
    assert do_nothing(idf_env, starts, steps=12).min() == 12


def test_reset_takes_milliseconds(idf_env: Any) -> None:
    spent = []
    for _ in range(5):
        begin = time.process_time()
        idf_env.reset()
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.015


def test_the_runner_plays_weeks(case14_env: Any, case14_folder: Path) -> None:
    runner = Runner(**case14_env.get_params_for_runner(), agentClass=DoNothingAgent)
    results = runner.run(nb_episode=2, max_iter=4, episode_id=[2, 0])
    files = sorted(path.name for path in case14_folder.iterdir())
    assert [Path(result[0]).name for result in results] == [files[2], files[0]]
    assert [result[3] for result in results] == [4, 4]


def test_only_the_chosen_weeks_are_played(case14_folder: Path) -> None:
    files = [str(path) for path in sorted(case14_folder.iterdir())]
    assert list(GeneratedWeeks(case14_folder, weeks=[2, 0]).subpaths) == [files[2], files[0]]
    with pytest.raises(ChronicsError, match=r"\[3\]"):
        GeneratedWeeks(case14_folder, weeks=[1, 3])


def test_weeks_of_another_grid_and_empty_folders_are_refused(summer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="l2rpn_idf_2023"):
        make_env("l2rpn_case14_sandbox", summer_folder)
    with pytest.raises((WeekFileError, ValueError), match="week"):
        make_env("l2rpn_case14_sandbox", tmp_path)
