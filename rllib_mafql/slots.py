"""One environment of a runner: the episode it is in, who plays it, and the rows that its steps are written into."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rllib_mafql.behavior import Behaviors, Player
from rllib_mafql.offline.episode import FragmentBuilder
from rllib_mafql.replay import Fragment

# Who acted, in recordings, where no behaviour policy did.
LEARNED = "learned"


class NotFinite(ValueError):
    """An environment gave an observation or a reward that is not a finite number."""


class Layout:
    """Where the agents' components lie in joint arrays, and what [-1, 1] stands for in their action spaces.

    Args:
        boxes: agent -> (observation space, action space), Boxes of one dimension, in joint order.
    """

    def __init__(self, boxes: Mapping[str, tuple[Any, Any]]):
        self.agents = list(boxes)
        self._sizes = [obs.shape[0] for obs, _ in boxes.values()]
        self.obs_size = sum(self._sizes)
        self.action_size = sum(act.shape[0] for _, act in boxes.values())
        ends = np.cumsum([act.shape[0] for _, act in boxes.values()]).tolist()
        self._starts = list(zip(self.agents, [0, *ends[:-1]], ends, strict=True))
        low = np.concatenate([act.low for _, act in boxes.values()])
        high = np.concatenate([act.high for _, act in boxes.values()])
        self._center, self._half = (high + low) / 2, (high - low) / 2

    def by_agent(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """A joint action (sum m_i,) in [-1, 1] -> agent -> its action within its own bounds, in a new array."""
        scaled = self._center + self._half * action
        return {agent: scaled[start:end] for agent, start, end in self._starts}

    def write(self, obs: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Writes all agents' observations side by side into `out` (sum d_i,) float32."""
        np.concatenate([obs[agent] for agent in self.agents], out=out, casting="same_kind")

    def check(self, obs: np.ndarray, reward: float = 0.0) -> None:
        """Raises NotFinite unless a joint observation (sum d_i,) and a reward are finite numbers."""
        finite = np.isfinite(obs)
        if not finite.all():
            at = int(np.argmin(finite))
            agent = int(np.searchsorted(np.cumsum(self._sizes), at, side="right"))
            component = at - sum(self._sizes[:agent])
            raise NotFinite(
                f"component {component} of the observation of {self.agents[agent]!r} is {obs[at]}"
                + (f", as are {finite.size - finite.sum() - 1} further ones" if finite.size - finite.sum() > 1 else "")
            )
        if not math.isfinite(reward):
            raise NotFinite(f"the reward is {reward}")


class Slot:
    """One environment and the episode it is in.

    Steps are written in place, each observation once, into arrays that :meth:`cut` hands out as a Fragment; what
    follows is written into new ones.

    An environment may offer what spares the way through dictionaries; elsewhere the agents' own dictionaries are used:

    - `joint_reset(out, *, seed=None, options=None) -> info`: as `reset`
    - `joint_step(action, out) -> (team reward, terminated, truncated, info)`: as `step`, for a joint action
      (sum m_i,) in [-1, 1] in the order of `possible_agents`

    Both write the joint observation into `out` (sum d_i,) float32, and `info` is what `infos` holds for every agent.
    Where `info["projection"]` tells what was executed in place of the action given (`action`, (sum m_i,) in [-1, 1])
    and how far that is from it (`distance`), what was executed is kept.

    Args:
        env: a MultiAgentEnv.
        layout: of its joint arrays.
        cloned_from: the learned policy's own steps that the environment moved at least so far are worth cloning as
            executed; None: none are.
        advisor: makes, for an environment, the policy that says at each collected step what it would do there, for
            cloning (Ross, Gordon and Bagnell, "A reduction of imitation learning to no-regret online learning", 2011);
            None: what was played is cloned.
    """

    def __init__(
        self, env: Any, layout: Layout, cloned_from: float | None = None, advisor: Callable[[Any], Any] | None = None
    ):
        self.layout = layout
        self._cloned_from = cloned_from
        self._make_advisor = advisor
        self.failures = 0  # in a row
        self.replace_env(env)

    def replace_env(self, env: Any) -> None:
        """Puts another environment in the place of one that failed."""
        self.env = env
        self.seeded = False
        self._joint = hasattr(env, "joint_step")
        self.running = False  # an episode is under way
        self._forget()
        self._lay_out(0, np.zeros(self.layout.obs_size, np.float32))

    def _forget(self) -> None:
        self.player: Any = None  # the behaviour policy that plays now in place of the learned one, or None
        self.policy = LEARNED  # its name
        self.imitable = False  # whether what plays now is worth cloning
        self.takeover: int | None = None  # the step at which a behaviour policy takes over
        self.own = True  # whether the learned policy alone has played this episode
        self.total = 0.0
        self.length = 0
        self.recorded: FragmentBuilder | None = None
        self.scenario = ""  # its name, where the environment tells
        self._arguments: dict[str, Any] = {}  # of the reset
        self._advisor: Any = None
        self._players: list[tuple[int, Player]] = []  # who has taken over, and at which step
        self._given: list[np.ndarray] = []  # the actions so far, where they are collected

    # Episodes --------------------------------------------------------------------------------------------------

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Resets the environment. What was not cut is lost."""
        self._forget()
        self._arguments = dict(arguments)
        self._random_state = _random_state(self.env)
        self._steps = 0
        out = self.obs
        if self._joint:
            info = self.env.joint_reset(out, **arguments)
        else:
            obs, infos = self.env.reset(**arguments)
            self.layout.write(obs, out)
            info = infos.get(self.layout.agents[0], {})
        self.layout.check(out)
        self._advisor = None if self._make_advisor is None else self._make_advisor(self.env)
        self.running = True
        self.scenario = str(info.get("scenario", ""))

    def take_over(self, behaviors: Behaviors, player: Player) -> None:
        """A behaviour policy plays from now on."""
        self._players.append((self.length, player))
        self.policy, self.player = player.name, behaviors.start(self.env, player)
        self.imitable, self.own = player.imitable, False

    def chosen(self) -> np.ndarray:
        """The joint action (sum m_i,) of the behaviour policy that plays now."""
        return self._joined(self.player.act())

    def _joined(self, actions: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([actions[agent] for agent in self.layout.agents])

    def step(self, action: np.ndarray, collect: bool) -> tuple[bool, bool, dict[str, Any]]:
        """Plays a joint action (sum m_i,) in [-1, 1]; returns terminated, truncated and the info.

        With `collect` the step is kept. Afterwards `obs` is what follows it. If the environment raises, nothing that is
        kept has changed.

        Raises:
            NotFinite: the environment gave what is no number.
        """
        at, given = self._steps, action.copy() if collect else action
        if collect and at == len(self._rewards):
            self._grow()
        out = self._obs[at + 1] if collect else self._obs[at]
        advised = collect and self._advisor is not None
        advice = self._joined(self._advisor.act()) if advised else None
        if self._joint:
            reward, terminated, truncated, info = self.env.joint_step(action, out)
        else:
            obs, rewards, terminateds, truncateds, infos = self.env.step(self.layout.by_agent(action))
            self.layout.write(obs, out)
            reward = sum(rewards.values()) / len(rewards)
            terminated, truncated = terminateds["__all__"], truncateds["__all__"]
            info = infos.get(self.layout.agents[0], {})
        reward = float(reward)
        self.layout.check(out, reward)
        self.total += reward
        self.length += 1
        self.failures = 0
        self.running = not (terminated or truncated)
        if collect:
            self._given.append(given)
            imitable, projection = self.imitable, info.get("projection")
            if projection is not None:
                action = projection["action"]
                if self.player is None and self._cloned_from is not None:
                    imitable = projection["distance"] >= self._cloned_from
            if self._advice is not None:
                self._advice[at] = action if advice is None else advice
            self._actions[at], self._rewards[at], self._behavior[at] = action, reward, imitable or advised
            self._steps = at + 1
            if self.recorded is not None:
                components = info.get("reward_components", {})
                cloned = self.imitable or advised
                self.recorded.add(self._obs[at], action, reward, cloned, self.policy, components, advice)
        return bool(terminated), bool(truncated), info

    # Saving ----------------------------------------------------------------------------------------------------

    def get_state(self, episode: bool = True) -> dict[str, Any]:
        """How to come to where the environment is now.

        Args:
            episode: keep how the episode under way came to where it is, as far as it was collected.
        """
        state = {"seeded": self.seeded, "random_state": _random_state(self.env), "episode": None}
        if episode and self.running:
            state["episode"] = {
                "arguments": self._arguments,
                "random_state": self._random_state,
                "players": [(step, tuple(player)) for step, player in self._players],
                "actions": np.array(self._given, np.float32).reshape(-1, self.layout.action_size),
                "takeover": self.takeover,
                "obs": self.obs.copy(),
            }
        return state

    def set_state(self, state: dict[str, Any], behaviors: Behaviors) -> bool:
        """Goes on from a state: plays its episode, if there is one, once more up to where it was.

        Returns:
            Whether the environment came to the same observation; if not, no episode is under way afterwards.
        """
        self.running = False
        if state["episode"] is not None:
            self._replay(state["episode"], behaviors)
        _set_random_state(self.env, state["random_state"])
        self.seeded = state["seeded"]
        return self.running == (state["episode"] is not None)

    def _replay(self, episode: dict[str, Any], behaviors: Behaviors) -> None:
        _set_random_state(self.env, episode["random_state"])
        self.begin(episode["arguments"])
        players = {step: Player(*player) for step, player in episode["players"]}
        for step, action in enumerate(episode["actions"]):
            self._resume_player(players.get(step), behaviors)
            if self.player is not None:
                self.chosen()  # what comes next is drawn from its own state
            if not self.running:
                return
            self.step(action, collect=False)
            self._given.append(action.copy())
        self._resume_player(players.get(self.length), behaviors)
        self.takeover = episode["takeover"]
        self.running = self.running and np.array_equal(self.obs, episode["obs"])

    def _resume_player(self, player: Player | None, behaviors: Behaviors) -> None:
        if player is not None:
            self.take_over(behaviors, player)

    # What is collected -----------------------------------------------------------------------------------------

    @property
    def obs(self) -> np.ndarray:
        """The present joint observation (sum d_i,) float32, a row that is written to later on."""
        return self._obs[self._steps]

    def reserve(self, rows: int) -> None:
        """Makes room for so many steps, of which more may come; none may have been collected since the last cut."""
        self._lay_out(rows, self.obs)

    def cut(self, terminated: bool = False) -> Fragment | None:
        """The steps since the last cut, None if there are none; the present observation is kept.

        Args:
            terminated: the episode terminated with the last step.
        """
        steps = self._steps
        if not steps:
            return None
        fragment = Fragment(
            self._obs[: steps + 1],
            self._actions[:steps],
            self._rewards[:steps],
            self._behavior[:steps],
            terminated,
            None if self._advice is None else self._advice[:steps],
        )
        self._lay_out(len(self._rewards) - steps, self.obs)
        return fragment

    def _lay_out(self, rows: int, present: np.ndarray) -> None:
        self._obs = np.empty((rows + 1, self.layout.obs_size), np.float32)
        self._obs[0] = present
        self._actions = np.empty((rows, self.layout.action_size), np.float32)
        self._rewards, self._behavior = np.empty(rows, np.float32), np.empty(rows, bool)
        self._advice = None if self._make_advisor is None else np.empty_like(self._actions)
        self._steps = 0

    @property
    def _collected(self) -> list[np.ndarray]:
        columns = self._obs, self._actions, self._rewards, self._behavior
        return [*columns, *([] if self._advice is None else [self._advice])]

    def _grow(self) -> None:
        """Twice as many rows."""
        kept, steps = self._collected, self._steps
        self._lay_out(max(64, 2 * steps), self._obs[0])
        for new, old in zip(self._collected, kept, strict=True):
            new[: len(old)] = old
        self._steps = steps


def _random_state(env: Any) -> dict[str, Any]:
    """The state of the generator that Gymnasium gives every environment."""
    return env.np_random.bit_generator.state


def _set_random_state(env: Any, state: dict[str, Any]) -> None:
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    env.np_random = np.random.Generator(bits)
