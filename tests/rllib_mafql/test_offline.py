"""MAFQL on recorded data: what runs record is what they learn from, offline and then online."""

import logging

import numpy as np
import pytest
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_mafql.offline import RecordingError, open_recording
from tests.rllib_mafql.toy_env import STEPS, echo_config

pytestmark = pytest.mark.usefixtures("ray_instance")


def config(**training):
    return echo_config(**{"bc_coeff": 0.0, "distillation_coeff": 0.1, "conservative_coeff": 0.01} | training)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """1,010 steps of random play: 50 whole episodes and two that were cut."""
    folder = tmp_path_factory.mktemp("recorded")
    source = config().offline_data(output=str(folder), output_max_rows_per_file=300)
    runner = source.env_runner_cls(config=source)
    runner.sample(num_timesteps=1010, behavior=True)
    runner.stop()
    return folder


def test_a_runner_records_every_step_that_it_plays(recorded):
    recording = open_recording(str(recorded))
    assert recording.rows == 1010
    assert len(recording.files) == 4
    assert recording.schema.agents == (("left", 3, 2), ("right", 4, 2))
    assert recording.schema.fingerprint == {"grid": "echo"}
    fragments = list(recording.read())
    assert sorted(f.fragment.steps for f in fragments) == [5, 5] + [STEPS] * 50
    assert all(f.truncated == (f.fragment.steps == STEPS) for f in fragments)
    assert len({f.episode_id for f in fragments}) == 52
    assert {name for f in fragments for name in f.policies} == {"random"}
    for f in fragments:  # the game's own rule holds for what was written
        error = np.mean((f.fragment.actions - f.fragment.obs[:-1, [0, 1, 3, 4]]) ** 2, -1)
        assert f.fragment.rewards == pytest.approx(1 - error, abs=1e-5)


def test_flushing_amid_an_episode_continues_it_in_another_fragment(tmp_path):
    source = config().offline_data(output=str(tmp_path))
    runner = source.env_runner_cls(config=source)
    for steps in (14, 50):  # of two environments
        runner.sample(num_timesteps=steps, behavior=True)
        assert runner.flush_recording() in (14, 64)
    runner.stop()
    parts = {}
    for f in open_recording(str(tmp_path)).read():
        parts.setdefault(f.episode_id, []).append((f.first_step, f.fragment.steps, f.truncated))
    assert sorted(map(sorted, parts.values())) == 2 * [[(0, 7, False), (7, 13, True)]] + 2 * [[(0, 12, False)]]


def test_training_runs_record_their_own_rollouts(tmp_path):
    source = config(warm_start_steps=200, num_updates=5).evaluation(evaluation_interval=1)
    algorithm = source.offline_data(output=str(tmp_path)).build_algo()
    try:
        for _ in range(2):
            algorithm.train()
    finally:
        algorithm.stop()
    policies = [name for f in open_recording(str(tmp_path)).read() for name in f.policies]
    assert len(policies) == 400  # none of evaluation
    assert set(policies) == {"random", "learned"}


@pytest.mark.parametrize("memory_gb", [None, 0.0])
def test_it_learns_from_recorded_play_alone(recorded, memory_gb, caplog, tmp_path):
    """In memory, and streamed through Ray Data; statistics of the data are in the checkpoint."""
    offline = config(offline_memory_gb=memory_gb, replay_capacity=900).offline_data(input_=str(recorded))
    with caplog.at_level(logging.WARNING, logger="ray.rllib"):
        algorithm = offline.build_algo()
    try:
        assert ("streamed through Ray Data" if memory_gb == 0.0 else "held in memory") in caplog.text
        for _ in range(10):
            result = algorithm.train()
        assert result["num_learner_updates"] == 500
        assert "env_runners" not in result  # not a single step was played
        assert algorithm.evaluate()["env_runners"]["episode_return_mean"] > 0.85 * STEPS
        obs = np.concatenate([f.fragment.obs for f in open_recording(str(recorded)).read()])
        path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    finally:
        algorithm.stop()
    restored = Algorithm.from_checkpoint(path)
    try:
        normalizer = restored.learner_group.get_state()["learner"]["rl_module"]["teacher"]["field.normalizer.mean"]
        assert normalizer == pytest.approx(obs.mean(0), abs=0.05)
        assert restored.evaluate()["env_runners"]["episode_return_mean"] > 0.85 * STEPS
    finally:
        restored.stop()


def test_rollouts_follow_after_offline_updates_and_are_mixed(recorded):
    mixed = config(offline_updates=100, offline_fraction=0.75, num_updates=10, calibrated=True)
    algorithm = mixed.offline_data(input_=str(recorded)).build_algo()
    try:
        sizes = []
        for _ in range(14):
            result = algorithm.train()
            sizes.append(len(algorithm.replay))
        assert sizes[:10] == [0] * 10  # 100 updates on recorded data alone
        assert sizes[10:] == [200, 400, 600, 800]
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 800
        assert result["num_learner_updates"] == 140
        share = algorithm._batch(4000)[
            "behavior"
        ].mean()  # recorded play is all of a behaviour policy, rollouts' is not
        assert share == pytest.approx(0.75, abs=0.05)
    finally:
        algorithm.stop()


def test_recorded_data_of_another_environment_are_refused(recorded, tmp_path):
    other = config().environment("echo", env_config={"fingerprint": {"grid": "another"}})
    with pytest.raises(RecordingError, match=r"grid 'echo'.*grid 'another'"):
        other.offline_data(input_=str(recorded)).build_algo()
    wider = config().environment("echo", env_config={"extra": 2})
    with pytest.raises(RecordingError, match="left"):
        wider.offline_data(input_=str(recorded)).build_algo()
    with pytest.raises(RecordingError, match="no recorded data"):
        config().offline_data(input_=str(tmp_path)).build_algo()
