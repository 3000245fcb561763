"""What a recording holds, from its scalar columns: rows, episodes, who played them and how they went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_mafql.offline.columns import RecordingError, texts_of
from rllib_mafql.offline.reader import Recording

_COLUMNS = ["episode_id", "step", "policy", "reward", "terminated", "truncated"]


@dataclass
class _Piece:
    """One fragment of an episode."""

    first_step: int
    steps: int
    total: float  # sum of the rewards
    policies: tuple[str, ...]  # in the order in which they took over
    terminated: bool
    truncated: bool


@dataclass
class Tally:
    """Counts a recording, one fragment after the other; its memory grows with the episodes only."""

    rows: int = 0
    policies: Counter[str] = field(default_factory=Counter)  # name -> rows
    _episodes: defaultdict[str, list[_Piece]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self,
        episode_id: str,
        first_step: int,
        policies: Sequence[str],
        rewards: np.ndarray,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Adds a fragment of T steps: T policies, (T,) rewards, and whether the last step ended the episode."""
        self.rows += len(rewards)
        self.policies.update(policies)
        order = tuple(dict.fromkeys(policies))
        total = float(np.sum(rewards, dtype=np.float64))
        self._episodes[episode_id].append(_Piece(first_step, len(rewards), total, order, terminated, truncated))

    def report(self) -> dict[str, Any]:
        """What was counted.

        Returns:
            rows; episodes; whole_episodes: those with every step from the first to the last; longest_episode: steps of
            the longest whole one; survival: share of the whole ones that were not terminated; mean_score: mean over the
            whole ones of the sum of rewards over max(own steps, longest_episode); mean_return: mean of that sum;
            policies: name -> rows; mixes: the same numbers for each order in which policies took over, as a list.
            Means are None where there is no whole episode.
        """
        longest = max(
            (sum(p.steps for p in pieces) for pieces in self._episodes.values() if _is_whole(pieces)), default=0
        )
        mixes: defaultdict[tuple[str, ...], list[list[_Piece]]] = defaultdict(list)
        for pieces in self._episodes.values():
            ordered = sorted(pieces, key=lambda piece: piece.first_step)
            mixes[tuple(dict.fromkeys(name for piece in ordered for name in piece.policies))].append(pieces)
        return {
            "rows": self.rows,
            **_numbers(list(self._episodes.values()), longest),
            "longest_episode": longest,
            "policies": dict(self.policies.most_common()),
            "mixes": [
                {
                    "policies": list(names),
                    "rows": sum(piece.steps for pieces in episodes for piece in pieces),
                    **_numbers(episodes, longest),
                }
                for names, episodes in sorted(mixes.items(), key=lambda item: -len(item[1]))
            ],
        }


def scalars(recording: Recording, columns: Sequence[str]) -> Iterator[tuple[int, int, pa.Table]]:
    """File number, row group and the given columns of every fragment, in the files' order.

    Raises:
        RecordingError: A row group is damaged; with `skip_bad` it is left out.
    """
    for file, places in groupby(recording.index(), key=lambda place: place[0]):
        with pq.ParquetFile(recording.files[file], page_checksum_verification=True) as handle:
            for _, group in places:
                try:
                    table = handle.read_row_group(group, columns=list(columns))
                except (pa.ArrowException, OSError) as error:
                    damage = RecordingError(f"{recording.files[file]}: row group {group} is damaged ({error})")
                    recording.leave_out(file, group, damage)
                else:
                    yield file, group, table


def summarize(recording: Recording) -> dict[str, Any]:
    """`Tally.report` of a recording, reading no observations and actions."""
    tally = Tally()
    for _, _, table in scalars(recording, _COLUMNS):
        tally.add(
            table["episode_id"][0].as_py(),
            table["step"][0].as_py(),
            texts_of(table, "policy"),
            table["reward"].to_numpy(),
            table["terminated"][-1].as_py(),
            table["truncated"][-1].as_py(),
        )
    return tally.report()


def _is_whole(pieces: list[_Piece]) -> bool:
    expected, ended = 0, False
    for piece in sorted(pieces, key=lambda piece: piece.first_step):
        if piece.first_step != expected:
            return False
        expected, ended = expected + piece.steps, piece.terminated or piece.truncated
    return ended


def _numbers(episodes: list[list[_Piece]], longest: int) -> dict[str, Any]:
    whole = [pieces for pieces in episodes if _is_whole(pieces)]
    returns = [sum(piece.total for piece in pieces) for pieces in whole]
    lengths = [max(sum(piece.steps for piece in pieces), longest) for pieces in whole]
    lost = [any(piece.terminated for piece in pieces) for pieces in whole]
    return {
        "episodes": len(episodes),
        "whole_episodes": len(whole),
        "survival": 1.0 - float(np.mean(lost)) if whole else None,
        "mean_score": float(np.divide(returns, lengths).mean()) if whole else None,
        "mean_return": float(np.mean(returns)) if whole else None,
    }
