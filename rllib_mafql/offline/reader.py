"""Reads recordings: footers at once, row groups when asked for, every fault named with its place."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.differences import refuse_other_environment, refuse_other_file, refuse_other_grid
from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.offline.files import find_files
from rllib_mafql.offline.schema import RecordingSchema

logger = logging.getLogger(__name__)

# What pyarrow raises on damaged bytes, and what wrong names or numbers in them lead to.
_DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError)

SKIP_HINT = (
    "; to leave out what is bad, set `offline_skip_bad: true` in the configuration, or `--skip-bad` on the command line"
)


class Recording:
    """Recorded fragments in one or more files; see :func:`open_recording`.

    Attributes:
        files: those that can be used; a file's number is its place here.
        schema: that of all files; its reward components are those that every file has, and it has advice if any has.
        rows: steps, by the files' footers.
        fragments: row groups, by the files' footers.
        skip_bad: whether bad row groups are left out instead of raised.
        cloned: policies whose actions are to be cloned, of those that the recording marks so, and no advice; None: what
            the recording marks.
        skipped: file -> what was left out of it, and why.
    """

    def __init__(
        self, files: list[Path], schema: RecordingSchema, row_groups: list[int], rows: int, skipped: dict[Path, str]
    ):
        self.files = files
        self.schema = schema
        self.rows = rows
        self.fragments = sum(row_groups)
        self.skip_bad = False
        self.cloned: frozenset[str] | None = None
        self.skipped = skipped
        self._row_groups = row_groups
        self._bad: set[tuple[int, int]] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of all observations (each once), actions and advice in memory, as float32."""
        observations = (self.rows + self.fragments) * self.schema.obs_size
        return 4 * (observations + self.rows * self.schema.action_size * (1 + self.schema.advised))

    def index(self) -> list[tuple[int, int]]:
        """(file number, row group) of every fragment not found bad so far, in the files' order."""
        groups = ((file, group) for file, count in enumerate(self._row_groups) for group in range(count))
        return [place for place in groups if place not in self._bad]

    def read(self, order: Iterable[tuple[int, int]] | None = None) -> Iterator[RecordedFragment]:
        """Fragments in the given order of (file number, row group); by default all, in the files' order.

        Raises:
            RecordingError: A row group is bad; with `skip_bad` only if all of them are.
        """
        asked = good = 0
        handles: dict[int, pq.ParquetFile] = {}  # the last file's: one footer read for its row groups in a row
        try:
            for file, group in self.index() if order is None else order:
                asked += 1
                try:
                    if file not in handles:
                        _close(handles)
                        handles[file] = _open(self.files[file])
                    recorded = self._read(handles[file], file, group)
                except RecordingError as error:
                    self.leave_out(file, group, error)
                    continue
                good += 1
                yield recorded
        finally:
            _close(handles)
        if not good and (asked or order is None):
            raise RecordingError(f"no row group that was asked for can be used: {_reasons(self.skipped)}")

    def read_one(self, file: int, row_group: int) -> RecordedFragment:
        """The fragment of one row group.

        Raises:
            RecordingError: It is bad, whatever `skip_bad` says.
            IndexError: There is no file of this number.
        """
        with _open(self.files[file]) as handle:
            return self._read(handle, file, row_group)

    def leave_out(self, file: int, row_group: int, error: RecordingError) -> None:
        """Notes in `skipped`, and logs, that a row group is bad; raises `error` with a hint unless `skip_bad`."""
        if not self.skip_bad:
            raise RecordingError(f"{error}{SKIP_HINT}") from error
        if (file, row_group) in self._bad:
            return
        self._bad.add((file, row_group))
        path = self.files[file]
        reason = str(error).removeprefix(f"{path}: ")
        self.skipped[path] = f"{self.skipped[path]}; {reason}" if path in self.skipped else reason
        logger.warning("recorded data left out: %s", error)

    def clone_only(self, policies: Sequence[str]) -> None:
        """From now on marks only the actions of these policies as ones to clone; those of others stay, for the critic.

        Advice is left out.

        Raises:
            RecordingError: One of them acted in no step, or a file cannot be read.
        """
        there: set[str] = set()
        for path in self.files:
            with _open(path) as handle:
                try:
                    there.update(handle.read(columns=["policy"])["policy"].unique().to_pylist())
                except _DAMAGE as error:
                    if not self.skip_bad:  # the row group that it is in will be left out when it is read
                        raise RecordingError(f"{path}: column 'policy' is damaged ({_first_line(error)})") from error
        for name in policies:
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise RecordingError(f"no step was played by {name!r}, only by {', '.join(sorted(there))}{hint}")
        self.cloned = frozenset(policies)

    def check(self, agents: Sequence[Sequence[Any]], fingerprint: Mapping[str, Any] | None) -> None:
        """Refuses data of another grid or other zones.

        Args:
            agents: (name, size of its observation, size of its action) of the environment's agents, in joint order.
            fingerprint: the environment's account of itself, or None if it has none.

        Raises:
            RecordingError: The data were recorded in another environment; names what differs, and what to set.
        """
        refuse_other_environment(self.files[0], self.schema, agents, fingerprint)

    def check_grid(self, grid: str) -> None:
        """Raises RecordingError if the data are of another grid than the one of this name; needs no environment."""
        refuse_other_grid(self.files[0], self.schema, grid)

    def _read(self, handle: pq.ParquetFile, file: int, row_group: int) -> RecordedFragment:
        path = self.files[file]
        if row_group >= handle.num_row_groups:
            raise RecordingError(f"{path}: there is no row group {row_group} any more; the file was changed")
        try:
            recorded = self.schema.fragment(handle.read_row_group(row_group))
        except RecordingError as error:
            raise RecordingError(f"{path}: row group {row_group}: {error}") from None
        except _DAMAGE as error:
            raise RecordingError(f"{path}: row group {row_group} is damaged ({_first_line(error)})") from error
        fragment = recorded.fragment
        if self.cloned is not None:
            marked = fragment.behavior & np.array([name in self.cloned for name in recorded.policies])
            recorded.fragment = fragment._replace(behavior=marked, advice=None)
        return recorded


def open_recording(paths: str | Path | Sequence[str | Path], skip_bad: bool = False) -> Recording:
    """Opens recorded data and checks every file's footer.

    Args:
        paths: folders (every *.parquet below, hidden ones aside), files or globs; also with "~" or as "file://...".
        skip_bad: leave out bad files, and bad row groups when they are read, with a warning each.

    Raises:
        RecordingError: A path leads nowhere, a file is cut short, foreign, of a newer version, of another grid or of
            other agents than the first, or lacks a column; with `skip_bad`, if no file is left.
    """
    files: list[Path] = []
    schemas: list[RecordingSchema] = []
    row_groups: list[int] = []
    rows = 0
    skipped: dict[Path, str] = {}
    for path in find_files(paths):
        try:
            schema, metadata = _footer(path)
            if schemas:
                refuse_other_file(path, schema, files[0], schemas[0])
        except RecordingError as error:
            if not skip_bad:
                raise RecordingError(f"{error}{SKIP_HINT}") from error
            logger.warning("recorded data left out: %s", error)
            skipped[path] = str(error).removeprefix(f"{path}: ")
            continue
        files.append(path)
        schemas.append(schema)
        row_groups.append(metadata.num_row_groups)
        rows += metadata.num_rows
    if not files:
        raise RecordingError(f"none of {len(skipped)} files can be used: {_reasons(skipped)}")
    if not rows:
        raise RecordingError(f"no recorded data: {files[0]} holds no steps")
    common = tuple(c for c in schemas[0].components if all(c in schema.components for schema in schemas))
    schema = replace(schemas[0], components=common, advised=any(schema.advised for schema in schemas))
    recording = Recording(files, schema, row_groups, rows, skipped)
    recording.skip_bad = skip_bad
    return recording


def _footer(path: Path) -> tuple[RecordingSchema, pq.FileMetaData]:
    with _open(path) as handle:
        try:
            return RecordingSchema.of_file(handle.schema_arrow), handle.metadata
        except RecordingError as error:
            raise RecordingError(f"{path}: {error}") from None
        except _DAMAGE as error:
            raise RecordingError(f"{path}: its schema is damaged ({_first_line(error)})") from error


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise RecordingError(
            f"{path}: no whole Parquet file, it was cut short or is something else ({_first_line(error)})"
        ) from error


def _close(handles: dict[int, pq.ParquetFile]) -> None:
    while handles:
        handles.popitem()[1].close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _reasons(skipped: dict[Path, str]) -> str:
    """The first few of what was left out."""
    listed = [f"{path}: {reason}" for path, reason in list(skipped.items())[:3]]
    return " | ".join(listed) + (f" | and {len(skipped) - 3} more" if len(skipped) > 3 else "")
