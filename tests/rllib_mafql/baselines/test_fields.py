"""The policies of the baselines fit distributions that are known."""

import pytest
import torch

from rllib_mafql.baselines.fields import DiffusionField, GaussianField
from rllib_mafql.networks import VelocityField


def fitted(field, actions, updates=2000):
    """Fitted to actions (n, m) that have nothing to do with the observation; then 2,000 samples."""
    field.action_normalizer.fit(actions.mean(0), actions.std(0))
    optimizer = torch.optim.Adam(field.parameters(), lr=2e-3)
    for _ in range(updates):
        a = actions[torch.randint(len(actions), (256,))]
        embedding = field.encode(torch.randn(256, 3))
        loss = field.cloning_loss(embedding, a, torch.randn_like(a), torch.rand(256, 1), None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return field.integrate(torch.randn(2000, 3), torch.randn(2000, actions.shape[1]), 1)


def test_the_gaussian_finds_mean_and_deviation():
    torch.manual_seed(0)
    data = torch.tensor([0.3, -0.2]) + torch.tensor([0.2, 0.05]) * torch.randn(4000, 2)
    samples = fitted(GaussianField(3, 2, hidden=32), data.clamp(-1, 1))
    assert torch.allclose(samples.mean(0), torch.tensor([0.3, -0.2]), atol=0.02)
    assert torch.allclose(samples.std(0), torch.tensor([0.2, 0.05]), rtol=0.15)


@pytest.mark.parametrize(("field_class", "between"), [(DiffusionField, False), (GaussianField, True)])
def test_a_diffusion_keeps_two_modes_apart_and_a_gaussian_does_not(field_class, between):
    torch.manual_seed(0)
    mode = torch.where(torch.rand(4000, 1) < 0.5, -0.6, 0.6)
    data = mode + 0.05 * torch.randn(4000, 1)
    samples = fitted(field_class(3, 1, hidden=64), data)
    middle = (samples.abs() < 0.3).float().mean()
    if between:
        assert middle > 0.2
    else:
        assert middle < 0.05
        assert 0.35 < (samples > 0).float().mean() < 0.65
        assert torch.allclose(samples.abs().mean(), torch.tensor(0.6), atol=0.05)


@pytest.mark.parametrize("field_class", [VelocityField, GaussianField, DiffusionField])
def test_actions_are_bounded_and_follow_from_the_noise(field_class):
    torch.manual_seed(0)
    field = field_class(4, 3, hidden=16)
    o, z = torch.randn(64, 4), 5.0 * torch.randn(64, 3)
    actions = field.integrate(o, z, 2)
    assert actions.shape == (64, 3) and (actions.abs() <= 1.0).all()
    assert torch.equal(actions, field.integrate(o, z, 2))
    assert not torch.allclose(actions, field.integrate(o, -z, 2))
