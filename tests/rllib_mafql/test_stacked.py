"""The stacked policies act as the agents' own modules do, one by one."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_mafql.modules import FlowPolicy
from rllib_mafql.networks import MAX_NORMALIZED
from rllib_mafql.stacked import StackedPolicies

OBS, ACTIONS = [5, 3, 9], [2, 4, 1]


def box(size):
    return gym.spaces.Box(-1.0, 1.0, (size,), np.float32)


def policies(inference_only=True, hidden=16, layers=2, flow_steps=1):
    """Three agents' policies whose weights and normalisers are random, without the learner's small first outputs."""
    torch.manual_seed(0)
    model_config = {"hidden": hidden, "layers": layers, "flow_steps": flow_steps}
    modules = [
        FlowPolicy(
            observation_space=box(obs), action_space=box(act), inference_only=inference_only, model_config=model_config
        )
        for obs, act in zip(OBS, ACTIONS, strict=True)
    ]
    for module in modules:
        shake(module)
    return modules


@torch.no_grad()
def shake(module):
    for parameter in module.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    for field in filter(None, (module.field, module.average)):
        size = len(field.normalizer.mean)
        field.normalizer.fit(10 * torch.randn(size), 5 * torch.rand(size))
        field.action_normalizer.fit(0.1 * torch.randn(field.action_size), 0.02 + torch.rand(field.action_size))


def one_by_one(modules, obs, z):
    parts = zip(modules, obs.split(OBS, 1), z.split(ACTIONS, 1), strict=True)
    with torch.no_grad():
        return torch.cat([module.act_on_average(o, noise) for module, o, noise in parts], 1)


@pytest.mark.parametrize("rows", [1, 4, 33])
@pytest.mark.parametrize(
    "settings", [{}, {"flow_steps": 3}, {"layers": 1, "flow_steps": 5}, {"layers": 3}, {"inference_only": False}]
)
def test_it_acts_as_the_modules_do(settings, rows):
    modules = policies(**settings)
    stacked = StackedPolicies(modules)
    # some observations are far outside the data and clipped, some actions leave [-1, 1] and are clipped
    obs, z = 40 * torch.randn(rows, sum(OBS)), torch.randn(rows, sum(ACTIONS))
    clipped = [m.acting.normalizer(o).abs().max() for m, o in zip(modules, obs.split(OBS, 1), strict=True)]
    assert max(clipped) == MAX_NORMALIZED
    for noise in (z, torch.zeros_like(z)):
        expected = one_by_one(modules, obs, noise)
        assert expected.std() > 0.1
        assert torch.allclose(stacked.act(obs, noise), expected, atol=1e-5)


def test_agents_see_their_own_observations_and_noise_only():
    stacked = StackedPolicies(policies())
    obs, z = torch.randn(4, sum(OBS)), 0.1 * torch.randn(4, sum(ACTIONS))
    before = stacked.act(obs, z)
    changed = torch.cat([obs[:, : OBS[0]], torch.randn(4, sum(OBS[1:]))], 1)
    noise = torch.cat([z[:, : ACTIONS[0]], torch.randn(4, sum(ACTIONS[1:]))], 1)
    after = stacked.act(changed, noise)
    assert torch.equal(before[:, : ACTIONS[0]], after[:, : ACTIONS[0]])
    assert not torch.isclose(before[:, ACTIONS[0] :], after[:, ACTIONS[0] :]).all()


def test_new_weights_act_after_a_refresh():
    modules = policies()
    stacked = StackedPolicies(modules)
    obs, z = torch.randn(4, sum(OBS)), torch.randn(4, sum(ACTIONS))
    before = stacked.act(obs, z)
    for module in modules:
        shake(module)
    assert torch.equal(stacked.act(obs, z), before)
    stacked.refresh()
    assert torch.allclose(stacked.act(obs, z), one_by_one(modules, obs, z), atol=1e-5)


def test_what_is_not_a_number_comes_out_as_such():
    modules = policies()
    with torch.no_grad():
        modules[1].acting.trunk[-1].bias.fill_(float("nan"))
    actions = StackedPolicies(modules).act(torch.randn(2, sum(OBS)), torch.randn(2, sum(ACTIONS)))
    assert actions.isnan().any(0).tolist() == [False] * 2 + [True] * 4 + [False]


def test_it_does_not_import_ray():
    code = "import sys, rllib_mafql.stacked; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
