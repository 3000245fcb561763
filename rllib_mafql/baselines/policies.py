"""MAFQL with another policy in place of the flow: a Gaussian (multi-agent CQL) and a diffusion.

Critic, conservatism, data, schedules and the networks' layers are MAFQL's. A policy is fitted to recorded actions by
its own likelihood (`bc_coeff`); there is no teacher to distil, so flow matching and distillation are off.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor

from rllib_mafql.algorithm import MAFQL
from rllib_mafql.baselines.fields import DENOISING_STEPS, MAX_DENOISING_STEPS, DiffusionField, GaussianField
from rllib_mafql.config import MAFQLConfig
from rllib_mafql.learner import MAFQLLearner
from rllib_mafql.modules import FlowPolicy
from rllib_mafql.objectives import Noise, Objectives


class GaussianPolicy(FlowPolicy):
    """An agent's Gaussian policy; `flow_steps` has no meaning."""

    field_class = GaussianField


class DiffusionPolicy(FlowPolicy):
    """An agent's diffusion policy of `denoising_steps`, another key of model_config; `flow_steps` has no meaning."""

    field_class = DiffusionField

    def setup(self) -> None:
        """Builds the field and its average."""
        super().setup()
        for field in filter(None, (self.field, self.average)):
            field.denoising_steps = self.model_config["denoising_steps"]


class LikelihoodObjectives(Objectives):
    """Cloning by the likelihood of policies that have one, or a bound of it, instead of the distance to actions."""

    def _bc_terms(self, o: Tensor, a: Tensor, mu: Tensor, noise: Noise, weight: Tensor) -> dict[str, Tensor]:
        result = {}
        parts = zip(self.students, self.obs_slices, self.action_slices, strict=True)
        for i, (student, own, act) in enumerate(parts):
            fitted: Any = student
            embedding = student.encode_standardised(o[:, own])
            z = noise.flow_z[:, act]
            result[f"bc_loss/{i}"] = fitted.cloning_loss(embedding, a[:, act], z, noise.flow_t, weight)
        return result


class LikelihoodLearner(MAFQLLearner):
    """MAFQL's learner for these policies."""

    objectives_class = LikelihoodObjectives


class _LikelihoodConfig(MAFQLConfig):
    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class)
        self.flow_matching_coeff = 0.0
        self.distillation_coeff = 0.0

    def validate(self) -> None:
        """As MAFQLConfig; there is no teacher."""
        super().validate()
        for name in ("flow_matching_coeff", "distillation_coeff"):
            if getattr(self, name) != 0.0:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be 0, got {getattr(self, name)!r}: no flow is learned here "
                    "that could be distilled; bc_coeff fits the policies to recorded actions"
                )

    def get_default_learner_class(self) -> type[MAFQLLearner]:
        """The one for likelihoods."""
        return LikelihoodLearner


class GaussianQLConfig(_LikelihoodConfig):
    """Configuration of GaussianQL: MAFQLConfig's settings."""

    policy_class = GaussianPolicy

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or GaussianQL)


class DiffusionQLConfig(_LikelihoodConfig):
    """Configuration of DiffusionQL: MAFQLConfig's settings, and `denoising_steps`."""

    policy_class = DiffusionPolicy

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or DiffusionQL)
        self.denoising_steps = DENOISING_STEPS  # from noise to action; learning takes time in proportion to them

    def training(self, *, denoising_steps: int | None = None, **kwargs: Any) -> DiffusionQLConfig:
        """As MAFQLConfig; denoising_steps: see the comment at its default in `__init__`."""
        super().training(**kwargs)
        if denoising_steps is not None:
            self.denoising_steps = denoising_steps
        return self

    def validate(self) -> None:
        """As MAFQLConfig."""
        super().validate()
        steps = self.denoising_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MAX_DENOISING_STEPS:
            wanted = f"an integer from 1 to {MAX_DENOISING_STEPS}"
            raise ValueError(f"DiffusionQLConfig: denoising_steps must be {wanted}, got {steps!r}")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """An agent's policy."""
        model = self._flow_config(self.actor_hidden, self.flow_steps) | {"denoising_steps": self.denoising_steps}
        return RLModuleSpec(module_class=self.policy_class, model_config=model)


class GaussianQL(MAFQL):
    """Gaussian zone policies with MAFQL's critic: multi-agent CQL (arXiv 2006.04779, 2309.12696)."""

    centralized_execution = False

    @classmethod
    def get_default_config(cls) -> MAFQLConfig:
        """The defaults."""
        return GaussianQLConfig()


class DiffusionQL(MAFQL):
    """Diffusion zone policies with MAFQL's critic, as Diffusion-QL has them for one agent (arXiv 2208.06193)."""

    centralized_execution = False

    @classmethod
    def get_default_config(cls) -> MAFQLConfig:
        """The defaults."""
        return DiffusionQLConfig()
