"""The learner within RLlib: its options, its optimizers' state in checkpoints, and gradients that are not finite."""

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import TorchCompileWhatToCompile

from rllib_mafql.modules import CRITIC, TEACHER
from rllib_mafql.networks import MAX_NORMALIZED
from tests.rllib_mafql.toy_env import echo_config

pytestmark = pytest.mark.usefixtures("ray_instance")


def config(**training):
    return echo_config(**{"warm_start_steps": 200, "num_updates": 4} | training)


def built(config):
    """The algorithm after one round, and its learner."""
    algorithm = config.build_algo()
    return algorithm, algorithm.train()["learners"], algorithm.learner_group._learner


def flat(state):
    """Nested dicts, lists and arrays as {path: value}."""
    if isinstance(state, dict):
        return {f"{k}/{path}": v for k, inner in state.items() for path, v in flat(inner).items()}
    if isinstance(state, (list, tuple)):
        return flat(dict(enumerate(state)))
    return {"": np.asarray(state)}


def test_checkpoints_hold_the_optimizers_state_exactly(tmp_path):
    algorithm, _, learner = built(config())
    try:
        before = flat(learner.get_state()["optimizer"])
        path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    finally:
        algorithm.stop()
    restored = Algorithm.from_checkpoint(path)
    try:
        learner = restored.learner_group._learner
        after = flat(learner.get_state()["optimizer"])
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        steps = {float(v) for name, v in after.items() if name.endswith("/step/")}
        assert steps == {4.0}
        assert sum(name.endswith("/exp_avg/") for name in after) == len(learner._params)
    finally:
        restored.stop()


def test_states_of_optimizers_that_were_not_fused_go_on_fused():
    algorithm, _, learner = built(config(grad_clip=1e-3))
    try:
        state = learner._get_optimizer_state()
        for name in state:
            for group in state[name]["state"]["param_groups"]:
                group["fused"] = None
        learner._set_optimizer_state(state)
        algorithm.train()
        # were it not fused, gradients would not be clipped: Adam's second moments tell
        for name, optimizer in learner._named_optimizers.items():
            assert all(group["fused"] for group in optimizer.param_groups), name
            moments = sum(s["exp_avg_sq"].sum().item() for s in optimizer.state.values())
            assert 0 < moments <= 8 * 1e-3 * 1e-6 * 1.01
    finally:
        algorithm.stop()


def test_components_that_seldom_leave_their_mean_are_not_clipped_where_they_do():
    algorithm, _, learner = built(config())
    try:
        found = algorithm.replay.statistics()
        size = found.obs_mean.size
        rare = found._replace(
            obs_mean=np.full(size, 0.5, np.float32),
            obs_std=np.full(size, 0.1, np.float32),
            obs_low=np.full(size, 0.3, np.float32),
            obs_high=np.where(np.arange(size) % 2, 0.7, 8.5).astype(np.float32),
        )
        learner.fit_normalizers(rare)
        scale = np.where(np.arange(size) % 2, 0.1, 8.0 / MAX_NORMALIZED)
        normalizer = learner.module[CRITIC].q.normalizer
        assert normalizer.scale.numpy() == pytest.approx(scale)
        standardised = normalizer(torch.from_numpy(np.stack([rare.obs_low, rare.obs_high])))
        assert standardised.numpy() == pytest.approx(
            np.stack([rare.obs_low - 0.5, rare.obs_high - 0.5]) / scale, rel=1e-5
        )
    finally:
        algorithm.stop()


def test_a_module_whose_gradients_are_not_finite_skips_its_step_alone():
    algorithm, _, learner = built(config(num_updates=2))
    try:
        state = {m: module.get_state() for m, module in learner.module._rl_modules.items()}
        terms = learner._terms
        learner._terms = lambda *args: (
            (t := terms(*args)) | {"flow_matching_loss": t["flow_matching_loss"] * float("nan")}
        )
        metrics = algorithm.train()["learners"]
        assert {m: metrics[m]["skipped_updates"] for m in state} == {CRITIC: 0, TEACHER: 1, "left": 0, "right": 0}
        assert metrics[TEACHER]["gradient_norm"] == 0 < metrics[CRITIC]["gradient_norm"]
        for m, was in state.items():
            now = learner.module[m].get_state()
            same = {k for k in was if k.startswith(("q.", "field.")) and np.array_equal(was[k], now[k])}
            learned = {k for k in was if k.startswith(("q.", "field.")) and "normalizer" not in k}
            assert learned <= same if m == TEACHER else not learned & same
    finally:
        algorithm.stop()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_options_log_the_same_terms(precision, compiled):
    options = config(precision=precision)
    options.framework(torch_compile_learner=compiled, torch_compile_learner_dynamo_backend="eager")
    algorithm, metrics, learner = built(options)
    algorithm.stop()
    assert all(p.dtype == torch.float32 for p in learner._params.values())
    names = {
        CRITIC: {"td_loss", "td_target_mean", "q_mean", "conservative_loss"},
        TEACHER: {"flow_matching_loss"},
        "left": {"q_loss", "bc_loss", "distillation_loss"},
        "right": {"q_loss", "bc_loss", "distillation_loss"},
    }
    for module, terms in names.items():
        for name in terms | {"gradient_norm", "skipped_updates", "total_loss"}:
            assert np.isfinite(metrics[module][name]), (module, name)
        assert metrics[module]["skipped_updates"] == 0
        assert metrics[module]["default_optimizer_learning_rate"] == pytest.approx(3e-4)
    assert metrics["__all_modules__"]["num_env_steps_trained"] == 4 * 128


def test_what_cannot_be_compiled_is_refused():
    whole = config().framework(
        torch_compile_learner=True,
        torch_compile_learner_what_to_compile=TorchCompileWhatToCompile.COMPLETE_UPDATE,
    )
    with pytest.raises(ValueError, match="torch_compile_learner_what_to_compile must be forward_train"):
        whole.validate()


def test_learning_rates_follow_their_schedule():
    algorithm = config(lr=[[0, 1e-3], [8, 1e-4]]).build_algo()
    try:
        rates = [algorithm.train()["learners"]["left"]["default_optimizer_learning_rate"] for _ in range(3)]
        groups = [o.param_groups[0]["lr"] for o in algorithm.learner_group._learner._named_optimizers.values()]
    finally:
        algorithm.stop()
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert groups == pytest.approx([1e-4] * 4)
