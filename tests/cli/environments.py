"""Tiny environments for the tests of the commands."""

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv


class Pair(MultiAgentEnv):
    """Two agents with different spaces; each gets 1 a step for `length` steps, and `survived` is told at the end."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.length = (config or {}).get("length", 10)
        if self.length < 1:
            raise ValueError(f"length: must be at least 1, found {self.length}")
        self.agents = self.possible_agents = ["left", "right"]
        self.observation_spaces = {a: gym.spaces.Box(-1, 1, (n,), np.float32) for a, n in (("left", 3), ("right", 5))}
        self.action_spaces = {a: gym.spaces.Box(-1, 1, (n,), np.float32) for a, n in (("left", 2), ("right", 1))}
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.t = 0
        return self._observations(), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, ...]:
        assert {agent: action.shape for agent, action in action_dict.items()} == {"left": (2,), "right": (1,)}
        self.t += 1
        end = self.t >= self.length
        return self._observations(), dict.fromkeys(self.agents, 1.0), {"__all__": False}, {"__all__": end}, {}

    def _observations(self) -> dict[str, Any]:
        return {agent: np.zeros(space.shape, np.float32) for agent, space in self.observation_spaces.items()}
