"""The commands `mafql scenarios generate` and `mafql scenarios describe`."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported

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
    grid: Annotated[str, typer.Option(help="Grid2Op grid, by name or folder.")] = "l2rpn_idf_2023",
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
) -> None:
    """Generate weeks for `scenarios.source: generated`; what is there already is kept."""
    with reported():
        from grid2op_zones.generator import DispatchError, PowerFlowError, cache_folder, fill
        from grid2op_zones.simulator import check_grid

        place = (split.value, weeks, seed, out)
        try:
            check_grid(grid, "--grid")
            folder = cache_folder(grid, *place)
            made = _filled(fill(grid, *place), weeks)
        except (ValueError, OSError, DispatchError, PowerFlowError) as error:
            raise InputError(str(error)) from error
        size = sum(path.stat().st_size for path in folder.glob("*.npz"))
        _tell(f"{made} weeks generated, {weeks - made} were there; {size / 1e6:.1f} MB")
        typer.echo(folder)


@app.command()
def describe(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of weeks, or one that has exactly one of them below it."),
    ],
    episodes: Annotated[int, typer.Option(min=0, help="Do-nothing episodes for the survival; 0 for none.")] = 12,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    png_file: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the comparison.")] = None,
) -> None:
    """Compare generated weeks with the series that ship with their grid."""
    with reported():
        from grid2op_zones import generator

        try:
            weeks = _folder_of_weeks(folder)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = generator.describe(weeks, episodes)
            if json_file is not None:
                json_file.parent.mkdir(parents=True, exist_ok=True)
                json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            if png_file is not None:
                generator.plot(weeks, png_file)
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from error
        _print_report(report)
        for file in (json_file, png_file):
            if file is not None:
                _tell(f"wrote {file}")


def _filled(files: Any, weeks: int) -> int:
    """Run through `files` with a line of progress; returns how many weeks were generated."""
    made = 0
    with counting_bar() as progress:
        task = progress.add_task("reading the grid", total=weeks, rate="")
        started = time.perf_counter()
        for path, new in files:
            made += new
            rate = f"{60.0 * made / (time.perf_counter() - started):.1f} weeks/min" if made else ""
            progress.update(task, advance=1, description=path.name.removesuffix(".week.npz"), rate=rate)
    return made


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
    console = Console(highlight=False)
    if not console.is_terminal:  # nothing to fit into
        console = Console(highlight=False, width=120)
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
        console.print(
            f"do-nothing episodes that last a day: recorded {survival['recorded']:.0%}, generated "
            f"{survival['generated']:.0%}, of {survival['episodes']} each",
            markup=False,
        )


def _tell(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
