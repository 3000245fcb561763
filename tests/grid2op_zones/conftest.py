"""Environments that the tests share; a test that changes one restores nothing, since every test starts with reset."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from grid2op_zones import ZonedGridEnv

#: Limits at which lines hardly ever trip, so that an episode ends for other reasons only.
NO_LIMITS = 30.0


@pytest.fixture(scope="session")
def idf() -> Iterator[ZonedGridEnv]:
    """The 118-bus grid, held-out days, stock limits."""
    env = ZonedGridEnv({"scenarios": {"split": "test"}})
    yield env
    env.close()


@pytest.fixture(scope="session")
def idf_unlimited() -> Iterator[ZonedGridEnv]:
    """The 118-bus grid, both days of each series, lines that do not trip."""
    env = ZonedGridEnv({"scenarios": {"split": "all"}, "thermal_limit_scale": NO_LIMITS})
    yield env
    env.close()


@pytest.fixture(scope="session")
def case14() -> Iterator[ZonedGridEnv]:
    """The 14-bus grid, training days."""
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox"})
    yield env
    env.close()


@pytest.fixture(scope="session")
def storage14() -> Iterator[ZonedGridEnv]:
    """The 14-bus grid with storages, lines that do not trip."""
    env = ZonedGridEnv({"grid": "educ_case14_storage", "thermal_limit_scale": NO_LIMITS})
    yield env
    env.close()
