"""Agents playing held-out episodes, in this process or in parallel on Ray workers.

Every (agent, episode) pair is one task. A worker keeps one environment per distinct env_config and one policy per
agent; which worker plays a task does not change its result, since the environment's `episode_spec(k)` fixes episode k
for all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.policies import Policy, SetupError, build_policy
from rllib_mafql.evaluation.settings import config_key

ATTEMPTS = 2  # of a task whose worker died
PATIENCE_S = 60.0  # without a first result, after which the user is told

EnvCreator = Callable[[dict[str, Any]], Any]


@dataclass
class Trace:
    """The course of one episode: T points in time, from its start to the last state in which the grid is up.

    What a zone does is the change of its injections against the schedule: redispatch, curtailment and storage
    together. Within a zone they may well sum to nothing, so both directions are told.

    Attributes:
        rho_max: (T,) highest line loading, as a share of its thermal limit.
        raised_mw: zone -> (T,) MW that its units inject above schedule (raised generators, discharging storage).
        lowered_mw: zone -> (T,) MW below it, not positive (lowered generators, curtailed wind and sun, charging
            storage).
        step_minutes: time between points.
        start: the first point's time stamp, ISO 8601.
    """

    rho_max: np.ndarray
    raised_mw: dict[str, np.ndarray]
    lowered_mw: dict[str, np.ndarray]
    step_minutes: float
    start: str


@dataclass
class EpisodeResult:
    """One agent's episode.

    Attributes:
        agent: `AgentSpec.name`.
        episode: its number k.
        spec: what the environment was reset with, its `episode_spec(k)`.
        metrics: the environment's episode metrics ("survived", "score", ...), "steps", "dispatched_mwh" and
            "curtailed_mwh", energy moved by redispatch, either way, and curtailed, and "decision_ms", the mean time of
            one decision for all zones together.
        end_reason: why it ended, in the environment's words.
        trace: its course.
        run: which of the agent's runs played it, `AgentSpec.run`.
        error: why there is no result, if there is none; then the fields above are empty.
    """

    agent: str
    episode: int
    spec: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    end_reason: str = ""
    trace: Trace | None = None
    error: str | None = None
    run: int = 0


def create_env(env_config: dict[str, Any]) -> Any:
    """Build `ZonedGridEnv`."""
    from grid2op_zones import ZonedGridEnv

    return ZonedGridEnv(env_config)


def play(
    env: Any,
    policy: Policy,
    agent: str,
    episode: int,
    run: int = 0,
    watch: Callable[[Any], None] = lambda env: None,
) -> EpisodeResult:
    """Play episode number `episode` to its end.

    Args:
        env: a ZonedGridEnv.
        policy: built for it.
        agent: name to put on the result.
        episode: k of `env.episode_spec(k)`.
        run: number to put on the result.
        watch: called with the environment at the start and after every step, while the grid is up.
    """
    spec = env.episode_spec(episode)
    observations, _ = env.reset(**spec)
    policy.start(episode)
    start = env.grid_state.get_time_stamp().isoformat()
    step_minutes = float(env.grid_state.delta_time)
    points = [_point(env)]
    watch(env)
    steps, deciding, done = 0, 0.0, False
    energy = np.zeros(2)
    while not done:
        before = time.perf_counter()
        actions = policy.act(observations)
        deciding += time.perf_counter() - before
        observations, _, terminated, truncated, infos = env.step(actions)
        steps += 1
        done = terminated["__all__"] or truncated["__all__"]
        if not terminated["__all__"]:  # of a grid that is down there is nothing to show
            points.append(_point(env))
            energy += _moved_mw(env)
            watch(env)
    info = next(iter(infos.values()))
    rho_max, raised, lowered = (np.array(column) for column in zip(*points, strict=True))
    names = [zone.name for zone in env.zones]
    return EpisodeResult(
        agent,
        episode,
        spec=spec,
        metrics={
            **info["episode_metrics"],
            **dict(zip(("dispatched_mwh", "curtailed_mwh"), (energy * step_minutes / 60.0).tolist(), strict=True)),
            "steps": float(steps),
            "decision_ms": 1e3 * deciding / steps,
        },
        end_reason=info["end_reason"],
        trace=Trace(
            rho_max=rho_max,
            raised_mw=dict(zip(names, raised.T, strict=True)),
            lowered_mw=dict(zip(names, lowered.T, strict=True)),
            step_minutes=step_minutes,
            start=start,
        ),
        run=run,
    )


def _moved_mw(env: Any) -> np.ndarray:
    """MW that are redispatched, either way, and MW that are curtailed, in the environment's present state."""
    obs = env.grid_state
    moved = sum(float(np.abs(obs.actual_dispatch[zone.redispatchable]).sum()) for zone in env.zones)
    curtailed = sum(
        float(np.maximum(obs.gen_p_before_curtail - obs.gen_p, 0.0)[zone.curtailable].sum()) for zone in env.zones
    )
    return np.array([moved, curtailed])


def _point(env: Any) -> tuple[float, list[float], list[float]]:
    """Highest loading and, per zone, the injected MW above and below schedule in the environment's present state."""
    obs = env.grid_state
    raised, lowered = [], []
    for zone in env.zones:
        changes = np.concatenate(
            [
                obs.actual_dispatch[zone.redispatchable],
                np.minimum(obs.gen_p[zone.curtailable] - obs.gen_p_before_curtail[zone.curtailable], 0.0),
                -obs.storage_power[zone.storages],
            ]
        )
        raised.append(float(changes[changes > 0].sum()))
        lowered.append(float(changes[changes < 0].sum()))
    return float(obs.rho.max()), raised, lowered


class EpisodePlayer:
    """Plays tasks, keeping environments and policies between them; a Ray actor or used as it is."""

    def __init__(self, env_creator: EnvCreator = create_env) -> None:
        import torch

        torch.set_num_threads(1)  # one decision at a time: more threads only get in the other workers' way
        self._env_creator = env_creator
        self._envs: dict[str, Any] = {}
        self._policies: dict[tuple[str, int], Policy] = {}

    def play(self, agent: AgentSpec, episode: int) -> EpisodeResult:
        """Play one task; an agent that cannot be loaded raises, what goes wrong in play is the result's `error`."""
        key = config_key(agent.env_config)
        if key not in self._envs:
            try:
                self._envs[key] = self._env_creator(agent.env_config)
            except ValueError as error:
                raise SetupError(str(error)) from error
        env = self._envs[key]
        own = agent.name, agent.run
        if own not in self._policies:
            self._policies[own] = build_policy(agent, env)
        try:
            return play(env, self._policies[own], agent.name, episode, agent.run)
        except Exception as error:  # one bad episode must not cost the others; it is reported and fails the command
            del self._envs[key]  # its state is unknown now, and the policies hold it
            self._policies.clear()
            return EpisodeResult(agent.name, episode, error=f"{type(error).__name__}: {error}", run=agent.run)


def run_episodes(
    agents: Sequence[AgentSpec],
    episodes: int,
    *,
    workers: int,
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
    on_note: Callable[[str], None] = lambda note: None,
    env_creator: EnvCreator = create_env,
) -> list[EpisodeResult]:
    """Let every agent play episodes 0 .. episodes - 1.

    Args:
        agents: with distinct names.
        episodes: at least 1.
        workers: workers of one CPU each on the Ray that this process is connected to; 0 plays in this process,
            without Ray.
        on_result: called with each result as it comes in, in any order.
        on_note: called with what the user should know, such as a worker that died.
        env_creator: env_config -> environment.

    Returns:
        The results, by agent and then by episode; those that failed carry an `error`.

    Raises:
        SetupError: an environment that cannot be built, or an agent that does not fit it.
        ValueError: a nonsensical number.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    tasks = [(agent, k) for agent in agents for k in range(episodes)]
    results: list[EpisodeResult] = []

    def collect(result: EpisodeResult) -> None:
        results.append(result)
        on_result(result)

    if workers == 0:
        player = EpisodePlayer(env_creator)
        for agent, k in tasks:
            collect(player.play(agent, k))
    else:
        _run_on_ray(tasks, min(workers, len(tasks)), env_creator, collect, on_note)
    order = {agent.name: i for i, agent in enumerate(agents)}
    return sorted(results, key=lambda result: (order[result.agent], result.run, result.episode))


def _run_on_ray(
    tasks: Sequence[tuple[AgentSpec, int]],
    workers: int,
    env_creator: EnvCreator,
    collect: Callable[[EpisodeResult], None],
    on_note: Callable[[str], None],
) -> None:
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    cpus = int(ray.cluster_resources().get("CPU", 0))
    if workers > cpus:
        on_note(f"Ray has {cpus} CPUs, so {cpus} workers play instead of {workers}")
        workers = cpus
    actor_class = ray.remote(num_cpus=1)(EpisodePlayer)
    waiting = deque((agent, k, 1) for agent, k in tasks)
    playing: dict[Any, tuple[Any, AgentSpec, int, int]] = {}  # reference -> actor, task, attempt

    def give(actor: Any) -> None:
        if waiting:
            agent, k, attempt = waiting.popleft()
            playing[actor.play.remote(agent, k)] = (actor, agent, k, attempt)

    for _ in range(workers):
        give(actor_class.remote(env_creator))
    patience: float | None = PATIENCE_S
    while playing:
        ready, _ = ray.wait(list(playing), num_returns=1, timeout=patience)
        if not ready:
            free = ray.available_resources().get("CPU", 0)
            on_note(f"no episode is done after {patience:.0f} s; of Ray's {cpus} CPUs {free:g} are free")
            patience = None
            continue
        patience = None
        actor, agent, k, attempt = playing.pop(ready[0])
        try:
            collect(ray.get(ready[0]))
        except (RayActorError, OutOfMemoryError) as error:
            if attempt < ATTEMPTS:
                on_note(f"a worker died in episode {k} of {agent.name}, which is played again ({_cause(error)})")
                waiting.appendleft((agent, k, attempt + 1))
            else:
                on_note(f"a worker died again in episode {k} of {agent.name}, which is given up ({_cause(error)})")
                collect(EpisodeResult(agent.name, k, error=f"its worker died {ATTEMPTS} times", run=agent.run))
            actor = actor_class.remote(env_creator)
        except RayTaskError as error:
            raise error.cause from error
        give(actor)


def _cause(error: Exception) -> str:
    """What Ray knows of a worker's death, without its paragraphs of advice."""
    text = " ".join(str(error).split())
    _, found, detail = text.partition("Worker exit detail: ")
    return (detail if found else text).partition(". ")[0]
