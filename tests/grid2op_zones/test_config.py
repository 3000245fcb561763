"""The configuration: defaults, merging, and every way of getting it wrong."""

from __future__ import annotations

import copy

import pytest

from grid2op_zones import DEFAULT_ENV_CONFIG, check_env_config


def test_defaults_are_valid_and_never_changed():
    before = copy.deepcopy(DEFAULT_ENV_CONFIG)
    full = check_env_config(None)
    assert full == DEFAULT_ENV_CONFIG
    full["reward"]["safety"] = 9.0
    full["actions"].append("x")
    assert before == DEFAULT_ENV_CONFIG


def test_nested_keys_are_merged():
    full = check_env_config({"reward": {"cost": 0.5}, "scenarios": {"split": "test"}, "max_steps": 12})
    assert full["reward"] == {"safety": 0.4, "cost": 0.5, "renewables": 0.2, "alive": 0.2}
    assert full["scenarios"]["split"] == "test"
    assert full["scenarios"]["source"] == "bundled"


@pytest.mark.parametrize("path", [None, "cache"])
def test_the_cache_of_generated_weeks_may_be_left_out(path):
    full = check_env_config({"scenarios": {"source": "generated", "path": path, "weeks": 2}})
    assert full["scenarios"]["path"] == path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_step": 12}, "unknown key 'max_step'; the nearest valid key is 'max_steps'"),
        ({"reward": {"safty": 1}}, "unknown key 'reward.safty'; the nearest valid key is 'reward.safety'"),
        ({"scenarios": {"splits": "test"}}, "the nearest valid key is 'scenarios.split'"),
        ({"reward": 1.0}, "env_config.reward: expected a mapping"),
        ({"reward": {"cost": -0.1}}, "env_config.reward.cost: expected a weight of at least 0, found -0.1"),
        ({"reward": {"cost": float("nan")}}, "env_config.reward.cost"),
        (
            {"reward": dict.fromkeys(("safety", "cost", "renewables", "alive"), 0)},
            "at least one weight must be positive",
        ),
        ({"max_steps": 0}, "env_config.max_steps: expected a whole number of at least 1, found 0"),
        ({"max_steps": 1.5}, "env_config.max_steps"),
        ({"max_steps": True}, "env_config.max_steps"),
        ({"thermal_limit_scale": 0}, "env_config.thermal_limit_scale: expected a number above 0"),
        ({"observability": "locale"}, "found 'locale'; the nearest is 'local'"),
        ({"actions": ["redispatch", "curtial"]}, "the nearest is 'curtail'"),
        ({"actions": []}, "env_config.actions"),
        ({"actions": ["storage", "storage"]}, "env_config.actions"),
        ({"balance": "zones"}, "the nearest is 'zone'"),
        ({"curtail_step": 1.5}, r"env_config.curtail_step: expected a share in \(0, 1\]"),
        ({"opponent": "yes"}, "env_config.opponent: expected true or false"),
        ({"idle_threshold": -1}, "env_config.idle_threshold"),
        ({"auto_reconnect": None}, "env_config.auto_reconnect"),
        ({"zones": "north"}, "env_config.zones"),
        ({"grid": ""}, "env_config.grid"),
        ({"scenarios": {"split": "tset"}}, "the nearest is 'test'"),
        ({"scenarios": {"weeks": []}}, "env_config.scenarios.weeks"),
        ({"scenarios": {"weeks": [1, 1]}}, "env_config.scenarios.weeks"),
        ({"scenarios": {"seed": -1}}, "env_config.scenarios.seed"),
        ({"scenarios": {"source": "folder"}}, "env_config.scenarios.path: give a path if and only if"),
        ({"scenarios": {"path": "series"}}, "env_config.scenarios.path: give a path if and only if"),
        ({"scenarios": {"source": "folder", "path": ""}}, "env_config.scenarios.path: expected None or a folder"),
        ({"scenarios": {"source": "generate"}}, "found 'generate'; the nearest is 'generated'"),
        (
            {"scenarios": {"source": "generated", "weeks": [0, 1]}},
            r"weeks: expected None or a number .* found \[0, 1\]",
        ),
        ({"scenarios": {"source": "generated", "weeks": 0}}, "env_config.scenarios.weeks: .* found 0"),
    ],
)
def test_bad_input_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        check_env_config(config)
