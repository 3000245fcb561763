"""Searches that could not be what was meant are refused before Ray starts, with the nearest right thing."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray import tune
from typer.testing import Result

from rllib_mafql import MAFQLConfig
from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.space import variants, with_spaces

RETURN = "env_runners/episode_return_mean"
GUIDED = {"metric": RETURN, "mode": "max"}
MUTATIONS = {"lr": {"loguniform": [1e-4, 1e-2]}}


def _spec(config: Any = None, **changes: Any) -> dict[str, Any]:
    spec = {"run": "PPO", "env": "CartPole-v1", "stop": {"training_iteration": 1}, "config": config or {}, **changes}
    return {"cart": spec}


def _pbt(config: Any = None, num_samples: int = 4, more: Any = None, **scheduler: Any) -> dict[str, Any]:
    scheduler = {"type": "pbt", "hyperparam_mutations": MUTATIONS, **scheduler}
    return _spec(config, num_samples=num_samples, scheduler=scheduler, **GUIDED, **(more or {}))


def _mafql(config: Any = None, **changes: Any) -> dict[str, Any]:
    spec = _pbt({"store_buffer_in_checkpoints": True, **(config or {})}, **changes)
    return {"cart": {**spec["cart"], "run": "MAFQL", "env": "grid2op_zones"}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        # search spaces
        (_spec({"lr": {"loguniforme": [1e-4, 1e-2]}}), "config.lr: no search space is written so; the nearest valid"),
        (_spec({"lr": {"loguniform": [1e-2, 1e-4]}}), "config.lr.loguniform: lower must be less than upper, not 0.01"),
        (_spec({"lr": {"loguniform": [0, 1e-4]}}), "config.lr.loguniform: LogUniform requires a lower bound greater"),
        (_spec({"lr": {"uniform": [0.1]}}), "config.lr.uniform: must be [lower, upper], and upper is missing"),
        (_spec({"lr": {"uniform": [0, 1, 2]}}), "config.lr.uniform: must be [lower, upper], not [0, 1, 2]"),
        (_spec({"lr": {"uniform": 0.1}}), "config.lr.uniform: must be [lower, upper], not 0.1"),
        (_spec({"lr": {"uniform": ["a", 1]}}), "config.lr.uniform: lower must be a number, not 'a'"),
        (
            _spec({"lr": {"uniform": {"low": 0, "upper": 1}}}),
            "uniform.low: unknown key; the nearest valid one is 'lower'",
        ),
        (_spec({"lr": {"quniform": [0.15, 1, 0.2]}}), "config.lr.quniform: Your lower variable bound 0.15"),
        (_spec({"num_epochs": {"randint": [1, 2.5]}}), "randint: upper must be a whole number, not 2.5"),
        (_spec({"lr": {"choice": 3}}), "config.lr.choice: must be a list of the values to try, not 3"),
        (_spec({"lr": {"grid_search": []}}), "config.lr.grid_search: must be a list of the values to try"),
        (_spec({"minibatch_size": {"choice": [128, 5000]}}), "`minibatch_size` (5000) must be <="),
        # metric and mode
        (_spec(scheduler="asha"), "cart.metric: missing: what trials are compared by"),
        (_spec(metric=RETURN), "cart.mode: must be max or min, not None"),
        (_spec(metric=RETURN, mode="maximum"), "cart.mode: must be max or min, not 'maximum'"),
        (_spec(mode="max"), "cart.metric: missing"),
        (_spec(metric=3, mode="max"), "cart.metric: must name a metric, not 3"),
        (
            _spec(metric="evaluation/" + RETURN, mode="max"),
            "cart.metric: is never reported, as config.evaluation_interval is not set",
        ),
        (
            _spec(metric=RETURN, mode="max", scheduler={"type": "asha", "metric": "training_iteration"}),
            "cart.scheduler.metric: 'training_iteration' disagrees with metric 'env_runners/episode_return_mean'",
        ),
        # schedulers
        (_spec(scheduler="ahsa"), "cart.scheduler.type: unknown type 'ahsa'; the nearest valid one is 'asha'"),
        (_spec(scheduler=["asha"]), "cart.scheduler: must be a name or a mapping {type: fifo, ...}, not ['asha']"),
        (_spec(scheduler={"max_t": 3}), "cart.scheduler: must be a name or a mapping"),
        (_spec(scheduler={"type": "asha", "max_time": 3}, **GUIDED), "scheduler.max_time: unknown key; the nearest"),
        (
            _spec(scheduler={"type": "asha", "max_t": "3"}, **GUIDED),
            "scheduler.max_t: must be a number above 0, not '3'",
        ),
        (_spec(scheduler={"type": "asha", "grace_period": 9}, **GUIDED), "grace_period must be <= max_t!"),
        (_spec(scheduler={"type": "asha", "time_attr": "training_iterations"}, **GUIDED), "is 'training_iteration'"),
        (_spec(scheduler={"type": "median_stopping", "hard_stop": 1}, **GUIDED), "hard_stop: must be true or false"),
        # populations
        (_pbt(num_samples=1), "cart.num_samples: a population needs at least 2 trials"),
        (_pbt(hyperparam_mutations={}), "cart.scheduler.hyperparam_mutations: must say what changes, such as"),
        (_pbt(hyperparam_mutations={"lrr": [1, 2]}), "hyperparam_mutations.lrr: unknown key; the nearest valid one is"),
        (
            _pbt(hyperparam_mutations={"lr": 0.1}),
            "hyperparam_mutations.lr: must be a search space or a list of",
        ),
        (_pbt(hyperparam_mutations={"lr": {"grid_search": [1]}}), "grid_search is no distribution; write a list"),
        (
            _pbt(hyperparam_mutations={"lr": {"uniform": [1]}}),
            "cart.scheduler.hyperparam_mutations.lr.uniform: must be",
        ),
        (
            _pbt({"lr": [[0, 0.1], [9, 0.2]]}),
            "hyperparam_mutations.lr: cannot change [[0, 0.1], [9, 0.2]], which config",
        ),
        (_pbt(quantile_fraction=0.7), "quantile_fraction: must be a number from 0 to 0.5, not 0.7"),
        (_pbt(more={"max_concurrent_trials": 2}), "max_concurrent_trials: pbt compares all trials"),
        (_pbt(more={"search_alg": "optuna"}), "cart.search_alg: pbt chooses by itself"),
        (
            _mafql(hyperparam_mutations={"actor_hidden": [64, 128]}),
            "actor_hidden: cannot change in the course of a trial",
        ),
        (_mafql(hyperparam_mutations={"q_coeff": {"uniform": [-1, 1]}}), "q_coeff"),
        # search algorithms and budgets
        (_spec(search_alg="optun", **GUIDED), "cart.search_alg.type: unknown type 'optun'; the nearest valid one is"),
        (_spec(search_alg={"type": "random", "random_stat": 1}), "search_alg.random_stat: unknown key; the nearest"),
        (_spec(search_alg="hyperopt", **GUIDED), "config has no search space such as {loguniform: [1e-4, 1e-2]}"),
        (
            _spec({"lr": {"grid_search": [1]}}, search_alg="hyperopt", **GUIDED),
            "hyperopt takes no grid_search (config.lr)",
        ),
        (_spec(time_budget_s="1h"), "cart.time_budget_s: must be a number of seconds greater than 0, not '1h'"),
        (_spec(max_concurrent_trials=0), "cart.max_concurrent_trials: must be a whole number of at least 1, not 0"),
        (_spec(num_samples=-1), "cart.num_samples: -1 is without end; say in time_budget_s when to stop"),
        (_spec(num_samples=0), "cart.num_samples: must be at least 1"),
        (_spec(time_budget=60), "cart.time_budget: unknown key; the nearest valid one is 'time_budget_s'"),
    ],
)
def test_mistakes(rllib: Callable[..., Result], tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(spec))
    result = rllib("train", "file", "x.yaml")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "x.yaml: cart" in result.output
    assert "Traceback" not in result.output
    assert not ray.is_initialized()


def test_a_package_that_is_missing_is_named(
    rllib: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [_Nowhere(), *sys.meta_path])
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(_spec({"lr": {"uniform": [0, 1]}}, search_alg="optuna", **GUIDED)))
    result = rllib("train", "file", "x.yaml")
    assert result.exit_code == 2
    assert "cart.search_alg: optuna needs a package that is not installed: pip install 'optuna'" in result.output


class _Nowhere:
    """An import system without Optuna."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "optuna":
            raise ModuleNotFoundError(name)


def test_search_spaces_as_yaml_writes_them() -> None:
    found = with_spaces(
        {
            "lr": {"loguniform": [1e-4, 1e-2]},
            "env_config": {"reward": {"cost": {"uniform": {"lower": 0, "upper": 1}}}},
            "steps": [[0, {"choice": [1, 2]}], [9, 1]],
            "gamma": {"grid_search": [0.9, 0.99]},
            "behavior_policies": {"random": 1.0},
        },
        "x",
    )
    assert (found["lr"].lower, found["lr"].upper) == (1e-4, 1e-2)
    assert type(found["lr"].get_sampler()) is type(tune.loguniform(1, 2).get_sampler())
    assert (found["env_config"]["reward"]["cost"].lower, found["env_config"]["reward"]["cost"].upper) == (0, 1)
    assert found["steps"][0][1].categories == [1, 2]
    assert found["gamma"] == {"grid_search": [0.9, 0.99]}
    assert found["behavior_policies"] == {"random": 1.0}


def test_both_ends_of_every_range_are_checked() -> None:
    space = {"a": tune.uniform(1, 3), "b": tune.choice(["x", "y"]), "c": {"d": tune.randint(2, 5)}, "e": 7}
    special = {text: config for config, text in variants(space) if text}
    assert [*special] == ["a = 1", "a = 3", "b = 'x'", "b = 'y'", "c.d = 2", "c.d = 4"]
    assert special["c.d = 4"]["c"] == {"d": 4}
    assert all(config["e"] == 7 and 1 <= config["a"] <= 3 for config in special.values())


def test_on_the_command_line_a_search_space_replaces_a_files(tmp_path: Path) -> None:
    from rllib_mafql.cli.experiments import read_file
    from rllib_mafql.cli.options import TrainOptions

    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(_spec({"lr": {"uniform": [0.1, 0.2]}, "gamma": {"choice": [0.9]}})))
    (experiment,) = read_file(file, TrainOptions(config="{lr: {loguniform: [1e-4, 1e-2]}, gamma: 0.5}"))
    assert (experiment.config()["lr"].upper, experiment.config()["gamma"]) == (1e-2, 0.5)
    with pytest.raises(InputError, match=r"--config\.lr\.uniform: must be \[lower, upper\]"):
        read_file(file, TrainOptions(config="{lr: {uniform: [1]}}"))


def test_what_a_population_cannot_change_are_settings_that_exist() -> None:
    from rllib_mafql.cli.population import FIXED

    assert all(hasattr(MAFQLConfig(), name) for name in FIXED)
