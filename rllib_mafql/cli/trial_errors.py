"""What a failed trial says of its failure."""

import re
from pathlib import Path
from typing import Any, NamedTuple

#: How Python names an error at the end of a traceback.
ERROR_HEADING = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b")
# How Tune begins its account of each failure.
_FAILURE = re.compile(r"Failure # \d+ \(occurred at .*\)")


class LastError(NamedTuple):
    """A trial's last failure."""

    message: str  #: in a line
    first: str | None  #: the error that it began with, if it is another one
    file: Path  #: that has the whole of it
    lines: list[str]  #: of that file


def last_error(trial: Any) -> LastError:
    """What made a Tune trial fail the last time."""
    kept = Path(trial.storage.trial_fs_path) / "error.txt"  # the copy beside the trial's results
    own = Path(trial.error_file or kept)  # from where it is copied later
    file = own if own.is_file() else kept
    lines = file.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if file.is_file() else []
    starts = [number for number, line in enumerate(lines) if _FAILURE.match(line)]
    latest = [line for line in lines[starts[-1] + 1 if starts else 0 :] if line.strip()]
    errors = [line for line in latest if ERROR_HEADING.match(line)]
    # An actor's death comes without a traceback.
    message = errors[-1] if errors else latest[0] if latest else "no error was recorded"
    first = errors[0] if len(errors) > 1 and errors[0] != message else None
    return LastError(message, first, kept if kept.is_file() else own, lines)
