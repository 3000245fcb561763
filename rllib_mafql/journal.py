"""The replay on disk: rows go into files as they come, so that a checkpoint only has to name them.

A journal has a folder for each life of a process, `replay/<life>` in the trial's folder, with files of many rows each,
written in the background, and a shorter one with the newest rows after each checkpoint. Rows are counted from the first
that the replay was ever given, through all lives. A checkpoint's `replay.json` names the pieces that its replay
consists of. Files that neither the run nor a checkpoint of it needs any more are removed.
"""

from __future__ import annotations

import io
import json
import logging
import queue
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_mafql.replay import Fragment, JointReplay
from rllib_mafql.replay_files import FOLDER, FORMAT, MANIFEST, Piece, Place, read_manifest

logger = logging.getLogger("ray.rllib")

#: About so many bytes go into a file.
SEGMENT_BYTES = 2**24


class ReplayJournal:
    """Writes a replay's rows to files.

    Args:
        replay: whose rows are written.
        place: of the trial; files go into `replay/<life>` there.
        pieces: what lies there already of the rows that are held; the rest is written.
    """

    def __init__(self, replay: JointReplay, place: Place, pieces: Sequence[Piece] = ()):
        self._replay = replay
        self._place = place
        self._pieces = list(pieces)
        self._life = uuid.uuid4().hex[:12]
        self._own = place.at(FOLDER, self._life)
        self._begun = self._asked = self._written = pieces[-1].stop if pieces else replay.first
        self._failed: Exception | None = None
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()  # rows are copied, or overwritten
        self._thread = threading.Thread(target=self._work, name="replay journal", daemon=True)
        self._thread.start()

    def add(self, fragment: Fragment) -> None:
        """Adds a fragment to the replay, and has files written that are complete then; they are not waited for."""
        with self._lock:
            self._replay.add(fragment)
        complete = self._replay.rows - self._replay.rows % self._segment_rows
        if complete > self._asked and self._failed is None:
            self._asked = complete
            self._tasks.put(False)

    def save(self, checkpoint: Place) -> Exception | None:
        """Completes the files, and writes `replay.json` into a checkpoint's folder.

        Returns:
            Why the replay could not be written, if it could not. Then there is no `replay.json`, and the next call
            tries again.
        """
        self._failed = None
        self._asked = self._replay.rows
        done = threading.Event()
        self._tasks.put(done)
        done.wait()
        if self._failed is not None:
            return self._failed
        first, rows = self._replay.first, self._replay.rows
        self._pieces = [piece for piece in self._pieces if piece.stop > first]
        pieces = [*self._pieces, Piece(self._life, self._begun, rows)]
        pieces = [piece._replace(first=max(first, piece.first)) for piece in pieces]
        manifest = {
            "format": FORMAT,
            "trial": self._place.path,
            "rows": rows,
            "transitions": len(self._replay),
            "base": self._replay.base,
            "capacity": self._replay.capacity,
            "pieces": [piece for piece in pieces if piece.stop > piece.first],
        }
        try:
            checkpoint.at(MANIFEST).write(json.dumps(manifest, indent=1).encode())
        except OSError as error:
            self._failed = error
            return error
        self._tasks.put(pieces)
        return None

    def close(self) -> None:
        """Ends once what was asked for is written."""
        self._tasks.put(None)
        self._thread.join()

    @property
    def _segment_rows(self) -> int:
        size = max(64, SEGMENT_BYTES // max(self._replay.row_bytes, 1))
        return max(1, min(size, self._replay.capacity // 4))

    # In the background -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if isinstance(task, list):
                self._remove_all_but(task)
                continue
            if self._failed is None:
                try:
                    self._write(rest=bool(task))
                except Exception as error:  # of whatever file system; `save` tells
                    logger.warning("The replay cannot be written to %s: %s", self._own.path, error)
                    self._failed = error
            if task:
                task.set()

    def _write(self, rest: bool) -> None:
        """Writes the rows that are asked for, those that fill no file only if `rest` says so."""
        size = self._segment_rows
        while self._written < self._asked:
            with self._lock:
                self._skip_overwritten()
                if self._written >= self._asked:
                    return
                stop = min(self._written - self._written % size + size, self._asked)
                if stop % size and not rest:
                    return
                columns = self._replay.rows_between(self._written, stop)
            data = io.BytesIO()
            np.savez(data, **columns)  # type: ignore[arg-type]
            self._own.at(f"rows-{self._written}-{stop}.npz").write(data.getbuffer())
            for segment in self._own.segments():  # shorter files that this one holds
                if segment.first == self._written and segment.stop < stop:
                    segment.file.remove()
            if stop % size:
                return  # to be written again when the file is complete
            self._written = stop

    def _skip_overwritten(self) -> None:
        """Where rows came faster than they were written, or could not be, goes on with the oldest there is."""
        if self._written < self._replay.first:
            if self._written > self._begun:
                self._pieces.append(Piece(self._life, self._begun, self._written))
            self._begun = self._written = self._replay.first

    def _remove_all_but(self, pieces: list[Piece]) -> None:
        """Removes the files that hold no row of these pieces, of a later one, or of a checkpoint in the trial."""
        try:
            needed = [*pieces, Piece(self._life, pieces[-1].stop, 2**63)]
            for folder in self._place.folders():
                if folder.name.startswith("checkpoint_"):
                    manifest = read_manifest(folder)
                    needed += manifest.pieces if manifest else []
            for life in self._place.at(FOLDER).folders():
                own = [piece for piece in needed if piece.life == life.name]
                if not own:
                    life.filesystem.delete_dir(life.path)
                    continue
                for segment in life.segments():
                    if not any(piece.overlaps(segment) for piece in own):
                        segment.file.remove()
        except (OSError, ValueError) as error:
            logger.warning("Files of the replay that are not needed any more could not be removed: %s", error)
