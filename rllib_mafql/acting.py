"""What acts in an env runner: all agents' policies in one call, or the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rllib_mafql.modules import FlowPolicy
from rllib_mafql.networks import VelocityField, slices_of
from rllib_mafql.stacked import StackedPolicies


class ActingPolicy:
    """Joint actions by the agents' policies, each on its own observation, or by the teacher where one is given.

    Args:
        policies: the agents' modules in joint order.
        teacher: acts on the joint observation in their place.
    """

    def __init__(self, policies: Sequence[FlowPolicy], teacher: FlowPolicy | None = None):
        self._policies = policies
        self._teacher = teacher
        # Other policies than flows are called one by one.
        self._one_by_one = any(policy.field_class is not VelocityField for policy in policies)
        self._action_slices = slices_of([policy.field.action_size for policy in policies])
        self._obs_slices = slices_of([len(policy.field.normalizer.mean) for policy in policies])
        self._stacked: StackedPolicies | None = None
        self._versions: list[int] = []

    def refresh(self) -> None:
        """Notices changes of the modules' weights; to be called before acting."""
        if self._teacher is not None or self._one_by_one:
            return
        # A tensor counts the changes made to it, whoever makes them.
        weights = [tensor for policy in self._policies for tensor in (*policy.parameters(), *policy.buffers())]
        versions = [tensor._version for tensor in weights]
        if self._stacked is None:
            self._stacked = StackedPolicies(self._policies)
        elif versions != self._versions:
            self._stacked.refresh()
        self._versions = versions

    @torch.no_grad()
    def act(self, obs: Tensor, z: Tensor) -> Tensor:
        """Joint actions (n, sum m_i) in [-1, 1] for joint observations (n, sum d_i) and noise (n, sum m_i)."""
        if self._teacher is not None:
            return self._teacher.act_on_average(obs, z)
        if self._one_by_one:
            parts = zip(self._policies, self._obs_slices, self._action_slices, strict=True)
            return torch.cat([policy.act_on_average(obs[:, own], z[:, act]) for policy, own, act in parts], -1)
        if self._stacked is None:
            raise RuntimeError("call refresh() before act()")
        return self._stacked.act(obs, z)
