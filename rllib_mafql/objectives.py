"""All objectives for one joint batch, with each part of the networks computed once. Plain torch: imports no Ray.

Shapes: B batch, d and m the sizes of the joint observation and action, S random actions, h hidden size.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rllib_mafql import losses
from rllib_mafql.networks import MAX_NORMALIZED, CriticEnsemble, VelocityField, slices_of
from rllib_mafql.replay import ADVICE
from rllib_mafql.stacked import StackedFields

# Every one of them is a number or a schedule [[update, value], ...], and switches its term off at 0.
COEFFICIENTS = (
    "flow_matching_coeff",
    "distillation_coeff",
    "bc_coeff",
    "td_coeff",
    "conservative_coeff",
    "q_coeff",
)


class Noise(NamedTuple):
    """All that is random in the objectives for one batch."""

    z: Tensor  # (B, m) where the students and the teacher start
    next_z: Tensor  # (B, m) where the students start after the step
    flow_z: Tensor  # (B, m) noise of flow matching
    flow_t: Tensor  # (B, 1) time of flow matching
    actions: Tensor  # (S, B, m) random actions
    agent: Tensor  # (B,) the agent that departs from the data
    obs: Tensor | None  # (2, B, d) noise on observations and next observations


class Objectives:
    """The terms of :mod:`rllib_mafql.losses` for a joint batch, unweighted.

    Networks hold their normalisers' statistics for themselves, but all of the same data: standardised observations
    are those of the critics' normaliser for all of them.

    Args:
        q, target_q: the critics, and their target networks.
        teacher: the field over the joint action.
        students: the agents' fields in joint order.
        config: a MAFQLConfig, or what has its attributes.
        stacked: the students as one stack of batched products, for devices where launches cost more than padding.
    """

    def __init__(
        self,
        q: CriticEnsemble,
        target_q: CriticEnsemble,
        teacher: VelocityField,
        students: Sequence[VelocityField],
        config: Any,
        stacked: bool = False,
    ):
        self.q = q
        self.target_q = target_q
        self.teacher = teacher
        self.students = students
        self.config = config
        self.stack = StackedFields(students, config.flow_steps) if stacked else None
        self.action_slices = slices_of([student.action_size for student in students])
        self.obs_slices = slices_of([len(student.normalizer.mean) for student in students])
        self._judge = _without_gradients(q)

    def draw(self, b: dict[str, Tensor]) -> Noise:
        """Noise for a batch."""
        o, a = b["obs"], b["actions"]
        z, next_z, flow_z = torch.randn(3, *a.shape, device=a.device)
        return Noise(
            # Part of the rows start from z = 0, where the policies start when they do not explore: of so many
            # dimensions, noise never comes near it.
            z=z * (torch.rand_like(a[:, :1]) >= self.config.zero_noise_fraction),
            next_z=next_z,
            flow_z=flow_z,
            flow_t=torch.rand_like(a[:, :1]),
            actions=a.new_empty(self.config.num_random_actions, *a.shape).uniform_(-1, 1),
            agent=torch.randint(len(self.students), (len(a),), device=a.device),
            obs=torch.randn(2, *o.shape, device=o.device) if self.config.obs_noise else None,
        )

    def terms(self, b: dict[str, Tensor], noise: Noise, active: frozenset[str]) -> dict[str, Tensor]:
        """Name -> scalar of every loss whose coefficient is in `active`, and of what else is logged, without gradient.

        b: obs (B, d), actions (B, m), rewards (B,), discounts (B,), next_obs (B, d), behavior (B,) and returns (B,),
        see :mod:`rllib_mafql.replay`; and advice (B, m) where the actions to clone are not those taken.
        """
        cloned = b.get(ADVICE, b["actions"])
        result: dict[str, Tensor] = {}
        o = self.standardise(b["obs"], None if noise.obs is None else noise.obs[0])
        weights = None if self.stack is None else self.stack.weights()
        learns_q = bool({"td_coeff", "conservative_coeff"} & active)
        uses_q = learns_q or "q_coeff" in active

        with nullcontext() if {"distillation_coeff", "bc_coeff", "q_coeff"} & active else torch.no_grad():
            mu = self._mu(o, noise.z, weights)
        teacher = teacher_embedding = None
        if {"flow_matching_coeff", "distillation_coeff", "conservative_coeff"} & active:
            with nullcontext() if "flow_matching_coeff" in active else torch.no_grad():
                teacher_embedding = self.teacher.encode_standardised(o)
        if teacher_embedding is not None and {"distillation_coeff", "conservative_coeff"} & active:
            with torch.no_grad():
                teacher = self.teacher.flow(teacher_embedding, noise.z, self.config.teacher_flow_steps)

        embedding = advantage = None
        if uses_q:
            with nullcontext() if learns_q else torch.no_grad():
                embedding = self.q.encode_standardised(o)
        if embedding is not None and learns_q:
            result |= self._critic_terms(b, noise, active, embedding, mu.detach(), teacher, weights)
        if embedding is not None and self.config.advantage_temperature is not None:
            with torch.no_grad():
                q_policy = self.q(embedding, mu).mean(0)
                advantage = losses.advantage_weights(b["returns"], q_policy, self.config.advantage_temperature)
        weight = self._cloning_weight(b["behavior"], advantage)
        if "flow_matching_coeff" in active:
            x = self.teacher.action_normalizer(cloned)
            v = self.teacher(teacher_embedding, losses.interpolate(x, noise.flow_z, noise.flow_t), noise.flow_t)
            # Errors in the unit of cloning and distillation: components that hardly move count for little.
            unit = self.teacher.action_normalizer.scale / self._action_scale
            result["flow_matching_loss"] = losses.flow_matching_loss(v * unit, x * unit, noise.flow_z * unit, weight)
        if embedding is not None and "q_coeff" in active:
            result["q_loss"] = losses.q_loss(self._judge(embedding.detach(), mu).mean(0))
        if "bc_coeff" in active:
            result |= self._bc_terms(o, cloned, mu, noise, weight)
        if "distillation_coeff" in active and teacher is not None:
            result |= self._distillation_terms(mu, teacher)
        return result

    def weigh(self, terms: dict[str, Tensor], c: dict[str, float]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The losses of the critics, of the teacher and of each student, by the coefficients c."""
        return weighed(
            terms, c, [student.action_size for student in self.students], self.q.normalizer.mean.new_zeros(())
        )

    def standardise(self, o: Tensor, noise: Tensor | None) -> Tensor:
        """Observations (B, d), standardised, and with noise: wide networks learn few days by heart otherwise."""
        normalizer = self.q.normalizer
        x = (o - normalizer.mean).div_(normalizer.scale)
        if noise is not None:
            x.add_(noise, alpha=self.config.obs_noise)
        return x.clamp_(-MAX_NORMALIZED, MAX_NORMALIZED)

    def _mu(self, o: Tensor, z: Tensor, weights: Any) -> Tensor:
        """mu(o, z) (B, m): every student on its own part of standardised observation and noise."""
        if self.stack is not None:
            return self.stack.flow(weights, o, z)
        parts = zip(self.students, self.obs_slices, self.action_slices, strict=True)
        steps = self.config.flow_steps
        return torch.cat([s.flow(s.encode_standardised(o[:, own]), z[:, act], steps) for s, own, act in parts], -1)

    def _critic_terms(
        self,
        b: dict[str, Tensor],
        noise: Noise,
        active: frozenset[str],
        embedding: Tensor,
        mu: Tensor,
        teacher: Tensor | None,
        weights: Any,
    ) -> dict[str, Tensor]:
        """TD error and conservatism, recorded and sampled actions judged in one call."""
        a, result = b["actions"], {}
        actions = a[None]
        if "conservative_coeff" in active:
            proposals = torch.cat([noise.actions, mu[None], *([] if teacher is None else [teacher[None]])])
            if self.config.conservatism == "counterfactual":
                proposals = losses.counterfactual_actions(a, proposals, noise.agent, self.action_slices)
            actions = torch.cat([actions, proposals])
        q, q_sampled = self.q(embedding, actions).tensor_split([1], 1)
        q = q[:, 0]
        result["q_mean"] = q.detach().mean()
        if "td_coeff" in active:
            with torch.no_grad():
                next_o = self.standardise(b["next_obs"], None if noise.obs is None else noise.obs[1])
                next_mu = self._mu(next_o, noise.next_z, weights)
                q_next = self.target_q(self.target_q.encode_standardised(next_o), next_mu)
            y = losses.td_target(b["rewards"], b["discounts"], q_next, self.config.return_bounds)
            result |= {"td_loss": losses.td_loss(q, y), "td_target_mean": y.mean()}
        if "conservative_coeff" in active:
            if self.config.calibrated:
                # Random actions come first; those of the policies count as no worse than what was seen.
                random, policies = q_sampled.tensor_split([len(noise.actions)], 1)
                q_sampled = torch.cat([random, policies.maximum(b["returns"])], 1)
            result["conservative_loss"] = losses.conservative_loss(q_sampled, q)
        return result

    def _cloning_weight(self, behavior: Tensor, advantage: Tensor | None) -> Tensor:
        """Weights (B,) of the cloning objectives: the behaviour policies' actions count in full, others by config."""
        own = self.config.own_cloning_weight
        weight = behavior + own * (1.0 - behavior)
        if advantage is not None:
            weight = weight * advantage
        return weight / weight.mean().clamp_min(1e-6)

    def _bc_terms(self, o: Tensor, a: Tensor, mu: Tensor, noise: Noise, weight: Tensor) -> dict[str, Tensor]:
        """Each student's distance to recorded actions, as bc_loss/{index of the agent}."""
        a, mu = a / self._action_scale, mu / self._action_scale
        slices = enumerate(self.action_slices)
        return {f"bc_loss/{i}": losses.behavior_cloning_loss(mu[:, own], a[:, own], weight) for i, own in slices}

    def _distillation_terms(self, mu: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Each student's distance to the teacher's actions, as distillation_loss/{index of the agent}."""
        mu, teacher = mu / self._action_scale, teacher / self._action_scale
        slices = enumerate(self.action_slices)
        return {f"distillation_loss/{i}": losses.distillation_loss(mu[:, own], teacher[:, own]) for i, own in slices}

    @property
    def _action_scale(self) -> Tensor:
        """One scale for all components: those that the data move more count for more."""
        return self.teacher.action_normalizer.scale.square().mean().sqrt()


def weighed(
    terms: dict[str, Tensor], c: dict[str, float], sizes: Sequence[int], zero: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The losses of the critics, of the teacher and of each student.

    Args:
        terms: of `Objectives.terms`, for students with actions of these sizes.
        c: coefficient of each of COEFFICIENTS.
        sizes: m_i.
        zero: of a term that is missing.
    """
    t = defaultdict(lambda: zero, terms)
    critic = c["td_coeff"] * t["td_loss"] + c["conservative_coeff"] * t["conservative_loss"]
    teacher = c["flow_matching_coeff"] * t["flow_matching_loss"]
    students = [
        c["q_coeff"] / len(sizes) * t["q_loss"]
        + c["bc_coeff"] * size / sum(sizes) * t[f"bc_loss/{i}"]
        + c["distillation_coeff"] * size / sum(sizes) * t[f"distillation_loss/{i}"]
        for i, size in enumerate(sizes)
    ]
    return critic, teacher, students


def _without_gradients(q: CriticEnsemble) -> CriticEnsemble:
    """The same weights, in the same memory, through which gradients pass to actions only."""
    judge = copy.deepcopy(q)
    originals = [*q.parameters(), *q.buffers()]
    for shared, original in zip([*judge.parameters(), *judge.buffers()], originals, strict=True):
        shared.data = original.data
    return judge.requires_grad_(False)
