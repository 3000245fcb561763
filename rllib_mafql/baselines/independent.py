"""Independent FQL: every agent learns by itself, from its own observation and action and the team's reward.

Each agent has critics, a flow fitted to its recorded actions, and a policy distilled from that (FQL, arXiv 2502.02538);
data, schedules and layers are MAFQL's.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rllib_mafql.algorithm import MAFQL
from rllib_mafql.config import MAFQLConfig
from rllib_mafql.learner import MAFQLLearner
from rllib_mafql.modules import CRITIC, TEACHER, FlowPolicy, JointCritic
from rllib_mafql.networks import CriticEnsemble, VelocityField, slices_of
from rllib_mafql.objectives import Noise, Objectives, weighed
from rllib_mafql.replay import ADVICE

#: Columns of a batch that hold all agents' observations side by side.
_OBSERVATIONS = ("obs", "next_obs")


class Side(nn.ModuleList):
    """Networks of the agents side by side; they take over statistics of joint arrays by their own parts."""

    def __init__(self, networks: Sequence[Any], agents: Sequence[tuple[str, int, int]]):
        super().__init__(networks)
        self._sizes = [(d, m) for _, d, m in agents]

    @property
    def normalizer(self) -> _Parts:
        """All normalisers of observations."""
        return _Parts([network.normalizer for network in self], [d for d, _ in self._sizes])

    @property
    def action_normalizer(self) -> _Parts:
        """All normalisers of actions."""
        return _Parts([network.action_normalizer for network in self], [m for _, m in self._sizes])


class _Parts:
    def __init__(self, normalizers: Sequence[Any], sizes: Sequence[int]):
        self._normalizers = normalizers
        self._sizes = list(sizes)

    def fit(self, mean: Tensor, std: Tensor) -> None:
        for normalizer, own_mean, own_std in zip(
            self._normalizers, mean.split(self._sizes), std.split(self._sizes), strict=True
        ):
            normalizer.fit(own_mean, own_std)


class IndependentCritics(JointCritic):
    """An ensemble of critics Q_i(o_i, a_i) for each agent. model_config: as of JointCritic."""

    q: Any
    target_q: Any

    def setup(self) -> None:
        """Builds an ensemble for each agent."""
        config, agents = self.model_config, self.model_config["agents"]
        ensembles = [
            CriticEnsemble(
                d,
                m,
                hidden=config["hidden"],
                layers=config["layers"],
                ensemble=config["ensemble"],
                bounds=config.get("bounds"),
            )
            for _, d, m in agents
        ]
        self.q = Side(ensembles, agents)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """{"obs": (B, sum d_i), "actions": (B, sum m_i)} -> {"q": (N, E, B)}, for each agent its own."""
        sizes = [list(column) for column in zip(*self.q._sizes, strict=True)]
        obs, actions = (x.split(own, -1) for x, own in zip((batch["obs"], batch["actions"]), sizes, strict=True))
        return {"q": torch.stack([q(q.encode(o), a) for q, o, a in zip(self.q, obs, actions, strict=True)])}


class IndependentTeachers(FlowPolicy):
    """A flow v_i(o_i, x_i, t) for each agent. model_config: as of FlowPolicy, and `agents`."""

    def setup(self) -> None:
        """Builds a field for each agent."""
        config, agents = self.model_config, self.model_config["agents"]
        self.flow_steps = int(config["flow_steps"])
        fields = [VelocityField(d, m, hidden=config["hidden"], layers=config["layers"]) for _, d, m in agents]
        self.field: Any = Side(fields, agents)
        self.average = None if self.inference_only else copy.deepcopy(self.field).requires_grad_(False)


class IndependentObjectives:
    """`Objectives` of each agent on its part of the batch, put together as if they were of one team.

    Args:
        parts: of the agents in joint order, each a team of one.
        sizes: (d_i, m_i) of each.
    """

    def __init__(self, parts: Sequence[Objectives], sizes: Sequence[tuple[int, int]]):
        self.parts = parts
        self._obs_sizes, self._action_sizes = ([*column] for column in zip(*sizes, strict=True))
        self.obs_slices, self.action_slices = slices_of(self._obs_sizes), slices_of(self._action_sizes)

    def draw(self, b: dict[str, Tensor]) -> list[Noise]:
        """Noise for a batch, each agent's own."""
        return [part.draw(own) for part, own in zip(self.parts, self._split(b), strict=True)]

    def terms(self, b: dict[str, Tensor], noise: Sequence[Noise], active: frozenset[str]) -> dict[str, Tensor]:
        """As of `Objectives`: those of the critics, of the flows and of Q are means over the agents."""
        result: dict[str, Tensor] = {}
        shared: dict[str, list[Tensor]] = defaultdict(list)
        for i, (part, own, drawn) in enumerate(zip(self.parts, self._split(b), noise, strict=True)):
            for term, value in part.terms(own, drawn, active).items():
                name, _, agent = term.partition("/")
                if agent:
                    result[f"{name}/{i}"] = value
                else:
                    shared[name].append(value)
        return result | {name: torch.stack(values).mean() for name, values in shared.items()}

    def weigh(self, terms: dict[str, Tensor], c: dict[str, float]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The losses of the critics, of the flows and of each student, by the coefficients c."""
        return weighed(terms, c, self._action_sizes, self.parts[0].q.normalizer.mean.new_zeros(()))

    def _split(self, b: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        parts = []
        for obs, act in zip(self.obs_slices, self.action_slices, strict=True):
            own = {name: values[:, obs] if name in _OBSERVATIONS else values for name, values in b.items()}
            parts.append(own | {name: b[name][:, act] for name in ("actions", ADVICE) if name in b})
        return parts


class IndependentLearner(MAFQLLearner):
    """MAFQL's learner, with an objective for each agent by itself."""

    def build_objectives(self) -> Any:
        """Objectives of every agent."""
        sizes = [(d, m) for _, d, m in self._critic.model_config["agents"]]
        q: Any = self._critic.q
        target_q: Any = self._critic.target_q
        fields: Any = self._teacher.field
        parts = [
            Objectives(q[i], target_q[i], fields[i], [student.field], self.config)
            for i, student in enumerate(self._students)
        ]
        return IndependentObjectives(parts, sizes)


class IndependentFQLConfig(MAFQLConfig):
    """Configuration of IndependentFQL: MAFQLConfig's settings, with neither conservatism nor plain cloning, as FQL."""

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or IndependentFQL)
        self.conservative_coeff = 0.0
        self.bc_coeff = 0.0

    def get_default_learner_class(self) -> type[MAFQLLearner]:
        """The one for agents by themselves."""
        return IndependentLearner

    def get_multi_rl_module_spec(self, **kwargs: Any) -> Any:
        """MAFQL's modules, of which critics and flows are each agent's own."""
        spec = super().get_multi_rl_module_spec(**kwargs)
        modules: Any = spec.rl_module_specs
        if CRITIC in modules:
            modules[CRITIC].module_class = IndependentCritics
            modules[TEACHER].module_class = IndependentTeachers
            modules[TEACHER].model_config["agents"] = modules[CRITIC].model_config["agents"]
        return spec


class IndependentFQL(MAFQL):
    """FQL of every agent by itself."""

    centralized_execution = False

    @classmethod
    def get_default_config(cls) -> MAFQLConfig:
        """The defaults."""
        return IndependentFQLConfig()
