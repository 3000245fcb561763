"""Workers that play behaviour policies and record them: each one writes for itself, the driver only hands out steps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.folder_lock import share_lock

if TYPE_CHECKING:
    from rllib_mafql import MAFQLConfig

CHUNK = 200  # steps handed out at a time
AHEAD = 2  # chunks that a worker has, so that it never waits for the driver
POLL_S = 0.2  # how often to ask whether to stop
PATIENCE = 3  # deaths in a row of workers that played nothing, and rounds that add nothing to the files

#: Agents in joint order as (name, observation size, action size), and the environment's fingerprint.
Interface = tuple[list[tuple[str, int, int]], dict[str, Any] | None]


class Player:
    """A Ray actor around one env runner. What goes wrong in it reaches the driver as it was raised."""

    def __init__(self, folder: Path) -> None:
        import torch

        torch.set_num_threads(1)  # more threads only get in the other workers' way
        self._lock = share_lock(folder)
        self._runner: Any = None

    def start(self, config: MAFQLConfig, worker_index: int) -> Interface:
        """Builds the environment."""
        import rllib_mafql
        from rllib_mafql.env_runner import JointEnvRunner

        rllib_mafql.register()
        self._runner = JointEnvRunner(config=config, worker_index=worker_index, num_workers=config.num_env_runners)
        env = self._runner.env
        agents = [
            (agent, env.get_observation_space(agent).shape[0], env.get_action_space(agent).shape[0])
            for agent in env.possible_agents
        ]
        return agents, self._runner.fingerprint

    def play(self, steps: int) -> int:
        """Plays and records; returns how many steps were played."""
        rollouts = self._runner.sample(num_timesteps=steps, behavior=True)
        self._runner.get_metrics()  # or else it keeps them for ever
        return sum(rollout.steps for rollout in rollouts)

    def flush(self) -> None:
        """Writes what is not in a file yet."""
        self._runner.flush_recording()


class Crew:
    """Workers of one CPU each on the Ray that this process is connected to, and what they are busy with.

    Args:
        config: with `output` set to the folder.
        folder: where they write; its lock is held.
        workers: how many.
        seed: a worker's episodes follow from this and its number; those of a worker that takes a dead one's place are
            others.
        check: called with the environment's interface when the first worker has built it; may raise.
        on_steps: called with the number of steps whenever some were played.
        on_note: called with what the user should know, such as a worker that died.
    """

    def __init__(
        self,
        config: MAFQLConfig,
        folder: Path,
        workers: int,
        seed: list[int],
        *,
        check: Callable[[Interface], None],
        on_steps: Callable[[int], None],
        on_note: Callable[[str], None],
    ) -> None:
        self._config, self._folder, self._workers, self._seed = config, folder, workers, seed
        self._check, self._on_steps, self._on_note = check, on_steps, on_note
        self._players: list[Any] = []  # those that have an environment
        self._starting: dict[Any, Any] = {}  # reference of start() -> player
        self._busy: dict[Any, Any] = {}  # reference of play() -> player
        self._hired = self._deaths = self._left = 0
        self._began = self._ended = 0.0

    @property
    def seconds(self) -> float:
        """From when the first worker could play to the last flush, or until now."""
        return (self._ended or time.perf_counter()) - self._began if self._began else 0.0

    def play(self, missing: Callable[[], int], stopped: Callable[[], bool] = lambda: False) -> None:
        """Plays until nothing is missing or it is stopped.

        Whatever ends it, all that was played is in the files then, but for what dead workers had not written.

        Args:
            missing: counts, from the files, how many steps are still to be recorded.
            stopped: asked again and again whether to end.

        Raises:
            InputError: the environment cannot be made, workers keep dying, or nothing arrives in the files.
            Exception: what the environment or the writer raised.
        """
        vain, before = 0, missing()
        try:
            while before > 0:
                self._play_round(before, stopped)
                self.flush()
                if stopped():
                    return
                now = missing()
                vain = vain + 1 if now == before else 0
                if vain == PATIENCE:
                    raise InputError(f"workers play, but nothing arrives in {self._folder}; do they share that folder?")
                before = now
        except BaseException:
            self.flush()
            raise
        finally:
            self._dismiss()

    def flush(self) -> None:
        """Has every worker play what it was given, then write everything; those that only start are given up."""
        import ray
        from ray.exceptions import RayError

        for player in self._starting.values():
            ray.kill(player)
        self._starting.clear()
        flushing = [(player.flush.remote(), player) for player in self._players]
        for reference, player in flushing:
            try:
                ray.get(reference)
            except RayError as error:
                self._players.remove(player)
                self._on_note(f"a worker could not write its last steps ({cause(error)})")
        self._busy.clear()
        if self._began:
            self._ended = time.perf_counter()

    def _dismiss(self) -> None:
        """Ends the workers; with them goes their share in the folder's lock."""
        import ray

        for player in self._players:
            ray.kill(player)
        self._players = []

    def _play_round(self, steps: int, stopped: Callable[[], bool]) -> None:
        """Plays `steps` steps, fewer if workers die: what those had written is known only from the files."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

        self._left, self._ended = steps, 0.0
        for player in self._players:
            self._give(player)
        for _ in range(self._workers - len(self._players)):
            self._hire()
        while self._left > 0 or self._busy:
            ready, _ = ray.wait([*self._busy, *self._starting], num_returns=1, timeout=POLL_S)
            if stopped():
                return
            if not ready:
                continue
            [reference] = ready
            begins = reference in self._starting
            player = (self._starting if begins else self._busy).pop(reference)
            try:
                result = ray.get(reference)
            except (RayActorError, OutOfMemoryError) as error:
                self._replace(player, error)
                continue
            except RayTaskError as error:
                raise as_raised(error, begins) from error
            if begins:
                self._begin(player, result)
            else:
                self._deaths = 0
                self._on_steps(result)
            self._give(player)

    def _begin(self, player: Any, interface: Interface) -> None:
        self._players.append(player)
        if not self._began:
            self._check(interface)
            self._began = time.perf_counter()

    def _give(self, player: Any) -> None:
        """Fills up the player's chunks."""
        while self._left > 0 and Counter(self._busy.values())[player] < AHEAD:
            steps = min(CHUNK, self._left)
            self._left -= steps
            self._busy[player.play.remote(steps)] = player

    def _hire(self) -> None:
        import ray

        self._hired += 1
        config: Any = self._config.copy(copy_frozen=False)
        # 31 bits: RLlib adds the worker's index
        config.seed = int(np.random.SeedSequence([*self._seed, self._hired]).generate_state(1)[0] >> 1)
        player: Any = ray.remote(num_cpus=1)(Player).remote(self._folder)
        self._starting[player.start.remote(config, self._hired)] = player

    def _replace(self, player: Any, error: Exception) -> None:
        self._deaths += 1
        self._busy = {reference: other for reference, other in self._busy.items() if other != player}
        if player in self._players:
            self._players.remove(player)
        if self._deaths > PATIENCE:
            raise InputError(f"workers keep dying ({cause(error)})")
        self._on_note(f"a worker died and is replaced; what it had not written is played again ({cause(error)})")
        self._hire()


def as_raised(error: Any, begins: bool) -> BaseException:
    """What a worker raised; as InputError if it says that the environment cannot be made as it is asked for."""
    raised = error.cause
    if begins and isinstance(raised, ValueError | OSError):
        return InputError(f"the environment cannot be made: {summary(raised)}")
    return raised


def cause(error: Exception) -> str:
    """What Ray knows of a worker's death or failure, without its paragraphs of advice."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, Exception):
        return summary(inner)
    text = " ".join(str(error).split())
    _, found, detail = text.partition("Worker exit detail: ")
    return (detail if found else text).partition(". ")[0]
