"""The matrix products of the networks, by the faster of torch's two CPU libraries.

Where oneDNN is there, single precision products of many rows on a CPU go to it: torch's own choice, MKL, keeps to half
the vector width on processors that are not Intel's. Values differ by rounding alone. All else is torch's own:
other devices, few rows, torch.compile, and autocast, which sends lower precisions to oneDNN anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# Below it, oneDNN's cost per call is more than what it saves.
MIN_ROWS = 32

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

logger = logging.getLogger(__name__)


def wants_bfloat16(precision: str, device: torch.device, capabilities: Mapping[str, Any] | None = None) -> bool:
    """Whether products are to be of bfloat16 on a device.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a CPU that is known to have instructions for it. On
            a GPU networks of our widths are slower in it (docs/speed.md).
        device: that the products are on.
        capabilities: of the CPU; by default what torch says of this one.
    """
    if precision == "float32" or (precision == "auto" and device.type != "cpu"):
        return False
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        if capabilities is None:  # older torch does not tell
            capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    else:  # not known: as asked
        return True
    if precision == "bfloat16" and not fast:
        logger.warning(
            "precision is bfloat16, which this %s has no instructions for: slow; auto avoids it", device.type
        )
    return fast or precision == "bfloat16"


class Linear(nn.Linear):
    """torch's linear layer for inputs (..., in), see this module's docstring."""

    def forward(self, x: Tensor) -> Tensor:
        if not _onednn_pays(x):
            return linear(x, self.weight, self.bias)
        rows = x.reshape(-1, self.in_features)
        return _OneDNNLinear.apply(rows, self.weight, self.bias).view(*x.shape[:-1], self.out_features)


class EnsembleLinear(nn.Module):
    """E independent linear layers: (E, B, in) -> (E, B, out), as one batched product where that is the fastest."""

    def __init__(self, ensemble: int, size_in: int, size_out: int):
        super().__init__()
        bound = size_in**-0.5
        self.weight = nn.Parameter(torch.empty(ensemble, size_in, size_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(ensemble, 1, size_out))

    def forward(self, x: Tensor) -> Tensor:
        if not _onednn_pays(x):
            return torch.baddbmm(self.bias, x, self.weight)
        members = zip(x, self.weight, self.bias, strict=True)
        return torch.stack([_OneDNNLinear.apply(rows, weight.t(), bias[0]) for rows, weight, bias in members])


def _onednn_pays(x: Tensor) -> bool:
    return (
        _AVAILABLE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[-2] >= MIN_ROWS
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # it does not know the operator
    )


class _OneDNNLinear(torch.autograd.Function):
    """x (B, in), weight (out, in), bias (out,) or None -> (B, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = x.contiguous()  # products with slices of rows would take oneDNN's reference code, a thousand times slower
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if needs_x else None,
            _product(gradient.t(), x.t()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (B, in) times weight (out, in) transposed, and bias (out,)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
