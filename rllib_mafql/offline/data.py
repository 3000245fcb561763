"""Recorded transitions as MAFQL trains on them: all in memory where they fit, else a window that a stream renews."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import psutil
from ray.rllib.offline.offline_data import OfflineData

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.reader import open_recording
from rllib_mafql.offline.stream import stream_fragments
from rllib_mafql.replay import Fragment, JointReplay

logger = logging.getLogger("ray.rllib")

# Share of the free memory that recorded data may take where the config names no limit.
MEMORY_SHARE = 0.5

# How often a streamed transition is drawn, on average, before another takes its place.
STREAM_REUSE = 8


class JointOfflineData(OfflineData):
    """RLlib's offline data (`config.offline_data_class`) for recordings of joint transitions.

    Args:
        config: a MAFQLConfig; `input_` names folders, files or patterns, see `rllib_mafql.offline.open_recording`.

    Raises:
        RecordingError: there is nothing to read, or it is no recording.
    """

    config: Any

    def __init__(self, config: Any):
        # RLlib's own constructor would read the files through Ray Data, as single-agent rows.
        self.config = config
        self.recording = open_recording(config.input_, skip_bad=config.offline_skip_bad)
        rows = self.recording.rows + self.recording.fragments
        free = psutil.virtual_memory().available * MEMORY_SHARE
        limit = free if config.offline_memory_gb is None else config.offline_memory_gb * 1e9
        self.streamed = self.recording.nbytes > limit
        self.replay = JointReplay(
            config.replay_capacity if self.streamed else rows, config.gamma, config.n_step, config.seed
        )
        self._stream: Generator[Fragment, None, None] | None = None
        self._due = 0.0  # transitions that should have been added since the start
        logger.warning(
            "recorded data: %d transitions in %d files, %.2f GB of observations and actions, %s (limit %.2f GB)",
            self.recording.rows,
            len(self.recording.files),
            self.recording.nbytes / 1e9,
            f"streamed through Ray Data, {config.replay_capacity} rows at a time"
            if self.streamed
            else "held in memory",
            limit / 1e9,
        )

    def load(self, agents: Sequence[tuple[str, int, int]], fingerprint: Mapping[str, Any] | None) -> None:
        """Fills the replay.

        Args:
            agents: (agent, observation size, action size) of the environment, in joint order.
            fingerprint: of the environment.

        Raises:
            RecordingError: recorded on another environment, or a row group is bad.
        """
        self.recording.check(agents, fingerprint)
        if self.config.offline_cloned_policies is not None:
            try:
                self.recording.clone_only(self.config.offline_cloned_policies)
            except RecordingError as error:
                raise RecordingError(f"offline_cloned_policies: {error}") from None
        if not self.streamed:
            for recorded in self.recording.read():
                self.replay.add(recorded.fragment)
            return
        self._stream = stream_fragments(self.recording, seed=self.config.seed or 0)
        self._stream_in(self.replay.capacity - self.replay.n_step)
        self._due = self.replay.added

    def draw(self, batch_size: int) -> dict[str, np.ndarray]:
        """Transitions drawn uniformly, see `JointReplay.sample`; a stream then renews part of those in memory."""
        batch = self.replay.sample(batch_size)
        if self._stream is not None:
            # Fragments are longer than what a draw asks for: counted on, or every draw would add one.
            self._due += batch_size / STREAM_REUSE
            self._stream_in(self._due)
        return batch

    def _stream_in(self, added: float) -> None:
        """Adds fragments until that many transitions have been added since the start."""
        assert self._stream is not None
        while self.replay.added < added:
            self.replay.add(next(self._stream))

    def close(self) -> None:
        """Ends the stream, before Ray ends."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
