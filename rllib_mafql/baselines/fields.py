"""Policies of the flow's layers that make actions otherwise: a Gaussian, and a diffusion. Plain torch: no Ray.

Letters as in :mod:`rllib_mafql.networks`. Both stand in for a VelocityField: `flow` turns noise into actions, and
`cloning_loss` is how such a policy is fitted to recorded actions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rllib_mafql.losses import weighted_mean
from rllib_mafql.networks import VelocityField
from rllib_mafql.products import Linear

#: Bounds of the Gaussian's log standard deviation, in standard deviations of the recorded actions.
LOG_STD = (-5.0, 1.0)

#: Steps of the diffusion from noise to action, as diffusion policies commonly take.
DENOISING_STEPS = 20
MAX_DENOISING_STEPS = 1000


class GaussianField(VelocityField):
    """A Gaussian with a diagonal covariance that depends on the observation.

    Args:
        obs_size, action_size, hidden, layers: as of VelocityField.
    """

    def __init__(self, obs_size: int, action_size: int, hidden: int = 256, layers: int = 2):
        super().__init__(obs_size, action_size, hidden, layers)
        self.trunk[-1] = Linear(hidden, 2 * action_size)

    def moments(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (B, m) of standardised actions, for embeddings (B, h)."""
        mean, log_std = self.trunk(embedding).float().chunk(2, -1)
        low, high = LOG_STD
        return mean, low + 0.5 * (high - low) * (torch.tanh(log_std) + 1.0)

    def flow(self, embedding: Tensor, z: Tensor, steps: int) -> Tensor:
        """Actions (B, m) in [-1, 1]: mean + std z, taken back from standardised actions; `steps` has no meaning."""
        mean, log_std = self.moments(embedding)
        return self.action_normalizer.inverse(mean + log_std.exp() * z).clamp(-1.0, 1.0)

    def cloning_loss(self, embedding: Tensor, a: Tensor, z: Tensor, t: Tensor, weight: Tensor) -> Tensor:
        """Negative log likelihood of recorded actions a (B, m), a component's mean; constants left out."""
        mean, log_std = self.moments(embedding)
        error = (self.action_normalizer(a) - mean) * (-log_std).exp()
        return weighted_mean((0.5 * error.square() + log_std).mean(-1), weight)


class DiffusionField(VelocityField):
    """A denoising diffusion, sampled by DDIM without noise of its own, so that z alone decides the action.

    In x = sqrt(abar) a + sqrt(1 - abar) z, with Diffusion-QL's variance preserving schedule (arXiv 2208.06193) and time
    t in [0, 1], noise at t = 1, the network predicts v = sqrt(abar) z - sqrt(1 - abar) a (arXiv 2202.00512), as suits
    few steps: with predicted noise, a's error is the noise's divided by sqrt(abar), which is 0.08 at t = 1.
    """

    denoising_steps: int = DENOISING_STEPS

    def flow(self, embedding: Tensor, z: Tensor, steps: int) -> Tensor:
        """Actions (B, m) in [-1, 1] from noise z (B, m), for embeddings (B, h); `steps` has no meaning."""
        x, steps = z, self.denoising_steps
        for k in range(steps, 0, -1):
            kept, rest = _signal(k / steps), _signal((k - 1) / steps)
            v = self(embedding, x, torch.full_like(x[:, :1], k / steps))
            clean = self._possible(math.sqrt(kept) * x - math.sqrt(1.0 - kept) * v)
            noise = (x - math.sqrt(kept) * clean) / math.sqrt(1.0 - kept)
            x = math.sqrt(rest) * clean + math.sqrt(1.0 - rest) * noise
        return self.action_normalizer.inverse(x).clamp(-1.0, 1.0)

    def _possible(self, x: Tensor) -> Tensor:
        """Standardised actions, held within what actions can be."""
        return self.action_normalizer(self.action_normalizer.inverse(x).clamp(-1.0, 1.0))

    def cloning_loss(self, embedding: Tensor, a: Tensor, z: Tensor, t: Tensor, weight: Tensor) -> Tensor:
        """Mean squared error of the predicted v, for noise z (B, m) and times t (B, 1)."""
        kept = _signals(t)
        clean = self.action_normalizer(a)
        x = kept.sqrt() * clean + (1.0 - kept).sqrt() * z
        v = kept.sqrt() * z - (1.0 - kept).sqrt() * clean
        return weighted_mean((self(embedding, x, t) - v).square().mean(-1), weight)


#: Least and greatest rate of the variance preserving schedule, over a unit of time.
_BETA = (0.1, 10.0)


def _signal(t: float) -> float:
    """abar(t): the share of the action's variance that is left at time t."""
    low, high = _BETA
    return math.exp(-low * t - 0.5 * (high - low) * t * t)


def _signals(t: Tensor) -> Tensor:
    low, high = _BETA
    return torch.exp(-low * t - 0.5 * (high - low) * t.square())
