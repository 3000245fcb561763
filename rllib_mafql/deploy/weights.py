"""The weights of a trained velocity field as plain arrays, for :mod:`rllib_mafql.deploy.graph`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from rllib_mafql.deploy.graph import FieldWeights, Layer
from rllib_mafql.networks import MAX_NORMALIZED, VelocityField


def field_weights(field: VelocityField) -> FieldWeights:
    """Copies the weights and the normalisers' statistics. Of a policy, `FlowPolicy.acting` is the field that acts."""
    encoder: Any = field.obs_encoder
    *hidden, out = [layer for layer in field.trunk if isinstance(layer, nn.Linear)]
    action_in = _array(field.action_in.weight)  # (h, m + 1), the last column for the time
    return FieldWeights(
        obs_mean=_array(field.normalizer.mean),
        obs_scale=_array(field.normalizer.scale),
        max_normalized=MAX_NORMALIZED,
        obs_encoder=_layer(encoder[0]),
        norm=_layer(encoder[1]),
        norm_epsilon=encoder[1].eps,
        obs_in=_layer(field.obs_in),
        action_in=action_in[:, :-1],
        time_in=action_in[:, -1],
        hidden=tuple(_layer(layer) for layer in hidden),
        out=_layer(out),
        action_mean=_array(field.action_normalizer.mean),
        action_scale=_array(field.action_normalizer.scale),
    )


def _layer(layer: Any) -> Layer:
    return _array(layer.weight), _array(layer.bias)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy().copy()
