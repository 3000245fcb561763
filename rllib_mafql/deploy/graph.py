"""ONNX models of velocity fields, built from plain weights: importing this module does not import torch.

Models act on one observation at a time. What does not depend on the observation is computed when the model is built, so
that a flow step comes to three products, two activations (with two hidden layers) and one sum.

Letters: d observation size, m action size, h hidden size, L hidden layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Weight (out, in) and bias (out,), as torch has them; of a layer norm, weight and bias (h,).
Layer = tuple[np.ndarray, np.ndarray]

#: Names of the models' inputs and output: (1, d), (1, m) and (1, m).
OBS, NOISE, ACTION = "obs", "noise", "action"

# Gelu is an operator of its own since opset 20, and every ONNX Runtime that is supported reads this format.
OPSET, IR_VERSION = 20, 9


class FieldWeights(NamedTuple):
    """What a :class:`rllib_mafql.networks.VelocityField` consists of, as float32 arrays."""

    obs_mean: np.ndarray  # (d,)
    obs_scale: np.ndarray  # (d,)
    max_normalized: float  # standardised observations are clipped here
    obs_encoder: Layer  # (h, d)
    norm: Layer
    norm_epsilon: float
    obs_in: Layer  # (h, h)
    action_in: np.ndarray  # (h, m)
    time_in: np.ndarray  # (h,)
    hidden: tuple[Layer, ...]  # L - 1 of (h, h)
    out: Layer  # (m, h)
    action_mean: np.ndarray  # (m,)
    action_scale: np.ndarray  # (m,)


class Graph:
    """A model under construction: nodes are added in the order in which they run. Equal constants are stored once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], onnx.TensorProto] = {}

    def constant(self, values: Any) -> str:
        """The name of an array of single precision."""
        array = np.ascontiguousarray(values, np.float32).reshape(np.shape(values))
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Applies an operator; returns the name of its result."""
        result = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [result], name=result, **attributes))
        return result

    def linear(self, x: str, weight: np.ndarray, added: str, **attributes: Any) -> str:
        """x (1, in) times weight (out, in) transposed, plus what is called `added`, as one fused node."""
        # ONNX Runtime is a little faster with weights that are transposed already.
        return self.node("Gemm", x, self.constant(weight.T), added, **attributes)

    def clip(self, x: str, bound: float) -> str:
        """x within [-bound, bound]; what is not a number stays so."""
        return self.node("Clip", x, self.constant(-bound), self.constant(bound))

    def model(self, inputs: dict[str, int], size: int) -> onnx.ModelProto:
        """The model from inputs (name -> size) to the last node's result, an action of the size given."""
        self._nodes[-1].output[0] = ACTION
        graph = helper.make_graph(
            self._nodes,
            "policy",
            [_value(name, size) for name, size in inputs.items()],
            [_value(ACTION, size)],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rllib_mafql")


def flow_model(weights: FieldWeights, steps: int) -> onnx.ModelProto:
    """Actions in [-1, 1] by `steps` Euler steps from noise under an observation, as of `VelocityField.integrate`.

    Inputs "obs" (1, d) and "noise" (1, m), output "action" (1, m).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    graph = Graph()
    embedding = embed(graph, weights)
    weight, bias = (x.astype(np.float64) / steps for x in weights.out)
    # Every step moves the point by the output's bias, wherever it is: that much is left out of it and folded into what
    # follows.
    point, left_out = NOISE, np.zeros_like(bias)
    for k in range(steps):
        x = first_layer(graph, weights, embedding, point, left_out, k / steps)
        point = graph.linear(trunk(graph, weights, x), weight, point)
        left_out = left_out + bias
    unstandardise(graph, weights, point, left_out)
    return graph.model({OBS: len(weights.obs_mean), NOISE: len(bias)}, len(bias))


def embed(graph: Graph, weights: FieldWeights) -> str:
    """The embedding (1, h) of the observation."""
    centred = graph.node("Sub", OBS, graph.constant(weights.obs_mean))
    x = graph.clip(graph.node("Div", centred, graph.constant(weights.obs_scale)), weights.max_normalized)
    weight, bias = weights.obs_encoder
    x = graph.linear(x, weight, graph.constant(bias))
    scale, shift = (graph.constant(values) for values in weights.norm)
    x = graph.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=weights.norm_epsilon)
    weight, bias = weights.obs_in
    return graph.linear(graph.node("Gelu", x), weight, graph.constant(bias))


def first_layer(
    graph: Graph, weights: FieldWeights, embedding: str, point: str, left_out: np.ndarray, time: float
) -> str:
    """The first layer (1, h), before its activation, at the time and at the point (1, m) plus `left_out` (m,)."""
    known = time * weights.time_in.astype(np.float64) + weights.action_in.astype(np.float64) @ left_out
    if known.any():
        embedding = graph.node("Add", embedding, graph.constant(known))
    return graph.linear(point, weights.action_in, embedding)


def trunk(graph: Graph, weights: FieldWeights, x: str) -> str:
    """What the output layer reads (1, h), from the first layer's output (1, h)."""
    x = graph.node("Gelu", x)
    for weight, bias in weights.hidden:
        x = graph.node("Gelu", graph.linear(x, weight, graph.constant(bias)))
    return x


def unstandardise(graph: Graph, weights: FieldWeights, point: str, left_out: np.ndarray) -> None:
    """Ends in the action (1, m) in [-1, 1] at the standardised point (1, m) plus `left_out` (m,)."""
    scaled = graph.node("Mul", point, graph.constant(weights.action_scale))
    shift = weights.action_mean + weights.action_scale.astype(np.float64) * left_out
    graph.clip(graph.node("Add", scaled, graph.constant(shift)), 1.0)


def _value(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
