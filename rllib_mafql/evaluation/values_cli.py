"""The command `mafql values`: what a critic knows of recorded play."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.outcome import shown
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import JsonFile
from rllib_mafql.evaluation.provenance import provenance

#: What its JSON says that it is.
KIND = "values"

#: Measure -> heading and form, of values beside returns and of actions beside those played.
RETURNS = {
    "rows": ("Steps", "{:,}"),
    "return": ("Return", "{:.2f}"),
    "value": ("Value", "{:.2f}"),
    "bias": ("Bias", "{:+.2f}"),
    "error": ("Error", "{:.2f}"),
    "spread": ("Returns' spread", "{:.2f}"),
    "rank": ("Rank correlation", "{:.2f}"),
    "warning": ("Warns of loss", "{:.2f}"),
}
ACTIONS = {
    "distance": ("Distance", "{:.3f}"),
    "difference": ("Value less that of what was played", "{:+.3f}"),
    "size": ("Size", "{:.3f}"),
    "preferred": ("Valued higher", "{:.0%}"),
    "agreed": ("Critics agree", "{:.0%}"),
}


def values(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Of MAFQL or its kin, or a run's folder.")],
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of recorded data, file or pattern.")],
    rows: Annotated[int, typer.Option(min=1, help="Recorded steps that are judged.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of steps and random actions.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Hold a critic's values against what came of recorded play, and against each other for actions of one state."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.evaluation.policies import SetupError
        from rllib_mafql.evaluation.values import Judge, against_played, against_returns, other_actions, sample_rows
        from rllib_mafql.offline import RecordingError, open_recording

        try:
            path = find_checkpoint(checkpoint)
            judge = Judge(path)
            recording = open_recording(data)
            recording.check(judge.agents, None)
            with counting_bar() as progress:
                task = progress.add_task("reading", total=min(rows, recording.rows), rate="")
                sample = sample_rows(
                    recording, judge.gamma, rows, seed, lambda count: progress.update(task, advance=count)
                )
        except (SetupError, RecordingError, ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        found = against_returns(judge.values(sample.obs, sample.actions).mean(axis=0), sample)
        others = against_played(
            lambda actions: judge.values(sample.obs, actions), sample.actions, other_actions(judge, sample, seed)
        )
        console = wide_console()
        console.print(_table("Steps played by", RETURNS, found))
        console.print(_table("Instead of what was played", ACTIONS, others))
        settings = {
            "checkpoint": shown(path),
            "data": data,
            "rows": len(sample.returns),
            "gamma": judge.gamma,
            "seed": seed,
            **provenance(),
        }
        try:
            write_json(json_file, {"kind": KIND, "settings": settings, "returns": found, "actions": others})
        except OSError as error:
            raise InputError(f"--json: cannot write {json_file}: {error}") from error


def _table(title: str, columns: dict[str, tuple[str, str]], found: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(title)
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    for name, measures in found.items():
        cells = ("–" if measures[key] is None else form.format(measures[key]) for key, (_, form) in columns.items())
        table.add_row(name, *cells)
    return table
