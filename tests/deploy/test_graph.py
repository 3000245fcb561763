"""Exported models act as the velocity fields do in torch."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.session import Session
from rllib_mafql.deploy.weights import field_weights
from rllib_mafql.networks import MAX_NORMALIZED
from tests.deploy.fields import integrated, observations, random_field

STEPS = [1, 2, 3, 4, 5]


def exported(field, steps):
    return Session(flow_model(field_weights(field), steps).SerializeToString())


def assert_parity(field, steps, rows=8):
    session, rng = exported(field, steps), np.random.default_rng(1)
    obs = observations(field, rows)
    normalized = field.normalizer(torch.from_numpy(obs)).abs().amax(1)
    assert normalized[0] < MAX_NORMALIZED and normalized[1:].max() == MAX_NORMALIZED
    actions = []
    for o in obs:
        zeros, noise = np.zeros(field.action_size, np.float32), rng.standard_normal(field.action_size, np.float32)
        for z in (zeros, noise):
            actions.append(session(o, z))
            np.testing.assert_allclose(actions[-1], integrated(field, o, z, steps), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(session(o), actions[-2])
    return np.array(actions)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_actions_are_torchs(steps, layers):
    actions = assert_parity(random_field(layers=layers), steps)
    assert actions.std() > 0.1
    assert np.abs(actions).max() == 1.0  # some leave [-1, 1] and are clipped


@pytest.mark.parametrize("steps", STEPS)
def test_a_zone_of_the_118_bus_grid(steps):
    assert_parity(random_field(422, 26, hidden=256), steps)


@settings(max_examples=25, deadline=None)
@given(
    obs_size=st.integers(2, 40),
    action_size=st.integers(1, 12),
    hidden=st.integers(2, 48),
    layers=st.integers(1, 4),
    steps=st.sampled_from(STEPS),
    seed=st.integers(0, 2**16),
)
def test_all_sizes(obs_size, action_size, hidden, layers, steps, seed):
    field = random_field(obs_size, action_size, hidden, layers, seed)
    session, obs = exported(field, steps), observations(field, 4, seed)
    noise = np.random.default_rng(seed).standard_normal((4, action_size), np.float32)
    for o, z in zip(obs, noise, strict=True):
        np.testing.assert_allclose(session(o, z), integrated(field, o, z, steps), rtol=0, atol=1e-5)


def test_a_field_as_it_is_built_and_with_zeros_everywhere():
    for change in (None, torch.nn.init.zeros_):
        field = random_field()
        field.normalizer.fit(torch.zeros(7), torch.ones(7))
        if change is not None:
            for parameter in field.parameters():
                change(parameter)
        obs, noise = np.linspace(-20, 20, 7, dtype=np.float32), np.array([0.5, -0.5, 3.0], np.float32)
        for steps in STEPS:
            np.testing.assert_allclose(
                exported(field, steps)(obs, noise), integrated(field, obs, noise, steps), rtol=0, atol=1e-5
            )


def test_constant_components_are_only_centred():
    field = random_field()
    field.normalizer.fit(torch.arange(7.0), torch.tensor([0.0, 1e-4, 1e-3, 1.0, 0.0, 5.0, 1e3]))
    obs = np.arange(7, dtype=np.float32) + 0.5
    zeros = np.zeros(3, np.float32)
    np.testing.assert_allclose(exported(field, 3)(obs), integrated(field, obs, zeros, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_out_as_in_torch(bad):
    field = random_field()
    session, zeros = exported(field, 2), np.zeros(3, np.float32)
    obs = observations(field, 1)[0]
    obs[3] = bad
    noise = np.array([0.0, bad, 0.0], np.float32)
    for o, z in ((obs, zeros), (observations(field, 1)[0], noise)):
        np.testing.assert_allclose(session(o, z), integrated(field, o, z, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", STEPS)
def test_models_are_valid_and_small(steps):
    field = random_field(layers=3)
    model = flow_model(field_weights(field), steps)
    onnx.checker.check_model(model, full_check=True)
    assert [(i.name, [d.dim_value for d in i.type.tensor_type.shape.dim]) for i in model.graph.input] == [
        ("obs", [1, 7]),
        ("noise", [1, 3]),
    ]
    assert [(o.name, [d.dim_value for d in o.type.tensor_type.shape.dim]) for o in model.graph.output] == [
        ("action", [1, 3])
    ]
    # three nodes of the normaliser, four of the encoder, one that embeds; sums with the time but for the first step
    assert len(model.graph.node) == 3 + 4 + steps * 7 + (steps - 1) + 3
    # weights are stored once however many steps there are
    numbers = sum(np.prod(c.dims) for c in model.graph.initializer)
    assert numbers < sum(p.numel() for p in field.parameters()) + 2 * 7 + 2 * 3 + 16 * steps + 4


def test_equal_weights_give_equal_models():
    first, second = (flow_model(field_weights(random_field()), 3).SerializeToString() for _ in range(2))
    assert first == second
    obs, noise = observations(random_field(), 1)[0], np.ones(3, np.float32)
    np.testing.assert_array_equal(Session(first)(obs, noise), Session(second)(obs, noise))


def test_exports_keep_their_weights():
    field = random_field()
    weights = field_weights(field)
    before = flow_model(weights, 2).SerializeToString()
    with torch.no_grad():
        for tensor in (*field.parameters(), *field.buffers()):
            tensor += 1
    assert flow_model(weights, 2).SerializeToString() == before
    assert flow_model(field_weights(field), 2).SerializeToString() != before


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_are_at_least_one(steps):
    with pytest.raises(ValueError, match="at least 1"):
        flow_model(field_weights(random_field()), steps)


def test_it_imports_no_torch():
    code = "import sys, rllib_mafql.deploy.graph; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
