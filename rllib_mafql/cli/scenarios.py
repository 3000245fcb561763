"""The commands `mafql scenarios generate`, `mafql scenarios describe` and `mafql scenarios infeasible`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json
from rllib_mafql.cli.shared_options import EnvConfig, Grid, JsonFile

if TYPE_CHECKING:
    from grid2op_zones import ZonedGridEnv
    from grid2op_zones.generator import Week
    from grid2op_zones.infeasible import Row

#: What the JSON of `mafql scenarios infeasible` says that it is.
KIND = "infeasible"

app = typer.Typer(
    help="Weeks of load, wind, sun and dispatch, generated from what ships with Grid2Op.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Split(StrEnum):
    """Which weeks of the year, and which seeds; train and test share neither."""

    train = "train"
    test = "test"
    all = "all"


@app.command()
def generate(
    grid: Grid = "l2rpn_idf_2023",
    weeks: Annotated[int, typer.Option(min=1, help="How many weeks; they are spread over the year.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other weeks.")] = 0,
    split: Annotated[
        Split, typer.Option(help="Train and test share no week; all: three train weeks to each test week.")
    ] = Split.train,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write to DIR/GRID/SPLIT-WEEKS-SEED, where an environment with scenarios.path DIR finds them; "
            "default: the user's cache, where it looks without a path.",
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Generate weeks for `scenarios.source: generated`; what is there already is kept.

    Two such commands at a time share the work. The JSON has grid, split, seed, folder, weeks, generated (how many of
    them now), seconds_per_week (mean and max of those, processor time; null if none) and mb_per_week (mean and max).
    """
    with reported():
        from grid2op_zones.generator import DispatchError, PowerFlowError, cache_folder, fill
        from grid2op_zones.simulator import check_grid

        place = (split.value, weeks, seed, out)
        try:
            check_grid(grid, "--grid")
            folder = cache_folder(grid, *place)
            seconds = _filled(fill(grid, *place), weeks)
        except (ValueError, OSError, DispatchError, PowerFlowError) as error:
            raise InputError(str(error)) from error
        sizes = [path.stat().st_size / 1e6 for path in folder.glob("*.npz")]
        text = f"{len(seconds)} weeks generated, {weeks - len(seconds)} were there; {sum(sizes):.1f} MB"
        if seconds:
            text += f"; of processor time {_mean(seconds):.2f} s a week, at most {max(seconds):.2f} s"
        tell(text)
        figures = {
            "grid": grid,
            "split": split.value,
            "seed": seed,
            "folder": str(folder),
            "weeks": weeks,
            "generated": len(seconds),
            "seconds_per_week": {"mean": _mean(seconds), "max": max(seconds)} if seconds else None,
            "mb_per_week": {"mean": _mean(sizes), "max": max(sizes)},
        }
        write_json(json_file, figures)
        typer.echo(folder)


@app.command()
def describe(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of weeks, or one that has exactly one of them below it."),
    ],
    episodes: Annotated[
        int, typer.Option(min=0, help="Do-nothing episodes for the survival, spread over the weeks; 0 for none.")
    ] = 12,
    month: Annotated[
        list[int] | None,
        typer.Option(min=1, max=12, help="Play those episodes on weeks that begin in this month only; repeatable."),
    ] = None,
    resets: Annotated[int, typer.Option(min=0, help="Resets that are timed; 0 for none.")] = 50,
    json_file: JsonFile = None,
    png_file: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the comparison.")] = None,
) -> None:
    """Compare generated weeks with the series that ship with their grid.

    The JSON has grid, weeks, months (load over the pattern's mean), series (statistics of recorded series and of the
    weeks of their season), survival (recorded, generated, months and whole_weeks, each with episodes, survived, low and
    high of Wilson's 95 % interval, and shortest) and reset_ms (generated, recorded_memory, recorded_csv; median
    processor time).
    """
    with reported():
        from grid2op_zones import generator

        try:
            weeks = _folder_of_weeks(folder)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = generator.describe(weeks, episodes, month or (), resets)
            write_json(json_file, report)
            if png_file is not None:
                generator.plot(weeks, png_file)
                tell(f"wrote {png_file}")
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from error
        _print_report(report)


@app.command()
def infeasible(
    grid: Grid = "l2rpn_idf_2023",
    config: EnvConfig = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many of the split's episodes.")] = 20,
    every: Annotated[
        int, typer.Option(min=1, help="Look at every so many rows, and at those where outages begin.")
    ] = 12,
    json_file: JsonFile = None,
) -> None:
    """Find the overloads of generated weeks that no dispatch prevents, whoever plays.

    For every row that is looked at: the least loading that the units could bring the lines to if each stood anywhere
    within its limits, by AC power flows, with the lines out that are planned to be. The search is a local one, from
    power flow to power flow. Attacks are not counted.

    The JSON has kind, settings (env_config, episodes, every, command, version, commit), infeasible (how many episodes
    have an infeasible row) and episodes: scenario, unsolved (rows without a power flow, left out), rows, overloaded
    (rows loaded above the limit with nothing done), infeasible (above it whatever is done), and worst, the row whose
    least loading is highest: row, time, out (lines), line (loaded highest), idle (loading with nothing done), least and
    moved_mw.
    """
    with reported():
        from grid2op_zones.generator import DispatchError, PowerFlowError
        from rllib_mafql.cli.record import env_config
        from rllib_mafql.evaluation.provenance import provenance

        settings = env_config(grid, config)
        if settings["scenarios"]["source"] != "generated":
            source = settings["scenarios"]["source"]
            raise InputError(
                f"scenarios.source is {source!r}: rows are looked at of generated weeks; set it to 'generated'"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _look(settings, episodes, every)
        except (ValueError, OSError, DispatchError, PowerFlowError) as error:
            raise InputError(str(error)) from error
        report = {
            "kind": KIND,
            "settings": {"env_config": settings, "episodes": episodes, "every": every, **provenance()},
            "infeasible": sum(episode["infeasible"] > 0 for episode in found),
            "episodes": found,
        }
        write_json(json_file, report)
        _print_infeasible(report)


def _look(settings: Mapping[str, Any], episodes: int, every: int) -> list[dict[str, Any]]:
    """What is told of each episode, with a line of progress."""
    from grid2op_zones import ZonedGridEnv
    from grid2op_zones.infeasible import LeastLoading, episode_rows

    env = ZonedGridEnv(dict(settings))
    least: LeastLoading | None = None
    found = []
    with counting_bar() as progress:
        task = progress.add_task("episodes", total=episodes, rate="")
        for k in range(episodes):
            spec = env.episode_spec(k)
            env.reset(**spec)
            least = least or LeastLoading(env)
            week, rows = episode_rows(env, spec["options"]["start"], every)
            seen = list(least.rows(week, rows))
            if not seen:
                raise InputError(f"episode {k}: none of the {len(rows)} rows looked at has a power flow")
            counts = {"scenario": int(spec["options"]["scenario"]), "unsolved": len(rows) - len(seen)}
            found.append(counts | _told(env, week, seen))
            progress.advance(task)
    env.close()
    return found


def _told(env: ZonedGridEnv, week: Week, rows: Sequence[Row]) -> dict[str, Any]:
    """What the rows of an episode come to."""
    names = type(env.simulator).name_line
    worst = max(rows, key=lambda row: row.least)
    return {
        "rows": len(rows),
        "overloaded": sum(row.idle > 1.0 for row in rows),
        "infeasible": sum(not row.feasible for row in rows),
        "worst": {
            "row": worst.row,
            "time": f"{week.start + worst.row * timedelta(minutes=5):%a %H:%M}",
            "out": [str(names[line]) for line in worst.out],
            "line": str(names[worst.line]),
            "idle": worst.idle,
            "least": worst.least,
            "moved_mw": worst.moved,
        },
    }


def _print_infeasible(report: Mapping[str, Any]) -> None:
    columns = ("episode", "rows", "overloaded", "infeasible", "worst at", "lines out", "line", "nothing done", "least")
    table = Table(*columns)
    for k, episode in enumerate(report["episodes"]):
        worst = episode["worst"]
        counts = (str(k), *(str(episode[name]) for name in ("rows", "overloaded", "infeasible")))
        loadings = (f"{worst['idle']:.3f}", f"{worst['least']:.3f}")
        table.add_row(*counts, worst["time"], " ".join(worst["out"]), worst["line"], *loadings)
    console = wide_console()
    console.print(table)
    total = len(report["episodes"])
    console.print(
        f"{report['infeasible']} of {total} episodes have an overload that no dispatch prevents", markup=False
    )


def _filled(files: Any, weeks: int) -> list[float]:
    """Run through `files` with a line of progress; returns the seconds of each week that was generated."""
    made: list[float] = []
    with counting_bar() as progress:
        task = progress.add_task("reading the grid", total=weeks, rate="")
        started = time.perf_counter()
        for path, seconds in files:
            made += [seconds] if seconds else []
            rate = f"{60.0 * len(made) / (time.perf_counter() - started):.1f} weeks/min" if made else ""
            progress.update(task, advance=1, description=path.name.removesuffix(".week.npz"), rate=rate)
    return made


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _folder_of_weeks(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    found = sorted({path.parent for path in folder.rglob("*.week.npz") if not path.name.startswith(".")})
    if folder in found:
        return folder
    if len(found) > 1:
        listed = ", ".join(str(path) for path in found)
        raise InputError(f"{folder}: there are several folders of weeks below it, choose one: {listed}")
    # none: the reader says what it misses
    return found[0] if found else folder


def _print_report(report: Mapping[str, Any]) -> None:
    console = wide_console()
    console.print(f"{report['grid']}: {report['weeks']} generated weeks", markup=False, style="bold")
    months = ", ".join(f"{month}: {level:.3f}" for month, level in report["months"].items())
    console.print(f"load over the pattern's mean, by month: {months}", markup=False, soft_wrap=True)
    for series in report["series"]:
        if not series["weeks"]:
            console.print(f"recorded series of {series['date']}: no week of its season", markup=False)
            continue
        title = f"recorded series of {series['date']}, {series['weeks']} weeks of its season"
        table = Table("", "recorded", "generated", "lowest", "highest", title=title)
        for name, value in series["recorded"].items():
            numbers = (value, series["generated"][name], *series["spread"][name])
            table.add_row(name, *(f"{number:.4g}" for number in numbers))
        console.print(table)
    survival = report.get("survival")
    if survival:
        rows = {name: survival[name] for name in ("recorded", "generated")}
        rows |= {f"generated, month {month}": shares for month, shares in survival["months"].items()}
        rows |= {f"whole weeks, month {month}": shares for month, shares in survival["whole_weeks"].items()}
        table = Table("do nothing", "episodes", "survived", "95 % interval", "shortest")
        for name, share in rows.items():
            interval = f"{share['low']:.2f} to {share['high']:.2f}"
            table.add_row(name, str(share["episodes"]), f"{share['survived']:.2f}", interval, str(share["shortest"]))
        console.print(table)
    if "reset_ms" in report:
        times = ", ".join(f"{name.replace('_', ' ')} {ms:.1f} ms" for name, ms in report["reset_ms"].items())
        console.print(f"reset, median processor time: {times}", markup=False, soft_wrap=True)
