"""Runs an exported policy on one CPU thread. Imports NumPy and ONNX Runtime only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort


class Session:
    """An exported policy, called with one observation at a time.

    Calls write to buffers that the session keeps: every thread needs a session of its own.

    Args:
        model: an ONNX file, or its content.

    Attributes:
        obs_size: d, size of the observation.
        action_size: m, size of the action.
        metadata: what the exporter wrote into the model, name -> text.
    """

    def __init__(self, model: str | Path | bytes):
        self._model = model if isinstance(model, bytes) else Path(model).read_bytes()
        self._session = ort.InferenceSession(self._model, _options(), providers=["CPUExecutionProvider"])
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        # Inputs and output are bound once: what is in these arrays when the session runs is read and overwritten.
        # ONNX Runtime does not own their memory, so they must live as long as the binding.
        self._binding = self._session.io_binding()
        self._inputs = {}
        for value in self._session.get_inputs():
            array = np.zeros(value.shape, np.float32)
            self._binding.bind_ortvalue_input(value.name, ort.OrtValue.ortvalue_from_numpy(array))
            self._inputs[value.name] = array[0]
        (value,) = self._session.get_outputs()
        array = np.zeros(value.shape, np.float32)
        self._binding.bind_ortvalue_output(value.name, ort.OrtValue.ortvalue_from_numpy(array))
        self._obs, self._noise, self._action = self._inputs["obs"], self._inputs.get("noise"), array[0]
        self.obs_size, self.action_size = len(self._obs), len(self._action)

    def __reduce__(self) -> tuple[type[Session], tuple[bytes]]:
        return Session, (self._model,)  # a copy or what is unpickled has buffers of its own

    def __call__(self, obs: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """The action (m,) for an observation (d,), from noise (m,) or, without it, from zeros: deterministic."""
        _fill(self._obs, obs, "observation")
        if self._noise is not None:
            if noise is None:
                self._noise.fill(0.0)
            else:
                _fill(self._noise, noise, "noise")
        elif noise is not None:
            raise ValueError("this policy takes no noise")
        self._session.run_with_iobinding(self._binding)
        return self._action.copy()


def _options() -> ort.SessionOptions:
    """One thread, which is the caller's: nothing waits for another."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _fill(buffer: np.ndarray, values: np.ndarray, what: str) -> None:
    # copying alone would repeat an array of one number
    if values.shape != buffer.shape:
        raise ValueError(f"{what}: expected shape {buffer.shape}, got {values.shape}")
    buffer[:] = values
