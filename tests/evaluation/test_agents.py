"""From the command's words to agents that act as their modules do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from grid2op_zones.env import ZonedGridEnv
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.evaluation.agents import AgentSpec, resolve_agents
from rllib_mafql.evaluation.policies import SetupError, build_policy

# Of float32 actions in [-1, 1]: MAFQL's flows are evaluated in ONNX Runtime, and held against torch.
ROUNDING: dict[str, float] = {"rtol": 1e-5, "atol": 1e-6}

MODULES = Path("trial", "checkpoint_000000", "learner_group", "learner", "rl_module")


def resolve(*words: str | Path, **options: Any) -> list[AgentSpec]:
    return resolve_agents([str(word) for word in words], find_checkpoint=find_checkpoint, **options)[0]


@pytest.fixture(scope="module")
def env() -> ZonedGridEnv:
    return ZonedGridEnv({"grid": "educ_case14_storage", "max_steps": 6, "scenarios": {"split": "test"}})


@pytest.fixture(scope="module")
def observations(env: ZonedGridEnv) -> dict[str, np.ndarray]:
    return env.reset(**env.episode_spec(0))[0]


def test_a_run_is_two_agents_and_a_suffix_picks_one(mafql_run: Path) -> None:
    both = resolve(mafql_run, "do_nothing")
    assert [agent.name for agent in both] == ["mafql_decentralized", "mafql_centralized", "do_nothing"]
    assert [agent.label for agent in both] == ["MAFQL, decentralised", "MAFQL, centralised", "do nothing"]
    assert both[0].checkpoint == mafql_run / "trial" / "checkpoint_000000"
    assert [agent.execution for agent in resolve(f"{mafql_run}:centralized")] == ["centralized"]
    assert len(resolve(f"{mafql_run}:centralized", mafql_run)) == 2  # named twice, played once


def test_all_agents_share_the_test_split_of_the_checkpoint_s_setting(mafql_run: Path) -> None:
    agents = resolve("qp", mafql_run, overrides={"scenarios": {"seed": 3}, "thermal_limit_scale": 0.9})
    assert len({str(agent.env_config) for agent in agents}) == 1
    config = agents[0].env_config
    assert (config["grid"], config["max_steps"], config["thermal_limit_scale"]) == ("educ_case14_storage", 6, 0.9)
    assert (config["scenarios"]["split"], config["scenarios"]["seed"]) == ("test", 3)


def test_dispatchers_alone_play_the_default_grid() -> None:
    assert resolve("qp")[0].env_config["grid"] == "l2rpn_idf_2023"
    assert resolve("qp", grid="educ_case14_storage")[0].env_config["grid"] == "educ_case14_storage"


def test_two_runs_of_one_algorithm_keep_apart(mafql_run: Path) -> None:
    checkpoint = mafql_run / "trial" / "checkpoint_000000"
    names = [agent.name for agent in resolve(f"{mafql_run}:decentralized", f"{checkpoint}:decentralized")]
    assert names == [f"mafql_decentralized@{mafql_run}", f"mafql_decentralized@{checkpoint}"]


def test_runs_of_one_agent_have_a_name(mafql_run: Path, ppo_run: Path) -> None:
    checkpoint = mafql_run / "trial" / "checkpoint_000000"
    both = resolve(f"ours={mafql_run},{checkpoint}", "qp")
    named = [(agent.name, agent.run) for agent in both]
    assert named == [*((f"ours_{e}", run) for e in ("decentralized", "centralized") for run in (0, 1)), ("qp", 0)]
    one = resolve(f"ours={mafql_run}:centralized")
    assert [(agent.name, agent.label, agent.execution) for agent in one] == [("ours", "ours", "centralized")]
    assert [agent.name for agent in resolve(f"peer={ppo_run}")] == ["peer"]
    for words, message in (
        (f"ours={mafql_run},{mafql_run}", "is there twice"),
        (f"ours={mafql_run},", "a path is missing"),
        (f"our-s={mafql_run}", "letters, digits and _, not 'our-s'"),
        (f"ours={mafql_run},{ppo_run}", "must be of one algorithm"),
        ("ours=qp", "a dispatcher takes no name"),
        ("qp:centralized", "a dispatcher takes no name, runs or suffix; write qp"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve(words)


def test_decentralized_actions_are_those_of_the_zones_modules(
    mafql_run: Path, env: ZonedGridEnv, observations: dict[str, np.ndarray]
) -> None:
    policy = build_policy(resolve(f"{mafql_run}:decentralized")[0], env)
    policy.start(0)
    actions = policy.act(observations)
    assert list(actions) == env.possible_agents
    for zone, observation in observations.items():
        module = RLModule.from_checkpoint(str(mafql_run / MODULES / zone))
        expected = module.forward_inference({"obs": torch.as_tensor(observation)[None]})["actions"][0]
        np.testing.assert_allclose(actions[zone], expected.numpy().clip(-1, 1), **ROUNDING)
    blind = {zone: np.zeros_like(o) if zone == "zone_0" else o for zone, o in observations.items()}
    changed = policy.act(blind)  # only zone_0 sees what changed in zone_0
    assert not np.array_equal(changed["zone_0"], actions["zone_0"])
    np.testing.assert_array_equal(changed["zone_1"], actions["zone_1"])


def test_centralized_actions_are_the_teacher_s_on_the_joint_observation(
    mafql_run: Path, env: ZonedGridEnv, observations: dict[str, np.ndarray]
) -> None:
    policy = build_policy(resolve(f"{mafql_run}:centralized")[0], env)
    actions = policy.act(observations)
    zones = list(observations)
    assert zones == env.possible_agents
    teacher: Any = RLModule.from_checkpoint(str(mafql_run / MODULES / "teacher"))
    joint = torch.as_tensor(np.concatenate([observations[zone] for zone in zones]))[None]
    expected = teacher.forward_inference({"obs": joint})["actions"][0].numpy()
    joined = np.concatenate([actions[zone] for zone in zones])
    np.testing.assert_allclose(joined, expected.clip(-1, 1), **ROUNDING)
    assert {zone: a.shape for zone, a in actions.items()} == {z: env.get_action_space(z).shape for z in zones}


def test_flow_steps_replace_those_of_training(
    mafql_run: Path, env: ZonedGridEnv, observations: dict[str, np.ndarray]
) -> None:
    teacher: Any = RLModule.from_checkpoint(str(mafql_run / MODULES / "teacher"))
    joint = torch.as_tensor(np.concatenate(list(observations.values())))[None]
    for steps in (1, 5):
        actions = build_policy(resolve(f"{mafql_run}:centralized", flow_steps=steps)[0], env).act(observations)
        teacher.flow_steps = steps
        expected = teacher.forward_inference({"obs": joint})["actions"][0].numpy()
        np.testing.assert_allclose(np.concatenate(list(actions.values())), expected.clip(-1, 1), **ROUNDING)


def test_ppo_acts_by_the_mean_of_its_distribution(
    ppo_run: Path, env: ZonedGridEnv, observations: dict[str, np.ndarray]
) -> None:
    agents = resolve(ppo_run)
    assert [(agent.name, agent.label, agent.execution) for agent in agents] == [("ppo", "PPO", "decentralized")]
    actions = build_policy(agents[0], env).act(observations)
    for zone, observation in observations.items():
        module = RLModule.from_checkpoint(str(ppo_run / MODULES / f"policy_of_{zone}"))
        mean, _ = module.forward_inference({"obs": torch.as_tensor(observation)[None]})["action_dist_inputs"][0].chunk(
            2
        )
        np.testing.assert_allclose(actions[zone], mean.detach().numpy().clip(-1, 1), atol=1e-6)


def test_the_random_rule_repeats_an_episode_and_varies_between_them(env: ZonedGridEnv) -> None:
    def first_action(k: int) -> np.ndarray:
        observations, _ = env.reset(**env.episode_spec(k))
        policy.start(k)
        return np.concatenate(list(policy.act(observations).values()))

    policy = build_policy(resolve("random", grid="educ_case14_storage")[0], env)
    one = first_action(0)
    assert not np.array_equal(one, first_action(1))
    np.testing.assert_array_equal(one, first_action(0))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("qp_zon", "no such checkpoint, run folder or export, and no such dispatcher; did you mean 'qp_zones'?"),
        ("nowhere/run", "nowhere/run: no such checkpoint, run folder or export"),
        ("qp:centralized", "a dispatcher takes no name, runs or suffix; write qp"),
    ],
)
def test_unknown_words_are_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        resolve(word)
    assert message in str(caught.value)


def test_what_does_not_fit_a_checkpoint_is_refused(
    mafql_run: Path, ppo_run: Path, env: ZonedGridEnv, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match="trained on grid 'educ_case14_storage' and cannot act on grid 'l2rpn_case14_sandbox'"
    ):
        resolve("qp", mafql_run, grid="l2rpn_case14_sandbox")
    with pytest.raises(ValueError, match="offers :decentralized, not :centralized"):
        resolve(f"{ppo_run}:centralized")
    with pytest.raises(ValueError, match=r"flow_steps must lie in 1\.\.5, got 6"):
        resolve(mafql_run, flow_steps=6)
    with pytest.raises(ValueError, match="none of the agents is a MAFQL checkpoint"):
        resolve(ppo_run, flow_steps=2)
    with pytest.raises(ValueError, match="unknown key 'max_step'; the nearest valid key is 'max_steps'"):
        resolve(mafql_run, overrides={"max_step": 5})
    with pytest.raises(FileNotFoundError, match="no checkpoint in it"):
        resolve(tmp_path)
    other = ZonedGridEnv({"grid": "educ_case14_storage", "actions": ["redispatch"]})
    with pytest.raises(SetupError, match=r"mafql_decentralized: zone_.'s module was trained on actions of \d+ numbers"):
        build_policy(resolve(f"{mafql_run}:decentralized")[0], other)
