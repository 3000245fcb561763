"""What no dispatch prevents: flows are Grid2Op's, and nothing drawn at random is better than what is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.infeasible import LeastLoading, Row, episode_rows

CONFIG = {"grid": "educ_case14_storage", "balance": "grid", "scenarios": {"source": "generated", "split": "test"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weeks")


def made(folder: Path, **keys: object) -> ZonedGridEnv:
    return ZonedGridEnv({**CONFIG, **keys, "scenarios": {**CONFIG["scenarios"], "weeks": 2, "path": str(folder)}})


@pytest.fixture(scope="module")
def env(folder: Path) -> Iterator[ZonedGridEnv]:
    env = made(folder, thermal_limit_scale=0.6)
    env.reset(**env.episode_spec(0))
    yield env
    env.close()


@pytest.fixture(scope="module")
def found(env: ZonedGridEnv) -> list[Row]:
    week, rows = episode_rows(env, 0, 48)
    return list(LeastLoading(env).rows(week, rows))


def test_loadings_with_nothing_done_are_grid2op_s(env: ZonedGridEnv) -> None:
    env.reset(**env.episode_spec(0))
    least = LeastLoading(env)
    week, _ = episode_rows(env, 0, 12)
    row = env.simulator.chronics_handler.real_data.curr_iter - 1
    flows = least._solve(least._without(()), week, row, np.zeros(least._area.size), least._start)
    assert flows is not None
    assert np.abs(flows.loading) == pytest.approx(env.simulator.get_obs(_do_copy=False).rho, abs=1e-4)


def test_a_line_that_is_out_is_out_as_grid2op_has_it(env: ZonedGridEnv) -> None:
    env.reset(**env.episode_spec(0))
    least = LeastLoading(env)
    week, _ = episode_rows(env, 0, 12)
    last = type(env.simulator).n_line - 1  # a transformer
    for line in (3, last):
        env.reset(**env.episode_spec(0))
        obs, *_ = env.simulator.step(env.simulator.action_space({"set_line_status": [(line, -1)]}))
        row = env.simulator.chronics_handler.real_data.curr_iter - 1
        flows = least._solve(least._without((line,)), week, row, np.zeros(least._area.size), least._start)
        assert flows is not None and flows.loading[line] == 0.0
        assert np.abs(flows.loading) == pytest.approx(obs.rho, abs=2e-3)  # Grid2Op's generators stay within their ramps


def test_both_kinds_of_rows_are_there(found: list[Row]) -> None:
    assert any(row.feasible and row.idle > 1.0 for row in found)
    assert any(not row.feasible for row in found)
    assert all(row.least <= row.idle and (row.moved > 0.0) == (row.least < row.idle) for row in found)
    assert all(row.least == row.idle for row in found if row.idle <= 1.0)


def test_nothing_drawn_at_random_is_better(env: ZonedGridEnv, found: list[Row]) -> None:
    least = LeastLoading(env)
    week, _ = episode_rows(env, 0, 48)
    rng = np.random.default_rng(0)
    hardest = max(found, key=lambda row: row.least)
    low, high = least._ends(week, hardest.row)
    grid = least._without(hardest.out)
    (members,) = least._area.balanced
    drawn = []
    for corner in (False, True) * 150:
        x = np.where(rng.random(len(low)) < 0.5, low, high) if corner else rng.uniform(low, high)
        over = members @ x  # made up for by whoever has room
        room = members * (x - low if over > 0.0 else high - x)
        if room.sum() <= abs(over):
            continue
        flows = least._solve(grid, week, hardest.row, x - np.sign(over) * room * abs(over) / room.sum(), least._start)
        if flows is not None:
            drawn.append(flows.highest)
    assert len(drawn) > 100
    assert hardest.least - 1e-3 < min(drawn) < hardest.idle


def test_a_row_whose_outage_splits_the_grid_is_left_out(env: ZonedGridEnv) -> None:
    env.reset(**env.episode_spec(0))
    least = LeastLoading(env)
    week, _ = episode_rows(env, 0, 12)
    lines = range(type(env.simulator).n_line)
    alone = [replace(week, outages=np.array([[line, 0, 2]], dtype=np.int32)) for line in lines]
    # the generator at substation 7 hangs on its only line
    (bridge,) = np.flatnonzero(
        (type(env.simulator).line_or_to_subid == 7) | (type(env.simulator).line_ex_to_subid == 7)
    )
    assert [line for line in lines if not list(least.rows(alone[line], [1]))] == [bridge]
    assert len(list(least.rows(alone[bridge], [1, 2]))) == 1  # back in row 2


def test_outages_are_looked_at_from_their_first_row(env: ZonedGridEnv) -> None:
    week, _ = episode_rows(env, 0, 12)
    for every in (7, 12, 5000):
        _, rows = episode_rows(env, 0, every)
        assert rows == sorted(set(rows)) and rows[0] == 0
        assert {int(first) for _, first, _ in week.outages if first <= env.scenarios.max_steps} <= set(rows)
