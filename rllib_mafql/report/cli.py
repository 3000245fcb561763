"""The command `mafql report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell
from rllib_mafql.report.results_folder import SUMMARY, read_results
from rllib_mafql.report.tables import readme_table, summarize

#: What stands around the table in README.
BEGIN, END = "<!-- results: made by `mafql report` -->", "<!-- end of results -->"


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of the commands' JSON files.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="index.html and its pictures go there.")] = Path("report"),
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Markdown file whose table of results is brought up to date.")
    ] = None,
) -> None:
    """One page of all results in a folder, and summary.json there.

    The folder holds what `mafql evaluate`, `ablate`, `score`, `film`, `modes`, `scenarios infeasible` and
    `bench latency` wrote with --json. An evaluation named as its setting (118_x1.0, 118_x0.9_opponent, 14) is that
    setting's main one; others, such as 118_x1.0_days, are shown beside it. A folder with such a name holds several of
    the same episodes, which are merged: agents of the same name are runs of one agent.
    """
    with reported():
        found = read_results(results)
        summary = summarize(found)
        text = None if readme is None else _updated(readme, readme_table(summary))
        from rllib_mafql.report.page import write_page

        try:
            written = write_page(found, out)
            _write(results / SUMMARY, json.dumps(summary, indent=1) + "\n")
            if readme is not None and text is not None:
                _write(readme, text)
        except OSError as error:
            raise InputError(f"cannot write: {error}") from error
        for file in written:
            tell(f"wrote {file}")


def _updated(readme: Path, table: str) -> str:
    """The file's text with another table between its marks."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--readme: cannot read {readme}: {error}") from error
    if text.count(BEGIN) != 1 or END not in text.partition(BEGIN)[2]:
        raise InputError(f"--readme: {readme} must have the lines {BEGIN} and {END}, once, around its table")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}{END}{rest.partition(END)[2]}"


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    tell(f"wrote {file}")
