"""Errors that are the user's to mend: one clear line, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console


class InputError(Exception):
    """Something the user wrote is wrong. The message names where it stands, what is wrong and what would be right."""


def nearest(name: object, valid: Iterable[object]) -> str:
    """The end of an error message: which valid name is most like `name`, capitals aside; empty without valid names."""
    by_folded = {str(v).lower(): str(v) for v in valid}
    wanted = str(name).lower()
    # A name that became part of a longer one is like that one, however long it is.
    containing = [folded for folded in by_folded if len(wanted) > 4 and wanted in folded]
    found = difflib.get_close_matches(wanted, containing or by_folded, n=1, cutoff=0.0)
    return f"; the nearest valid one is {by_folded[found[0]]!r}" if found else ""


def summary(error: BaseException) -> str:
    """The message of `error`, led by its type unless the type says no more than "a bad value"."""
    text = str(error).strip()
    if type(error) in (ValueError, InputError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    _print("[bold yellow]warning:[/]", message)


@contextmanager
def reported(show_traceback: bool = False) -> Iterator[None]:
    """Turns an `InputError` raised inside into a line on stderr and exit code 2, or lets it through."""
    try:
        yield
    except InputError as error:
        if show_traceback:
            raise
        _print("[bold red]error:[/]", str(error))
        raise typer.Exit(2) from None


def _print(label: str, message: str) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(label, end=" ")
    console.print(message, markup=False, soft_wrap=True)
