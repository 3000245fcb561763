"""Finds the Parquet files that a path, a glob or a file URI means."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from rllib_mafql.offline.columns import RecordingError

SUFFIX = ".parquet"


def find_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files below folders, behind globs, or named themselves; each once, by path, in the order of `paths`.

    Raises:
        RecordingError: A path leads to no file; names the nearest that is there.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise RecordingError("no path to recorded data is given")
    # a dictionary keeps the order, and each file once
    return list({file.resolve(): file for path in given for file in _expand(str(path))}.values())


def _expand(text: str) -> list[Path]:
    path = _local(text)
    if path.is_dir():
        return _below(path)
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [file for match in matches for file in ([match] if match.is_file() else recorded_files(match))]
        if files:
            return files
        raise RecordingError(f"no recorded data: nothing matches {path}{_nearest(path)}")
    raise RecordingError(f"no recorded data: there is no file or folder {path}{_nearest(path)}")


def _local(text: str) -> Path:
    scheme = urlparse(text).scheme if "://" in text else ""
    if scheme not in ("", "file"):
        raise RecordingError(f"recorded data are read from local paths, not from {scheme}://: {text}; copy them first")
    path = Path(unquote(urlparse(text).path)) if scheme else Path(text).expanduser()
    return path


def _below(folder: Path) -> list[Path]:
    files = recorded_files(folder)
    if not files:
        raise RecordingError(
            f"no recorded data: no file *{SUFFIX} in {folder} or below; `mafql record --out {folder}` makes some"
        )
    return files


def recorded_files(folder: Path) -> list[Path]:
    """The visible Parquet files below a folder, by path, readable or not; a writer's drafts are hidden."""
    files = (file for file in folder.rglob(f"*{SUFFIX}") if file.is_file())
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def _nearest(path: Path) -> str:
    """The end of a message: how far the path exists, and the entry there that is most like the missing one."""
    missing = Path(path).absolute()
    while not missing.parent.exists():
        missing = missing.parent
    folder = missing.parent
    try:
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        names = []
    found = difflib.get_close_matches(missing.name, names, n=1)
    return f"; did you mean {folder / found[0]}?" if found else f"; the nearest existing folder is {folder}"
