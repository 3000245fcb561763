"""The RLModules: a policy per agent (all that env runners receive), and the critic and the teacher (learner only).

Letters as in losses.py; d_i and m_i are the sizes of agent i's observation and action.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from rllib_mafql.networks import CriticEnsemble, VelocityField

CRITIC = "critic"
TEACHER = "teacher"


class FlowPolicy(TorchRLModule):
    """Actions by integrating a velocity field from Gaussian noise under an observation.

    As an agent's student it maps (o_i, z_i) to a_i; as the teacher it maps the joint (o, z) to the joint action.
    `forward_inference` starts from z = 0 and is deterministic, `forward_exploration` draws z. Both take
    {"obs": (B, d)} and return {"actions": (B, m)} in [-1, 1].

    What acts is a moving average of the trained weights (`average`), since single updates move the policy about more
    than they improve it. Modules that only act (`inference_only`) hold the average alone, as their `field`.

    model_config: hidden, layers, flow_steps.
    """

    #: The networks of which `field` and `average` are.
    field_class: type[VelocityField] = VelocityField

    model_config: Any
    observation_space: Any
    action_space: Any

    def setup(self) -> None:
        self.flow_steps = int(self.model_config["flow_steps"])
        self.field = self.field_class(
            self.observation_space.shape[0],
            self.action_space.shape[0],
            hidden=self.model_config["hidden"],
            layers=self.model_config["layers"],
        )
        self.average: Any = None
        if not self.inference_only:
            self.average = copy.deepcopy(self.field).requires_grad_(False)

    @property
    def acting(self) -> VelocityField:
        """The weights that act: the average, or in modules that only act, the one field."""
        return self.field if self.average is None else self.average

    def act(self, o: Tensor, z: Tensor) -> Tensor:
        """Actions (B, m) of the trained weights for observations (B, d) and noise (B, m), differentiable."""
        return self.field.integrate(o, z, self.flow_steps)

    def act_on_average(self, o: Tensor, z: Tensor) -> Tensor:
        """Actions (B, m) of the averaged weights."""
        return self.acting.integrate(o, z, self.flow_steps)

    def get_state(self, *args: Any, inference_only: bool = False, **kwargs: Any) -> dict[str, Any]:
        """All weights, or with `inference_only` the average, in the place where modules that only act have it."""
        state = super().get_state(*args, inference_only=False, **kwargs)
        if not inference_only or self.average is None:
            return state
        return {f"field.{name.removeprefix('average.')}": v for name, v in state.items() if name.startswith("average.")}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        o = batch[Columns.OBS]
        with torch.no_grad():
            return {Columns.ACTIONS: self.act_on_average(o, o.new_zeros(len(o), self.field.action_size))}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        o = batch[Columns.OBS]
        with torch.no_grad():
            z = torch.randn(len(o), self.field.action_size, device=o.device)
            return {Columns.ACTIONS: self.act_on_average(o, z)}


class JointCritic(TorchRLModule):
    """The centralised critics and their target networks.

    model_config: hidden, layers, ensemble, `bounds` of values or None, and `agents`, a list of [agent id, d_i, m_i] in
    joint order.
    """

    model_config: Any
    observation_space: Any
    action_space: Any

    def setup(self) -> None:
        self.q = CriticEnsemble(
            self.observation_space.shape[0],
            self.action_space.shape[0],
            hidden=self.model_config["hidden"],
            layers=self.model_config["layers"],
            ensemble=self.model_config["ensemble"],
            bounds=self.model_config.get("bounds"),
        )
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"obs": (B, sum d_i), "actions": (B, sum m_i)} -> {"q": (E, B)}."""
        return {"q": self.q(self.q.encode(batch[Columns.OBS]), batch[Columns.ACTIONS])}
