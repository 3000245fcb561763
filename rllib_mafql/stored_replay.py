"""A replay that checkpoints keep: its rows are written while training goes on, and read again when it goes on later."""

from __future__ import annotations

import logging
import posixpath

from rllib_mafql.journal import ReplayJournal
from rllib_mafql.replay import Fragment, JointReplay
from rllib_mafql.replay_files import Manifest, Place, find_lives, load, read_manifest

logger = logging.getLogger("ray.rllib")


class StoredReplay:
    """Keeps a replay on disk.

    Args:
        replay: still empty.
        trial: the folder of Tune's trial, where the rows of all its checkpoints lie; None: each checkpoint has all rows
            within itself, which are written when it is.
    """

    def __init__(self, replay: JointReplay, trial: Place | None):
        self._replay = replay
        self._trial = trial
        self._journal: ReplayJournal | None = None
        self._restored: tuple[Place, Manifest] | None = None  # yet to be read
        self.lost = 0  # transitions of what was restored

    def open(self) -> None:
        """Reads what was restored, once training does go on. To be called before the replay is used."""
        pieces = []
        if self._restored is not None:
            checkpoint, manifest = self._restored
            self._restored = None
            trial = find_lives(manifest, checkpoint)
            if trial is None:
                self._lose(manifest, checkpoint, [f"there is no folder of it in {manifest.trial}"])
            else:
                problems = load(self._replay, manifest, trial)
                if problems:
                    self._lose(manifest, checkpoint, problems)
                elif self._trial is not None and _same(trial, self._trial):
                    pieces = manifest.pieces  # of another trial, or damaged, all is written once more
        if self._journal is None and self._trial is not None:
            self._journal = ReplayJournal(self._replay, self._trial, pieces)

    def add(self, fragment: Fragment) -> None:
        """Adds a fragment to the replay."""
        if self._journal is None:
            self._replay.add(fragment)
        else:
            self._journal.add(fragment)

    def save(self, checkpoint: Place) -> Exception | None:
        """Writes into a checkpoint's folder what its replay consists of; returns what went wrong, if anything."""
        self.open()
        journal = self._journal or ReplayJournal(self._replay, checkpoint)
        problem = journal.save(checkpoint)
        if self._journal is None:
            journal.close()
        return problem

    def restore(self, checkpoint: Place) -> None:
        """The replay is that of a checkpoint from now on.

        Raises:
            ValueError: what the checkpoint says of it cannot be read.
        """
        self.close()
        self._replay.clear()
        manifest = read_manifest(checkpoint)
        self._restored = None if manifest is None else (checkpoint, manifest)
        if manifest is None:
            logger.warning("The checkpoint %s has no replay, which fills anew.", checkpoint.path)

    def close(self) -> None:
        """Ends the writing."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _lose(self, manifest: Manifest, checkpoint: Place, problems: list[str]) -> None:
        self.lost = manifest.transitions - len(self._replay)
        logger.warning(
            "%d of the %d transitions in the replay of %s are lost, and it fills anew: %s",
            self.lost,
            manifest.transitions,
            checkpoint.path,
            "; ".join(problems[:3]) + ("; and more" if problems[3:] else ""),
        )


def _same(one: Place, other: Place) -> bool:
    return one.filesystem == other.filesystem and posixpath.normpath(one.path) == posixpath.normpath(other.path)
