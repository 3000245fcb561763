"""MAPPO: RLlib's PPO with a critic that sees what all agents see (arXiv 2103.01955).

Each agent's policy sees its own observation only; agents act together, as MAFQL's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

#: Column of a learner's batch: all agents' observations side by side, (B, sum d_i).
JOINT_OBS = "joint_obs"


class AddJointObservations(ConnectorV2):
    """Adds to every agent's batch what all agents observed.

    Raises:
        ValueError: an agent was not there all the time, or agents share a policy.
    """

    def __call__(self, *, rl_module: Any, batch: dict[str, Any], episodes: Sequence[Any], **kwargs: Any) -> Any:
        """As the learner calls it, before the episodes become columns."""
        for episode in episodes:
            agents = episode.agent_episodes
            lengths = {agent: len(own) for agent, own in agents.items()}
            if len(set(lengths.values())) != 1:
                raise ValueError(f"MAPPO needs agents that act together, but theirs are {lengths} steps of an episode")
            steps = slice(0, next(iter(lengths.values())))
            joint = np.concatenate([agents[agent].get_observations(steps) for agent in sorted(agents)], -1)
            for own in agents.values():
                if joint.shape[1] != rl_module[own.module_id].model_config["joint_obs_size"]:
                    raise ValueError("MAPPO needs a policy for each agent: list them all in `policies`")
                self.add_n_batch_items(batch, JOINT_OBS, joint, len(joint), own)
        return batch


class CentralCriticModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """A Gaussian policy of an agent's observation, and a critic of all agents' observations.

    model_config: fcnet_hiddens, the widths of both networks' hidden layers, and joint_obs_size, sum d_i.
    """

    model_config: Any
    observation_space: Any
    action_space: Any
    inference_only: bool

    def setup(self) -> None:
        """Builds both networks; modules that only act have no critic."""
        widths = list(self.model_config["fcnet_hiddens"])
        self.actor = _mlp([self.observation_space.shape[0], *widths, 2 * self.action_space.shape[0]])
        self.action_dist_cls = TorchDiagGaussian
        if not self.inference_only:
            self.critic = _mlp([self.model_config["joint_obs_size"], *widths, 1])

    def get_non_inference_attributes(self) -> list[str]:
        """What env runners do without."""
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.actor(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Values (B,)."""
        return self.critic(batch[JOINT_OBS]).squeeze(-1)


class MAPPOConfig(PPOConfig):
    """Configuration of MAPPO: PPOConfig's settings; of `model_config`, fcnet_hiddens counts.

    Every agent needs a policy of its own, as in `policies: [zone_0, zone_1, zone_2]`.
    """

    model_config: Any
    policies: Any
    _learner_connector: Any

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or MAPPO)
        self._learner_connector = _connector

    def get_multi_rl_module_spec(
        self, *, env: Any = None, spaces: dict[str, Any] | None = None, inference_only: bool = False, **kwargs: Any
    ) -> MultiRLModuleSpec:
        """PPO's, with this file's module for each policy."""
        spec = super().get_multi_rl_module_spec(env=env, spaces=spaces, inference_only=inference_only, **kwargs)
        modules: Any = spec.rl_module_specs
        size = sum(module.observation_space.shape[0] for module in modules.values())
        for module in modules.values():
            module.module_class, module.catalog_class = CentralCriticModule, None
            module.model_config = {"fcnet_hiddens": [256, 256], **self.model_config, "joint_obs_size": size}
        return spec


class MAPPO(PPO):
    """PPO with a centralised critic."""

    @classmethod
    def get_default_config(cls) -> MAPPOConfig:
        """The defaults."""
        return MAPPOConfig()


def _connector(observation_space: Any, action_space: Any) -> ConnectorV2:
    return AddJointObservations(observation_space, action_space)


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.orthogonal_(linear.weight, np.sqrt(2.0))
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    last: Any = layers[-2]
    with torch.no_grad():
        last.weight.mul_(0.01 / np.sqrt(2.0))  # policies begin near the middle, and values near 0
    return nn.Sequential(*layers[:-1])
