"""Velocity fields, their integration, and the critic ensemble. Plain torch: importing this module does not import Ray.

Observations are much wider than actions (on the 118-bus grid 913 numbers against 69), so every network encodes the
observation once and lets the action enter the hidden layer through a linear map of its own. Integration steps and
sampled actions then cost only the narrow part of the network.

Shapes: B batch, d observation size, m action size, h hidden size, E critics, S sampled actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rllib_mafql.products import EnsembleLinear, Linear

# Normalised values are clipped here, so that one never seen in training cannot dominate a layer.
MAX_NORMALIZED = 20.0

# Least standard deviation of an action's component that counts: less is as good as constant.
MIN_ACTION_STD = 0.02


def slices_of(sizes: list[int]) -> list[slice]:
    """Where each agent's components lie in a joint array of agents side by side."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


class Normalizer(nn.Module):
    """Standardises observations or actions with statistics of the data, kept as buffers: they travel with the weights.

    Until :meth:`fit` is called, values pass through unchanged (and clipped).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Takes over mean (d,) and scale (d,). A component that never varies is only centred."""
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 1e-3, scale, torch.ones_like(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-MAX_NORMALIZED, MAX_NORMALIZED)

    def inverse(self, x: Tensor) -> Tensor:
        """Back from standardised values to those of the data."""
        return self.mean + self.scale * x


class VelocityField(nn.Module):
    """v(o, x, t): the velocity that carries noise at t = 0 to an action at t = 1 (flow matching, arXiv 2210.02747).

    The flow runs in standardised actions, so that noise and actions have one scale in every component.

    Args:
        obs_size: d, size of the observation.
        action_size: m, size of the action.
        hidden: h, width of every hidden layer.
        layers: number of hidden layers that see the action.
    """

    def __init__(self, obs_size: int, action_size: int, hidden: int = 256, layers: int = 2):
        super().__init__()
        self.action_size = action_size
        self.normalizer = Normalizer(obs_size)
        self.action_normalizer = Normalizer(action_size)
        self.obs_encoder = nn.Sequential(Linear(obs_size, hidden), nn.LayerNorm(hidden), nn.GELU())
        self.obs_in = Linear(hidden, hidden)
        self.action_in = Linear(action_size + 1, hidden, bias=False)
        trunk: list[nn.Module] = [nn.GELU()]
        for _ in range(layers - 1):
            trunk += [Linear(hidden, hidden), nn.GELU()]
        self.trunk = nn.Sequential(*trunk, Linear(hidden, action_size))

    def encode(self, o: Tensor) -> Tensor:
        """Observations (B, d) -> embeddings (B, h), to be reused over integration steps."""
        return self.encode_standardised(self.normalizer(o))

    def encode_standardised(self, o: Tensor) -> Tensor:
        """Embeddings (B, h) of observations (B, d) that are standardised already."""
        return self.obs_in(self.obs_encoder(o))

    def forward(self, embedding: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (B, m) at standardised points x (B, m) and times t (B, 1) in [0, 1], for embeddings (B, h)."""
        return self.trunk(embedding + self.action_in(torch.cat([x, t], -1))).float()

    def integrate(self, o: Tensor, z: Tensor, steps: int) -> Tensor:
        """Actions (B, m) in [-1, 1]: `steps` Euler steps from noise z (B, m) under observations o (B, d).

        With one step this is the one-step map z + v(o, z, 0), taken back from standardised actions.
        """
        return self.flow(self.encode(o), z, steps)

    def flow(self, embedding: Tensor, z: Tensor, steps: int) -> Tensor:
        """Actions (B, m) as of :meth:`integrate`, for embeddings (B, h)."""
        x = z
        for k in range(steps):
            t = torch.full_like(x[:, :1], k / steps)
            x = x + self(embedding, x, t) / steps
        return self.action_normalizer.inverse(x).clamp(-1.0, 1.0)


def softly_bounded(x: Tensor, low: float, high: float) -> Tensor:
    """x, bent so that it stays between the bounds: nearly straight but for the twentieth at each.

    Where 0 is not between them, x counts from the nearer one, so that networks begin where gradients are not lost.
    """
    sharpness = 40.0 / (high - low)
    x = x + min(max(0.0, low), high)
    return low + nn.functional.softplus(x - low, sharpness) - nn.functional.softplus(x - high, sharpness)


class CriticEnsemble(nn.Module):
    """E centralised critics Q(o, a) of joint observations and joint actions.

    Args:
        obs_size: size of the joint observation, sum of d_i.
        action_size: size of the joint action, sum of m_i.
        hidden: width of every hidden layer.
        layers: number of hidden layers that see the action.
        ensemble: E, number of independent critics.
        bounds: the least and the greatest value there can be. Critics then stay between them: conservatism, which
            nothing holds up where there are no data, would push values down without end. None: any value.
    """

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden: int = 256,
        layers: int = 2,
        ensemble: int = 2,
        bounds: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.normalizer = Normalizer(obs_size)
        self.action_normalizer = Normalizer(action_size)
        # What all critics read goes through one wide layer, each critic's outputs side by side.
        self.obs_encoder = Linear(obs_size, ensemble * hidden)
        self.obs_norm = nn.LayerNorm(hidden)
        self.obs_in = EnsembleLinear(ensemble, hidden, hidden)
        self.action_in = Linear(action_size, ensemble * hidden, bias=False)
        # Layer norm bounds the critic's extrapolation to actions far from the data.
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.hidden = nn.ModuleList(EnsembleLinear(ensemble, hidden, hidden) for _ in range(layers - 1))
        self.out = EnsembleLinear(ensemble, hidden, 1)
        self.ensemble = ensemble
        self.bounds = bounds

    def encode(self, o: Tensor) -> Tensor:
        """Joint observations (B, d) -> embeddings (E, B, h), to be reused over actions."""
        return self.encode_standardised(self.normalizer(o))

    def encode_standardised(self, o: Tensor) -> Tensor:
        """Embeddings (E, B, h) of joint observations (B, d) that are standardised already."""
        x = self._by_critic(self.obs_encoder(o))
        return self.obs_in(nn.functional.gelu(self.obs_norm(x)))

    def forward(self, embedding: Tensor, a: Tensor) -> Tensor:
        """Values (E, B) of joint actions a (B, m), or (E, S, B) of a (S, B, m), for embeddings (E, B, h)."""
        *samples, batch, size = a.shape
        x = self._by_critic(self.action_in(self.action_normalizer(a.reshape(-1, size)))).unflatten(1, (*samples, batch))
        x = (x + (embedding if not samples else embedding.unsqueeze(1))).flatten(1, -2)
        x = nn.functional.gelu(self.norms[0](x))
        for layer, norm in zip(self.hidden, self.norms[1:], strict=True):
            x = nn.functional.gelu(norm(layer(x)))
        q = self.out(x).view(self.ensemble, *samples, batch).float()
        return q if self.bounds is None else softly_bounded(q, *self.bounds)

    def _by_critic(self, x: Tensor) -> Tensor:
        """(B, E h) -> (E, B, h)."""
        return x.unflatten(1, (self.ensemble, -1)).transpose(0, 1)
