"""What made a file of results."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rllib_mafql import __version__


def provenance() -> dict[str, Any]:
    """The command line, this package's version, and the commit of its checkout, None outside of one."""
    return {"command": shlex.join(["mafql", *sys.argv[1:]]), "version": __version__, "commit": _commit()}


def _commit() -> str | None:
    """Of the checkout that this file is tracked in; None if there is none."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError):
        return None
