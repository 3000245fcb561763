"""Weeks of load, wind, sun and dispatch for Grid2Op grids, generated from what ships with Grid2Op.

``read_grid(name)`` reads a grid's parameters, ``generate(grid, date, seed)`` makes a week, ``write_weeks`` a folder,
``GeneratedWeeks`` plays the folder in Grid2Op, ``split_weeks`` says which weeks are trained on and which are held out,
``fill`` completes the folder that environments share, ``describe`` compares a folder with the recorded series.
"""

from grid2op_zones.generator.cache import cache_folder, default_cache, fill
from grid2op_zones.generator.chronics import GeneratedWeeks
from grid2op_zones.generator.describe import describe, plot
from grid2op_zones.generator.dispatch import DispatchError
from grid2op_zones.generator.grid import GridModel, read_grid
from grid2op_zones.generator.powerflow import PowerFlowError
from grid2op_zones.generator.splits import split_weeks
from grid2op_zones.generator.store import WeekFileError, list_weeks, read_week, week_rows, write_week, write_weeks
from grid2op_zones.generator.week import WEEK, Week, generate

__all__ = [
    "WEEK",
    "DispatchError",
    "GeneratedWeeks",
    "GridModel",
    "PowerFlowError",
    "Week",
    "WeekFileError",
    "cache_folder",
    "default_cache",
    "describe",
    "fill",
    "generate",
    "list_weeks",
    "plot",
    "read_grid",
    "read_week",
    "split_weeks",
    "week_rows",
    "write_week",
    "write_weeks",
]
