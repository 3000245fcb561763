"""Grids and weeks that the generator's tests share; no test changes them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from grid2op_zones.generator import GridModel, Week, generate, read_grid, write_week

#: A summer week, with maintenance, sun and little load.
SUMMER = date(2035, 8, 20)


@pytest.fixture(scope="session")
def case14() -> GridModel:
    return read_grid("l2rpn_case14_sandbox")


@pytest.fixture(scope="session")
def idf() -> GridModel:
    return read_grid("l2rpn_idf_2023")


@pytest.fixture(scope="session")
def summer(idf: GridModel) -> Week:
    return generate(idf, SUMMER, 3)


@pytest.fixture(scope="session")
def summer_folder(summer: Week, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("idf_weeks")
    write_week(folder, summer)
    return folder
