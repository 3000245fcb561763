"""All agents' policies as one stack of batched products. Plain torch: importing this module does not import Ray.

One call per layer serves every agent: where rows are few or calls are launches on a GPU, calls cost more than
arithmetic does. Observations and actions of fewer components than the widest agent's are padded; the weights of the
padding are 0.

Shapes: N agents, n rows, d_i and m_i the sizes of agent i's observation and action, d and m the largest of them, h
hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad

from rllib_mafql.networks import MAX_NORMALIZED, VelocityField

if TYPE_CHECKING:
    from rllib_mafql.modules import FlowPolicy

# Bias (N, 1, out) and weight (N, in, out).
Layer = tuple[Tensor, Tensor]


class StackedWeights(NamedTuple):
    """Weights of N agents' fields, see :class:`rllib_mafql.networks.VelocityField`."""

    obs_encoder: Layer
    norm: Layer  # (N, 1, h) each
    obs_in: Layer
    action_in: Tensor  # (N, m, h)
    time_in: Tensor  # (N, 1, h)
    hidden: list[Layer]
    out: Layer  # divided by the number of steps
    action_mean: Tensor  # (sum m_i,)
    action_scale: Tensor


class StackedFields:
    """N agents' velocity fields, integrated together.

    Args:
        fields: in joint order, with equal `hidden` and `layers`.
        steps: Euler steps.
    """

    def __init__(self, fields: Sequence[VelocityField], steps: int):
        self._fields: Sequence[Any] = fields
        self._steps = steps
        sizes = [len(field.normalizer.mean) for field in fields]
        action_sizes = [field.action_size for field in fields]
        device = fields[0].normalizer.mean.device
        self._obs_columns, _ = _padded_columns(sizes, device)
        self._action_columns, self._own_columns = _padded_columns(action_sizes, device)
        self._obs_shape = len(fields), max(sizes)
        self._action_shape = len(fields), max(action_sizes)

    def weights(self) -> StackedWeights:
        """The fields' weights as they are now; gradients flow back to them."""
        fields = self._fields
        widest = self._action_shape[1]
        norms = [field.obs_encoder[1] for field in fields]
        action_in = [field.action_in.weight for field in fields]  # (h, m_i + 1), the last column for the time
        layers = [
            _stack(layer)
            for layer in zip(
                *([x for x in field.trunk[:-1] if isinstance(x, nn.Linear)] for field in fields), strict=True
            )
        ]
        bias, weight = _stack([field.trunk[-1] for field in fields], size_out=widest)
        return StackedWeights(
            obs_encoder=_stack([field.obs_encoder[0] for field in fields], size_in=self._obs_shape[1]),
            norm=(
                torch.stack([norm.bias for norm in norms])[:, None],
                torch.stack([norm.weight for norm in norms])[:, None],
            ),
            obs_in=_stack([field.obs_in for field in fields]),
            action_in=torch.stack([pad(w[:, :-1], (0, widest + 1 - w.shape[1])) for w in action_in]).transpose(1, 2),
            time_in=torch.stack([w[:, -1] for w in action_in])[:, None],
            hidden=layers,
            out=(bias / self._steps, weight / self._steps),
            action_mean=torch.cat([field.action_normalizer.mean for field in fields]),
            action_scale=torch.cat([field.action_normalizer.scale for field in fields]),
        )

    def flow(self, w: StackedWeights, o: Tensor, z: Tensor) -> Tensor:
        """Joint actions (n, sum m_i) from noise (n, sum m_i) for standardised joint observations (n, sum d_i)."""
        bias, weight = w.obs_encoder
        x = torch.baddbmm(bias, _by_agent(o, self._obs_columns, self._obs_shape), weight)
        bias, weight = w.norm
        x = gelu(torch.addcmul(bias, layer_norm(x, x.shape[-1:]), weight))
        bias, weight = w.obs_in
        embedding = torch.baddbmm(bias, x, weight)
        point = _by_agent(z, self._action_columns, self._action_shape)
        for k in range(self._steps):
            x = embedding if k == 0 else embedding + (k / self._steps) * w.time_in
            x = gelu(torch.baddbmm(x, point, w.action_in))
            for bias, weight in w.hidden:
                x = gelu(torch.baddbmm(bias, x, weight))
            bias, weight = w.out
            point = point + torch.baddbmm(bias, x, weight)
        joint = point.transpose(0, 1).reshape(len(o), -1).index_select(1, self._own_columns)
        return torch.addcmul(w.action_mean, w.action_scale, joint).clamp(-1.0, 1.0)


class StackedPolicies:
    """Acts for all agents at once on the weights that the modules act on, without gradients.

    Weights are copied: call :meth:`refresh` when the modules have new ones.

    Args:
        modules: the agents' policies in joint order.
    """

    def __init__(self, modules: Sequence[FlowPolicy]):
        self._fields = [module.acting for module in modules]
        self._stack = StackedFields(self._fields, modules[0].flow_steps)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes over the modules' weights and normalisers."""
        self._mean = torch.cat([field.normalizer.mean for field in self._fields])
        self._inverse_scale = torch.cat([field.normalizer.scale for field in self._fields]).reciprocal()
        self._weights = self._stack.weights()

    @torch.no_grad()
    def act(self, obs: Tensor, z: Tensor) -> Tensor:
        """Joint actions (n, sum m_i) in [-1, 1] for joint observations (n, sum d_i) and noise (n, sum m_i).

        With z = 0 the policies are deterministic.
        """
        o = (obs - self._mean).mul_(self._inverse_scale).clamp_(-MAX_NORMALIZED, MAX_NORMALIZED)
        return self._stack.flow(self._weights, o, z)


def _padded_columns(sizes: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns of the joint array for each column of the padded one (N max size), and those of the padded for the joint.

    Padding repeats the joint array's first column.
    """
    widest = max(sizes)
    columns = torch.zeros(len(sizes), widest, dtype=torch.long)
    mask = torch.arange(widest) < torch.tensor(sizes)[:, None]
    columns[mask] = torch.arange(sum(sizes))
    return columns.flatten().to(device), mask.flatten().nonzero().flatten().to(device)


def _by_agent(x: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Joint rows (n, sum of sizes) -> padded rows of each agent (N, n, max size)."""
    return x.index_select(1, columns).view(-1, *shape).transpose(0, 1)


def _stack(layers: Sequence[nn.Linear], size_in: int | None = None, size_out: int | None = None) -> Layer:
    """Bias (N, 1, out) and weight (N, in, out) of agents' layers, padded with 0 to the sizes given."""
    size_in, size_out = size_in or layers[0].in_features, size_out or layers[0].out_features
    missing = [(size_in - layer.in_features, size_out - layer.out_features) for layer in layers]
    biases = [pad(layer.bias, (0, out)) for layer, (_, out) in zip(layers, missing, strict=True)]
    weights = [pad(layer.weight, (0, into, 0, out)) for layer, (into, out) in zip(layers, missing, strict=True)]
    return torch.stack(biases)[:, None], torch.stack(weights).transpose(1, 2)
