"""Baselines in MAFQL's learner: they learn, are saved and loaded, and differ from MAFQL in what they should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_mafql.baselines.independent import IndependentFQL, IndependentFQLConfig
from rllib_mafql.baselines.policies import DiffusionQL, DiffusionQLConfig, GaussianQL, GaussianQLConfig
from rllib_mafql.deploy.export import export_checkpoint
from rllib_mafql.evaluation.checkpoint import load_module, read_checkpoint
from rllib_mafql.modules import CRITIC, TEACHER
from tests.rllib_mafql.toy_env import STEPS, AdvisedEcho, echo_config

BASELINES = {GaussianQL: GaussianQLConfig, DiffusionQL: DiffusionQLConfig, IndependentFQL: IndependentFQLConfig}


def config(algorithm, **training):
    """The toy's settings in a baseline's configuration."""
    toy = echo_config(warm_start_steps=1000, **training)
    made = BASELINES[algorithm]()
    for name, value in toy.to_dict().items():
        if name in ("env", "num_envs_per_env_runner", "num_env_runners", "seed") or name.startswith("evaluation_"):
            setattr(made, name, value)
    settings = ("actor_hidden", "teacher_hidden", "critic_hidden", "train_batch_size_per_learner", "average_tau")
    game = ("num_updates", "gamma", "n_step", "reward_bounds", "warm_start_steps")
    return made.training(**{name: getattr(toy, name) for name in (*settings, *game)}, **training)


@pytest.mark.parametrize("algorithm", BASELINES)
def test_they_learn_from_random_play_what_to_do(algorithm, tmp_path, ray_instance):
    small = {"distillation_coeff": 0.1} if algorithm is IndependentFQL else {"bc_coeff": 0.01}
    own = {"denoising_steps": 5} if algorithm is DiffusionQL else {}
    made = config(algorithm, conservative_coeff=0.01, **small).training(**own).build_algo()
    try:
        for _ in range(15):
            result = made.train()
        learned = made.evaluate()["env_runners"]
        metrics = result["learners"]
        assert np.isfinite([metrics[CRITIC]["td_loss"], metrics[CRITIC]["conservative_loss"]]).all()
        assert ("flow_matching_loss" in metrics.get(TEACHER, {})) == (algorithm is IndependentFQL)
        assert learned["episode_return_mean"] > (0.8 if algorithm is IndependentFQL else 0.85) * STEPS
        path = made.save_to_path(str(tmp_path / "checkpoint"))
    finally:
        made.stop()
    restored = Algorithm.from_checkpoint(path)
    try:
        assert type(restored) is algorithm
        again = restored.evaluate()["env_runners"]["episode_return_mean"]
    finally:
        restored.stop()
    assert again > 0.7 * STEPS


def test_an_independent_agent_learns_from_its_own_part_alone(ray_instance):
    made = config(IndependentFQL).build_algo()
    try:
        made.train()
        learner = made.learner_group._learner
        objectives = learner.objectives
        joint = {
            "obs": torch.randn(8, 7),
            "next_obs": torch.randn(8, 7),
            "actions": torch.rand(8, 4) * 2 - 1,
            "rewards": torch.rand(8),
            "discounts": torch.full((8,), 0.5),
            "behavior": torch.ones(8),
            "returns": torch.rand(8),
        }
        sizes = [(d, m) for _, d, m in learner._critic.model_config["agents"]]
        assert [sum(column) for column in zip(*sizes, strict=True)] == [7, 4]
        noise = objectives.draw(joint)
        active = frozenset({"td_coeff", "flow_matching_coeff", "distillation_coeff", "q_coeff"})
        terms = objectives.terms(joint, noise, active)
        first = sizes[0]
        changed = {k: v.clone() for k, v in joint.items()}
        changed["obs"][:, first[0] :] += 1.0
        changed["actions"][:, first[1] :] *= -1.0
        other = objectives.terms(changed, noise, active)
        assert terms["distillation_loss/0"] == other["distillation_loss/0"]
        assert terms["distillation_loss/1"] != other["distillation_loss/1"]
        own = objectives.parts[0].terms(objectives._split(joint)[0], noise[0], active)
        own_later = objectives.parts[0].terms(objectives._split(changed)[0], noise[0], active)
        assert all(torch.equal(own[name], own_later[name]) for name in own)
        assert terms["td_loss"] != other["td_loss"]  # the mean over agents
    finally:
        made.stop()


@pytest.mark.parametrize("algorithm", [GaussianQL, DiffusionQL])
def test_a_module_acts_from_its_checkpoint(algorithm, tmp_path, ray_instance):
    made = config(algorithm).build_algo()
    try:
        path = made.save_to_path(str(tmp_path / "checkpoint"))
        expected = made.learner_group.get_state()["learner"]["rl_module"]["left"]
    finally:
        made.stop()
    module = load_module(Path(path), "left")
    assert type(module) is BASELINES[algorithm].policy_class
    assert np.array_equal(module.state_dict()["field.obs_in.weight"], expected["field.obs_in.weight"])
    o = torch.zeros(3, module.observation_space.shape[0])
    assert module.forward_inference({"obs": o})["actions"].shape == (3, module.action_space.shape[0])


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        (GaussianQL, {"distillation_coeff": 0.5}, "GaussianQLConfig: distillation_coeff must be 0, got 0.5"),
        (DiffusionQL, {"flow_matching_coeff": 1.0}, "DiffusionQLConfig: flow_matching_coeff must be 0"),
        (DiffusionQL, {"denoising_steps": 0}, "denoising_steps must be an integer from 1 to 1000, got 0"),
        (DiffusionQL, {"denoising_steps": 2.5}, "denoising_steps must be an integer from 1 to 1000, got 2.5"),
        (DiffusionQL, {"execution": "centralized"}, "decentralized: DiffusionQL has no centralised policy"),
        (IndependentFQL, {"execution": "centralized"}, "decentralized: IndependentFQL has no centralised policy"),
    ],
)
def test_settings_without_meaning_are_refused(algorithm, settings, message):
    with pytest.raises(ValueError, match=message):
        BASELINES[algorithm]().environment("echo").training(**settings).validate()


def test_a_diffusion_takes_its_own_number_of_steps(tmp_path, ray_instance):
    made = config(DiffusionQL).training(denoising_steps=3).build_algo()
    try:
        made.train()
        learner = made.learner_group._learner
        assert {student.denoising_steps for student in learner.objectives.students} == {3}
        module = load_module(Path(made.save_to_path(str(tmp_path / "checkpoint"))), "left")
    finally:
        made.stop()
    calls = []
    module.acting.trunk.register_forward_hook(lambda *call: calls.append(call))
    module.forward_inference({"obs": torch.zeros(2, module.observation_space.shape[0])})
    assert len(calls) == 3


def test_a_checkpoint_says_what_its_policies_are(tmp_path, ray_instance):
    for algorithm, flows in ((GaussianQL, False), (IndependentFQL, True)):
        made = BASELINES[algorithm]().environment("grid2op_zones", env_config={"grid": "educ_case14_storage"})
        made = made.env_runners(num_env_runners=0).build_algo()
        try:
            path = Path(made.save_to_path(str(tmp_path / algorithm.__name__)))
        finally:
            made.stop()
        info = read_checkpoint(path)
        assert (info.is_mafql, info.flows, info.centralized) == (True, flows, False)
        if not flows:
            with pytest.raises(ValueError, match="is of GaussianQL: only flow policies are exported"):
                export_checkpoint(path, tmp_path / "exported")


def test_an_independent_agent_clones_advice_on_its_own_action(ray_instance):
    """The advisor says what is right, random play is far from it."""
    tune.register_env("advised", AdvisedEcho)
    others = ("q_coeff", "td_coeff", "conservative_coeff", "distillation_coeff", "flow_matching_coeff")
    made = config(IndependentFQL, bc_coeff=1.0, **dict.fromkeys(others, 0.0)).environment("advised")
    made = made.training(advisor="right", num_updates=150, warm_start_steps=200).build_algo()
    try:
        for _ in range(8):
            made.train()
        assert made.evaluate()["env_runners"]["episode_return_mean"] > 0.9 * STEPS
    finally:
        made.stop()
