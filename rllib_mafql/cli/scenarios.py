"""The commands `mafql scenarios generate` and `mafql scenarios describe`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json
from rllib_mafql.cli.shared_options import Grid, JsonFile

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
