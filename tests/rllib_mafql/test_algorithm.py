"""MAFQL as an RLlib algorithm: it learns, saves, restores, survives broken environments and refuses bad settings."""

import numpy as np
import pytest
import torch
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.registry import ENV_CREATOR, _global_registry

import rllib_mafql
from rllib_mafql.modules import CRITIC, TEACHER
from tests.rllib_mafql.toy_env import STEPS, EchoEnv, echo_config

pytestmark = pytest.mark.usefixtures("ray_instance")


def config(**training):
    return echo_config(**{"warm_start_steps": 1000} | training)


def weights(algorithm):
    state = algorithm.learner_group.get_state()["learner"]["rl_module"]
    return {f"{m}/{k}": np.array(v) for m, module in state.items() for k, v in module.items()}


def test_touching_the_package_registers_algorithm_and_environment():
    assert rllib_mafql.MAFQL.__name__ == "MAFQL"
    assert tune.registry.get_trainable_cls("MAFQL").__name__ == "MAFQL"
    assert _global_registry.contains(ENV_CREATOR, "grid2op_zones")


def test_it_learns_from_random_play_what_to_do(tmp_path):
    algorithm = config(bc_coeff=0.0, distillation_coeff=0.1, conservative_coeff=0.01).build_algo()
    try:
        random_return = None
        for _ in range(16):
            result = algorithm.train()
            random_return = random_return or result["env_runners"].get("behavior", {}).get("episode_return_mean")
        learned = algorithm.evaluate()["env_runners"]
        assert random_return < 0.5 * STEPS
        assert learned["episode_return_mean"] > 0.85 * STEPS
        assert learned["survived"] == 1.0
        metrics = result["learners"]
        for module, names in {
            CRITIC: ("td_loss", "conservative_loss", "q_mean"),
            TEACHER: ("flow_matching_loss",),
            "left": ("distillation_loss", "q_loss"),
        }.items():
            assert all(np.isfinite(metrics[module][name]) for name in names)
        assert "bc_loss" not in metrics["left"]  # switched off

        before = weights(algorithm)
        path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    finally:
        algorithm.stop()

    restored = Algorithm.from_checkpoint(path)
    try:
        after = weights(restored)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        assert restored.evaluate()["env_runners"]["episode_return_mean"] > 0.85 * STEPS
        updates = restored._updates_done
        for _ in range(8):  # the replay fills anew, then learning goes on
            result = restored.train()
        assert result["num_learner_updates"] > updates
    finally:
        restored.stop()

    # another environment is refused for what it is, before its sizes fail to match
    different = {"fingerprint": {"grid": "another"}, "extra": 2}
    other = config().environment("echo", env_config=different).build_algo()
    try:
        with pytest.raises(ValueError, match="trained on grid 'echo', but env_config has grid 'another'"):
            other.restore_from_path(path)
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("off", "moving"),
    [
        (("flow_matching_coeff", "distillation_coeff", "bc_coeff", "q_coeff"), {CRITIC}),
        (("td_coeff", "conservative_coeff", "q_coeff", "distillation_coeff", "bc_coeff"), {TEACHER}),
        (("td_coeff", "conservative_coeff", "q_coeff", "flow_matching_coeff", "distillation_coeff"), {"left", "right"}),
    ],
)
def test_each_objective_alone_moves_only_its_own_modules(off, moving):
    algorithm = config(warm_start_steps=200, num_updates=2, **dict.fromkeys(off, 0.0)).build_algo()
    try:
        before = weights(algorithm)
        algorithm.train()
        after = weights(algorithm)
    finally:
        algorithm.stop()
    changed = {k.split("/")[0] for k in before if "normalizer" not in k and not np.array_equal(before[k], after[k])}
    assert changed == moving


@pytest.mark.parametrize(
    "variant",
    [
        {"advantage_temperature": 0.1, "conservatism": "joint", "zero_noise_fraction": 0.0},
        {"flow_steps": 3, "teacher_flow_steps": 1, "num_critics": 3, "hidden_layers": 1},
        {"behavior_fraction": 0.5, "takeover_fraction": 0.5, "takeover_horizon": 5, "obs_noise": 0.3},
    ],
)
def test_variants_learn_finite_losses(variant):
    algorithm = config(warm_start_steps=200, num_updates=4, warm_start_updates=4, **variant).build_algo()
    try:
        for _ in range(3):  # warm start, updates on that alone, both
            result = algorithm.train()
    finally:
        algorithm.stop()
    assert result["num_learner_updates"] == 12
    losses = {f"{m}/{k}": v for m, values in result["learners"].items() for k, v in values.items() if "loss" in k}
    assert len(losses) > 10 and all(np.isfinite(value) for value in losses.values())
    behaved = algorithm.replay.sample(2000)["behavior"].mean()
    assert (0.2 < behaved < 1.0) if "behavior_fraction" in variant else behaved < 1.0


def test_obs_noise_is_in_units_of_the_data():
    algorithm = config(warm_start_steps=200, num_updates=1, obs_noise=0.5).build_algo()
    try:
        algorithm.train()
        objectives = algorithm.learner_group._learner.objectives
        mean = torch.from_numpy(algorithm.replay.statistics().obs_mean).expand(20_000, -1)
        noise = objectives.draw({"obs": mean, "actions": torch.zeros(20_000, 4)}).obs
        for part in noise:  # of what is seen before and after the step
            assert torch.allclose(objectives.standardise(mean, part).std(0), torch.tensor(0.5), rtol=0.05)
        assert not torch.equal(*noise)
    finally:
        algorithm.stop()


def test_centralized_execution_plays_the_teacher():
    algorithm = config(execution="centralized", warm_start_steps=200, num_updates=2).build_algo()
    try:
        algorithm.train()
        runner = algorithm.env_runner
        (rollout,) = runner.sample(num_timesteps=20, explore=False, force_reset=True)
        fragment, _ = rollout.fragments  # one of each environment
        with torch.no_grad():
            teacher = runner.module[TEACHER].act(torch.from_numpy(fragment.obs[:-1]), torch.zeros(10, 4))
        assert np.allclose(fragment.actions, teacher.numpy(), atol=1e-6)
    finally:
        algorithm.stop()


def test_runners_act_on_averaged_weights():
    algorithm = config(warm_start_steps=200, num_updates=5, average_tau=0.1).build_algo()
    try:
        start = weights(algorithm)
        algorithm.train()
        learned = weights(algorithm)
        acting = algorithm.env_runner.module["left"].get_state()
    finally:
        algorithm.stop()
    name = "trunk.1.weight"
    assert set(acting) == {k.removeprefix("left/") for k in learned if k.startswith("left/field.")}
    assert np.array_equal(acting[f"field.{name}"], learned[f"left/average.{name}"])
    # five steps towards weights on the way to the trained ones: nearer to the start than those
    moved, total = (
        np.abs(learned[f"left/{part}.{name}"] - start[f"left/field.{name}"]).sum() for part in ("average", "field")
    )
    assert 0.05 * total < moved < 0.6 * total


def test_coefficients_follow_their_schedules():
    algorithm = config(bc_coeff=[[0, 1.0], [8, 0.0]], warm_start_steps=200, num_updates=4).build_algo()
    try:
        found = [algorithm.train()["learners"][CRITIC]["bc_coeff"] for _ in range(3)]  # after 0, 4 and 8 updates
    finally:
        algorithm.stop()
    assert found == pytest.approx([1.0, 0.5, 0.0])


def test_a_broken_environment_is_replaced_and_its_episode_ends_there():
    EchoEnv.failures = 0
    broken = config().environment("echo", env_config={"fail_at": 7})
    runner = broken.env_runner_cls(config=broken)
    (rollout,) = runner.sample(num_timesteps=100)
    assert EchoEnv.failures == 1
    # the six steps before it broke are a fragment of their own, and the step that failed is in none
    assert [fragment.steps for fragment in rollout.fragments] == [6, 20, 20, 20, 20, 4, 10]
    assert not any(fragment.terminated for fragment in rollout.fragments)
    assert runner.get_metrics()["num_env_step_failures"].peek() == 1


def test_an_environment_that_never_works_is_not_rebuilt_for_ever():
    EchoEnv.failures = -1000
    broken = config().environment("echo", env_config={"fail_at": 1})
    with pytest.raises(RuntimeError, match="the simulator broke"):
        broken.env_runner_cls(config=broken).sample(num_timesteps=100)


def test_a_policy_that_gives_no_number_is_an_error():
    plain = config()
    runner = plain.env_runner_cls(config=plain)
    with torch.no_grad():
        runner.module["left"].field.trunk[-1].bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not a finite number"):
        runner.sample(num_timesteps=10)


def test_runner_fragments_are_reproducible_by_seed_and_scaled_to_the_action_space():
    wide = config().environment("echo", env_config={"bounds": 5.0})
    wide.validate()
    runs = [wide.env_runner_cls(config=wide).sample(num_timesteps=50, behavior=True)[0].fragments for _ in range(2)]
    assert [fragment.steps for fragment in runs[0]] == [20, 20, 5, 5]
    for fragment, same in zip(*runs, strict=True):
        for values, others in zip(fragment, same, strict=True):
            assert np.array_equal(values, others)
        assert np.abs(fragment.actions).max() <= 1.0
        # the reward is that of the action times 5, divided by 5 in the environment: exactly the normalised action's
        error = np.mean((fragment.actions - fragment.obs[:-1, [0, 1, 3, 4]]) ** 2, -1)
        assert fragment.rewards == pytest.approx(1 - error, abs=1e-5)


@pytest.mark.parametrize("variant", [{}, {"precision": "bfloat16", "compiled": True}])
def test_two_learners_stay_identical(variant):
    compiled = variant.pop("compiled", False)
    two = config(warm_start_steps=200, num_updates=5, **variant).learners(num_learners=2)
    two.framework(torch_compile_learner=compiled, torch_compile_learner_dynamo_backend="eager")
    algorithm = two.build_algo()
    try:
        algorithm.train()
        results = algorithm.learner_group.foreach_learner(
            lambda learner: [p.detach().numpy().copy() for p in learner._params.values()]
        )
        first, second = (result.get() for result in results)
    finally:
        algorithm.stop()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"flow_steps": 6}, "flow_steps must be an integer from 1 to 5, got 6"),
        ({"teacher_flow_steps": 0}, "teacher_flow_steps must be an integer from 1 to 5"),
        ({"execution": "central"}, "execution must be one of decentralized, centralized"),
        ({"conservatism": "none"}, "conservatism must be one of counterfactual, joint"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"bc_coeff": -1.0}, "bc_coeff must be 0 or greater"),
        ({"gamma": 1.0}, "gamma must be at least 0 and less than 1"),
        ({"reward_bounds": [1.0, 0.0]}, "reward_bounds must be None or"),
        ({"behavior_policies": {"qp": 0.0}}, "behavior_policies must be a mapping"),
        ({"warm_start_steps": 10, "replay_capacity": 5}, r"warm_start_steps must be at most replay_capacity \(5\)"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        config(**setting).validate()


def test_a_policy_that_the_environment_does_not_have_is_named_at_once():
    with pytest.raises(ValueError, match="EchoEnv has no behavior_policy\\(\\) that could make 'qp_zones'"):
        config(behavior_policies={"qp_zones": 1.0}).build_algo()
