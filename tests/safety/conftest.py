"""Grids whose zones project onto units and lines, shared by these tests; each starts from `templates` or a reset."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from grid2op_zones import ZonedGridEnv
from tests.safety.states import Grid


def _grid(name: str) -> Iterator[Grid]:
    env = ZonedGridEnv({"grid": name, "redispatch_solver": "direct", "safety": {"level": "lines"}})
    yield Grid(env)
    env.close()


@pytest.fixture(scope="session")
def idf() -> Iterator[Grid]:
    """The 118-bus grid: three zones that balance themselves."""
    yield from _grid("l2rpn_idf_2023")


@pytest.fixture(scope="session")
def storage14() -> Iterator[Grid]:
    """The 14-bus grid with storages: zones that the grid balances."""
    yield from _grid("educ_case14_storage")


@pytest.fixture(scope="session")
def sandbox14() -> Iterator[Grid]:
    """The 14-bus grid without storages."""
    yield from _grid("l2rpn_case14_sandbox")


@pytest.fixture(scope="session", params=["idf", "storage14", "sandbox14"])
def grid(request: pytest.FixtureRequest) -> Grid:
    """Each of the grids in turn."""
    found: Grid = request.getfixturevalue(request.param)
    return found
