"""What one decision of one agent costs, call by call: the flow in ONNX Runtime beside other policies and runtimes."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from rllib_mafql.bench.latency_models import DIFFUSION_STEPS, diffusion_model, gaussian_model
from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.session import Session
from rllib_mafql.deploy.weights import field_weights
from rllib_mafql.networks import VelocityField

#: Euler steps that are measured: all that a policy may have.
FLOW_STEPS = (1, 2, 3, 4, 5)

#: Percentiles that are reported, in percent.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "max": 100.0}

# An observation (d,) -> an action (m,).
Policy = Callable[[np.ndarray], np.ndarray]


def distribution(milliseconds: np.ndarray) -> dict[str, float]:
    """Percentiles of durations (n,)."""
    return dict(zip(PERCENTILES, np.percentile(milliseconds, list(PERCENTILES.values())).tolist(), strict=True))


def measure(call: Callable[..., Any], warm_up: int, decisions: int, inputs: Iterable[Any] | None = None) -> np.ndarray:
    """Milliseconds (decisions,) that each call took, after `warm_up` calls that are not measured.

    Args:
        call: called with one of the inputs, or with nothing if there are none.
        warm_up: calls before.
        decisions: calls that are measured.
        inputs: taken in turn, over and over.
    """
    arguments: list[tuple[Any, ...]] = [()] if inputs is None else [(value,) for value in inputs]
    nanoseconds = np.empty(decisions, np.int64)
    for k in range(warm_up):
        call(*arguments[k % len(arguments)])
    with _without_garbage_collection():
        for k in range(decisions):
            chosen = arguments[(warm_up + k) % len(arguments)]
            before = time.perf_counter_ns()
            call(*chosen)
            nanoseconds[k] = time.perf_counter_ns() - before
    return nanoseconds / 1e6


@contextlib.contextmanager
def on_one_core() -> Iterator[int]:
    """Keeps this thread, and those that it starts, on one core; yields which."""
    before = os.sched_getaffinity(0)
    core = max(before)  # interrupts tend to come to the first
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def contenders(field: VelocityField, device: str = "cpu") -> dict[str, Policy]:
    """The policies that are compared, each from noise 0.

    onnx_flow_K: K steps in ONNX Runtime, as deployed. onnx_gaussian and onnx_diffusion_20: a Gaussian and a diffusion
    policy of the same layers there. torch_flow_K: as torch runs it. cuda_flow_K, with device "cuda": as a CUDA graph.
    """
    weights = field_weights(field)
    models = {f"flow_{steps}": flow_model(weights, steps) for steps in FLOW_STEPS}
    models |= {"gaussian": gaussian_model(weights), f"diffusion_{DIFFUSION_STEPS}": diffusion_model(weights)}
    policies: dict[str, Policy] = {f"onnx_{name}": Session(model.SerializeToString()) for name, model in models.items()}
    policies |= {f"torch_flow_{steps}": torch_policy(field, steps) for steps in FLOW_STEPS}
    if device == "cuda":
        policies |= {f"cuda_flow_{steps}": CudaGraphPolicy(field, steps) for steps in FLOW_STEPS}
    return policies


def torch_policy(field: VelocityField, steps: int) -> Policy:
    """The flow on the CPU as torch runs it, operator by operator."""
    noise = torch.zeros(1, field.action_size)

    @torch.no_grad()
    def act(obs: np.ndarray) -> np.ndarray:
        return field.integrate(torch.from_numpy(obs)[None], noise, steps)[0].numpy()

    return act


class CudaGraphPolicy:
    """The flow on a GPU, where one launch replays all its operators, recorded beforehand as a CUDA graph.

    A call includes the copies of the observation to the GPU and of the action back.
    """

    def __init__(self, field: VelocityField, steps: int):
        if not torch.cuda.is_available():
            raise RuntimeError("device 'cuda': torch finds no GPU that it can use")
        self._field = copy.deepcopy(field).requires_grad_(False).to("cuda")
        self._steps = steps
        obs_size = len(field.normalizer.mean)
        # pinned: the GPU reads and writes these itself
        self._host_obs = torch.zeros(1, obs_size, pin_memory=True)
        self._host_action = torch.zeros(1, field.action_size, pin_memory=True)
        self._obs = torch.zeros(1, obs_size, device="cuda")
        self._noise = torch.zeros(1, field.action_size, device="cuda")
        # libraries set themselves up in their first calls, which cannot be recorded
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._integrate()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._action = self._integrate()

    def _integrate(self) -> torch.Tensor:
        with torch.no_grad():
            return self._field.integrate(self._obs, self._noise, self._steps)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The action (m,) for an observation (d,)."""
        self._host_obs[0].copy_(torch.from_numpy(obs))
        self._obs.copy_(self._host_obs, non_blocking=True)
        self._graph.replay()
        self._host_action.copy_(self._action, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return self._host_action[0].numpy().copy()


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
