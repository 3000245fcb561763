"""The commands `mafql bench ...`."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from rllib_mafql.bench.checkpoint_cli import checkpoint
from rllib_mafql.bench.cluster_cli import cluster
from rllib_mafql.bench.details import bundled_env_config, numbers, profile, redispatch, scaling
from rllib_mafql.bench.latency_cli import latency
from rllib_mafql.bench.safety_cli import safety
from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import BundledGrid, Grid, JsonFile

# One thread for everything that is measured, as Ray gives to its workers. It counts before numpy is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

app = typer.Typer(
    help="Measure what the parts of MAFQL cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for _command in (checkpoint, cluster, latency, profile, redispatch, safety, scaling):
    app.command()(_command)


@app.command()
def replay(
    grid: Grid = "l2rpn_idf_2023",
    rows: Annotated[int, typer.Option(min=1, help="Transitions to hold.")] = 1_000_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Transitions in a batch.")] = 256,
    json_file: JsonFile = None,
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
        write_json(json_file, {"grid": grid, **report})


@app.command()
def rollout(
    grid: BundledGrid = "l2rpn_idf_2023",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each measurement.")] = 300,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each kind, of which the median counts.")] = 7,
    workers: Annotated[str, typer.Option(help="Numbers of remote runners to compare, with commas.")] = "1,2",
    redispatch_solver: Annotated[str, typer.Option(help="The environment's: slsqp or direct.")] = "direct",
    json_file: JsonFile = None,
) -> None:
    """Environment steps per second, beside plain Grid2Op's, its gym layer's and RLlib's, in turns in one run."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        import rllib_mafql
        from rllib_mafql.bench.rollout import measure_rollouts, measure_workers, turns
        from rllib_mafql.cli.cluster import hush, ray_session

        compared = numbers(workers, "--workers")
        env_config = bundled_env_config(grid, redispatch_solver=redispatch_solver)
        rllib_mafql.register()
        hush()
        with counting_bar() as progress:
            task = progress.add_task("measuring", total=turns(repeats, compared), rate="")

            def advance() -> None:
                progress.update(task, advance=1)

            report = measure_rollouts(env_config, steps, repeats, advance)
            with ray_session("local", num_cpus=max(compared)):
                report |= measure_workers(env_config, steps, repeats, compared, advance)
        report = {"grid": grid, "solver": redispatch_solver, "steps": steps, "repeats": repeats, **report}
        wide_console().print(_rollout_table(report))
        efficiency = report["scaling_efficiency"]
        scaling = (
            "" if efficiency is None else f"{max(compared)} runners come to {efficiency:.0%} of as many single ones; "
        )
        wide_console().print(
            f"with SLSQP the runner is {report['runner_slsqp_over_plain']:.2f} times plain Grid2Op; {scaling}"
            f"the runner adds {report['runner_own_us']:.0f} us to a step; "
            f"a runner's process with 4 environments takes {report['rss_mb']:.0f} MB, "
            f"{report['private_mb']:.0f} of them its own"
        )
        write_json(json_file, report)


def _rollout_table(report: dict[str, Any]) -> Table:
    from rllib_mafql.bench.rollout import RATIOS, WAYS

    over = {other: (one, name) for name, (one, other) in RATIOS.items() if one in ("runner", "runner_policy")}
    table = Table(f"steps/s on {report['grid']}", box=None, pad_edge=False)
    for name in ("rate", "ms a reset", "", ""):
        table.add_column(name, justify="right")
    for way in WAYS:
        one, ratio = over.get(way, ("", ""))
        compared = (f"{one} over it", f"{report[ratio]:.2f}") if ratio else ("", "")
        table.add_row(way, f"{report[f'{way}_steps_per_s']:,.0f}", f"{report['reset_ms'][way]:.1f}", *compared)
    for number, rate in report["workers_steps_per_s"].items():
        table.add_row(f"{number} remote, resets included", f"{rate:,.0f}")
    return table


@app.command()
def learner(
    grid: Grid = "l2rpn_idf_2023",
    batch_size: Annotated[int, typer.Option(min=2, help="Transitions in an update.")] = 256,
    updates: Annotated[int, typer.Option(min=1, help="Updates of each; fewer of RLlib's SAC.")] = 200,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads of each.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    compiled: Annotated[bool, typer.Option(help="Measure torch.compile, too: it compiles for minutes.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Learner updates a second: MAFQL's, the same in bare torch, and those of RLlib's multi-agent SAC."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        import torch

        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"--device {device!r}: expected auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch finds no GPU")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        sizes = zone_sizes(grid)
        logging.getLogger("ray").setLevel(logging.ERROR)
        from rllib_mafql.bench.learner import measure_learner, total_updates

        with counting_bar() as progress:
            task = progress.add_task("updating", total=total_updates(updates, compiled), rate="")
            report = measure_learner(
                sizes, batch_size, updates, device, threads, compiled, lambda done: progress.update(task, advance=done)
            )
        variants = ", ".join(f"{name} {v['updates_per_s']:.1f}" for name, v in report["variants"].items())
        own, sac = (report["parameters"][name] / 1e6 for name in ("mafql", "rllib_sac"))
        wide_console().print(
            f"{grid}, batches of {batch_size}, {report['device']}, {threads} torch thread{'s' * (threads > 1)}: MAFQL "
            f"({own:.1f} million parameters) does {report['updates_per_s']:.1f} updates a second, "
            f"{report['over_bare_torch']:.2f} times the {report['bare_torch_updates_per_s']:.1f} of the same networks "
            f"and losses in a bare torch loop and {report['over_rllib_sac']:.1f} times the "
            f"{report['rllib_sac_updates_per_s']:.1f} of RLlib's multi-agent SAC ({sac:.1f} million parameters). "
            f"Variants: {variants}.",
            markup=False,
            soft_wrap=True,
        )
        write_json(json_file, {"grid": grid, **report})


def joint_sizes(grid: str) -> tuple[int, int]:
    """Sizes of a grid's joint observation and joint action; InputError if there is no such grid."""
    sizes = zone_sizes(grid).values()
    return sum(d for d, _ in sizes), sum(m for _, m in sizes)


def zone_sizes(grid: str) -> dict[str, tuple[int, int]]:
    """Zone -> sizes of its observation and its action; InputError if there is no such grid."""
    from grid2op_zones import ZonedGridEnv
    from grid2op_zones.simulator import check_grid

    try:
        check_grid(grid, "--grid")
        env = ZonedGridEnv({"grid": grid})
    except ValueError as error:
        raise InputError(str(error)) from error
    sizes = {zone: (size, env.action_map.sizes[zone]) for zone, size in env.observer.sizes.items()}
    env.close()
    return sizes
