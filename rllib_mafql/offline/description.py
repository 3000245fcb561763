"""What a recording holds, values included; reads it fragment by fragment."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.offline.reader import Recording
from rllib_mafql.offline.schema import METADATA_KEY, VERSION
from rllib_mafql.offline.summary import Tally


class Description:
    """Collects what `report` tells, one fragment at a time; memory grows with the episodes only."""

    def __init__(self, recording: Recording):
        self._recording = recording
        self._tally = Tally()
        self._ranges: dict[str, _Range] = {}
        self._behavior = 0

    def add(self, recorded: RecordedFragment) -> None:
        """Adds a fragment of the recording."""
        fragment = recorded.fragment
        self._tally.add(
            recorded.episode_id,
            recorded.first_step,
            recorded.policies,
            fragment.rewards,
            fragment.terminated,
            recorded.truncated,
        )
        self._behavior += int(fragment.behavior.sum())
        self._widen("reward", fragment.rewards)
        for name, values in recorded.components.items():
            self._widen(f"reward.{name}", values)
        obs = action = 0
        for name, d, m in self._recording.schema.agents:
            self._widen(f"obs.{name}", fragment.obs[:, obs : obs + d])
            self._widen(f"actions.{name}", fragment.actions[:, action : action + m])
            obs, action = obs + d, action + m

    def _widen(self, column: str, values: np.ndarray) -> None:
        self._ranges.setdefault(column, _Range()).add(values)

    def report(self) -> dict[str, Any]:
        """JSON-able.

        Returns:
            The keys of `Tally.report`, and: behavior_rows, those to clone; columns: name -> size, min, max, mean over
            all components; grid; agents: [name, size of obs, size of actions]; fingerprint_id; version of the schema;
            written_by: the packages; files; bytes; skipped: file -> what was left out.
        """
        recording = self._recording
        written_by = {_written_by(path) for path in recording.files}
        return {
            **self._tally.report(),
            "behavior_rows": self._behavior,
            "columns": {name: values.report() for name, values in self._ranges.items()},
            "grid": recording.schema.grid,
            "agents": [list(agent) for agent in recording.schema.agents],
            "fingerprint_id": recording.schema.fingerprint_id,
            "version": VERSION,
            "written_by": sorted(written_by),
            "files": len(recording.files),
            "bytes": sum(path.stat().st_size for path in recording.files),
            "skipped": {str(path): reason for path, reason in recording.skipped.items()},
        }


class _Range:
    """Extremes and mean of a column's values."""

    def __init__(self) -> None:
        self.low, self.high, self.total, self.count, self.size = np.inf, -np.inf, 0.0, 0, 1

    def add(self, values: np.ndarray) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.total += float(values.sum(dtype=np.float64))
        self.count += values.size
        self.size = values.shape[1] if values.ndim == 2 else 1

    def report(self) -> dict[str, float]:
        return {"size": self.size, "min": self.low, "max": self.high, "mean": self.total / self.count}


def _written_by(path: Any) -> str:
    metadata = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    return str(metadata.get("written_by", "unknown"))
