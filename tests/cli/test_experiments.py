from pathlib import Path

import pytest

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.experiments import Experiment, from_options, read_file
from rllib_mafql.cli.options import TrainOptions

YAML = """
first:
  run: PPO
  env: CartPole-v1
  stop: {training_iteration: 5, time_total_s: 60}
  num_samples: 3
  storage_path: here
  checkpoint_config: {checkpoint_frequency: 4, checkpoint_at_end: false}
  config:
    lr: 1e-4
    env_config: {a: 1, b: {c: 2, d: 3}}
    gamma: {grid_search: [0.9, 0.99]}
"""


def _read(tmp_path: Path, text: str = YAML, **options: object) -> list[Experiment]:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    return read_file(file, TrainOptions(**options))  # type: ignore[arg-type]


def test_options_that_are_not_given_change_nothing(tmp_path: Path) -> None:
    (experiment,) = _read(tmp_path)
    assert experiment.run == "PPO"
    assert experiment.stop == {"training_iteration": 5, "time_total_s": 60}
    assert (experiment.name, experiment.num_samples, experiment.storage_path) == ("first", 3, "here")
    assert experiment.checkpoint == {"checkpoint_frequency": 4, "checkpoint_at_end": False}
    assert experiment.config()["lr"] == 1e-4
    assert experiment.config()["env"] == "CartPole-v1"


def test_options_that_are_given_win(tmp_path: Path) -> None:
    (experiment,) = _read(
        tmp_path,
        config="{lr: 2, env_config: {b: {c: 9}}, gamma: 0.5}",
        stop="{training_iteration: 1}",
        env="Acrobot-v1",
        num_samples=1,
        storage_path="there",
        experiment_name="renamed",
        checkpoint_freq=0,
        checkpoint_at_end=True,
        checkpoint_score_attr="min-evaluation/loss",
    )
    assert experiment.config() == {
        "env": "Acrobot-v1",
        "lr": 2,
        "env_config": {"a": 1, "b": {"c": 9, "d": 3}},
        "gamma": 0.5,
    }
    assert experiment.stop == {"training_iteration": 1}
    assert (experiment.name, experiment.num_samples, experiment.storage_path) == ("renamed", 1, "there")
    assert experiment.checkpoint == {
        "checkpoint_frequency": 0,
        "checkpoint_at_end": True,
        "checkpoint_score_attribute": "evaluation/loss",
        "checkpoint_score_order": "min",
    }


def test_the_flat_checkpoint_keys_of_the_former_command(tmp_path: Path) -> None:
    text = "a: {run: PPO, env: E, checkpoint_freq: 2, keep_checkpoints_num: 1, checkpoint_score_attr: x/y}"
    (experiment,) = _read(tmp_path, text)
    assert experiment.checkpoint == {
        "checkpoint_frequency": 2,
        "num_to_keep": 1,
        "checkpoint_score_attribute": "x/y",
        "checkpoint_score_order": "max",
    }


def test_several_experiments_take_no_single_name(tmp_path: Path) -> None:
    text = "a: {run: PPO, env: E}\nb: {run: SAC, env: E}\n"
    assert [e.name for e in _read(tmp_path, text)] == ["a", "b"]
    with pytest.raises(InputError, match=r"--experiment-name is for one experiment.*--only"):
        _read(tmp_path, text, experiment_name="c")


def test_only_picks_one_of_several_experiments(tmp_path: Path) -> None:
    text = "a: {run: PPO, env: E}\nbest: {run: SAC, env: E}\n"
    [picked] = _read(tmp_path, text, only="best", experiment_name="c")
    assert (picked.name, picked.run) == ("c", "SAC")
    with pytest.raises(InputError, match=r"--only: .* has no experiment 'bets'; the nearest valid one is 'best'"):
        _read(tmp_path, text, only="bets")
    with pytest.raises(InputError, match="--only is for a file"):
        from_options(TrainOptions(algo="PPO", env="E", only="a"))


def test_the_command_line_alone() -> None:
    experiment = from_options(TrainOptions(algo="PPO", env="CartPole-v1", config='{"lr": 1e-3}'))
    assert experiment.name == "PPO_CartPole-v1"
    assert experiment.config() == {"env": "CartPole-v1", "lr": 1e-3}
    with pytest.raises(InputError, match="--env is missing"):
        from_options(TrainOptions(algo="PPO"))


def test_a_python_file_with_a_config_object(tmp_path: Path) -> None:
    file = tmp_path / "pend.py"
    file.write_text(
        "from ray.rllib.algorithms.sac import SACConfig\n"
        "config = SACConfig().environment('Pendulum-v1').training(tau=0.25)\n"
        "stop = {'training_iteration': 7}\n"
    )
    (experiment,) = read_file(file, TrainOptions(config="{gamma: 0.5}"))
    assert isinstance(experiment.run, type)
    assert experiment.run.__name__ == "SAC"
    assert (experiment.name, experiment.stop) == ("pend", {"training_iteration": 7})
    config = experiment.config()
    assert (config["env"], config["tau"], config["gamma"]) == ("Pendulum-v1", 0.25, 0.5)


def test_a_python_file_with_a_dict(tmp_path: Path) -> None:
    file = tmp_path / "cart.py"
    file.write_text("config = {'run': 'PPO', 'env': 'CartPole-v1', 'lr': 0.5}\n")
    (experiment,) = read_file(file, TrainOptions())
    assert experiment.run == "PPO"
    assert experiment.config() == {"env": "CartPole-v1", "lr": 0.5}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("stop = {}", "must define `config`"),
        ("config = {'env': 'E'}", 'must hold the key "run"'),
        ("1 / 0", "ZeroDivisionError"),
        (
            "from ray.rllib.algorithms.algorithm_config import AlgorithmConfig\nconfig = AlgorithmConfig()",
            "no algorithm",
        ),
    ],
)
def test_python_files_that_do_not_do(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(source)
    with pytest.raises(InputError, match=message):
        read_file(file, TrainOptions())
