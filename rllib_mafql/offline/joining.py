"""Episodes from a recording's fragments: what lies side by side is joined, what is missing stays missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.offline.reader import Recording
from rllib_mafql.offline.summary import scalars
from rllib_mafql.replay import Fragment


def stretches(recording: Recording) -> list[list[tuple[int, int]]]:
    """The places (file number, row group) of each episode's fragments, contiguous ones together, in order of steps.

    An episode with a gap is several stretches. Episodes come in the files' order. Reads two columns.
    """
    pieces: defaultdict[str, list[tuple[int, int, tuple[int, int]]]] = defaultdict(list)
    for file, group, table in scalars(recording, ["episode_id", "step"]):
        first = table["step"][0].as_py()
        pieces[table["episode_id"][0].as_py()].append((first, first + table.num_rows, (file, group)))
    found: list[list[tuple[int, int]]] = []
    for own in pieces.values():
        expected = None
        for first, after, place in sorted(own):
            if first != expected:
                found.append([])
            found[-1].append(place)
            expected = after
    return found


def joined(recording: Recording) -> Iterator[RecordedFragment]:
    """One fragment for each stretch of an episode, see `stretches`; holds one at a time.

    Raises:
        RecordingError: A row group is bad; with `skip_bad` the stretch is cut there.
    """
    for places in stretches(recording):
        parts: list[RecordedFragment] = []
        for part in recording.read(places):
            if parts and not _follows(parts[-1], part):
                yield join(parts)
                parts = []
            parts.append(part)
        if parts:
            yield join(parts)


def join(parts: Sequence[RecordedFragment]) -> RecordedFragment:
    """Contiguous fragments of one episode as one."""
    if len(parts) == 1:
        return parts[0]
    fragments = [part.fragment for part in parts]
    return RecordedFragment(
        fragment=Fragment(
            obs=np.concatenate([*(f.obs[:-1] for f in fragments), fragments[-1].obs[-1:]]),
            actions=np.concatenate([f.actions for f in fragments]),
            rewards=np.concatenate([f.rewards for f in fragments]),
            behavior=np.concatenate([f.behavior for f in fragments]),
            terminated=fragments[-1].terminated,
        ),
        truncated=parts[-1].truncated,
        components={name: np.concatenate([p.components[name] for p in parts]) for name in parts[0].components},
        policies=[name for part in parts for name in part.policies],
        episode_id=parts[0].episode_id,
        first_step=parts[0].first_step,
        scenario=parts[0].scenario,
    )


def _follows(before: RecordedFragment, after: RecordedFragment) -> bool:
    return (
        before.first_step + before.fragment.steps == after.first_step
        and not (before.fragment.terminated or before.truncated)
        and np.array_equal(before.fragment.obs[-1], after.fragment.obs[0])
    )
