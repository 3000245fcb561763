"""The files of a replay that is kept on disk, what a checkpoint says of them, and reading them again."""

from __future__ import annotations

import io
import json
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow.fs

from rllib_mafql.replay import JointReplay

FOLDER = "replay"
MANIFEST = "replay.json"
FORMAT = 1

_NAME = re.compile(r"rows-(\d+)-(\d+)\.npz")


class Place(NamedTuple):
    """A folder on a file system."""

    filesystem: Any
    path: str

    def at(self, *names: str) -> Place:
        """A folder or file in it."""
        return Place(self.filesystem, posixpath.join(self.path, *names))

    def folders(self) -> list[Place]:
        """The folders in it; none if it is not there."""
        infos = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.path, allow_not_found=True))
        return [Place(self.filesystem, info.path) for info in infos if info.type == pyarrow.fs.FileType.Directory]

    def segments(self) -> list[Segment]:
        """The files of rows in it."""
        infos = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.path, allow_not_found=True))
        found = [(info.base_name, _NAME.fullmatch(info.base_name)) for info in infos]
        return sorted(Segment(int(match[1]), int(match[2]), self.at(name)) for name, match in found if match)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    def read(self) -> bytes:
        """The file's content."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def write(self, data: Any) -> None:
        """Writes a file that is there as a whole or not at all."""
        self.filesystem.create_dir(posixpath.dirname(self.path), recursive=True)
        draft = f"{self.path}.part"
        try:
            with self.filesystem.open_output_stream(draft) as stream:
                stream.write(data)
            self.filesystem.move(draft, self.path)
        except OSError:
            if self.filesystem.get_file_info(draft).type == pyarrow.fs.FileType.File:
                self.filesystem.delete_file(draft)
            raise

    def remove(self) -> None:
        """Removes the file."""
        self.filesystem.delete_file(self.path)


class Segment(NamedTuple):
    """A file of rows."""

    first: int
    stop: int  #: the row after the last
    file: Place


class Piece(NamedTuple):
    """Rows of one life."""

    life: str
    first: int
    stop: int  #: the row after the last

    def overlaps(self, segment: Segment) -> bool:
        """Whether a file of this life holds any of them."""
        return segment.first < self.stop and self.first < segment.stop


class Manifest(NamedTuple):
    """A checkpoint's `replay.json`."""

    trial: str  #: the trial's folder when it was written
    rows: int  #: ever written
    transitions: int  #: held
    base: int
    capacity: int
    pieces: list[Piece]


def read_manifest(checkpoint: Place) -> Manifest | None:
    """What a checkpoint says of its replay; None if it has none.

    Raises:
        ValueError: it cannot be read.
    """
    file = checkpoint.at(MANIFEST)
    if file.filesystem.get_file_info(file.path).type != pyarrow.fs.FileType.File:
        return None
    try:
        content = json.loads(file.read())
        number = content.pop("format")
        if number != FORMAT:
            raise ValueError(f"format {number}, and this version of rllib-mafql reads {FORMAT}")
        return Manifest(**{**content, "pieces": [Piece(*piece) for piece in content["pieces"]]})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file.path}: no description of a replay ({error})") from error


def find_lives(manifest: Manifest, checkpoint: Place) -> Place | None:
    """The folder of a checkpoint's trial that has its replay: where the checkpoint is now, or where it was written."""
    wanted = {piece.life for piece in manifest.pieces}
    trials = checkpoint, Place(checkpoint.filesystem, posixpath.dirname(checkpoint.path))
    for trial in (*trials, Place(checkpoint.filesystem, manifest.trial)):
        if wanted & {folder.name for folder in trial.at(FOLDER).folders()}:
            return trial
    return None


def load(replay: JointReplay, manifest: Manifest, trial: Place) -> list[str]:
    """Fills an empty replay; returns what could not be read, in words, if anything."""
    replay.begin_at(manifest.rows, manifest.base, manifest.capacity)
    problems: list[str] = []
    lost: list[tuple[int, int]] = []
    at = replay.first
    for piece in manifest.pieces:
        for segment, first, stop in _cover(piece, trial, max(at, piece.first)):
            if first > at:
                lost.append((at, first))
                problems.append(f"no file has rows {at} to {first - 1}")
            try:
                replay.put(first, _read(segment, first, stop))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                lost.append((first, stop))
                problems.append(f"{segment.file.path} is damaged ({error})")
            at = stop
    if at < manifest.rows:
        lost.append((at, manifest.rows))
        problems.append(f"no file has rows {at} to {manifest.rows - 1}")
    replay.settle(lost)
    return problems


def _cover(piece: Piece, trial: Place, at: int) -> Iterator[tuple[Segment, int, int]]:
    """Files of a piece's rows from `at` on, each with the first and the last but one row that is to be taken of it."""
    for segment in trial.at(FOLDER, piece.life).segments():
        stop = min(segment.stop, piece.stop)
        if stop > at:
            first = max(segment.first, at)
            yield segment, first, stop
            at = stop


def _read(segment: Segment, first: int, stop: int) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(segment.file.read()), allow_pickle=False) as columns:
        part = slice(first - segment.first, stop - segment.first)
        return {name: columns[name][part] for name in columns.files}
