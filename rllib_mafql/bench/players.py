"""What `mafql bench rollout` compares: the ways to play the same episodes of a grid, one step after another."""

from __future__ import annotations

import atexit
import copy
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

#: What Grid2Op's own gym layer is asked to put into an observation: what the zones see, but for the calendar.
GYM_OBSERVATION = (
    "rho",
    "p_or",
    "line_status",
    "timestep_overflow",
    "time_before_cooldown_line",
    "time_next_maintenance",
    "gen_p",
    "actual_dispatch",
    "target_dispatch",
    "gen_p_before_curtail",
    "curtailment_limit",
    "load_p",
    "storage_charge",
    "storage_power",
)
GYM_ACTION = ("curtail", "redispatch", "set_storage")


@dataclass
class Episode:
    """An episode of random play, as it was played in the environment and as Grid2Op saw it."""

    arguments: dict[str, Any]  # of the environment's reset
    grid_arguments: dict[str, Any]  # of Grid2Op's reset
    joint: list[np.ndarray] = field(default_factory=list)  # each step's joint action (sum m_i,) in [-1, 1]
    sent: list[dict[str, Any]] = field(default_factory=list)  # each step's action, as Grid2Op's dictionary
    injections: list[Any] = field(default_factory=list)  # each step's injections and topology, for the backend


class Clock:
    """Times a method of an object, in whose place it is called; also counts the calls."""

    def __init__(self, owner: Any, name: str):
        self.seconds, self.calls = 0.0, 0
        self._method = getattr(owner, name)
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = time.perf_counter()
        try:
            return self._method(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - before
            self.calls += 1


class Player:
    """Plays steps and times them without the resets between episodes.

    Args:
        play: plays a number of steps, resetting wherever an episode is over.
        resets: times the resets within.
        timed: of the rest, what alone counts; None: everything.
    """

    def __init__(self, play: Callable[[int], None], resets: Clock, timed: Clock | None = None):
        self._play = play
        self._timed = timed
        self.resets = resets

    def seconds(self, steps: int) -> float:
        """Plays `steps` steps; returns how long they took."""
        before = self._clock()
        self._play(steps)
        return self._clock() - before

    def _clock(self) -> float:
        return time.perf_counter() - self.resets.seconds if self._timed is None else self._timed.seconds


def record_random_play(env: Any, steps: int, seed: int = 0) -> list[Episode]:
    """Plays uniformly random joint actions; at least `steps` steps, in whole episodes.

    env: a ZonedGridEnv whose every step is one of Grid2Op's (`fast_step` is off).
    """
    simulator, rng = env.simulator, np.random.default_rng(seed)
    originals = simulator.reset, simulator.step, simulator.backend.apply_action
    resets: list[dict[str, Any]] = []
    applied: list[Any] = []
    sent: list[dict[str, Any]] = []

    def reset(**kwargs: Any) -> Any:
        resets.append(kwargs)
        return originals[0](**kwargs)

    def step(action: Any) -> Any:
        sent.append(as_dictionary(action))
        return originals[1](action)

    def apply_action(action: Any) -> Any:
        applied.append(copy.deepcopy(action))
        return originals[2](action)

    simulator.reset, simulator.step, simulator.backend.apply_action = reset, step, apply_action
    episodes: list[Episode] = []
    try:
        while sum(len(episode.sent) for episode in episodes) < steps:
            resets.clear()
            arguments = {"seed": int(rng.integers(2**31 - 1))}
            env.reset(**arguments)
            episode = Episode(arguments, resets[-1])
            applied.clear()
            sent.clear()
            over = False
            while not over:
                action = {agent: rng.uniform(-1, 1, size) for agent, size in env.action_map.sizes.items()}
                _, _, terminated, truncated, _ = env.step(action)
                episode.joint.append(np.concatenate(list(action.values())))
                over = terminated["__all__"] or truncated["__all__"]
            episode.sent, episode.injections = list(sent), list(applied)
            episodes.append(episode)
    finally:
        simulator.reset, simulator.step, simulator.backend.apply_action = originals
    return episodes


def as_dictionary(action: Any) -> dict[str, Any]:
    """A Grid2Op action as the dictionary that Grid2Op's users write."""
    values: dict[str, Any] = {}
    for key, array, idle in (
        ("redispatch", action.redispatch, 0.0),
        ("curtail", action.curtail, -1.0),
        ("set_storage", action.storage_p, 0.0),
        ("set_line_status", action.line_set_status, 0),
    ):
        chosen = [(int(k), array[k].item()) for k in np.flatnonzero(array != idle)]
        if chosen:
            values[key] = chosen
    return values


def _replayed(episodes: list[Episode], reset: Callable[[Episode], Any], step: Callable[[Any], bool], part: str) -> Any:
    """A function that plays a number of steps: `part` of the episodes, over and over."""

    def moves() -> Iterator[None]:
        for episode in itertools.cycle(episodes):
            reset(episode)
            for move in getattr(episode, part):
                over = step(move)
                yield
                if over:
                    break

    playing = moves()

    def play(steps: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(steps):
                next(playing)

    return play


def plain_player(simulator: Any, episodes: list[Episode]) -> Player:
    """A Grid2Op environment, with its own dictionaries as actions."""
    resets = Clock(simulator, "reset")

    def step(sent: dict[str, Any]) -> bool:
        return simulator.step(simulator.action_space(sent))[2]

    return Player(_replayed(episodes, lambda e: simulator.reset(**e.grid_arguments), step, "sent"), resets)


def gym_player(simulator: Any, episodes: list[Episode]) -> Player:
    """Grid2Op's own gym layer with boxes of observations and actions (which cannot reconnect lines)."""
    from grid2op.gym_compat import BoxGymActSpace, BoxGymObsSpace, GymEnv

    env: Any = GymEnv(simulator)
    atexit.register(env.close)  # else it closes itself after its simulator, and complains
    env.observation_space = BoxGymObsSpace(simulator.observation_space, attr_to_keep=list(GYM_OBSERVATION))
    env.action_space = BoxGymActSpace(simulator.action_space, attr_to_keep=list(GYM_ACTION))
    grid, resets = type(simulator), Clock(env.init_env, "reset")
    units = {
        "curtail": np.flatnonzero(grid.gen_renewable),
        "redispatch": np.flatnonzero(grid.gen_redispatchable),
        "set_storage": np.arange(grid.n_storage),
    }
    idle = {"curtail": -1.0, "redispatch": 0.0, "set_storage": 0.0}
    boxes = {id(sent): _box(sent, units, idle) for episode in episodes for sent in episode.sent}

    def step(sent: dict[str, Any]) -> bool:
        return env.step(boxes[id(sent)])[2]

    return Player(_replayed(episodes, lambda e: env.init_env.reset(**e.grid_arguments), step, "sent"), resets)


def _box(sent: dict[str, Any], units: dict[str, np.ndarray], idle: dict[str, float]) -> np.ndarray:
    """The same as a point of Grid2Op's box of actions."""
    parts = []
    for name in GYM_ACTION:
        given = dict(sent.get(name, ()))
        parts.append([given.get(int(unit), idle[name]) for unit in units[name]])
    return np.concatenate(parts).astype(np.float32)


def env_player(env: Any, episodes: list[Episode]) -> Player:
    """ZonedGridEnv with dictionaries of agents."""
    ends = np.cumsum([env.action_map.sizes[agent] for agent in env.possible_agents])[:-1]

    def step(joint: np.ndarray) -> bool:
        actions = dict(zip(env.possible_agents, np.split(joint, ends), strict=True))
        _, _, terminated, truncated, _ = env.step(actions)
        return terminated["__all__"] or truncated["__all__"]

    resets = Clock(env.simulator, "reset")
    return Player(_replayed(episodes, lambda e: env.reset(**e.arguments), step, "joint"), resets)


def powerflow_player(simulator: Any, episodes: list[Episode]) -> Player:
    """The power flow alone, of every step's injections, which are set outside the time."""
    backend = simulator.backend
    alone = SimpleNamespace(runpf=backend.runpf)  # so that those of resets are not timed
    timed, resets = Clock(alone, "runpf"), Clock(simulator, "reset")

    def begin(episode: Episode) -> None:
        simulator.reset(**episode.grid_arguments)
        episode.injections[0].all_changed()

    def step(injections: Any) -> bool:
        backend.apply_action(injections)
        return not alone.runpf()[0]

    return Player(_replayed(episodes, begin, step, "injections"), resets, timed)
