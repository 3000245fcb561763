"""Adam steps on clipped gradients without a look at them by Python. Plain torch: imports no Ray."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def fused_adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """Adam that updates all parameters in one pass of one kernel."""
    return torch.optim.Adam(parameters, fused=True)


@torch.no_grad()
def step_clipped(optimizer: torch.optim.Optimizer, max_norm: float | None) -> tuple[Tensor, Tensor] | None:
    """Steps a fused optimizer on gradients clipped to a norm of `max_norm`, unless their norm is not finite.

    The kernel itself clips and skips, so that no pass over the gradients and no wait for a GPU is needed.

    Returns:
        Norm before clipping (0 if not finite), and 1 if the step was skipped, else 0. None if there are no gradients.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return None
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    finite = norm.isfinite()
    skipped = (~finite).to(norm.dtype)
    # The hooks of torch.amp.GradScaler: gradients are divided by the one, and with the other at 1 nothing is done.
    optimizer.grad_scale = None if max_norm is None else ((norm + 1e-6) / max_norm).clamp_min(1.0)  # type: ignore[attr-defined]
    optimizer.found_inf = skipped  # type: ignore[attr-defined]
    optimizer.step()
    return norm.where(finite, 0.0), skipped


class MovingAverage:
    """Parameters that follow others: each step takes them the share tau of the way."""

    def __init__(self, followers: Iterable[nn.Module], followed: Iterable[nn.Module], tau: float):
        self._followers: list[Tensor] = [p for module in followers for p in module.parameters()]
        self._followed: list[Tensor] = [p for module in followed for p in module.parameters()]
        self._tau = tau

    @torch.no_grad()
    def step(self) -> None:
        """Moves all of them, in one call."""
        torch._foreach_lerp_(self._followers, self._followed, self._tau)
