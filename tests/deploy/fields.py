"""Velocity fields whose weights and normalisers are random, for the tests of their exports."""

import numpy as np
import torch

from rllib_mafql.networks import VelocityField


@torch.no_grad()
def random_field(obs_size=7, action_size=3, hidden=16, layers=2, seed=0):
    """A field with biases, layer norms and normalisers that differ in every component, scales by 1,000 times."""
    torch.manual_seed(seed)
    field = VelocityField(obs_size, action_size, hidden, layers)
    for parameter in field.parameters():
        parameter += torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
    field.normalizer.fit(10 * torch.randn(obs_size), 10 ** torch.empty(obs_size).uniform_(-1, 2))
    field.action_normalizer.fit(0.1 * torch.randn(action_size), 0.02 + torch.rand(action_size))
    return field


def observations(field, rows, seed=0):
    """Observations (rows, d) around the normaliser's mean; every other row far outside, where values are clipped."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.arange(rows) % 2, 100.0, 1.0)[:, None]
    mean, scale = field.normalizer.mean.numpy(), field.normalizer.scale.numpy()
    return (mean + scale * spread * rng.standard_normal((rows, len(mean)))).astype(np.float32)


@torch.no_grad()
def integrated(field, obs, noise, steps):
    """The action (m,) as torch integrates it, for an observation (d,) and noise (m,)."""
    return field.integrate(torch.from_numpy(obs)[None], torch.from_numpy(noise)[None], steps)[0].numpy()
