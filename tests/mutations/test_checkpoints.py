"""Every command that takes a checkpoint refuses a damaged or foreign one before Ray starts, and says what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig

import rllib_mafql
from rllib_mafql.checkpoint_format import FORMAT
from rllib_mafql.evaluation.checkpoint import read_checkpoint
from tests.mutations.checkpoints import DAMAGES, FILE, MARKER, damaged, files_of, of_before, rewritten
from tests.mutations.conftest import Refused

ENV_CONFIG = {"grid": "educ_case14_storage", "max_steps": 6}
SIZES = {"actor_hidden": 8, "teacher_hidden": 8, "critic_hidden": 8}
ZONES = ["zone_0", "zone_1", "zone_2"]


def _save(config: Any, path: Path) -> Path:
    config.environment("grid2op_zones", env_config=ENV_CONFIG).env_runners(num_env_runners=0)
    algorithm = config.build_algo()
    try:
        algorithm.save_to_path(str(path))
    finally:
        algorithm.stop()
    return path


@pytest.fixture(scope="module")
def some_ray() -> Iterator[None]:
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def mafql(tmp_path_factory: pytest.TempPathFactory, some_ray: None) -> Path:
    rllib_mafql.register()
    return _save(rllib_mafql.MAFQLConfig().training(**SIZES), tmp_path_factory.mktemp("mafql") / "checkpoint_000000")


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory, some_ray: None) -> Path:
    config = PPOConfig().multi_agent(policies=set(ZONES), policy_mapping_fn=lambda agent, episode, **kwargs: agent)
    return _save(config.rl_module(model_config={"fcnet_hiddens": [8]}), tmp_path_factory.mktemp("ppo") / "checkpoint")


def _experiment(**changes: Any) -> str:
    """Writes an experiment that can go on from the MAFQL checkpoint, but for the changes; returns its file's name."""
    config = {"env_config": ENV_CONFIG, **SIZES, "num_env_runners": 0, **changes.pop("config", {})}
    spec = {"run": "MAFQL", "env": "grid2op_zones", "stop": {"training_iteration": 1}, **changes, "config": config}
    Path("x.yaml").write_text(yaml.safe_dump({"small": spec}))
    return "x.yaml"


def _commands(checkpoint: Path) -> list[tuple[Any, ...]]:
    return [
        ("rllib", "train", "file", _experiment(), "--restore", checkpoint),
        ("rllib", "evaluate", checkpoint),
        ("mafql evaluate", checkpoint),
        ("mafql export", checkpoint, "--out", "exported"),
    ]


def test_every_file_damaged_in_every_way(mafql: Path, refused: Refused, tmp_path: Path) -> None:
    turn, count = cycle(range(4)), 0
    for kind, file, copy in damaged(mafql, tmp_path):
        output = refused(*_commands(copy)[next(turn)])
        assert file in output, (kind, file, output)
        count += 1
    assert count == len(files_of(mafql)) * len(DAMAGES) > 100


def test_every_file_damaged_of_a_checkpoint_of_before_the_format(mafql: Path, refused: Refused, tmp_path: Path) -> None:
    old = of_before(mafql, tmp_path / "old")
    turn = cycle(range(4))
    for kind, file, copy in damaged(old, tmp_path, ("missing", "empty", "cut off", "replaced")):
        if kind == "missing" and Path(file).name == "metadata.json":
            continue  # RLlib needs none of them to restore
        output = refused(*_commands(copy)[next(turn)])
        assert file in output or kind == "missing", (kind, file, output)


@pytest.mark.parametrize("command", range(4))
def test_what_is_no_checkpoint(mafql: Path, refused: Refused, tmp_path: Path, command: int) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("checkpoint")
    for path, message in (("empty", "no checkpoint in it"), ("file", "it is a file"), ("none", "no such")):
        assert message in refused(*_commands(Path(path))[command])


@pytest.mark.parametrize("command", range(4))
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FORMAT + 1, "package": "9.8.7"}, "install rllib-mafql 9.8.7 or newer"),
        ({"format": 0, "package": "0.0.1"}, "install rllib-mafql 0.0.1, or train anew"),
        ({"format": "new"}, f"{FILE} is damaged"),
        ({"format": None}, f"{FILE} is damaged"),
        ({"files": None}, f"{FILE} is damaged"),
    ],
)
def test_formats_that_are_not_read_here(
    mafql: Path, refused: Refused, tmp_path: Path, command: int, changes: dict[str, Any], message: str
) -> None:
    copy = rewritten(mafql, tmp_path / "copy", **changes)
    assert message in refused(*_commands(copy)[command])


def test_a_checkpoint_whose_writing_was_cut_short(mafql: Path, refused: Refused, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(mafql, copy)
    (copy / FILE).unlink()
    assert f"incomplete: it lacks {FILE}, which is written last" in refused("rllib", "evaluate", copy)


@pytest.mark.parametrize("command", range(4))
def test_a_checkpoint_that_may_not_be_read(
    mafql: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, command: int
) -> None:
    def refuse(filesystem: object, path: str, size: int) -> int:  # whoever runs this may read everything
        raise PermissionError(13, "Permission denied", path)

    words = _commands(mafql)[command]
    monkeypatch.setattr("rllib_mafql.checkpoint_format._sum", refuse)
    output = refused(*words)
    assert "cannot be read: [Errno 13] Permission denied" in output
    assert f"{mafql}/algorithm_state.pkl" in output


@pytest.mark.parametrize("command", range(4))
def test_a_damaged_checkpoint_beside_a_good_one(mafql: Path, refused: Refused, tmp_path: Path, command: int) -> None:
    trial = tmp_path / "run" / "trial"
    for number in range(3):
        copy = trial / f"checkpoint_00000{number}"
        shutil.copytree(mafql, copy)
        os.utime(copy / MARKER, (1_000_000 + number, 1_000_000 + number))
    (trial / "checkpoint_000002" / "algorithm_state.pkl").write_bytes(b"")
    good = str(trial / "checkpoint_000001")
    for path in (tmp_path / "run", trial, trial / "checkpoint_000002"):
        output = refused(*_commands(path)[command])
        assert "checkpoint_000002: damaged: algorithm_state.pkl has 0 bytes" in output
        assert f"The newest whole one beside it is {good}" in output
    (trial / "checkpoint_000002" / MARKER).unlink()
    output = refused(*_commands(tmp_path / "run")[command])
    assert MARKER in output
    assert good in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "PPO", "config": {"policies": ZONES}}, "is a checkpoint of MAFQL, and run is PPO"),
        ({"config": {"env_config": {"grid": "l2rpn_case14_sandbox"}}}, "restore: env_config.grid"),
        ({"config": {"env_config": {**ENV_CONFIG, "zones": 2}}}, "restore: env_config.zones"),
        ({"config": {"env_config": {**ENV_CONFIG, "observability": "global"}}}, "restore: env_config.observability"),
        ({"config": {"env_config": {**ENV_CONFIG, "actions": ["storage"]}}}, "restore: env_config.actions"),
        ({"config": {"actor_hidden": 16}}, "restore: config.actor_hidden is 16"),
        ({"config": {"hidden_layers": 3}}, "restore: config.hidden_layers is 3"),
        ({"config": {"num_critics": 4}}, "restore: config.num_critics is 4"),
    ],
)
def test_runs_that_the_checkpoint_does_not_fit(
    mafql: Path, refused: Refused, changes: dict[str, Any], message: str
) -> None:
    if changes.get("run") == "PPO":
        changes = {**changes, "config": {**changes["config"], **dict.fromkeys(SIZES)}}
        file = _experiment(**changes)
        spec = yaml.safe_load(Path(file).read_text())
        for name in SIZES:
            del spec["small"]["config"][name]
        Path(file).write_text(yaml.safe_dump(spec))
    else:
        file = _experiment(**changes)
    assert message in refused("rllib", "train", "file", file, "--restore", mafql)


def test_checkpoints_of_another_algorithm(ppo: Path, refused: Refused) -> None:
    assert "is a checkpoint of PPO, and run is MAFQL" in refused(
        "rllib", "train", "file", _experiment(), "--restore", ppo
    )
    assert "only MAFQL's policies are exported" in refused("mafql export", ppo, "--out", "exported")
    for kind, file, copy in damaged(ppo, Path.cwd(), ("empty", "cut off")):
        output = refused(*(("rllib", "evaluate", copy) if kind == "empty" else ("mafql evaluate", copy)))
        assert file in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config", "{env_config: {grid: l2rpn_case14_sandbox}}"), "env_config.grid is 'l2rpn_case14_sandbox'"),
        (("--config", "{env_config: {grid: educ_case14_storag}}"), "'educ_case14_storage'"),
        (("--config", "{lrr: 1}"), "--config.lrr: unknown key"),
        (("--config", "{gamma: nan}"), "--config.gamma"),
        (("--config", "{a: "), "--config:1:5"),
        (("--env", "CartPole"), "CartPole"),
    ],
)
def test_evaluation_with_other_settings(mafql: Path, refused: Refused, words: tuple[str, ...], message: str) -> None:
    assert message in refused("rllib", "evaluate", mafql, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", "l2rpn_case14_sandbox"), "was trained on grid 'educ_case14_storage'"),
        (("--grid", "educ_case14_storag"), "educ_case14_storage"),
        (("--config", "{max_step: 3}"), "'max_steps'"),
        (("--config", "x.yaml"), "x.yaml"),
        (("--config", "{zones: 99}"), "zones"),
    ],
)
def test_comparison_with_other_settings(mafql: Path, refused: Refused, words: tuple[str, ...], message: str) -> None:
    Path("x.yaml").write_bytes("{max_steps: 3} # é".encode("latin-1"))
    assert message in refused("mafql evaluate", mafql, *words)


def test_a_checkpoint_of_an_older_version_whose_names_are_gone(mafql: Path, refused: Refused, tmp_path: Path) -> None:
    old = of_before(mafql, tmp_path / "old")
    for file in old.rglob("*.pkl"):
        file.write_bytes(
            file.read_bytes().replace(b"MAFQLConfig", b"MAFQLKonfig").replace(b"FlowPolicy", b"FlowPolizy")
        )
    for words in _commands(old):
        assert "which rllib-mafql 0.1.0 does not have" in refused(*words)


def test_a_whole_checkpoint_goes_on_to_start_ray(mafql: Path, accepted: Callable[..., None]) -> None:
    accepted("rllib", "train", "file", _experiment(), "--restore", mafql)


def test_a_checkpoint_of_before_the_format_still_loads(mafql: Path, tmp_path: Path, some_ray: None) -> None:
    old = of_before(mafql, tmp_path / "old")
    algorithm = Algorithm.from_checkpoint(str(old))
    algorithm.stop()
    assert read_checkpoint(old).algorithm == "MAFQL"


def test_a_damaged_checkpoint_is_refused_by_the_algorithm_itself(mafql: Path, tmp_path: Path, some_ray: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(mafql, copy)
    (copy / "learner_group" / "learner" / "state.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"damaged: learner_group/learner/state.pkl has 0 bytes"):
        Algorithm.from_checkpoint(str(copy))
