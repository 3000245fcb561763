"""The commands `mafql data describe`, `mafql data to-minari` and `mafql data from-minari`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import mix_table, tell, wide_console, write_json
from rllib_mafql.cli.shared_options import JsonFile

if TYPE_CHECKING:
    from rllib_mafql.offline import RecordedFragment, RecordingSchema

app = typer.Typer(
    help="Recorded transitions: what they hold, and their exchange with Minari.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out files and row groups that cannot be read.")]
DatasetId = Annotated[str, typer.Option("--id", metavar="NAME-v0", help="Of the new Minari dataset.")]


@app.command()
def describe(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of recorded data, file or pattern.")],
    json_file: JsonFile = None,
    skip_bad: SkipBad = False,
) -> None:
    """Read all of a recording, check it, and tell what it holds."""
    with reported(), _input_errors():
        from rllib_mafql.offline import open_recording
        from rllib_mafql.offline.description import Description

        recording = open_recording(data, skip_bad)
        description = Description(recording)
        with _progress("reading", recording.rows) as advance:
            for fragment in recording.read():
                description.add(fragment)
                advance(fragment)
        report = description.report()
        _print_report(data, report)
        write_json(json_file, report)


@app.command()
def to_minari(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of recorded data, file or pattern.")],
    dataset_id: DatasetId,
    layout: Annotated[
        str, typer.Option(metavar="joint|ZONE", help="All zones side by side, or one of them with the team's reward.")
    ] = "joint",
    skip_bad: SkipBad = False,
) -> None:
    """Write a recording as a local Minari dataset."""
    with reported(), _input_errors():
        from rllib_mafql.offline import minari, open_recording

        recording = open_recording(data, skip_bad)
        with _progress("writing", recording.rows) as advance:
            counts = minari.to_minari(recording, dataset_id, layout, on_episode=advance)
        tell(f"{counts['episodes']:,} episodes, {counts['steps']:,} steps")
        if counts["cut"]:
            tell(f"{counts['cut']:,} of them were not recorded to their end: they end with a truncation, marked as cut")
        if counts["headless"]:
            tell(f"{counts['headless']:,} of them were not recorded from their start: their first_step is above 0")
        for path, reason in recording.skipped.items():
            tell(f"left out: {path}: {reason}")
    typer.echo(dataset_id)


@app.command()
def from_minari(
    dataset_id: Annotated[str, typer.Argument(metavar="ID", help="A local Minari dataset.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the recording.")],
    like: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_GRID",
            help="Recorded data or a grid with the same zones; not needed for what `to-minari` wrote.",
        ),
    ] = None,
) -> None:
    """Write a local Minari dataset of joint observations and actions as a recording."""
    with reported(), _input_errors():
        from rllib_mafql.offline import minari

        schema = None if like is None else _schema_like(like)
        with _progress("writing", None) as advance:
            counts = minari.from_minari(dataset_id, out, schema, on_episode=advance)
        tell(f"{counts['episodes']:,} episodes, {counts['steps']:,} steps")
    typer.echo(out)


def _schema_like(like: str) -> RecordingSchema:
    from rllib_mafql.offline import RecordingSchema, open_recording

    if Path(like).expanduser().exists():
        return open_recording(like).schema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from grid2op_zones import ZonedGridEnv

        try:
            env = ZonedGridEnv({"grid": like})
        except ValueError as error:
            raise InputError(f"--like: neither recorded data nor a grid: {error}") from error
        obs, actions = env.observer.sizes, env.action_map.sizes
        env.close()
    return RecordingSchema(tuple((agent, obs[agent], actions[agent]) for agent in obs), env.fingerprint)


@contextmanager
def _input_errors() -> Iterator[None]:
    """Errors that are the data's, or the folder's, are the user's to mend."""
    from rllib_mafql.offline import RecordingError
    from rllib_mafql.offline.minari import MinariMissingError

    try:
        yield
    except (RecordingError, MinariMissingError, OSError) as error:
        raise InputError(str(error)) from error


@contextmanager
def _progress(what: str, rows: int | None) -> Iterator[Callable[[RecordedFragment], None]]:
    """A bar over the steps of fragments; it appears with the first one, so that errors before that stand alone."""
    progress = counting_bar()
    task = progress.add_task(what, total=rows, rate="")

    def advance(fragment: RecordedFragment) -> None:
        progress.start()
        progress.update(task, advance=fragment.fragment.steps)

    try:
        yield advance
    finally:
        progress.stop()


def _print_report(data: str, report: dict[str, Any]) -> None:
    console = wide_console()
    console.print(
        f"{data}: {report['rows']:,} steps of grid {report['grid']}; {report['files']} files, "
        f"{report['bytes'] / 1e6:.1f} MB, schema version {report['version']}, written by "
        f"{', '.join(report['written_by'])}",
        markup=False,
        soft_wrap=True,
        style="bold",
    )
    if report["survival"] is not None:
        console.print(
            f"{report['episodes']:,} episodes, {report['whole_episodes']:,} of them whole, the longest of "
            f"{report['longest_episode']} steps; {report['survival']:.0%} survive, score {report['mean_score']:.3f}",
            soft_wrap=True,
        )
    console.print(mix_table(report["mixes"]))
    policies = ", ".join(f"{name} {rows:,}" for name, rows in report["policies"].items())
    console.print(f"steps by policy: {policies}; {report['behavior_rows']:,} of them to clone", soft_wrap=True)
    table = Table("column", "size", "lowest", "highest", "mean", box=None, pad_edge=False)
    for name, column in report["columns"].items():
        table.add_row(name, str(column["size"]), *(f"{column[key]:.4g}" for key in ("min", "max", "mean")))
    console.print(table)
    for path, reason in report["skipped"].items():
        tell(f"left out: {path}: {reason}")
