"""What is told at the end of a training run: trials, checkpoints, errors, and what to do next."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from rllib_mafql.cli.errors import summary
from rllib_mafql.cli.trial_errors import last_error

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

#: Exit codes: all trials finished; a trial failed; interrupted by Ctrl-C.
FINISHED, FAILED, INTERRUPTED = 0, 1, 130
#: Lines of a failed trial's error file to show.
ERROR_LINES = 15


@dataclass
class Outcome:
    """What came of an experiment."""

    trials: Sequence[Any]  # Tune's, after the run
    unfinished: Sequence[Any]  # those of them that Ctrl-C cut off
    incomplete: bool  # whether there are trials that were not begun
    algorithm: type["Algorithm"]  # what they ran
    folder: str  # where their results are


def print_outcome(outcome: Outcome, console: Console, best: Any = None) -> int:
    """Prints the table of trials, checkpoints with the commands that evaluate them, and errors.

    Args:
        outcome: What came of the experiment.
        console: Where to print.
        best: The best trial of a search, whose table has been printed; only its checkpoint is named.

    Returns:
        The command's exit code: `FINISHED`, `FAILED` or `INTERRUPTED`.
    """
    trials, unfinished = outcome.trials, outcome.unfinished
    if best is None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("trial", "status", "iterations", "env steps", "return", "time"):
            table.add_column(heading, justify="left" if heading in ("trial", "status") else "right")
        for trial in trials:
            table.add_row(*_row(trial, "interrupted" if trial in unfinished else trial.status.lower()))
        console.print()
        console.print(table)
    for trial in trials if best is None else [best]:
        path = own_checkpoint(trial)
        if path is not None:
            print_lines(
                console,
                f"checkpoint: {shown(path)}",
                f"evaluate:   {command('rllib')} evaluate {shlex.quote(shown(path))} --episodes 20",
            )
        elif trial.status == "TERMINATED" and trial not in unfinished:
            print_lines(console, f"{trial} wrote no checkpoint (see --checkpoint-at-end, --checkpoint-freq)")
    failed = [trial for trial in trials if trial.status == "ERROR"]
    for trial in failed:
        _report_error(trial, outcome.algorithm, console)
    print_lines(console, f"curves:     {command('tensorboard')} --logdir {shlex.quote(shown(outcome.folder))}")
    if unfinished or outcome.incomplete:
        _report_interruption(unfinished, console)
        return INTERRUPTED
    return FAILED if failed else FINISHED


def own_checkpoint(trial: Any) -> str | None:
    """The newest checkpoint that a trial itself wrote: at its start it may have that of another run or trial."""
    checkpoint = trial.checkpoint
    own = checkpoint is not None and Path(checkpoint.path).parent == Path(trial.storage.trial_fs_path)
    return checkpoint.path if own else None


def _row(trial: Any, status: str) -> list[str]:
    from rllib_mafql.cli.progress import clock

    result = trial.last_result
    steps = result.get("num_env_steps_sampled_lifetime")
    mean = (result.get("env_runners") or {}).get("episode_return_mean")
    return [
        str(trial),
        status,
        str(result.get("training_iteration", 0)),
        "-" if steps is None else f"{int(steps):,}",
        "-" if mean is None else f"{mean:.4g}",
        clock(result.get("time_total_s", 0.0)),
    ]


def _report_error(trial: Any, algorithm: type["Algorithm"], console: Console) -> None:
    message, first, file, lines = last_error(trial)
    if first is not None:
        message += f"\nit began with {first}"
    if not trial.last_result.get("training_iteration"):
        # RLlib drops the error of an environment that fails in a remote runner, and then fails for lack of a runner.
        message = environment_error(algorithm, trial.config) or message
    print_lines(console, "", *lines[-ERROR_LINES:])
    print_lines(
        console, "", f"{trial} failed: {message}", f"the whole error is in {shown(file)}; -v shows the workers' output"
    )


def environment_error(algorithm: type["Algorithm"], config: dict[str, Any]) -> str | None:
    """What goes wrong when the environment of a trial's `config` is made; None if nothing does."""
    from ray.rllib.env.env_context import EnvContext

    settings = algorithm.get_default_config().update_from_dict(config)
    try:
        _, creator = algorithm._get_env_id_and_creator(settings.env, settings)
        env: Any = creator(EnvContext(settings.env_config, worker_index=0))
        env.close()
    except Exception as error:  # whatever an environment raises
        return f"the environment cannot be made: {summary(error)}"
    return None


def _report_interruption(trials: Sequence[Any], console: Console) -> None:
    for trial in trials:
        if not trial.last_result:
            print_lines(console, f"{trial} had not begun")
            continue
        saved = trial.latest_checkpoint_result
        if saved is None:
            start = "from the beginning, since it wrote no checkpoint yet (see --checkpoint-freq)"
        else:
            start = f"from iteration {saved.metrics.get('training_iteration')}, its last checkpoint"
        print_lines(console, f"{trial} was interrupted and would go on {start}")
    words = [word for word in sys.argv[1:] if word != "--resume"]
    print_lines(console, f"resume:     {command('rllib')} {shlex.join([*words, '--resume'])}")


def shown(path: str | Path) -> str:
    """`path` relative to the current directory if it lies below it."""
    text = str(path)
    inside = text.startswith(os.getcwd() + os.sep)
    return os.path.relpath(text) if inside else text


def command(name: str) -> str:
    """How to call a command installed beside this Python: its name, or its path where the shell finds another."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    elsewhere = found is None or Path(found).absolute() != beside.absolute()
    return shlex.quote(shown(beside)) if beside.is_file() and elsewhere else name


def print_lines(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
