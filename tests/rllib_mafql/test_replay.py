"""Joint replay and n-step returns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_mafql.replay import COLUMNS, Fragment, JointReplay, n_step_returns


def fragment(first, steps, terminated=False):
    """Rows numbered from `first`; actions and rewards repeat the number."""
    rows = np.arange(first, first + steps + 1, dtype=np.float32)
    obs = np.stack([rows, 2 * rows], -1)
    return Fragment(obs, rows[:-1, None], rows[:-1], rows[:-1] % 2 == 0, terminated)


def replay(capacity=100, gamma=0.5, n_step=1):
    return JointReplay(capacity, gamma, n_step, seed=0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(2, 12), st.integers(1, 5))
def test_replay_holds_the_newest_transitions_whole(sizes, capacity, n_step):
    ring, total, last = JointReplay(capacity, 1.0 - 1e-9, n_step, seed=0), 0, {}
    for size in sizes:
        ring.add(fragment(total, size))
        last |= dict.fromkeys(range(total, total + size), total + size)
        total += size + 1  # a number that no row follows on
    assert ring.added == sum(sizes)
    sample = ring.sample(500)
    number = sample["obs"][:, 0].astype(int)
    assert np.array_equal(sample["obs"][:, 1], 2 * sample["obs"][:, 0])  # no row is mixed from two
    assert np.array_equal(sample["actions"][:, 0], number)
    assert np.array_equal(sample["behavior"], number % 2 == 0)
    # What follows lies n steps ahead, or where the fragment ends.
    following = np.array([min(k + n_step, last[k]) for k in number])
    assert np.array_equal(sample["next_obs"][:, 0], following)
    assert sample["rewards"] == pytest.approx(
        np.array([sum(range(k, f)) for k, f in zip(number, following, strict=True)]), rel=1e-5
    )
    # The newest transitions are all there, and as many as the replay says.
    assert len(set(number)) == len(ring)
    newest = sorted(last)[-len(ring) :]
    assert set(number) == set(newest)
    rows = [held for size in sizes for held in [1] * size + [0]]
    assert len(ring) == sum(rows[-capacity:])


def test_observations_are_held_once():
    ring = JointReplay(1_000, 0.9, 3, seed=0)
    steps = 99
    for _ in range(10):
        ring.add(Fragment(np.ones((steps + 1, 500)), np.ones((steps, 50)), np.ones(steps), np.ones(steps, bool), False))
    assert len(ring) == 990
    assert ring.nbytes <= 1.15 * len(ring) * (500 + 50) * 4


def test_sample_has_the_columns_that_the_learner_reads():
    ring = replay()
    ring.add(fragment(0, 5))
    sample = ring.sample(7)
    assert set(sample) == set(COLUMNS)
    assert {values.dtype for values in sample.values()} == {np.dtype(np.float32)}
    assert {len(values) for values in sample.values()} == {7}


def test_sampling_is_uniform_over_transitions():
    ring = replay()
    for first in (0, 10, 20):
        ring.add(fragment(first, 3))
    counts = np.unique(ring.sample(9_000)["obs"][:, 0], return_counts=True)
    assert counts[0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert counts[1] == pytest.approx(np.full(9, 1_000), abs=150)


def test_replay_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="capacity must be at least 2"):
        replay(capacity=1)
    with pytest.raises(ValueError, match="empty"):
        replay().sample(1)
    with pytest.raises(ValueError, match="no steps"):
        replay().add(fragment(0, 0))
    with pytest.raises(ValueError, match="'obs' has 2 rows, but 3 steps need 4"):
        replay().add(fragment(0, 3)._replace(obs=np.zeros((2, 2))))
    ring = replay()
    ring.add(fragment(0, 2))
    with pytest.raises(ValueError, match="3 observation and 1 action components, those stored 2 and 1"):
        ring.add(fragment(0, 1)._replace(obs=np.zeros((2, 3))))


def test_statistics_ignore_rows_not_written():
    ring = replay()
    ring.add(fragment(0, 3))
    mean, std, low, high = ring.statistics()[:4]
    assert mean.tolist() == [1.5, 3.0]
    assert low.tolist() == [0.0, 0.0] and high.tolist() == [3.0, 6.0]
    assert std == pytest.approx([np.std([0, 1, 2, 3]), np.std([0, 2, 4, 6])])


def test_statistics_of_actions_are_those_that_are_cloned():
    ring = replay()
    ring.add(fragment(0, 5))  # actions 0 to 4, of which behaviour policies chose the even ones
    found = ring.statistics()
    assert found.action_mean.tolist() == [2.0]
    assert found.action_std == pytest.approx([np.std([0, 2, 4])])
    ring.add(fragment(7, 1)._replace(behavior=np.array([False])))
    assert ring.statistics().action_mean.tolist() == [2.0]
    other = replay()
    other.add(fragment(7, 1)._replace(behavior=np.array([False])))
    assert other.statistics().action_mean.tolist() == [7.0]  # there are no others


def test_n_step_returns_by_hand():
    found = n_step_returns(np.array([1, 2, 4, 8], np.float32), terminated=False, gamma=0.5, n=2)
    assert found.rewards.tolist() == [1 + 1, 2 + 2, 4 + 4, 8]
    assert found.discounts.tolist() == [0.25, 0.25, 0.25, 0.5]  # a cut or truncation keeps the value that follows
    assert found.ahead.tolist() == [2, 2, 2, 1]
    beyond = (1 + 2 + 4 + 8) / 4 / (1 - 0.5)  # the mean reward for ever
    assert found.to_go.tolist() == [4 + beyond / 16, 6 + beyond / 8, 8 + beyond / 4, 8 + beyond / 2]


def test_nothing_follows_a_termination():
    found = n_step_returns(np.array([1, 2, 4, 8], np.float32), terminated=True, gamma=0.5, n=2)
    assert found.discounts.tolist() == [0.25, 0.25, 0.0, 0.0]
    assert found.to_go.tolist() == [4.0, 6.0, 8.0, 8.0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.integers(1, 12), st.booleans())
def test_n_step_returns_are_the_plain_sums(rewards, n, terminated):
    steps, gamma = len(rewards), 0.9
    found = n_step_returns(np.array(rewards, np.float32), terminated, gamma, n)
    for t in range(steps):
        k = min(n, steps - t)
        assert found.rewards[t] == pytest.approx(sum(gamma**i * rewards[t + i] for i in range(k)), abs=1e-4)
        beyond = 0.0 if terminated else gamma ** (steps - t) * np.mean(rewards) / (1 - gamma)
        assert found.to_go[t] == pytest.approx(sum(gamma**i * r for i, r in enumerate(rewards[t:])) + beyond, abs=1e-4)
        over = terminated and t + k == steps
        assert found.discounts[t] == pytest.approx(0.0 if over else gamma**k)


def test_advice_is_held_beside_what_was_played():
    ring = replay()
    ring.add(fragment(0, 4))
    assert "advice" not in ring.sample(5)
    ring.add(fragment(10, 4)._replace(advice=100 + np.arange(10, 14, dtype=np.float32)[:, None]))
    sample = ring.sample(400)
    number = sample["obs"][:, :1]
    assert set(number.ravel()) == {0, 1, 2, 3, 10, 11, 12, 13}
    assert np.array_equal(sample["actions"], number)
    assert np.array_equal(sample["advice"], np.where(number >= 10, 100 + number, number))
    # actions are standardised by what is cloned: here rows 0, 2, 110 and 112
    assert ring.statistics().action_mean == pytest.approx([56.0])
    again = replay()
    again.begin_at(ring.rows, ring.base, ring.capacity)
    again.put(0, ring.rows_between(0, ring.rows))
    again.settle([])
    assert np.array_equal(np.unique(again.sample(400)["advice"]), np.unique(sample["advice"]))
    with pytest.raises(ValueError, match="advice"):
        ring.add(fragment(20, 4)._replace(advice=np.zeros((3, 1), np.float32)))
