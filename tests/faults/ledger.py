"""An environment whose observations tell which step they are, and what data must say if none was lost or doubled.

A step's name is (worker, environment of its process, number drawn for the episode, episode, step). Numbers are drawn
from the environment's generator, so that an exact resume finds them again and nothing else does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_mafql.offline.files import recorded_files

#: Steps of an episode.
STEPS = 20
NAME = 5
_DRAWN = 2**24  # float32 holds every integer up to it


class LedgerEnv(MultiAgentEnv):
    """Two agents, told the step's name and three numbers; reward 1 - mean squared distance of actions to two of these.

    config:
        faults: a folder; where it has a file `FAULT-WORKER`, an environment of that worker removes it and has the
            fault: `raise`, `reset` (raises there), `hang`, `nan`, `inf_reward`, or the clock jumps a day `forward` or
            `backward`.
        sleep_s: what a step takes.
    """

    _made = 0  # in this process

    def __init__(self, config: Any = None):
        super().__init__()
        self.worker = getattr(config, "worker_index", 0)
        config = dict(config or {})
        self.faults = Path(config["faults"]) if "faults" in config else None
        self.sleep_s = config.get("sleep_s", 0.0)
        self.number, LedgerEnv._made = LedgerEnv._made, LedgerEnv._made + 1
        self.possible_agents = self.agents = ["left", "right"]
        sizes = {"left": 4, "right": 4}
        self.observation_spaces = {a: gym.spaces.Box(-np.inf, np.inf, (n,), np.float32) for a, n in sizes.items()}
        self.action_spaces = {a: gym.spaces.Box(-1, 1, (1,), np.float32) for a in self.agents}
        self.np_random = np.random.default_rng()
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """A new episode, under a number drawn for it."""
        if self._has("reset"):
            raise RuntimeError("the simulator does not start")
        if seed is not None:
            self.np_random = np.random.default_rng(seed)
        self.episode, self.steps = self.episode + 1, 0
        self.drawn = int(self.np_random.integers(_DRAWN))
        return self._observe(), {}

    def step(self, actions: Any) -> Any:
        """One step, or what `faults` asks for."""
        if self.sleep_s:
            time.sleep(self.sleep_s)
        self._fail()
        self.steps += 1
        error = np.mean([(actions[a][0] - self.wanted[i]) ** 2 for i, a in enumerate(self.agents)])
        obs, reward, over = self._observe(), 1.0 - error, self.steps >= STEPS
        if self._has("nan"):
            obs["right"][2] = np.nan
        if self._has("inf_reward"):
            reward = np.inf
        return obs, dict.fromkeys(self.agents, reward), {"__all__": False}, {"__all__": over}, {}

    def _observe(self) -> dict[str, np.ndarray]:
        self.wanted = self.np_random.uniform(-1, 1, 3)
        left = [self.worker, self.number, self.drawn, self.wanted[0]]
        right = [self.episode, self.steps, self.wanted[2], self.wanted[1]]
        return {"left": np.array(left, np.float32), "right": np.array(right, np.float32)}

    def _has(self, fault: str) -> bool:
        file = None if self.faults is None else self.faults / f"{fault}-{self.worker}"
        if file is None or not file.exists():
            return False
        file.unlink()
        return True

    def _fail(self) -> None:
        if self._has("raise"):
            raise RuntimeError("the simulator broke")
        if self._has("hang"):
            time.sleep(10_000)
        for fault, seconds in (("forward", 86_400.0), ("backward", -86_400.0)):
            if self._has(fault):
                jump(seconds)


def jump(seconds: float) -> None:
    """Sets this process' clock, as far as Python reads it."""
    now = time.time
    time.time = lambda: now() + seconds


class Ledger(NamedTuple):
    """What transitions say of themselves."""

    names: np.ndarray  # (T, 5) int
    follow: np.ndarray  # (T, 5) int: the names of the observations that come next
    whole: bool  # from the first one on

    @property
    def duplicates(self) -> int:
        """Transitions that are there more than once."""
        return len(self.names) - len(np.unique(self.names, axis=0))

    @property
    def repeated(self) -> int:
        """Episodes that began as another one of their worker did: it played its random numbers twice."""
        episodes = np.unique(self.names[:, :4], axis=0)
        return len(episodes) - len(np.unique(episodes[:, [0, 2]], axis=0))

    @property
    def missing(self) -> int:
        """Steps before or between others of their episode that are not there."""
        order = np.lexsort(self.names.T[::-1])
        names = self.names[order]
        starts = np.append(True, (names[1:, :-1] != names[:-1, :-1]).any(1))
        steps, first = names[:, -1], np.flatnonzero(starts)
        gaps = int((np.diff(steps)[~starts[1:]] - 1).clip(0).sum())
        if not self.whole:  # what came first in an episode may have been overwritten
            return gaps
        return gaps + int(steps[first].sum())

    @property
    def wrong(self) -> int:
        """Transitions that are followed by anything but the next step of their episode."""
        expected = self.names + np.array([0] * (NAME - 1) + [1])
        return int((expected != self.follow).any(1).sum())

    def check(self) -> None:
        """Raises AssertionError unless everything is there, once, and in order."""
        found = {name: getattr(self, name) for name in ("duplicates", "repeated", "missing", "wrong")}
        assert len(self.names) and not any(found.values()), f"{len(self.names)} transitions, {found}"


def of_replay(replay: Any) -> Ledger:
    """The ledger of a JointReplay's transitions, oldest first."""
    columns = replay.rows_between(replay.first, replay.rows)
    names = _names(columns["obs"])
    transitions = np.flatnonzero(columns["ahead"])
    return Ledger(names[transitions], names[transitions + 1], replay.first == 0)


def of_recordings(folder: str | Path) -> tuple[Ledger, int]:
    """The ledger of recorded files, and the number of these."""
    files = recorded_files(Path(folder))
    names, follow = [], []
    for file in files:
        table = pq.read_table(file)
        for first, stop in _fragments(table["episode_id"].to_pylist(), table["step"].to_pylist()):
            rows = table.slice(first, stop - first)
            own = _names(_joint(rows, "obs"))
            last = _names(_joint(rows.slice(len(own) - 1), "final_obs"))
            names.append(own)
            follow.append(np.concatenate([own[1:], last]))
    return Ledger(np.concatenate(names), np.concatenate(follow), True), len(files)


def _fragments(episodes: list[str], steps: list[int]) -> Iterable[tuple[int, int]]:
    first = 0
    for row in range(1, len(steps) + 1):
        if row == len(steps) or episodes[row] != episodes[first] or steps[row] != steps[row - 1] + 1:
            yield first, row
            first = row


def _joint(table: Any, name: str) -> np.ndarray:
    return np.concatenate([np.stack(table[f"{name}.{a}"].to_pylist()) for a in ("left", "right")], 1)


def _names(obs: np.ndarray) -> np.ndarray:
    return obs[:, [0, 1, 2, 4, 5]].astype(np.int64)
