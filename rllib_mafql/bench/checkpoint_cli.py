"""The command `mafql bench checkpoint`."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rllib_mafql.bench.details import bundled_env_config
from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import BundledGrid, JsonFile


def checkpoint(
    grid: BundledGrid = "l2rpn_idf_2023",
    rows: Annotated[int, typer.Option(min=1000, help="Transitions in the replay.")] = 500_000,
    checkpoints: Annotated[int, typer.Option(min=1, help="Checkpoints that are measured.")] = 20,
    folder: Annotated[Path | None, typer.Option(help="Where to write, and remove again; default: temporary.")] = None,
    json_file: JsonFile = None,
) -> None:
    """How long training stands still for a checkpoint that keeps its replay."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.bench.checkpoint import measure_checkpoints
        from rllib_mafql.cli.cluster import hush, ray_session

        if folder is not None and not folder.is_dir():
            raise InputError(f"--folder {folder}: no such folder")
        env_config = bundled_env_config(grid, redispatch_solver="direct")
        hush()
        with counting_bar() as progress, tempfile.TemporaryDirectory(dir=folder) as place, ray_session():
            task = progress.add_task("filling", total=rows, rate="")
            report = measure_checkpoints(
                env_config, rows, checkpoints, Path(place), lambda more: progress.update(task, advance=more)
            )
        saves = np.array(report["save_s"])
        wide_console().print(
            f"{grid}: {report['rows']:,} transitions, {report['bytes'] / 1e9:.2f} GB\n"
            f"a checkpoint after each of {checkpoints} iterations of {np.mean(report['iteration_s']):.2f} s takes "
            f"{np.median(saves):.3f} s in the median, {saves.max():.3f} at most; without the replay "
            f"{report['without_replay_s']:.3f}\n"
            f"writing all of the replay takes {report['whole_s']:.1f} s, reading it {report['restore_s']:.1f}",
            markup=False,
            soft_wrap=True,
        )
        write_json(json_file, {"grid": grid, **report})
