"""A fragment as it is recorded: its arrays, and what is told about where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rllib_mafql.replay import Fragment


@dataclass
class RecordedFragment:
    """A fragment of T steps and what is told about it."""

    fragment: Fragment
    truncated: bool  # the episode was truncated with the last step; neither flag: the recording was cut here
    components: dict[str, np.ndarray]  # reward component -> (T,) float32
    policies: list[str]  # T names of who acted: a behaviour policy's, or "learned"
    episode_id: str  # unique over all recordings
    first_step: int  # number of the first step within its episode
    scenario: str  # what was played, "" if the environment does not say


class FragmentBuilder:
    """Collects contiguous steps of one episode.

    Args:
        episode_id: unique over all recordings.
        scenario: what is played, "" if the environment does not say.
        first_step: number within the episode of the step that is added first.
    """

    def __init__(self, episode_id: str, scenario: str = "", first_step: int = 0):
        self.episode_id = episode_id
        self.scenario = scenario
        self.first_step = first_step
        self._obs: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._behavior: list[bool] = []
        self._policies: list[str] = []
        self._components: list[Mapping[str, float]] = []
        self._advice: list[np.ndarray] = []

    def __len__(self) -> int:
        """Steps so far."""
        return len(self._rewards)

    def add(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: float,
        behavior: bool,
        policy: str,
        components: Mapping[str, float],
        advice: np.ndarray | None = None,
    ) -> None:
        """Adds a step.

        Args:
            obs: (sum d_i,) joint observation that was acted on; copied, as environments may overwrite theirs.
            action: (sum m_i,) joint action in [-1, 1]; copied.
            reward: team reward of the step.
            behavior: a behaviour policy acted, so that the action is one to clone.
            policy: who acted: the behaviour policy's name, or "learned".
            components: parts of the reward by name, the same names in every step; may be empty.
            advice: (sum m_i,) what the advisor would have done, in [-1, 1]; copied. None, in every step: there is none.
        """
        self._obs.append(np.array(obs, np.float32))
        self._actions.append(np.array(action, np.float32))
        self._rewards.append(reward)
        self._behavior.append(behavior)
        self._policies.append(policy)
        self._components.append(components)
        if advice is not None:
            self._advice.append(np.array(advice, np.float32))

    def finish(self, final_obs: np.ndarray, terminated: bool, truncated: bool) -> RecordedFragment:
        """The steps so far as one fragment; an episode that goes on does so in a new builder.

        Args:
            final_obs: (sum d_i,) joint observation that follows the last step.
            terminated: the episode terminated with the last step.
            truncated: the episode was truncated with the last step.

        Raises:
            ValueError: There is no step, only some have advice, or their reward components have different names.
        """
        if not self._rewards:
            raise ValueError(f"episode {self.episode_id}: a fragment needs at least one step")
        if len(self._advice) not in (0, len(self)):
            raise ValueError(f"episode {self.episode_id}: {len(self._advice)} of {len(self)} steps have advice")
        names = list(self._components[0])
        for t, components in enumerate(self._components):
            if components.keys() != self._components[0].keys():
                raise ValueError(
                    f"episode {self.episode_id}: step {self.first_step + t} has the reward components "
                    f"{sorted(components)}, but step {self.first_step} has {sorted(names)}"
                )
        return RecordedFragment(
            fragment=Fragment(
                obs=np.stack([*self._obs, np.asarray(final_obs, np.float32)]),
                actions=np.stack(self._actions),
                rewards=np.array(self._rewards, np.float32),
                behavior=np.array(self._behavior, bool),
                terminated=bool(terminated),
                advice=np.stack(self._advice) if self._advice else None,
            ),
            truncated=bool(truncated),
            components={name: np.array([c[name] for c in self._components], np.float32) for name in names},
            policies=self._policies,
            episode_id=self.episode_id,
            first_step=self.first_step,
            scenario=self.scenario,
        )
