"""Records what an env runner plays: episodes become fragments, fragments become Parquet files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_mafql.offline.episode import FragmentBuilder
from rllib_mafql.offline.schema import RecordingSchema
from rllib_mafql.offline.writer import MAX_ROWS, FragmentWriter

#: So many files' worth of steps are kept for better times where the disk takes none.
MAX_FILES_WAITING = 10


def unique_prefix(kind: str) -> str:
    """A start of file names and episode ids that no other recording has."""
    return f"{kind}-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"


class Recorder:
    """Writes one runner's episodes.

    Args:
        folder: where the files go; made if missing.
        prefix: of the files and the episode ids; unique.
        agents: (agent, observation size, action size) in joint order.
        fingerprint: what the environment says it is.
        max_rows: steps in a file; None: the writer's own choice.
    """

    def __init__(
        self,
        folder: str | Path,
        prefix: str,
        agents: Sequence[tuple[str, int, int]],
        fingerprint: Mapping[str, Any] | None,
        max_rows: int | None = None,
    ):
        self.folder = Path(folder).expanduser()
        self.steps = 0
        self._prefix = prefix
        self._agents = tuple(agents)
        self._fingerprint = None if fingerprint is None else dict(fingerprint)
        self._max_rows = max_rows or MAX_ROWS
        self._episodes = 0
        self._writer: FragmentWriter | None = None

    def begin(self, scenario: str, first_step: int = 0) -> FragmentBuilder:
        """For the steps of an episode that begins, or goes on from `first_step` after a restore."""
        self._episodes += 1
        return FragmentBuilder(f"{self._prefix}-e{self._episodes:06d}", scenario, first_step)

    def go_on(self, builder: FragmentBuilder) -> FragmentBuilder:
        """For the further steps of an episode whose first ones were handed in by `end`."""
        return FragmentBuilder(builder.episode_id, builder.scenario, first_step=builder.first_step + len(builder))

    def end(self, builder: FragmentBuilder, following: np.ndarray, terminated: bool, truncated: bool) -> None:
        """Takes over the steps of an episode, with the joint observation that follows them."""
        if not len(builder):
            return
        fragment = builder.finish(following, terminated, truncated)
        if self._writer is None:
            # The names of the reward's components are known from the first steps on, as is whether there is advice.
            advised = fragment.fragment.advice is not None
            schema = RecordingSchema(self._agents, self._fingerprint, tuple(fragment.components), advised)
            self._writer = FragmentWriter(self.folder, schema, self._prefix, self._max_rows)
        if self._writer.buffered >= MAX_FILES_WAITING * self._max_rows:
            self._writer.flush()  # or these steps are lost
        self.steps += len(builder)
        self._writer.add(fragment)

    def flush(self) -> None:
        """Writes what was handed in and is in no file yet."""
        if self._writer is not None:
            self._writer.flush()
