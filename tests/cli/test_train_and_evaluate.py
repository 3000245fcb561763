"""Real runs: RLlib's PPO on CartPole and on a tiny multi-agent environment."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from rllib_mafql.cli.progress import ProgressLines

pytestmark = pytest.mark.usefixtures("small_ray")

FAST = {"num_env_runners": 0, "train_batch_size_per_learner": 200, "minibatch_size": 100, "num_epochs": 1}


def _write(folder: Path, name: str, **spec: Any) -> str:
    config = {**FAST, "model_config": {"fcnet_hiddens": [8]}, **spec.pop("config", {})}
    text = yaml.safe_dump(
        {name: {"run": "PPO", "env": "CartPole-v1", "storage_path": "runs", "config": config, **spec}}
    )
    (folder / f"{name}.yaml").write_text(text)
    return f"{name}.yaml"


def _evaluate_commands(output: str) -> list[list[str]]:
    return [words.split() for words in re.findall(r"^evaluate: +\S*rllib (.*)$", output, flags=re.MULTILINE)]


def test_train_then_evaluate_with_the_command_it_names(rllib: Callable[..., Result], tmp_path: Path) -> None:
    file = _write(tmp_path, "cart", stop={"training_iteration": 2})
    trained = rllib("train", "file", file, "--config", "{lr: 1e-4}")
    assert trained.exit_code == 0, trained.output
    lines = [line for line in trained.output.splitlines() if line.startswith("iter")]
    assert [line.split()[1:4] for line in lines] == [["1", "steps", "200"], ["2", "steps", "400"]]
    assert "return" in lines[1]
    (trial,) = (tmp_path / "runs" / "cart").glob("PPO_*")
    assert json.loads((trial / "params.json").read_text())["lr"] == 1e-4
    assert list(trial.glob("events.out.tfevents.*"))

    (command,) = _evaluate_commands(trained.output)
    assert command[1].startswith("runs/cart/")
    evaluated = rllib(*command[:-1], "4", "--json", "report/numbers.json")
    assert evaluated.exit_code == 0, evaluated.output
    report = json.loads((tmp_path / "report" / "numbers.json").read_text())
    assert report["algorithm"] == "PPO"
    assert report["env"] == "CartPole-v1"
    assert report["episodes"] == report["metrics"]["num_episodes"] == 4
    assert report["metrics"]["episode_return_min"] <= report["metrics"]["episode_return_mean"] <= 500
    assert re.search(r"episode_return_mean +[\d.]+", evaluated.output)


def test_policies_named_like_agents_and_a_class_path_as_environment(
    rllib: Callable[..., Result], tmp_path: Path
) -> None:
    file = _write(
        tmp_path,
        "pair",
        env="environments.Pair",
        stop={"training_iteration": 1},
        config={
            "policies": ["left", "right"],
            "env_config": {"length": 7},
            "evaluation_interval": 1,
            "evaluation_duration": 3,
            "evaluation_config": {"env_config": {"length": 5}},
        },
    )
    trained = rllib("train", "file", file)
    assert trained.exit_code == 0, trained.output
    assert "return 14  eval 10" in trained.output
    policies = sorted(p.name for p in tmp_path.glob("runs/pair/*/checkpoint_*/learner_group/learner/rl_module/*/"))
    assert {"left", "right"} <= set(policies)
    evaluated = rllib("evaluate", "runs/pair", "--episodes", "2", "--config", "{env_config: {length: 4}}")
    assert evaluated.exit_code == 0, evaluated.output
    assert re.search(r"episode_return_mean +8$", evaluated.output, flags=re.MULTILINE)


def test_a_failing_trial_ends_with_its_error(rllib: Callable[..., Result], tmp_path: Path) -> None:
    config = {"policies": ["left", "right"], "env_config": {"length": 0}, "num_env_runners": 1}
    file = _write(tmp_path, "pair", env="environments.Pair", stop={"training_iteration": 1}, config=config)
    result = rllib("train", "file", file)
    assert result.exit_code == 1
    assert "the environment cannot be made: length: must be at least 1, found 0" in result.output
    assert re.search(r"the whole error is in runs/pair/.*/error.txt", result.output)
    assert not _evaluate_commands(result.output)


def test_more_resources_than_there_are(rllib: Callable[..., Result], tmp_path: Path) -> None:
    file = _write(tmp_path, "cart", stop={"training_iteration": 1}, config={"num_env_runners": 7})
    result = rllib("train", "file", file)
    assert result.exit_code == 2
    assert "a trial needs 8 CPU and Ray has 2" in result.output


def test_ctrl_c_then_resume(rllib: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(tmp_path, "cart", stop={"training_iteration": 4}, checkpoint_config={"checkpoint_frequency": 1})
    report = ProgressLines.on_trial_result

    def interrupted(self: ProgressLines, *args: Any, **kwargs: Any) -> None:
        report(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressLines, "on_trial_result", interrupted)
        first = rllib("train", "file", file)
    assert first.exit_code == 130, first.output
    assert "interrupted" in first.output
    assert "--resume" in first.output
    done = len(re.findall(r"^iter", first.output, flags=re.MULTILINE))
    assert 1 <= done < 4

    second = rllib("train", "file", file, "--resume")
    assert second.exit_code == 0, second.output
    iterations = [int(n) for n in re.findall(r"^iter +(\d+)", second.output, flags=re.MULTILINE)]
    assert iterations[-1] == 4
    assert iterations[0] > 1 or "from the beginning" in first.output
    assert len(list((tmp_path / "runs" / "cart").glob("PPO_*"))) == 1

    third = rllib("train", "file", file, "--resume")
    assert third.exit_code == 0
    assert "had finished before" in third.output
