"""Policies as evaluation plays them: all zones' observations in, their actions out, deterministic where learned.

MAFQL's flows run in ONNX Runtime, as they do when deployed; other modules in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.package import CENTRALIZED, POLICY
from rllib_mafql.deploy.session import Session
from rllib_mafql.deploy.weights import field_weights
from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.checkpoint import TEACHER, load_module, read_checkpoint

if TYPE_CHECKING:
    from ray.rllib.core.rl_module.torch import TorchRLModule

Arrays = dict[str, np.ndarray]


class SetupError(ValueError):
    """An environment cannot be built, or an agent does not fit the one it is to act in."""


class Policy(Protocol):
    """What a rollout asks of an agent."""

    def start(self, episode: int) -> None:
        """Called after the environment's reset, with the episode's number (a random rule takes it as its seed)."""

    def act(self, observations: Arrays) -> Arrays:
        """Zone -> observation (d_i,) to zone -> action (m_i,) in [-1, 1]."""


class RulePolicy:
    """A dispatcher of grid2op_zones; it reads the grid's own observation from the environment."""

    def __init__(self, name: str, env: Any) -> None:
        self._name = name
        self._env = env

    def start(self, episode: int) -> None:
        self._behavior = self._env.behavior_policy(self._name, seed=episode)
        self._behavior.reset()

    def act(self, observations: Arrays) -> Arrays:
        return self._behavior.act()


#: One zone's policy, or that of all of them together: observation (d,) -> action (m,).
Act = Callable[[np.ndarray], np.ndarray]


class ZonePolicy:
    """One policy per zone, each on its own zone's observation.

    Args:
        policies: zone -> its policy; zones may share one.
    """

    def __init__(self, policies: Mapping[str, Act]) -> None:
        self._policies = policies

    def start(self, episode: int) -> None:
        pass

    def act(self, observations: Arrays) -> Arrays:
        return {zone: policy(observations[zone]) for zone, policy in self._policies.items()}


class JointPolicy:
    """One policy on all zones' observations side by side.

    Args:
        policy: joint observation (sum d_i,) -> joint action (sum m_i,).
        action_sizes: zone -> m_i, in the joint order.
    """

    def __init__(self, policy: Act, action_sizes: Mapping[str, int]) -> None:
        self._policy = policy
        self._zones = list(action_sizes)
        self._ends = np.cumsum(list(action_sizes.values()))[:-1]

    def start(self, episode: int) -> None:
        pass

    def act(self, observations: Arrays) -> Arrays:
        joint = np.concatenate([observations[zone] for zone in self._zones])
        return dict(zip(self._zones, np.split(self._policy(joint), self._ends), strict=True))


def module_action(module: TorchRLModule, observation: np.ndarray) -> np.ndarray:
    """The deterministic action of a module: its `forward_inference`, or the mode of the distribution that this gives.

    Args:
        module: a TorchRLModule that returns "actions" or "action_dist_inputs".
        observation: (d,).

    Returns:
        (m,) float32, clipped to [-1, 1].
    """
    import torch
    from ray.rllib.core.columns import Columns

    with torch.no_grad():
        out = module.forward_inference({Columns.OBS: torch.as_tensor(observation, dtype=torch.float32)[None]})
        if Columns.ACTIONS in out:
            action = out[Columns.ACTIONS]
        else:
            distribution = module.get_inference_action_dist_cls().from_logits(out[Columns.ACTION_DIST_INPUTS])
            action = distribution.to_deterministic().sample()
    return np.clip(action[0].numpy(), -1.0, 1.0).astype(np.float32)


def build_policy(agent: AgentSpec, env: Any) -> Policy:
    """Load an agent for an environment, and check that they fit.

    Args:
        agent: from `resolve_agents`.
        env: built with `agent.env_config`.

    Raises:
        SetupError: a zone without a module, a recurrent module, or a module whose observation or action size is not
            the zone's.
    """
    if agent.checkpoint is None:
        return RulePolicy(agent.name, env)
    obs_sizes = {zone: _size(env.observation_spaces[zone]) for zone in env.possible_agents}
    action_sizes = {zone: _size(env.action_spaces[zone]) for zone in env.possible_agents}
    if agent.kind == "exported":
        return _exported_policy(agent, obs_sizes, action_sizes)
    if agent.execution == "centralized":
        module = load_module(agent.checkpoint, TEACHER, agent.flow_steps)
        _check(agent, TEACHER, module, sum(obs_sizes.values()), sum(action_sizes.values()))
        return JointPolicy(_acting(module), action_sizes)

    info = read_checkpoint(agent.checkpoint)
    module_of = {zone: info.module_of(zone) for zone in env.possible_agents}
    missing = sorted(set(module_of.values()) - set(info.module_ids))
    if missing:
        raise SetupError(f"{agent.checkpoint} has no module {missing[0]!r}; it has {', '.join(info.module_ids)}")
    modules = {name: load_module(agent.checkpoint, name, agent.flow_steps) for name in sorted(set(module_of.values()))}
    for zone, name in module_of.items():
        _check(agent, zone, modules[name], obs_sizes[zone], action_sizes[zone])
    policies = {name: _acting(module) for name, module in modules.items()}
    return ZonePolicy({zone: policies[name] for zone, name in module_of.items()})


def _acting(module: TorchRLModule) -> Act:
    """A module's deterministic actions; a flow's from ONNX Runtime."""
    from rllib_mafql.modules import FlowPolicy

    if type(module) is FlowPolicy:
        return Session(flow_model(field_weights(module.acting), module.flow_steps).SerializeToString())
    return partial(module_action, module)


def _exported_policy(agent: AgentSpec, obs_sizes: Mapping[str, int], action_sizes: Mapping[str, int]) -> Policy:
    assert agent.checkpoint is not None
    if agent.execution == "centralized":
        model = Session(agent.checkpoint / CENTRALIZED / POLICY)
        _check_sizes(agent, CENTRALIZED, model, sum(obs_sizes.values()), sum(action_sizes.values()))
        return JointPolicy(model, action_sizes)
    missing = [zone for zone in obs_sizes if not (agent.checkpoint / zone / POLICY).is_file()]
    if missing:
        raise SetupError(f"{agent.checkpoint} has no policy of {missing[0]!r}")
    models = {zone: Session(agent.checkpoint / zone / POLICY) for zone in obs_sizes}
    for zone, model in models.items():
        _check_sizes(agent, zone, model, obs_sizes[zone], action_sizes[zone])
    return ZonePolicy(models)


def _check_sizes(agent: AgentSpec, name: str, model: Session, obs_size: int, action_size: int) -> None:
    if (model.obs_size, model.action_size) != (obs_size, action_size):
        raise SetupError(
            f"{agent.name}: {name}'s policy maps {model.obs_size} numbers to {model.action_size}, here they are "
            f"{obs_size} and {action_size}: env_config's zones, observability and actions must be those of training"
        )


def _check(agent: AgentSpec, name: str, module: TorchRLModule, obs_size: int, action_size: int) -> None:
    if module.is_stateful():
        raise SetupError(f"{agent.name}: {name} has a recurrent module, which evaluation does not carry state for")
    for what, own, wanted in (
        ("observations", _size(module.observation_space), obs_size),
        ("actions", _size(module.action_space), action_size),
    ):
        if own != wanted:
            raise SetupError(
                f"{agent.name}: {name}'s module was trained on {what} of {own} numbers, here they have {wanted}: "
                "env_config's zones, observability and actions must be those of training"
            )
    module_action(
        module, np.zeros(obs_size, dtype=np.float32)
    )  # the first call is slow; it must not count as a decision


def _size(space: Any) -> int:
    return int(np.prod(space.shape))
