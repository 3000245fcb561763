"""A lock on a folder, so that one command at a time writes there; the workers that it starts hold it, too.

A killed command leaves workers that go on writing until they notice. Who comes next waits for them to end.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rllib_mafql.cli.errors import InputError

LOCK_FILE = ".recording.lock"
PATIENCE_S = 30.0  # for the workers of a command that is no more


@contextmanager
def written_by_me(folder: Path, on_wait: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Holds the folder's lock.

    Args:
        folder: must exist.
        on_wait: told once if workers of a killed command still hold the lock.

    Raises:
        InputError: another command holds it, or such workers do not end.
        OSError: the lock file cannot be written.
    """
    with open(folder / LOCK_FILE, "a+", encoding="utf-8") as file:
        _claim(file, folder, on_wait)
        yield


def share_lock(folder: Path) -> TextIO:
    """A worker's share in its command's lock, held until the returned file is closed or the worker dies."""
    file = open(folder / LOCK_FILE, encoding="utf-8")  # noqa: SIM115 - open for as long as the worker lives
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _claim(file: TextIO, folder: Path, on_wait: Callable[[str], None]) -> None:
    waited = 0.0
    while not _lock(file, fcntl.LOCK_EX):
        owner = _owner(file)
        if _is_other(owner) or waited >= PATIENCE_S:
            raise InputError(f"{folder}: another command writes there (process {owner}); wait for it or choose another")
        if not waited:
            on_wait(f"waiting for the workers of an earlier command (process {owner}) to end")
        time.sleep(0.2)
        waited += 0.2
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    # Shared from here on, so that workers can hold it as well; whoever slipped in between is the owner then.
    if not _lock(file, fcntl.LOCK_SH):
        raise InputError(f"{folder}: another command just began to write there; wait for it or choose another")


def _lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


def _is_other(owner: str) -> bool:
    """Whether the process lives and is another one; this one's own earlier workers end by themselves."""
    if not owner.isdecimal() or int(owner) == os.getpid():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
