"""Joint replay and n-step returns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_mafql.replay import JointReplay, n_step_columns


def transitions(first, count):
    rows = np.arange(first, first + count, dtype=np.float32)
    return {"obs": np.stack([rows, 2 * rows], -1), "rewards": rows}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 10))
def test_replay_holds_the_newest_transitions_whole(sizes, capacity):
    replay, total = JointReplay(capacity, seed=0), 0
    for size in sizes:
        replay.add(transitions(total, size))
        total += size
    assert len(replay) == min(total, capacity)
    assert replay.added == total
    sample = replay.sample(500)
    assert np.array_equal(sample["obs"][:, 1], 2 * sample["rewards"])  # no row is mixed from two
    assert set(sample["rewards"]) == set(range(max(0, total - capacity), total))


def test_replay_refuses_what_does_not_fit():
    replay = JointReplay(4)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1)
    with pytest.raises(ValueError, match="'obs' has 2 rows"):
        replay.add({"obs": np.zeros((2, 1)), "rewards": np.zeros(3)})
    replay.add(transitions(0, 2))
    with pytest.raises(ValueError, match="differ from those stored"):
        replay.add({"rewards": np.zeros(1)})


def test_statistics_ignore_rows_not_written():
    replay = JointReplay(100)
    replay.add(transitions(0, 3))
    mean, std = replay.statistics("obs")
    assert mean.tolist() == [1.0, 2.0]
    assert std == pytest.approx([np.std([0, 1, 2]), np.std([0, 2, 4])])


def test_n_step_returns_by_hand():
    rewards = np.array([1, 2, 4, 8, 16], np.float32)
    terminated = np.array([False, False, True, False, False])
    ended = np.array([False, False, True, False, False])
    returns, discounts, last = n_step_columns(rewards, terminated, ended, gamma=0.5, n=2)
    assert returns.tolist() == [1 + 1, 2 + 2, 4, 8 + 8, 16]
    assert discounts.tolist() == [0.25, 0.0, 0.0, 0.25, 0.5]
    assert last.tolist() == [1, 2, 2, 4, 4]


def test_truncation_keeps_the_value_that_follows():
    _, discounts, last = n_step_columns(np.ones(3), np.zeros(3, bool), np.array([False, True, False]), 0.5, 5)
    assert discounts.tolist() == [0.25, 0.5, 0.5]
    assert last.tolist() == [1, 1, 2]
