"""The objectives of MAFQL as pure functions of tensors. Plain torch: importing this module does not import Ray.

Letters: B batch, E critics, S sampled actions, m the joint action's size. o observation, a recorded action, z Gaussian
noise of the action's shape, t flow time in [0, 1], v velocity field, mu the students' actions, Q critics, y regression
target of Q.

|x|^2 is the mean square over the action's components, so that coefficients keep their meaning with more units.
Sources: flow matching (arXiv 2210.02747), FQL (2502.02538), CQL (2006.04779), CFCQL (2309.12696).
"""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(a: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) z + t a: the point at time t (B, 1) on the straight path from noise z (B, m) to action a (B, m)."""
    return (1 - t) * z + t * a


def flow_matching_loss(v: Tensor, a: Tensor, z: Tensor, weight: Tensor | None = None) -> Tensor:
    """E |v(o, x_t, t) - (a - z)|^2: the teacher's velocities v (B, m) against those of the straight paths.

    weight: optional weight (B,) of each transition.
    """
    return _mean_square(v - (a - z), weight)


def distillation_loss(mu: Tensor, teacher: Tensor) -> Tensor:
    """E |mu(o_i, z_i) - teacher(o, z)_i|^2 over all agents (B, m), same noise, no gradient to the teacher."""
    return _mean_square(mu - teacher.detach(), None)


def behavior_cloning_loss(mu: Tensor, a: Tensor, weight: Tensor | None = None) -> Tensor:
    """E |mu(o_i, z_i) - a_i|^2 over all agents (B, m).

    weight: optional weight (B,) of each transition, see :func:`advantage_weights`.
    """
    return _mean_square(mu - a, weight)


def advantage_weights(returns: Tensor, q_policy: Tensor, temperature: float, largest: float = 10.0) -> Tensor:
    """exp((G - Q(o, mu)) / (temperature * mean|G|)) (B,), at most `largest` and with mean 1 over the batch.

    What came of an action tells more than how Q varies with it: a grid that was lost an hour later was lost by then.

    returns: G (B,), discounted returns of the recorded play. q_policy: values (B,) of the students' actions.
    """
    advantage = (returns - q_policy) / (temperature * returns.abs().mean().clamp_min(1e-6))
    weight = advantage.clamp(max=torch.log(torch.tensor(largest)).item()).exp().detach()
    return weight / weight.mean().clamp_min(1e-6)


def td_target(reward: Tensor, discount: Tensor, q_next: Tensor, bounds: tuple[float, float] | None = None) -> Tensor:
    """y = r + discount * min_e Q'_e(o', mu(o')) (B,), without gradient.

    reward: (n-step) reward (B,). discount: gamma^n, or 0 where the episode terminated (B,). q_next: values of the
    target critics (E, B).
    bounds: the least and the greatest possible return, if known; y is clipped to them.
    """
    y = reward + discount * q_next.min(0).values
    return (y if bounds is None else y.clamp(*bounds)).detach()


def td_loss(q: Tensor, y: Tensor) -> Tensor:
    """E (Q_e(o, a) - y)^2, mean over critics and batch. q: (E, B), y: (B,)."""
    return (q - y).square().mean()


def conservative_loss(q_sampled: Tensor, q_data: Tensor) -> Tensor:
    """E [logsumexp_s Q(o, a_s) - Q(o, a)]: pushes sampled actions down and recorded ones up.

    q_sampled: (E, S, B). q_data: (E, B).
    """
    return (q_sampled.logsumexp(1) - q_data).mean()


def counterfactual_actions(a: Tensor, sampled: Tensor, agent: Tensor, slices: list[slice]) -> Tensor:
    """Joint actions (S, B, m) in which one agent departs from the data: sampled where the component is its own.

    a: recorded joint actions (B, m). sampled: (S, B, m). agent: index of the agent that departs (B,). slices: each
    agent's components of the joint action. With the agent drawn uniformly, :func:`conservative_loss` is an unbiased
    estimate of its mean over all agents.
    """
    owner = torch.cat([torch.full((own.stop - own.start,), i, device=a.device) for i, own in enumerate(slices)])
    return torch.where(owner == agent[:, None], sampled, a)


def q_loss(q: Tensor) -> Tensor:
    """- lambda E Q(o, mu(o, z)) with lambda = 1 / mean|Q|, which makes it free of the reward's scale. q: (B,)."""
    return -q.mean() / q.abs().mean().clamp_min(1e-6).detach()


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of values (B,), weighted by (B,) if weights are given."""
    return values.mean() if weight is None else (weight * values).mean()


def _mean_square(x: Tensor, weight: Tensor | None) -> Tensor:
    return weighted_mean(x.square().mean(-1), weight)
