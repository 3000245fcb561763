"""Each mistake ends with exit code 2 and one line that names it and the nearest right thing, before Ray starts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import yaml
from typer.testing import Result

from rllib_mafql.cli.checks import checked_stop
from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.evaluating import check_same_interface


def _spec(**changes: object) -> dict[str, object]:
    return {"cart": {"run": "PPO", "env": "CartPole-v1", "stop": {"training_iteration": 1}, **changes}}


def _grid(**changes: object) -> dict[str, object]:
    return _spec(run="MAFQL", env="grid2op_zones", **changes)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_spec(run="MAFQ"), "cart: run: unknown algorithm 'MAFQ'; the nearest valid one is 'MAFQL'"),
        (_spec(run="ppo"), "unknown algorithm 'ppo'; the nearest valid one is 'PPO'"),
        (_spec(run="nowhere.PPO"), "cannot import 'nowhere.PPO'"),
        (_spec(run="collections.OrderedDict"), "'collections.OrderedDict' is not an RLlib algorithm"),
        (_spec(env="Cartpole-v1"), "unknown environment 'Cartpole-v1'; the nearest valid one is 'CartPole-v1'"),
        (_spec(env="grid2op_zone"), "unknown environment 'grid2op_zone'; the nearest valid one is 'grid2op_zones'"),
        (_spec(confg={}), "cart.confg: unknown key; the nearest valid one is 'config'"),
        (_spec(num_samples="3"), "cart.num_samples: must be a whole number"),
        (_spec(checkpoint_config={"checkpoint_freq": 1}), "cart.checkpoint_config.checkpoint_freq: unknown key"),
        (_spec(checkpoint_config={"num_to_keep": 0}), "num_to_keep"),
        (_spec(stop={"training_iteration": "ten"}), "stop.training_iteration: must be a number, not 'ten'"),
        (_spec(restore="nowhere"), "restore: nowhere: no such folder"),
        (_spec(config={"lrr": 1}), "cart.config.lrr: unknown key; the nearest valid one is 'lr'"),
        (_spec(config={"num_env_runner": 1}), "the nearest valid one is 'num_env_runners'"),
        (_spec(config={"num_rollout_workers": 1}), "cart.config.num_rollout_workers: "),
        (_spec(config={"num_rollout_workers": 1}), "num_env_runners` instead"),
        (_spec(config={"buffer_size": 1}), "cart.config.buffer_size: RLlib no longer uses this key"),
        (_spec(config={"total_train_batch_size": 1}), "follows from other settings"),
        (_spec(config={"lr": "fast"}), "cart.config.lr: must be a number"),
        (_spec(config={"env_config": 3}), "cart.config.env_config: must be a mapping"),
        (_spec(config={"evaluation_config": {"explor": False}}), "cart.config.evaluation_config.explor: unknown key"),
        (_spec(config={"model_config": {"fcnet_hidden": [1]}}), "the nearest valid one is 'fcnet_hiddens'"),
        (
            _spec(config={"evaluation_duration": 0, "evaluation_interval": 1}),
            "config.evaluation_duration: must be 'auto' or an integer of at least 1, not 0",
        ),
        (
            _spec(config={"train_batch_size_per_learner": {"grid_search": [4000, 64]}, "minibatch_size": 128}),
            "`minibatch_size` (128) must be <= `train_batch_size_per_learner` (64)",
        ),
        (_grid(config={"flow_step": 2}), "cart.config.flow_step: unknown key; the nearest valid one is 'flow_steps'"),
        (_grid(config={"flow_steps": 7}), "cart.config.flow_steps: must be an integer from 1 to 5, not 7"),
        (_grid(config={"env_config": {"gird": "x"}}), "unknown key 'gird'; the nearest valid key is 'grid'"),
        (_grid(config={"env_config": {"reward": {"cost": -1}}}), "env_config.reward.cost"),
        (_grid(config={"evaluation_config": {"env_config": {"scenarios": {"splt": "test"}}}}), "'scenarios.split'"),
    ],
)
def test_mistakes_in_a_yaml_file(
    rllib: Callable[..., Result], tmp_path: Path, spec: dict[str, object], message: str
) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(spec))
    result = rllib("train", "file", "x.yaml")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "x.yaml" in result.output
    assert "Traceback" not in result.output
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: PPO\nenv: CartPole-v1\n", "the top level holds experiment names"),
        ("", "must be a mapping from experiment names"),
        ("cart: 3", "cart: must be a mapping"),
        ("cart: {env: CartPole-v1}", "cart.run: must name an algorithm"),
        ("cart: {run: PPO, env: A, config: {env: B}}", "env 'A' and config.env 'B' disagree"),
        ("cart:\n  run: PPO\n env: x", "x.yaml:3:2"),
    ],
)
def test_files_that_say_nothing_useful(rllib: Callable[..., Result], tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    result = rllib("train", "file", "x.yaml")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "file", "none.yaml"), "none.yaml: no such file"),
        (("train", "file", "x.txt"), "must be a .yaml or a .py file"),
        (("train", "--run", "PPO"), "--env is missing"),
        (("train", "--env", "CartPole-v1"), "--run ALGORITHM"),
        (("train", "--run", "PPO", "file", "x.yaml"), "put options behind the file"),
        (("train", "file", "x.yaml", "--config", "{lrx: 1}"), "--config.lrx: unknown key"),
        (("train", "file", "x.yaml", "--config", "[1]"), "--config: must be a mapping"),
        (("train", "file", "x.yaml", "--stop", "{a: "), "--stop:1:5"),
        (("train", "file", "x.yaml", "--resume", "--storage-path", "s"), "nothing to resume"),
        (("train", "file", "x.yaml", "--resume", "--restore", "."), "give one of them"),
        (("evaluate", "."), "no checkpoint in it"),
        (("evaluate", "missing"), "missing: no such folder"),
    ],
)
def test_mistakes_on_the_command_line(
    rllib: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(_spec()))
    (tmp_path / "x.txt").write_text("")
    result = rllib(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert not ray.is_initialized()


def test_a_file_in_the_place_of_the_results_folder(rllib: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(_spec()))
    result = rllib("train", "file", "x.yaml", "--storage-path", "x.yaml")
    assert result.exit_code == 2
    assert "storage_path: FileExistsError" in result.output


def test_nested_stop_criteria_are_flattened(capsys: pytest.CaptureFixture[str]) -> None:
    stop = {"training_iteration": 5, "env_runners": {"episode_return_mean": 1.5}, "evaluation/env_runners/x": 2}
    assert checked_stop(stop, "x.yaml") == {
        "training_iteration": 5,
        "env_runners/episode_return_mean": 1.5,
        "evaluation/env_runners/x": 2,
    }
    assert capsys.readouterr().err == ""


def test_a_stop_metric_that_rllib_does_not_report_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked_stop({"training_iterations": 5}, "x.yaml: cart") == {"training_iterations": 5}
    warning = capsys.readouterr().err
    assert "x.yaml: cart: stop.training_iterations" in warning
    assert "'training_iteration'" in warning


def test_vv_lets_the_traceback_through(rllib: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("cart: 3")
    result = rllib("train", "file", "x.yaml", "-vv")
    assert type(result.exception).__name__ == "InputError"


@pytest.mark.parametrize(
    "changes",
    [{"grid": "l2rpn_case14_sandbox"}, {"observability": "global"}, {"actions": ["redispatch"]}, {"zones": 2}],
)
def test_policies_fit_only_the_zones_they_were_trained_on(changes: dict[str, object]) -> None:
    trained = {"grid": "l2rpn_idf_2023"}
    check_same_interface(trained, {**trained, "thermal_limit_scale": 0.9, "scenarios": {"split": "test"}}, Path("ckpt"))
    with pytest.raises(InputError, match=f"env_config.{next(iter(changes))} is .*, but ckpt was trained with"):
        check_same_interface(trained, {**trained, **changes}, Path("ckpt"))
