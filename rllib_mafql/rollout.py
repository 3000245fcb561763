"""What a runner is asked to play, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_mafql.replay import Fragment


@dataclass
class Play:
    """One call of `sample()`: what is asked for, and how far it is."""

    timesteps: float | None
    episodes: int | None
    explore: bool
    random: bool
    behavior: bool
    steps: int = 0
    begun: int = 0

    @property
    def over(self) -> bool:
        """Whether the steps that are asked for are done."""
        return self.timesteps is not None and self.steps >= self.timesteps

    def begin(self) -> bool:
        """Whether another episode is to begin, which counts then."""
        wanted = self.episodes is None or self.begun < self.episodes
        self.begun += wanted
        return wanted


@dataclass
class Rollout:
    """What `sample()` returns: the transitions as fragments, none of which spans two episodes."""

    fragments: list[Fragment]
    steps: int
    agents: int
    weights_seq_no: int  # of the weights that the learned policy played with, counted by the learner

    def env_steps(self) -> int:
        """Environment steps taken (RLlib's evaluation counts them)."""
        return self.steps

    def agent_steps(self) -> int:
        """Environment steps taken times the number of agents."""
        return self.steps * self.agents
