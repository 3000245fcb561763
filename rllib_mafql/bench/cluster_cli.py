"""The command `mafql bench cluster`."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.bench.details import bundled_env_config, numbers
from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import BundledGrid, JsonFile


def cluster(
    grid: BundledGrid = "l2rpn_idf_2023",
    nodes: Annotated[int, typer.Option(min=1, help="Simulated nodes beside the head.")] = 8,
    runners: Annotated[str, typer.Option(help="Numbers of runners to compare, with commas.")] = "1,2,4,8",
    learners: Annotated[int, typer.Option(min=1, help="Remote learners, at most one a node.")] = 2,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations measured for each number of runners.")] = 20,
    num_updates: Annotated[int, typer.Option(min=1, help="Updates of each learner in an iteration.")] = 4,
    fragment: Annotated[int, typer.Option(min=1, help="Steps of a request; tuned examples have 200.")] = 200,
    replay_shards: Annotated[int, typer.Option(min=0, help="Actors with the replay; 0: the driver.")] = 0,
    steps_per_s: Annotated[float, typer.Option(min=0.0, help="A runner's, to extrapolate with.")] = 1_000.0,
    updates_per_s: Annotated[float, typer.Option(min=0.0, help="A learner's, to extrapolate with.")] = 20.0,
    json_file: JsonFile = None,
) -> None:
    """What a run on a simulated cluster costs its driver, and what that comes to with up to 1,000 runners."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.bench.cluster import EXTRAPOLATED, extrapolate, measure_cluster
        from rllib_mafql.bench.simulated import simulated_cluster
        from rllib_mafql.cli.cluster import hush

        compared = numbers(runners, "--runners")
        if learners > nodes:
            raise InputError(f"--learners {learners}: at most one for each of the {nodes} nodes")
        env_config = bundled_env_config(grid, redispatch_solver="direct")
        hush()
        with counting_bar() as progress:
            task = progress.add_task("running", total=len(compared), rate="")
            with simulated_cluster(nodes, -(-max(compared) // nodes)):
                report = measure_cluster(
                    env_config,
                    compared,
                    learners,
                    iterations,
                    num_updates,
                    fragment,
                    replay_shards,
                    lambda: progress.update(task, advance=1),
                )
        report = {"grid": grid, "nodes": nodes, **report}
        report["extrapolated"] = [extrapolate(report, number, steps_per_s, updates_per_s) for number in EXTRAPOLATED]
        _show(report)
        write_json(json_file, report)


def _show(report: dict[str, Any]) -> None:
    console, found, last = wide_console(), report["costs"], report["runs"][-1]
    where = f"{report['replay_shards']} shards" if report["replay_shards"] else "the driver"
    table = Table("runners", box=None, pad_edge=False)
    for name in ("steps/s", "driver's core", "of it idle", "ms of it for 1,000 steps", "memory MB", "of it the replay"):
        table.add_column(name, justify="right")
    for run in report["runs"]:
        table.add_row(
            f"{run['runners']:,}",
            f"{run['steps_per_s']:,.0f}",
            f"{run['driver_cpu']:.1%}",
            f"{run['idle_cpu']:.1%}",
            f"{1e6 * run['driver_s'] / run['steps']:,.1f}",
            f"{run['driver_mb']:,.0f}",
            f"{run['replay_mb']:,.1f}",
        )
    console.print(table)
    console.print(
        f"{report['grid']}, {report['nodes']} nodes, {report['learners']} learners, replay in {where}: a request of "
        f"{report['fragment']} steps takes {found['request_ms']:.2f} ms of the driver, a row for a learner "
        f"{found['row_us']:.2f} us ({found['drawing_us']:.2f} of them to draw it), a sync of weights "
        f"{found['sync_ms']:.1f} ms, an iteration beside these {found['iteration_ms']:.1f} ms; 1,000 transitions, "
        f"stored and drawn once, {found['transitions_ms']:.1f} ms; a further runner {found['runner_mb']:.2f} MB\n"
        f"through the driver: {last['transition_bytes_per_step']:,.0f} bytes a step, "
        f"{last['batch_bytes_per_row']:,.0f} a row for a learner, "
        f"{last['weights_bytes'] / 1e6:.1f} MB of weights a sync",
        markup=False,
        soft_wrap=True,
    )
    table = Table("extrapolated to runners", box=None, pad_edge=False)
    for name in ("driver's cores", "collecting", "learning", "syncing", "MB/s in", "MB/s out", "memory MB"):
        table.add_column(name, justify="right")
    for row in report["extrapolated"]:
        shares = (f"{row[name]:.2f}" for name in ("driver", "collecting", "learning", "syncing"))
        rates = (f"{row[name]:,.0f}" for name in ("transition_mb_per_s", "batch_mb_per_s", "memory_mb"))
        table.add_row(f"{row['runners']:,}", *shares, *rates)
    console.print(table)
