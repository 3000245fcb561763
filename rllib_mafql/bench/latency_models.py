"""Policies that the flow's latency is compared with, as ONNX models of the same weights and the same nodes.

A Gaussian policy needs one pass of the network, a diffusion policy one for each of its denoising steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from rllib_mafql.deploy.graph import NOISE, OBS, FieldWeights, Graph, embed, first_layer, trunk, unstandardise

#: Denoising steps that diffusion policies commonly take.
DIFFUSION_STEPS = 20


def gaussian_model(weights: FieldWeights) -> onnx.ModelProto:
    """The mean of a Gaussian policy, through tanh: the flow's encoder and layers, but for the point and the time.

    Input "obs" (1, d), output "action" (1, m).
    """
    graph = Graph()
    weight, bias = weights.out
    x = trunk(graph, weights, embed(graph, weights))
    graph.node("Tanh", graph.linear(x, weight, graph.constant(bias)))
    return graph.model({OBS: len(weights.obs_mean)}, len(bias))


def diffusion_model(weights: FieldWeights, steps: int = DIFFUSION_STEPS) -> onnx.ModelProto:
    """Actions in [-1, 1] by denoising steps whose noise the flow's network predicts (DDIM, arXiv 2010.02502).

    Inputs "obs" (1, d) and "noise" (1, m), output "action" (1, m).
    """
    graph = Graph()
    embedding = embed(graph, weights)
    weight, bias = weights.out
    point, left_out = NOISE, np.zeros(len(bias))
    for time, kept, added in ddim(steps):
        x = first_layer(graph, weights, embedding, point, left_out, time)
        point = graph.linear(trunk(graph, weights, x), weight, point, alpha=added, beta=kept)
        left_out = kept * left_out + added * bias
    unstandardise(graph, weights, point, left_out)
    return graph.model({OBS: len(weights.obs_mean), NOISE: len(bias)}, len(bias))


def ddim(steps: int) -> Iterator[tuple[float, float, float]]:
    """Of each denoising step, the noisiest first: its time in (0, 1] and what it makes of the point and of its noise.

    A step takes the point x with predicted noise e to kept * x + added * e. The share of the signal follows a cosine
    (arXiv 2102.09672).
    """
    times = np.arange(steps + 1) / steps
    cosine = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    signal = np.cumprod([1.0, *np.maximum(cosine[1:] / cosine[:-1], 0.001)])  # without the bound, none at the end
    for k in range(steps, 0, -1):
        kept = np.sqrt(signal[k - 1] / signal[k])
        yield float(times[k]), float(kept), float(np.sqrt(1 - signal[k - 1]) - kept * np.sqrt(1 - signal[k]))
