"""Records what a runner plays (`config.offline_data(output=...)`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rllib_mafql.offline.recorder import Recorder, unique_prefix
from rllib_mafql.slots import Slot

logger = logging.getLogger("ray.rllib")


class Recording:
    """A runner's recording, of nothing where the config names no output.

    Args:
        config: the runner's.
        worker: number of the runner.
        agents: (agent, observation size, action size) in joint order.
        fingerprint: what the environment says it is.
        metrics: the runner's, where failures are counted.
    """

    def __init__(
        self,
        config: Any,
        worker: int,
        agents: Sequence[tuple[str, int, int]],
        fingerprint: Mapping[str, Any] | None,
        metrics: Any,
    ):
        self.recorder: Recorder | None = None
        settings = config.output_config or {}
        self._strict = bool(settings.get("strict"))
        self._metrics = metrics
        if config.output and not config.in_evaluation:
            prefix = f"{settings.get('prefix') or unique_prefix('run')}-w{worker}"
            self.recorder = Recorder(config.output, prefix, agents, fingerprint, config.output_max_rows_per_file)

    def begin(self, slot: Slot) -> None:
        """For an episode that begins, or goes on after a restore."""
        if self.recorder is not None:
            slot.recorded = self.recorder.begin(slot.scenario, first_step=slot.length)

    def end(self, slot: Slot, terminated: bool = False, truncated: bool = False) -> None:
        """For an episode that is over; neither flag: it is cut off here."""
        if self.recorder is not None and slot.recorded is not None:
            with self.outlasting_disks():
                self.recorder.end(slot.recorded, slot.obs, terminated, truncated)
            slot.recorded = None

    def flush(self, slots: Sequence[Slot]) -> int:
        """Writes what is in no file yet, of episodes under way, too, which go on in another fragment.

        Returns:
            Steps recorded since the start.
        """
        if self.recorder is None:
            return 0
        for slot in slots:
            rest = slot.recorded
            if rest is not None and len(rest):
                self.end(slot)
                slot.recorded = self.recorder.go_on(rest)
        self.recorder.flush()
        return self.recorder.steps

    @contextmanager
    def outlasting_disks(self) -> Iterator[None]:
        """A recording that cannot be written is tried again later; it does not end training."""
        try:
            yield
        except OSError as error:
            if self._strict:
                raise
            self._metrics.log_value("num_recording_failures", 1, reduce="lifetime_sum")
            logger.error("Play goes on without being recorded: %s", error)
