"""The command `mafql bench replay`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import psutil
import typer

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json

app = typer.Typer(
    help="Measure what the parts of MAFQL cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _bench() -> None:
    pass  # with it, a single command keeps its name


@app.command()
def replay(
    grid: Annotated[str, typer.Option(help="Grid2Op grid, by name or folder.")] = "l2rpn_idf_2023",
    rows: Annotated[int, typer.Option(min=1, help="Transitions to hold.")] = 1_000_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Transitions in a batch.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
) -> None:
    """Bytes for each transition that the replay holds, and the time to draw a batch."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.bench.replay import measure_replay

        obs_size, action_size = joint_sizes(grid)
        needed, free = 4 * rows * (obs_size + action_size), psutil.virtual_memory().available
        if needed > 0.9 * free:
            raise InputError(
                f"--rows {rows}: their observations and actions take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
                f"are free; at most {int(0.9 * free / needed * rows):,} fit"
            )
        with counting_bar() as progress:
            task = progress.add_task("filling", total=rows, rate="")
            report = measure_replay(
                obs_size, action_size, rows, batch_size, on_rows=lambda more: progress.update(task, advance=more)
            )
        sample = report["sample_ms"]
        wide_console().print(
            f"{grid}: {report['rows']:,} transitions in {report['bytes'] / 1e9:.3f} GB, "
            f"{report['bytes_over_data']:.3f} times the bytes of their observations ({obs_size}) and actions "
            f"({action_size})\nadding a day: {report['add_ms']:.2f} ms; drawing {batch_size}: mean "
            f"{sample['mean']:.3f} ms, median {sample['p50']:.3f}, P99 {sample['p99']:.3f}, most {sample['max']:.3f}",
            markup=False,
            soft_wrap=True,
        )
        if json_file is not None:
            write_json(json_file, {"grid": grid, **report})
            tell(f"wrote {json_file}")


def joint_sizes(grid: str) -> tuple[int, int]:
    """Sizes of a grid's joint observation and joint action; InputError if there is no such grid."""
    from grid2op_zones import ZonedGridEnv
    from grid2op_zones.simulator import check_grid

    try:
        check_grid(grid, "--grid")
        env = ZonedGridEnv({"grid": grid})
    except ValueError as error:
        raise InputError(str(error)) from error
    sizes = sum(env.observer.sizes.values()), sum(env.action_map.sizes.values())
    env.close()
    return sizes
