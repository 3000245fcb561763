"""The command `mafql bench safety`."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, nearest, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json
from rllib_mafql.cli.shared_options import JsonFile

#: Column, heading, form; what is missing at a level is a dash.
COLUMNS = (
    ("survival", "survival", "{:.0%}"),
    ("score", "score", "{:.3f}"),
    ("overload_steps", "overloads", "{:,}"),
    ("overload_steps_per_1000", "/1,000", "{:.2f}"),
    ("refused_actions", "refused", "{:,}"),
    ("impossible_redispatch", "impossible", "{:,}"),
    ("projected", "projected", "{:.0%}"),
    ("projection_distance", "distance", "{:.2f}"),
    ("unguaranteed", "unsure", "{:.1%}"),
    ("broken_guarantees", "broken", "{:,}"),
)

DEFAULT_CONFIG: dict[str, Any] = {
    "scenarios": {"source": "generated", "weeks": 8, "split": "test"},
    "redispatch_solver": "direct",
}


def safety(
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="AGENT...", help="As of `mafql evaluate`; default: random.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="Grid2Op grid; default: the checkpoints', or l2rpn_idf_2023.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each agent at each level.")] = 200,
    config: Annotated[
        str | None,
        typer.Option(help="env_config keys to override: JSON or YAML, or a file; 8 generated test weeks if not given."),
    ] = None,
    levels: Annotated[str, typer.Option(help="Levels of safety.level, with commas.")] = "none,units,lines",
    workers: Annotated[int, typer.Option(min=0, help="Ray workers of one CPU each; 0: play in this process.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Let agents play the same held-out episodes with and without the safety projection."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from grid2op_zones.config import SAFETY_LEVELS
        from rllib_mafql.bench.safety import measure_safety
        from rllib_mafql.cli.cluster import ray_session
        from rllib_mafql.evaluation.agents import resolve_agents
        from rllib_mafql.evaluation.cli import read_overrides
        from rllib_mafql.evaluation.policies import SetupError
        from rllib_mafql.evaluation.rollouts import EpisodeResult
        from rllib_mafql.evaluation.settings import merge

        wanted = [level.strip() for level in levels.split(",")]
        for level in wanted:
            if level not in SAFETY_LEVELS:
                raise InputError(f"--levels: unknown level {level!r}{nearest(level, SAFETY_LEVELS)}")
        try:
            overrides = merge(DEFAULT_CONFIG, {} if config is None else read_overrides(config))
            specs, notes = resolve_agents(
                agents or ["random"], find_checkpoint=find_checkpoint, grid=grid, overrides=overrides
            )
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        for note in notes:
            tell(note)
        with counting_bar() as progress:
            task = progress.add_task("playing", total=len(specs) * len(wanted) * episodes, rate="")

            def advance(result: EpisodeResult) -> None:
                progress.update(task, advance=1)
                if result.error is not None:
                    progress.console.print(
                        f"episode {result.episode} of {result.agent}: {result.error}", markup=False, soft_wrap=True
                    )

            try:
                with ray_session("local", num_cpus=workers) if workers else nullcontext():
                    rows = measure_safety(specs, wanted, episodes, workers, advance, tell)
            except SetupError as error:
                raise InputError(str(error)) from error
        where = specs[0].env_config["grid"]
        wide_console().print(_table(where, episodes, rows))
        write_json(json_file, {"grid": where, "env_config": specs[0].env_config, "results": rows})
    if any(row["errors"] for row in rows):
        raise typer.Exit(1)


def _table(grid: str, episodes: int, rows: list[dict[str, Any]]) -> Table:
    table = Table("agent, level", title=f"{grid}, {episodes} episodes", title_justify="left", box=None, pad_edge=False)
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = ["-" if key not in row else form.format(row[key]) for key, _, form in COLUMNS]
        table.add_row(f"{row['agent']}, {row['level']}", *cells)
    return table
