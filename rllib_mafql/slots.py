"""One environment of a runner: the episode it is in, who plays it, and what has been collected of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_mafql.behavior import RANDOM, Behaviors
from rllib_mafql.offline.episode import FragmentBuilder
from rllib_mafql.replay import Fragment

# Who acted, in recordings, where no behaviour policy did.
LEARNED = "learned"


class Slot:
    """One environment and the episode it is in.

    Args:
        env: a MultiAgentEnv.
        agents: its agents in joint order.
    """

    def __init__(self, env: Any, agents: list[str]):
        self.agents = agents
        self.failures = 0  # in a row
        self.replace_env(env)

    def replace_env(self, env: Any) -> None:
        """Puts another environment in the place of one that failed."""
        self.env = env
        self.seeded = False
        self._forget()

    def _forget(self) -> None:
        self.player: Any = None  # the behaviour policy that plays now in place of the learned one, or None
        self.policy = LEARNED  # its name
        self.imitable = False  # whether what plays now is worth cloning
        self.takeover: int | None = None  # the step at which a behaviour policy takes over
        self.own = True  # whether the learned policy alone has played this episode
        self.total = 0.0
        self.length = 0
        self.recorded: FragmentBuilder | None = None
        self._steps: list[tuple[np.ndarray, np.ndarray, float, bool]] = []

    # Episodes --------------------------------------------------------------------------------------------------

    def begin(self, arguments: dict[str, Any]) -> tuple[np.ndarray, str]:
        """Resets the environment; returns the first joint observation and the scenario's name ("" if not told)."""
        self._forget()
        obs, infos = self.env.reset(**arguments)
        return self.joint(obs), str(infos.get(self.agents[0], {}).get("scenario", ""))

    def play_random(self, behaviors: Behaviors) -> None:
        """Random play from now on, not worth cloning."""
        self.policy, self.player, self.own = RANDOM, behaviors.random(self.env), False

    def take_over(self, behaviors: Behaviors) -> None:
        """A behaviour policy plays from now on."""
        self.policy, self.player = behaviors.draw(self.env)
        self.imitable, self.own = True, False

    def step(self, actions: dict[str, np.ndarray]) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Joint observation, team reward, terminated, truncated and infos of one step."""
        obs, rewards, terminateds, truncateds, infos = self.env.step(actions)
        reward = float(sum(rewards.values()) / len(rewards))
        self.total += reward
        self.length += 1
        self.failures = 0
        return self.joint(obs), reward, bool(terminateds["__all__"]), bool(truncateds["__all__"]), infos

    def joint(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """All agents' observations side by side, float32."""
        return np.concatenate([obs[agent] for agent in self.agents]).astype(np.float32, copy=False)

    # What is collected -----------------------------------------------------------------------------------------

    def collect(self, obs: np.ndarray, action: np.ndarray, reward: float, infos: dict[str, Any]) -> None:
        """Keeps a step that was just played."""
        self._steps.append((obs, action, reward, self.imitable))
        if self.recorded is not None:
            components = infos.get(self.agents[0], {}).get("reward_components", {})
            self.recorded.add(obs, action, reward, self.imitable, self.policy, components)

    def cut(self, following: np.ndarray, terminated: bool = False) -> Fragment | None:
        """The steps since the last cut, with the joint observation that follows them; None if there are none."""
        if not self._steps:
            return None
        obs, actions, rewards, behavior = zip(*self._steps, strict=True)
        self._steps = []
        return Fragment(
            np.array([*obs, following], np.float32),
            np.array(actions, np.float32),
            np.array(rewards, np.float32),
            np.array(behavior, bool),
            terminated,
        )
