"""Behaviour policies: who plays before the learned policy does, and beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

RANDOM = "random"


class Player(NamedTuple):
    """A behaviour policy that has been drawn."""

    name: str
    seed: int
    imitable: bool  #: whether what it does is worth cloning


class Behaviors:
    """Draws behaviour policies for an environment by their weights.

    An environment offers them by `behavior_policy(name, noise=, seed=)`, which returns an object with `reset()` and
    `act()` (agent -> action in [-1, 1]). Any other environment has "random", uniform over its action spaces.

    Args:
        weights: name -> weight, of at least 0.
        noise: passed on to the environment.
        rng: source of all draws.
    """

    def __init__(self, weights: Mapping[str, float], noise: float, rng: np.random.Generator):
        self._names = list(weights)
        self._shares = np.array(list(weights.values()), float) / sum(weights.values())
        self._noise = noise
        self._rng = rng

    def draw(self) -> Player:
        """One of them, by the weights."""
        return self._seeded(str(self._rng.choice(self._names, p=self._shares)), True)

    def random(self) -> Player:
        """The policy "random", not worth cloning."""
        return self._seeded(RANDOM, False)

    def start(self, env: Any, player: Player) -> Any:
        """The policy itself, for the episode that `env` is in."""
        policy = self._make(env, player.name, player.seed)
        policy.reset()
        return policy

    def advisor(self, env: Any, name: str) -> Any:
        """A policy that is asked and does not play, for the episode that `env` is in: without noise."""
        policy = self._make(env, name, seed=0, noise=0.0)
        policy.reset()
        return policy

    def problem(self, env: Any, advisor: str | None = None) -> str | None:
        """What is wrong with the names, if anything, and in which setting."""
        settings = dict.fromkeys((*self._names, RANDOM), "behavior_policies")
        for name, setting in (settings | ({} if advisor is None else {advisor: "advisor"})).items():
            try:
                self._make(env, name, seed=0)
            except ValueError as error:
                return f"{setting}: {error}"
        return None

    def _seeded(self, name: str, imitable: bool) -> Player:
        return Player(name, int(self._rng.integers(2**31)), imitable)

    def _make(self, env: Any, name: str, seed: int, noise: float | None = None) -> Any:
        if hasattr(env, "behavior_policy"):
            return env.behavior_policy(name, noise=self._noise if noise is None else noise, seed=seed)
        if name == RANDOM:
            return _UniformPolicy(env, seed)
        raise ValueError(
            f"{type(env).__name__} has no behavior_policy() that could make {name!r}; "
            f"use {{{RANDOM!r}: 1.0}} or give the environment that method"
        )


class _UniformPolicy:
    """Uniform actions in [-1, 1]."""

    def __init__(self, env: Any, seed: int):
        self._sizes = {agent: env.get_action_space(agent).shape for agent in env.possible_agents}
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Nothing to draw."""

    def act(self) -> dict[str, np.ndarray]:
        """Agent -> (m_i,)."""
        return {agent: self._rng.uniform(-1, 1, shape) for agent, shape in self._sizes.items()}
