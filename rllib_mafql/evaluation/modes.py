"""Several good dispatches for one state, and which of them a policy's samples reach.

The dispatches are those of the QP per zone under perturbed costs, where it begins to move anything in a held-out
episode: later on, what is in use tells which costs are meant. Policies' samples are held against them as generative
models' are: coverage and precision by nearest neighbours (Naeem et al., "Reliable fidelity and diversity metrics for
generative models", ICML 2020; Kynkäänniemi et al., "Improved precision and recall metric", NeurIPS 2019), and the
energy distance (Székely and Rizzo, 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from grid2op_zones.area import Snapshot
from grid2op_zones.ptdf import LinearFlow
from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.checkpoint import TEACHER, load_module, read_checkpoint
from rllib_mafql.evaluation.policies import SetupError, build_policy

DISPATCHER = "qp_zones"
#: A second set of its dispatches, with other draws: as good as samples can be.
QP = "qp_zones_again"
#: A unit counts as moved from here on.
MOVED_MW = 0.1
#: What counts as begun: an action of the dispatcher's at least so far from doing nothing.
BEGUN = 0.05
#: A dispatch is reached by what lies no farther from it than its so many nearest ones of the same state.
NEIGHBORS = 5
#: What is shown and averaged, with its meaning.
MEASURES = {
    "coverage": "share of the QP's dispatches that samples reach",
    "precision": "share of samples that reach a dispatch of the QP's",
    "energy": "energy distance between samples and the QP's dispatches, normalised: 0 the same, 1 nothing in common",
    "worst_loading": "highest loading of a line after a sample, by the linear model",
    "moved_mw": "power that a sample moves, MW",
    "units": "units that a sample moves",
    "average_distance": "from the samples' average to the nearest dispatch, over the mean distance among those",
}


@dataclass(frozen=True)
class State:
    """One state of the grid with the dispatches that answer it; m is the size of a joint action.

    Attributes:
        episode, step: where it was met.
        dispatches: (K, m) the QP's under perturbed costs, normalised actions.
        samples: agent -> (K, m) of its policy; and `QP` -> a second set of the QP's own.
        measures: the same -> measure -> value.
    """

    episode: int
    step: int
    dispatches: np.ndarray
    samples: dict[str, np.ndarray]
    measures: dict[str, dict[str, float]]


def find_states(
    env: Any,
    agents: Sequence[AgentSpec],
    states: int,
    draws: int,
    noise: float,
    on_state: Callable[[], None] = lambda: None,
) -> list[State]:
    """The first states of held-out episodes in which the QP moves anything, one an episode.

    Args:
        env: a ZonedGridEnv.
        agents: checkpoints of MAFQL or of what is built on it.
        states: how many.
        draws: dispatches and samples of each agent in every state, K.
        noise: standard deviation of the logarithm of the QP's costs.
        on_state: called after each.

    Raises:
        SetupError: An agent has no policies that could be sampled, or does not fit the grid; or there are too few such
            states in ten times as many episodes.
    """
    samplers = {agent.name: _sampler(agent, env) for agent in agents}
    found: list[State] = []
    for episode in range(10 * states):
        observations, _ = env.reset(**env.episode_spec(episode))
        begun = _until_begun(env, observations)
        if begun is None:
            continue
        step, observations = begun
        effect = _Effect(env)
        dispatches = _dispatches(env, draws, noise, first=0)
        sets = {QP: _dispatches(env, draws, noise, first=draws)}
        sets |= {name: sample(observations, draws) for name, sample in samplers.items()}
        measures = {name: _measures(dispatches, samples, effect) for name, samples in sets.items()}
        found.append(State(episode, step, dispatches, sets, measures))
        on_state()
        if len(found) == states:
            return found
    raise SetupError(
        f"only {len(found)} of {10 * states} episodes have a state in which {DISPATCHER} acts, of {states}"
    )


def averages(states: Sequence[State]) -> dict[str, dict[str, float]]:
    """Agent -> measure -> its mean over states."""
    names = states[0].measures
    return {
        name: {key: float(np.mean([state.measures[name][key] for state in states])) for key in MEASURES}
        for name in names
    }


def _sampler(agent: AgentSpec, env: Any) -> Callable[[Mapping[str, np.ndarray], int], np.ndarray]:
    """(observations, K) -> joint actions (K, m), drawn from the zones' policies, or from the one for all of them."""
    import torch
    from ray.rllib.core.columns import Columns

    known = None if agent.kind != "learned" or agent.checkpoint is None else read_checkpoint(agent.checkpoint)
    if known is None or not known.is_mafql:
        raise SetupError(f"{agent.name}: no checkpoint of MAFQL, or of an algorithm built on it")
    build_policy(agent, env)  # checks that they fit
    zones = env.possible_agents
    seen_by = {TEACHER: zones} if agent.execution == "centralized" else {zone: [zone] for zone in zones}
    modules: dict[str, Any] = {name: load_module(known.path, name, agent.flow_steps) for name in seen_by}

    def sample(observations: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        drawn = []
        for name, module in modules.items():
            own = torch.as_tensor(np.concatenate([observations[zone] for zone in seen_by[name]])).float()
            drawn.append(module.forward_exploration({Columns.OBS: own.expand(count, -1)})[Columns.ACTIONS])
        return torch.cat(drawn, -1).clamp(-1.0, 1.0).numpy()

    return sample


def _until_begun(env: Any, observations: Mapping[str, np.ndarray]) -> tuple[int, Mapping[str, np.ndarray]] | None:
    """Does nothing until the dispatcher would do something: the step, and what the zones see then; None: never."""
    dispatcher, action_map = env.behavior_policy(DISPATCHER), env.action_map
    dispatcher.reset()
    step, done = 0, False
    while not done:
        idle = action_map.encode(action_map.idle(), env.grid_state)
        if np.abs(action_map.joint(dispatcher.act()) - action_map.joint(idle)).max() >= BEGUN:
            return step, observations
        observations, _, terminated, truncated, _ = env.step(idle)
        step, done = step + 1, terminated["__all__"] or truncated["__all__"]
    return None


def _dispatches(env: Any, draws: int, noise: float, first: int) -> np.ndarray:
    """(K, m) joint actions of the dispatcher, each under costs of its own."""
    found = []
    for seed in range(first, first + draws):
        policy = env.behavior_policy(DISPATCHER, noise=noise, seed=seed)
        found.append(env.action_map.joint(policy.act()))
    return np.stack(found)


def _measures(
    dispatches: np.ndarray, samples: np.ndarray, effect: Callable[[np.ndarray], Sequence[float]]
) -> dict[str, float]:
    """`MEASURES` of samples (K, m) against dispatches (K, m)."""
    among, between = cdist(dispatches, dispatches), cdist(dispatches, samples)
    reach = np.sort(among, axis=1)[:, min(NEIGHBORS, len(among) - 1), None] + 1e-6  # the nearest one is itself
    reached = between <= reach
    unbiased = len(among) / (len(among) - 1)  # no dispatch is compared with itself
    spread = unbiased * (cdist(samples, samples).mean() + among.mean())
    effects = np.array([effect(sample) for sample in samples]).mean(0)
    average = np.linalg.norm(dispatches - samples.mean(0), axis=1).min()
    return {
        "coverage": float(reached.any(1).mean()),
        "precision": float(reached.any(0).mean()),
        "energy": float(1.0 - 0.5 * spread / between.mean()) if between.any() else 0.0,
        **dict(zip(("worst_loading", "moved_mw", "units"), map(float, effects), strict=True)),
        "average_distance": float(average / max(unbiased * among.mean(), 1e-6)),
    }


class _Effect:
    """What a joint action does to the present state by the linear model: worst loading, MW moved, units moved."""

    def __init__(self, env: Any) -> None:
        obs, grid = env.grid_state, type(env.simulator)
        self._action_map, self._obs = env.action_map, obs
        ptdf = LinearFlow(env.simulator).ptdf(obs)
        if ptdf is None:
            raise SetupError("the grid has islands or a split substation, for which there is no linear model")
        self._snapshot = Snapshot(obs, env.action_map, ptdf)
        self._at = np.concatenate([grid.gen_to_subid, grid.storage_to_subid])

    def __call__(self, action: np.ndarray) -> tuple[float, float, int]:
        snapshot, obs = self._snapshot, self._obs
        wanted = self._action_map.feasible(self._action_map.decode_joint(action.astype(float), obs), obs)
        taken = np.maximum(snapshot.available - wanted.curtail * self._action_map.pmax, 0.0)
        curtailed = np.where(wanted.curtail < 1.0, taken, 0.0) - snapshot.curtailed
        change = np.concatenate([wanted.redispatch - curtailed, snapshot.storage - wanted.storage])
        flow = obs.p_or + snapshot.ptdf[:, self._at] @ change
        loading = np.hypot(flow, obs.q_or) / snapshot.capacity
        return float(loading.max()), float(np.abs(change).sum()), int((np.abs(change) > MOVED_MW).sum())
