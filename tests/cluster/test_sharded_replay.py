"""Replay in actors: nothing is lost or doubled on its way, all of it is drawn alike, and the driver sees none of it."""

import time

import numpy as np
import pytest
import ray

from rllib_mafql.replay import Fragment, JointReplay
from rllib_mafql.sharded_replay import PREFETCH, ShardedReplay, ship
from tests.cluster.nodes import actors
from tests.rllib_mafql.toy_env import echo_config

STEPS = 7


def fragment(first, shift=0.0):
    """STEPS transitions whose first observation component is their number."""
    obs = np.zeros((STEPS + 1, 3), np.float32)
    obs[:, 0] = np.arange(first, first + STEPS + 1)
    obs[:, 1:] = np.random.default_rng(first).normal(shift, 1.0, (STEPS + 1, 2))
    actions = np.tanh(obs[:-1, 1:])
    return Fragment(obs, actions, np.ones(STEPS, np.float32), np.ones(STEPS, bool), False)


def held(shard):
    """The numbers of the transitions in a shard, all of them."""

    def numbers(self):
        columns = self.replay._columns
        return columns["obs"][columns["ahead"] > 0, 0].astype(int).tolist() if columns else []

    return ray.get(shard.__ray_call__.remote(numbers))


@pytest.fixture
def replay(cluster):
    made = ShardedReplay(3, capacity=6000, gamma=0.9, n_step=3, seed=0)
    yield made
    made.stop()


def test_what_many_processes_send_is_there_once(replay):
    @ray.remote(num_cpus=0.25)
    def play(worker):
        for turn in range(10):
            ship([fragment(first) for first in starts[worker * 20 + 2 * turn :][:2]], replay.reference, worker + turn)

    starts = [number * STEPS for number in range(4 * 20)]
    ray.get([play.remote(worker) for worker in range(4)])
    replay.refresh()
    parts = [held(shard) for shard in replay.shards]
    assert sorted(number for part in parts for number in part) == list(range(4 * 20 * STEPS))
    assert len(replay) == replay.added == 4 * 20 * STEPS
    assert max(map(len, parts)) <= 1.5 * min(map(len, parts))  # spread over the shards
    assert {f"ReplayShard(number={i})" for i in range(3)} <= {name for name, _, _ in actors()}
    assert len({node for name, node, _ in actors() if name.startswith("ReplayShard")}) > 1

    # each transition as likely as any other, whichever shard it is in
    draws = replay.draws(size=50, number=120, learners=2)
    drawn = [batch["obs"][:, 0].astype(int) for learner in draws for batch in learner]
    assert len(drawn) == 240 and all(len(rows) == 50 for rows in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=4 * 20 * STEPS)
    shares = [counts[numbers].sum() / counts.sum() / (len(numbers) / len(replay)) for numbers in parts]
    assert np.allclose(shares, 1.0, atol=0.25) and (counts > 0).all()


def test_statistics_are_those_of_one_replay_that_holds_all(replay):
    one = JointReplay(6000, 0.9, 3)
    for number in range(30):  # the shards hold different things
        one.add(fragment(number * STEPS, shift=number % 3))
        ship([fragment(number * STEPS, shift=number % 3)], replay.reference, number)
    replay.refresh()
    for found, right in zip(replay.statistics(), one.statistics(), strict=True):
        assert np.allclose(found, right, rtol=1e-3, atol=1e-3)


def test_batches_are_asked_for_ahead_and_an_empty_shard_is_passed_over(replay):
    with pytest.raises(ValueError, match="empty"):
        replay.draws(8, 1, 1)
    ship([fragment(0)], replay.reference, 1)
    replay.refresh()
    (draws,) = replay.draws(8, 2 * PREFETCH, 1)
    draws._order[0] = 0  # as if that shard had died since
    before = time.monotonic()
    assert [len(batch["rewards"]) for batch in draws] == [8] * 2 * PREFETCH
    assert time.monotonic() - before < 30


def test_a_shard_that_dies_comes_back_empty(replay):
    for number in range(6):
        ship([fragment(number * STEPS)], replay.reference, number)
    ray.kill(replay.shards[0], no_restart=False)
    deadline = time.monotonic() + 60
    while len(replay) != 4 * STEPS and time.monotonic() < deadline:  # it dies when the order has come
        replay.refresh()
    assert len(replay) == 4 * STEPS
    ship([fragment(0)], replay.reference, 0)
    replay.refresh()
    assert len(replay) == 5 * STEPS


def test_a_run_with_shards_loses_and_doubles_nothing_and_its_learners_draw_themselves(cluster):
    config = echo_config(warm_start_steps=100, num_updates=2, num_replay_shards=2)
    config.env_runners(num_env_runners=3, num_cpus_per_env_runner=0.25, rollout_fragment_length=10, sample_async=True)
    algorithm = config.learners(num_learners=2, num_cpus_per_learner=0.25).build_algo()
    algorithm._batch = None  # the driver draws nothing
    try:
        while not algorithm._updates_done:
            algorithm.train()
        for _ in range(6):
            result = algorithm.train()
        assert result["learners"]["critic"]["td_loss"] >= 0
        updates = algorithm._updates_done
        weights = algorithm.learner_group.foreach_learner(_first_weights)
        assert np.array_equal(*[each.get() for each in weights])
        algorithm._collector._request = lambda behavior: None  # nothing anew
        steps = algorithm.env_runner_group.foreach_env_runner(_steps, local_env_runner=False)
        result = algorithm.train()
        assert algorithm._updates_done == updates + 2
        assert result["replay_size"] == algorithm.replay.added == sum(steps) > 0
        rows = np.concatenate([ray.get(shard.__ray_call__.remote(_observations)) for shard in algorithm.replay.shards])
        assert len(rows) == len(np.unique(rows, axis=0)) == sum(steps)  # observations are drawn at random: none recurs
        state = algorithm.get_state()
        assert state["replay"]["added"] == sum(steps)
    finally:
        algorithm.stop()
    assert not any(name.startswith("ReplayShard") for name, _, _ in actors())


def _first_weights(learner):
    return next(learner.module["critic"].parameters()).detach().numpy().ravel()


def _steps(runner):
    return runner.num_env_steps_sampled_lifetime


def _observations(shard):
    columns = shard.replay._columns
    return columns["obs"][columns["ahead"] > 0]


@pytest.mark.parametrize("other", [{"store_buffer_in_checkpoints": True}, {"num_replay_shards": -1}])
def test_what_shards_cannot_do_is_refused(other):
    with pytest.raises(ValueError, match="num_replay_shards must be"):
        echo_config(**{"num_replay_shards": 2} | other).validate()
