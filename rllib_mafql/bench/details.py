"""The commands `mafql bench profile | redispatch | scaling`: what lies behind the rates of the others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, nearest, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json
from rllib_mafql.cli.shared_options import BundledGrid, JsonFile


def bundled_env_config(grid: str, **settings: Any) -> dict[str, Any]:
    """An env_config; InputError if it is wrong or the grid does not ship with Grid2Op."""
    from grid2op.MakeEnv.Make import TEST_DEV_ENVS

    from grid2op_zones.config import check_env_config

    if grid not in TEST_DEV_ENVS:
        raise InputError(f"--grid {grid!r} does not ship with Grid2Op{nearest(grid, TEST_DEV_ENVS)}")
    env_config = {"grid": grid, **settings}
    try:
        check_env_config(env_config)
    except ValueError as error:
        raise InputError(str(error)) from error
    return env_config


def numbers(text: str, option: str) -> list[int]:
    """Numbers with commas between them, in order; InputError names the option."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{option} {text!r}: expected numbers of at least 1 with commas between them, such as 1,2")
    return sorted({int(part) for part in parts})


def profile(
    grid: BundledGrid = "l2rpn_idf_2023",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each measurement.")] = 300,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each way to play.")] = 5,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the report.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Where the time of a step goes, in plain Grid2Op and in ZonedGridEnv."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.bench.profile import PARTS, draw_profile, profile_steps

        bundled_env_config(grid)
        with counting_bar() as progress:
            task = progress.add_task("measuring", total=3 * repeats, rate="")
            report = profile_steps(grid, steps, repeats, lambda: progress.update(task, advance=1))
        table = Table(f"microseconds a step on {grid}", box=None, pad_edge=False)
        for name in (*PARTS, "in all"):
            table.add_column(name, justify="right")
        for way, shares in report.items():
            values = (*shares.values(), sum(shares.values()))
            table.add_row(way, *(f"{value:,.0f}" for value in values))
        wide_console().print(table)
        if png is not None:
            png.parent.mkdir(parents=True, exist_ok=True)
            draw_profile(report, f"A step of random legal play on {grid}", png)
            tell(f"wrote {png}")
        write_json(json_file, {"grid": grid, "steps": steps, "repeats": repeats, "microseconds": report})


def redispatch(
    grid: BundledGrid = "l2rpn_idf_2023",
    steps: Annotated[int, typer.Option(min=1, help="Steps of random play.")] = 3_000,
    json_file: JsonFile = None,
) -> None:
    """How the direct redispatch solver differs from Grid2Op's own (SLSQP) on the same problems."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.bench.redispatch import compare_solvers

        bundled_env_config(grid)
        with counting_bar() as progress:
            task = progress.add_task("playing", total=steps, rate="")
            report = compare_solvers(grid, steps, on_steps=lambda done: progress.update(task, advance=done))
        difference, excess, took = (report[name] for name in ("difference_mw", "objective_excess", "solve_us"))
        wide_console().print(
            f"{grid}: {report['same_verdict']:,} of {report['problems']:,} problems with the same verdict, "
            f"{report['worse_objective']} with a worse objective than SLSQP's, which is above the optimum by "
            f"{excess['median']:.3g} (median) and at most {excess['max']:.3g}\na unit's dispatch differs by "
            f"{difference['median']:.3g} MW (median), {difference['p99']:.3g} (P99), {difference['max']:.3g} (most); "
            f"a problem takes {took['direct']:.0f} us, SLSQP {took['slsqp']:.0f}",
            markup=False,
            soft_wrap=True,
        )
        write_json(json_file, {"grid": grid, "steps": steps, **report})


def scaling(
    grid: BundledGrid = "l2rpn_idf_2023",
    updates_per_s: Annotated[float, typer.Option(min=0.0, help="Of the learner, see bench learner.")] = 20.0,
    num_updates: Annotated[int, typer.Option(min=1, help="Between syncs of weights.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each constant.")] = 20,
    json_file: JsonFile = None,
) -> None:
    """What a step costs driver and object store, measured, and what that comes to with up to 1,000 runners."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        import rllib_mafql
        from rllib_mafql.bench.scaling import RUNNERS, RUNNERS_PER_NODE, measure_constants, model
        from rllib_mafql.cli.cluster import hush, ray_session

        env_config = bundled_env_config(grid, redispatch_solver="direct")
        rllib_mafql.register()
        hush()
        with ray_session("local", num_cpus=1), counting_bar() as progress:
            task = progress.add_task("measuring", total=repeats + 1, rate="")
            constants = measure_constants(env_config, repeats, lambda: progress.update(task, advance=1))
        syncs = updates_per_s / num_updates
        modelled = [model(constants, syncs, runners) for runners in RUNNERS]
        wide_console().print(
            f"{grid}: a runner plays {constants['runner_steps_per_s']:,.0f} steps/s; a step takes "
            f"{constants['bytes_per_step']:,.0f} bytes, {constants['put_us_per_step']:.1f} us to put there, "
            f"{constants['get_us_per_step']:.1f} to read, {constants['store_us_per_step']:.1f} to store; weights are "
            f"{constants['weights_mb']:.1f} MB, {constants['load_weights_ms']:.1f} ms for a runner to load",
            markup=False,
            soft_wrap=True,
        )
        table = Table("runners", box=None, pad_edge=False)
        for name in ("steps/s", "object store MB/s", "driver's core", "weights MB/s", "replay GB/hour"):
            table.add_column(name, justify="right")
        for row in modelled:
            table.add_row(
                f"{row['runners']:,}",
                f"{row['steps_per_s']:,.0f}",
                f"{row['object_store_mb_per_s']:,.1f}",
                f"{row['driver_share']:.1%}",
                f"{row['weights_mb_per_s']:,.1f}",
                f"{row['replay_gb_per_hour']:,.0f}",
            )
        wide_console().print(table)
        report = {"grid": grid, "syncs_per_s": syncs, "runners_per_node": RUNNERS_PER_NODE}
        write_json(json_file, {**report, "constants": constants, "model": modelled})
