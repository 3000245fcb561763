"""A trial of a population goes on from another's checkpoint with settings of its own, which must count at once."""

import numpy as np
import pytest

from tests.rllib_mafql.toy_env import echo_config

OTHER = {"lr": 1e-12, "q_coeff": 0.0, "conservative_coeff": 0.7, "num_updates": 3}


@pytest.fixture(scope="module")
def restored(ray_instance, tmp_path_factory):
    """An algorithm with other settings than the one whose checkpoint it goes on from."""
    folder = str(tmp_path_factory.mktemp("checkpoint"))
    first = echo_config(warm_start_steps=100, num_updates=5).build_algo()
    for _ in range(3):
        first.train()
    first.save_to_path(folder)
    first.stop()
    second = echo_config(warm_start_steps=100, **OTHER).build_algo()
    second.restore_from_path(folder)
    yield second
    second.stop()


def _settings(learner):
    rates = [group["lr"] for optimizer in learner._named_optimizers.values() for group in optimizer.param_groups]
    return rates, {name: float(schedule.get_current_value()) for name, schedule in learner._coefficients.items()}


def test_learning_rate_and_coefficients_are_the_new_ones(restored):
    rates, coefficients = restored.learner_group.foreach_learner(_settings).result_or_errors[0].get()
    assert rates == pytest.approx([1e-12] * len(rates))
    assert coefficients["q_coeff"] == 0.0
    assert coefficients["conservative_coeff"] == 0.7


def _weights(algorithm):
    state = algorithm.learner_group.get_weights()
    found = {f"{m}/{key}": np.array(value) for m, values in state.items() for key, value in values.items()}
    return {key: value for key, value in found.items() if "/field." in key}


def test_the_first_updates_after_it_are_made_with_them(restored):
    before, first = _weights(restored), restored.train()
    second = restored.train()
    assert second["num_learner_updates"] - first["num_learner_updates"] == 3
    assert all(np.isnan(results["learners"]["left"]["q_loss"]) for results in (first, second))  # switched off
    after = _weights(restored)
    assert before and all(np.allclose(before[key], after[key], atol=1e-6) for key in before)
