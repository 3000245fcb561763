"""Writes fragments to Parquet files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.offline.schema import RecordingSchema

# Steps in a file: what a kill can lose, for each writer, beside the episode under way.
MAX_ROWS = 2_000

# Columns of these names, one for each agent, hold lists.
LISTS = ("obs", "actions", "advice", "final_obs")


class FragmentWriter:
    """Writes fragments to `folder`/`prefix`-00000.parquet, -00001.parquet and so on.

    A killed process leaves whole files, and perhaps a hidden one named `.*.part` that readers ignore. Files that are
    there already are kept: numbers go on after them. Two writers at a time need different prefixes.

    Args:
        folder: made if it is not there.
        schema: what all fragments have in common.
        prefix: start of the files' names.
        max_rows: steps that are collected before a file is written; a file ends with a whole fragment.

    Raises:
        OSError: The folder cannot be made; names it.
        ValueError: The prefix is no start of a visible file's name, or max_rows is less than 1.
    """

    def __init__(self, folder: str | Path, schema: RecordingSchema, prefix: str, max_rows: int = MAX_ROWS):
        if not prefix or prefix.startswith(".") or "/" in prefix:
            raise ValueError(f"prefix must not be empty, start with a dot or contain a slash, got {prefix!r}")
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self.folder = Path(folder)
        self.schema = schema
        self.prefix = prefix
        self.max_rows = max_rows
        self._tables: list[pa.Table] = []
        self._number = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def buffered(self) -> int:
        """Steps that are not on disk yet."""
        return sum(table.num_rows for table in self._tables)

    def add(self, recorded: RecordedFragment) -> None:
        """Takes a copy of a fragment, and writes a file once `max_rows` steps are collected.

        Raises:
            RecordingError: The fragment does not fit the schema, or has a value that is not allowed. It is left out.
            OSError: As `flush`; the fragment is among those kept.
        """
        try:
            self._tables.append(self.schema.table(recorded))
        except RecordingError as error:
            raise RecordingError(f"episode {recorded.episode_id} cannot be recorded: {error}") from None
        if self.buffered >= self.max_rows:
            self.flush()

    def flush(self) -> Path | None:
        """Writes what is collected to a file and returns it; None if there is nothing to write.

        Raises:
            OSError: The disk is full or the folder not writable; names the file. What is collected is kept for
                another try.
        """
        if not self._tables:
            return None
        path = self._next_path()
        draft = path.with_name(f".{path.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(draft, self._encoded())
            os.replace(draft, path)
            _sync_folder(self.folder)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            message = f"{reason}; {self.buffered} recorded steps are not written, but kept for the next try"
            raise OSError(error.errno, message, str(path)) from error
        self._tables = []
        return path

    def close(self) -> None:
        """Writes what is left. Raises as `flush` does."""
        self.flush()

    def _next_path(self) -> Path:
        while (path := self.folder / f"{self.prefix}-{self._number:05d}.parquet").exists():
            self._number += 1
        return path

    def _encoded(self) -> pa.Buffer:
        """The collected fragments as a Parquet file, one row group each."""
        names = self.schema.arrow.names
        lists = [f"{name}.list.element" for name in names if name.split(".")[0] in LISTS]
        scalars = [name for name in names if name.split(".")[0] == "reward"]
        out = pa.BufferOutputStream()
        with pq.ParquetWriter(
            out,
            self.schema.arrow,
            compression="zstd",
            compression_level=1,
            use_dictionary=["episode_id", "scenario", "policy", "fingerprint"],
            # bytes of like weight beside each other: smaller at the same speed
            use_byte_stream_split=[*lists, *scalars],
            write_statistics=False,
            # zstd in Parquet has no checksum of its own: a flipped bit would go unnoticed
            write_page_checksum=True,
        ) as writer:
            for table in self._tables:
                writer.write_table(table, row_group_size=table.num_rows)
        return out.getvalue()


def _write(path: Path, content: pa.Buffer) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes a new name in the folder last, where the file system can; the file itself is whole already."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
