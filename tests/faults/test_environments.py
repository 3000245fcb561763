"""Environments that raise, or give what is no number: what they gave before is kept, and nothing after."""

import logging

import numpy as np
import pytest
from ray import tune

from rllib_mafql.slots import NotFinite
from tests.faults.ledger import STEPS, LedgerEnv, of_recordings
from tests.rllib_mafql.toy_env import echo_config


@pytest.fixture
def ray_logs(monkeypatch):
    """Ray's loggers keep their records to themselves; not here."""
    for name in ("ray", "ray.rllib"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)


def runner(tmp_path, **settings):
    """One that plays here, two environments of which the first has what is asked for."""
    tune.register_env("ledger", LedgerEnv)
    config = echo_config().environment("ledger", env_config={"faults": str(tmp_path)})
    config.offline_data(output=str(tmp_path / "recorded")).fault_tolerance(**settings)
    config.freeze()
    return config.env_runner_cls(config=config)


def failures(made):
    return made.get_metrics()["num_env_step_failures"].peek()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "NotFinite: component 2 of the observation of 'right' is nan"),
        ("inf_reward", "NotFinite: the reward is inf"),
        ("raise", "RuntimeError: the simulator broke"),
    ],
)
def test_an_episode_ends_before_what_failed(fault, message, tmp_path, caplog, ray_logs):
    made = runner(tmp_path)
    (first,) = made.sample(num_timesteps=12, random_actions=True)  # six steps of each environment
    (tmp_path / f"{fault}-0").touch()
    with caplog.at_level(logging.WARNING, "ray.rllib"):
        (second,) = made.sample(num_timesteps=100, random_actions=True)
    assert f"failed at step 6: {message}" in caplog.text
    assert failures(made) == 1

    fragments = [*first.fragments, *second.fragments]
    assert all(np.isfinite(values).all() for fragment in fragments for values in fragment[:3])
    assert sum(fragment.steps for fragment in fragments) == 112
    numbers = [set(fragment.obs[:, 1]) for fragment in fragments]
    assert numbers[0] != numbers[1] and all(len(one) == 1 for one in numbers)
    # the environment that failed plays no more; the other one plays on, and a new one beside it
    broken = {n for one in numbers[:2] for n in one} - {n for one in numbers[2:] for n in one}
    assert len(broken) == 1 and len({n for one in numbers for n in one}) == 3

    made.stop()
    ledger, files = of_recordings(tmp_path / "recorded")
    ledger.check()
    assert len(ledger.names) == 112 and files >= 1


def test_a_reset_that_fails_is_tried_with_another_environment(tmp_path, caplog, ray_logs):
    made = runner(tmp_path)
    (tmp_path / "reset-0").touch()
    with caplog.at_level(logging.WARNING, "ray.rllib"):
        (rollout,) = made.sample(num_timesteps=2 * STEPS, random_actions=True)
    assert rollout.steps == 2 * STEPS and failures(made) == 1
    assert "the simulator does not start" in caplog.text


def test_what_is_never_a_number_is_an_error(tmp_path):
    made = runner(tmp_path)
    made.sample(num_timesteps=2, random_actions=True)
    made._build_one = lambda: _AlwaysNaN({})
    (tmp_path / "nan-0").touch()
    with pytest.raises(NotFinite, match="component 0 of the observation of 'left' is nan, as are 7 further ones"):
        made.sample(num_timesteps=100, random_actions=True)


def test_replacing_can_be_switched_off(tmp_path):
    made = runner(tmp_path, restart_failed_sub_environments=False)
    (tmp_path / "nan-0").touch()
    with pytest.raises(NotFinite):
        made.sample(num_timesteps=10, random_actions=True)


class _AlwaysNaN(LedgerEnv):
    def _observe(self):
        return {agent: np.full(4, np.nan, np.float32) for agent in self.agents}


def test_a_disk_that_takes_nothing_does_not_end_play(tmp_path, ray_logs, caplog):
    made = runner(tmp_path)
    made._recording.recorder._max_rows = 3 * STEPS
    made.sample(num_timesteps=2 * STEPS, random_actions=True)
    folder = tmp_path / "recorded"
    folder.rmdir()
    folder.touch()  # no folder can be made there, as none on a full disk
    with caplog.at_level(logging.ERROR, "ray.rllib"):
        made.sample(num_timesteps=60 * STEPS, random_actions=True)
    assert "Play goes on without being recorded" in caplog.text
    assert made.get_metrics()["num_recording_failures"].peek() > 10

    assert made._recording.recorder._writer.buffered < 13 * 3 * STEPS  # memory has an end

    folder.unlink()
    made.sample(num_timesteps=20 * STEPS, random_actions=True)
    assert made._recording.recorder._writer.buffered < 3 * STEPS  # it is written once that is possible
    made.stop()
    ledger, _ = of_recordings(folder)
    ledger.check()
    assert 30 * STEPS + 20 * STEPS <= len(ledger.names) < 62 * STEPS
