"""What a search found: its trials from best to worst, as table and files."""

import csv
import io
import json
import math
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.fs
from rich.console import Console
from rich.table import Table

from rllib_mafql.cli.outcome import own_checkpoint, print_lines, shown
from rllib_mafql.cli.progress import clock
from rllib_mafql.cli.search import Search
from rllib_mafql.cli.space import dotted
from rllib_mafql.cli.watching import setting, shown_value

#: What trials are sorted by if a search names no metric: the first of these that any trial reports, the most first.
USUAL_METRICS = ("evaluation/env_runners/episode_return_mean", "env_runners/episode_return_mean")
TABLE, SHEET, CURVES = "trials.json", "trials.csv", "trials.png"


@dataclass
class Row:
    """One trial."""

    trial: Any  # Tune's
    status: str
    value: float | None  # of the metric, in the last result that had it
    best: float | None  # the best that it ever was
    parameters: dict[str, Any]

    def report(self, name: str) -> dict[str, Any]:
        """Its part of the files; `name` is that of the metric."""
        last, checkpoint = self.trial.last_result or {}, own_checkpoint(self.trial)
        return {
            "trial": str(self.trial),
            "status": self.status,
            name: self.value,
            f"best {name}": self.best,
            "parameters": self.parameters,
            "iterations": last.get("training_iteration", 0),
            "env_steps": last.get("num_env_steps_sampled_lifetime"),
            "time_s": last.get("time_total_s", 0.0),
            "folder": self.trial.storage.trial_fs_path,
            "checkpoint": checkpoint,
        }


def metric_of(search: Search, trials: Sequence[Any]) -> tuple[str, str]:
    """What trials are compared by, and whether max or min is best."""
    if search.metric is not None and search.mode is not None:
        return search.metric, search.mode
    reported = [name for name in USUAL_METRICS if any(name in trial.metric_analysis for trial in trials)]
    return (reported or [*USUAL_METRICS])[0], "max"


def sorted_rows(trials: Sequence[Any], unfinished: Sequence[Any], search: Search, metric: str, mode: str) -> list[Row]:
    """The trials from best to worst by their last value; those without one come last."""
    rows = []
    for trial in trials:
        values = trial.metric_analysis.get(metric, {})
        rows.append(
            Row(
                trial,
                _status(trial, unfinished, search),
                _finite(values.get("last")),
                _finite(values.get(mode)),
                {dotted(path): setting(trial.config, path) for path in search.varied},
            )
        )
    sign = 1 if mode == "min" else -1
    return sorted(rows, key=lambda row: (row.value is None, sign * (row.value or 0.0)))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _status(trial: Any, unfinished: Sequence[Any], search: Search) -> str:
    if trial in unfinished:
        return "interrupted" if trial.last_result else "waiting"
    if trial.status != "TERMINATED":
        return "failed" if trial.status == "ERROR" else trial.status.lower()
    from ray.tune.utils import flatten_dict

    result = {key: value for key, value in flatten_dict(trial.last_result or {}).items() if key != "done"}
    longest = getattr(search.scheduler, "_max_t", math.inf)
    reached = result.get(getattr(search.scheduler, "_time_attr", ""), 0) >= longest
    return "finished" if reached or trial.should_stop(result) else "stopped early"


def print_trials(rows: Sequence[Row], metric: str, mode: str, console: Console) -> None:
    """Prints the table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    left = ("trial", "status", "checkpoint")
    headings = ["trial", "last", f"{mode} ever", *rows[0].parameters, "iterations", "time", "status", "checkpoint"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    for row in rows:
        last, checkpoint = row.trial.last_result or {}, own_checkpoint(row.trial)
        table.add_row(
            str(row.trial),
            *("-" if value is None else f"{value:.4g}" for value in (row.value, row.best)),
            *("-" if value is None else shown_value(value) for value in row.parameters.values()),
            str(last.get("training_iteration", 0)),
            clock(last.get("time_total_s", 0.0)),
            row.status,
            "-" if checkpoint is None else posixpath.basename(checkpoint),
        )
    console.print()
    print_lines(console, f"trials by {metric}, {mode} first")
    console.print(table)


def write_trials(rows: Sequence[Row], metric: str, mode: str, folder: str, console: Console) -> None:
    """Writes table, sheet and learning curves into the experiment's folder, which may be remote.

    A search is not lost for a picture: what cannot be written is told.
    """
    from rllib_mafql.evaluation.curves import parse_results
    from rllib_mafql.evaluation.trial_curves import TrialCurve, trial_curves

    filesystem, root = _located(folder)
    reports = [row.report(metric) for row in rows]
    content = {"metric": metric, "mode": mode, "trials": reports}
    written = [TABLE, SHEET]
    try:
        _write(filesystem, f"{root}/{TABLE}", (json.dumps(content, indent=2, default=str) + "\n").encode())
        _write(filesystem, f"{root}/{SHEET}", _sheet(reports).encode())
        curves = []
        for row in rows:
            file = posixpath.join(row.trial.storage.trial_fs_path, "result.json")
            if filesystem.get_file_info(file).type == pyarrow.fs.FileType.File:
                with filesystem.open_input_stream(file) as stream:
                    results = parse_results(stream.read().decode().splitlines())
                label = ", ".join(f"{name.split('.')[-1]} {shown_value(v)}" for name, v in row.parameters.items())
                curves.append(TrialCurve(label or str(row.trial), results, row.value is not None))
        if any(metric in result for curve in curves for result in curve.results):
            picture = io.BytesIO()
            trial_curves(curves, picture, metric=metric, title=posixpath.basename(root))
            _write(filesystem, f"{root}/{CURVES}", picture.getvalue())
            written.append(CURVES)
    except OSError as error:
        print_lines(console, f"could not write {root}: {error}")
        return
    print_lines(console, f"trials:     {shown(folder)}/{{{','.join(written)}}}")


def _located(folder: str) -> tuple[Any, str]:
    if "://" in folder:
        return pyarrow.fs.FileSystem.from_uri(folder)
    return pyarrow.fs.LocalFileSystem(), folder


def _write(filesystem: Any, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _sheet(reports: Sequence[dict[str, Any]]) -> str:
    """The reports as CSV, with a column for each parameter."""
    flat = [{**{k: v for k, v in report.items() if k != "parameters"}, **report["parameters"]} for report in reports]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
