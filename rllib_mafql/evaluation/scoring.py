"""Grid2Op's own scorers, unchanged, on Grid2Op agents, beside this project's composite score on the same episodes.

The episodes are those of `mafql evaluate`, from any source of series; see `rllib_mafql.evaluation.scoring_series` for
how the scorers get them. Two things differ: storages start one step of losses fuller, and an opponent draws other
attacks, the same for all agents.

The result's keys are stable::

    format          1; raised when a key changes its meaning
    settings        grid, env_config, episodes, grid2op (its version), wall_s; in files also command, version and commit
    agents          name -> one agent, in the order they were given:
        metrics         metric -> mean over the episodes
        episodes        list, one per episode: episode, seed, scenario (source, series and row), possible_steps, and
                        each metric

Metrics:

    score_l2rpn_2022    from ScoreL2RPN2022, in [-100, 100]: 100 would be a grid run for nothing, 80 is one where lines
                        never trip and are closed again, 0 is Grid2Op's do-nothing agent, -100 a blackout at once
    score_l2rpn_2020    the same from ScoreL2RPN2020, which is made of L2RPNSandBoxScore; the two price storages
                        differently
    sandbox_cost        L2RPNSandBoxScore itself: losses, dispatch, curtailment and storage, in the grid's currency,
                        mean per step; less is better; a step that ends in a blackout is left out, null if it is the
                        first one
    survival            0 or 1
    score, safety, cost, renewables, alive
                        per step of a full episode, in [0, 1], a step after a blackout counting 0
    overload_steps      steps with a line above its limit
    steps               steps played
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grid2op
import numpy as np
from grid2op.Agent import BaseAgent
from grid2op.Episode import EpisodeData
from grid2op.utils import EpisodeStatistics, ScoreL2RPN2020, ScoreL2RPN2022

from grid2op_zones import ZonedGridEnv
from grid2op_zones.reward import COMPONENTS, CompositeReward
from grid2op_zones.simulator import grid_references
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.scoring_series import Episode, Episodes, ScoredGrid, record_episodes, series_name

FORMAT = 1

#: Metric -> the scorer that gives it.
SCORERS = {"score_l2rpn_2022": ScoreL2RPN2022, "score_l2rpn_2020": ScoreL2RPN2020}

METRICS = (*SCORERS, "sandbox_cost", "survival", "score", *COMPONENTS, "overload_steps", "steps")

#: Agents that every scorer plays to fix its scale: do nothing; and reconnect lines, which are kept from tripping.
REFERENCES = 2

#: What the composite reward reads of an observation, and how the observation of a blackout is told.
_READ = ("rho", "gen_p_before_curtail", "gen_p", "load_p", "actual_dispatch", "storage_power", "line_status")

#: Builds an agent from a Grid2Op environment of the grid.
AgentMaker = Callable[[Any], BaseAgent]

#: Called with what is being played, the steps played so far, and all steps; those after a blackout count as played.
Report = Callable[[str, int, int], None]


def score(
    agents: Mapping[str, AgentMaker],
    env_config: Mapping[str, Any],
    episodes: int,
    *,
    on_progress: Report = lambda run, step, total: None,
) -> dict[str, Any]:
    """Score agents on the same episodes, with the same seeds.

    Args:
        agents: name -> what builds it.
        env_config: of `ZonedGridEnv`, whose episodes, limits and rules are played.
        episodes: at least 1.
        on_progress: told how far it is.

    Returns:
        See this module's docstring.

    Raises:
        SetupError: The environment or an agent cannot be built.
        ValueError: A nonsensical number.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    started = time.perf_counter()
    try:
        env = ZonedGridEnv(env_config)
    except ValueError as error:
        raise SetupError(str(error)) from error
    try:
        players = _build(agents, env.simulator)
        recorded = record_episodes(env, episodes)
        load = float(grid_references(env.simulator, env.config).loads.sum())
        reward = CompositeReward(env.simulator, env.config["reward"], load)
        progress = _Progress(recorded, len(SCORERS) * (REFERENCES + len(players)), on_progress)
        played: dict[str, list[dict[str, Any]]] = {name: [{} for _ in recorded] for name in players}
        with tempfile.TemporaryDirectory(prefix="mafql_score_") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for metric in SCORERS:
                grid = ScoredGrid(env.simulator, recorded, Path(folder) / metric)
                _run_scorer(metric, grid, recorded, players, reward, played, progress)
            progress.begin("done", 0)
    finally:
        env.close()
    settings = {"grid": env.config["grid"], "env_config": env.config, "episodes": episodes}
    settings.update(grid2op=grid2op.__version__, wall_s=round(time.perf_counter() - started, 1))
    return {
        "format": FORMAT,
        "settings": settings,
        "agents": {name: _summary(recorded, values) for name, values in played.items()},
    }


def _build(agents: Mapping[str, AgentMaker], simulator: Any) -> dict[str, BaseAgent]:
    try:
        return {name: make(simulator) for name, make in agents.items()}
    except ValueError as error:
        raise SetupError(str(error)) from error


def _run_scorer(
    metric: str,
    grid: ScoredGrid,
    episodes: Episodes,
    players: Mapping[str, BaseAgent],
    reward: CompositeReward,
    played: Mapping[str, Sequence[dict[str, Any]]],
    progress: _Progress,
) -> None:
    """Adds to `played` what one scorer and the records of its runs say of every agent and episode."""
    scorer_class = SCORERS[metric]
    progress.begin(f"{scorer_class.__name__}: references", REFERENCES)
    scorer = scorer_class(
        grid,
        env_seeds=[episode.seed for episode in episodes],
        agent_seeds=list(range(len(episodes))),
        nb_scenario=len(episodes),
        max_step=max(episode.steps for episode in episodes),
    )
    for name, agent in players.items():
        progress.begin(f"{scorer_class.__name__}: {name}", 1)
        with tempfile.TemporaryDirectory(dir=grid.get_path_env()) as records:
            scores, *_ = scorer.get(agent, path_save=records)
            for k, (episode, values) in enumerate(zip(episodes, played[name], strict=True)):
                values[metric] = float(scores[k])
                record = Path(records) / series_name(k)
                if scorer_class is ScoreL2RPN2022:
                    values.update(_composite(record, episode, grid, reward))
                else:
                    values["sandbox_cost"] = _sandbox_cost(record, values["survival"])
    scorer.clear_all()


def _composite(record: Path, episode: Episode, grid: Any, reward: CompositeReward) -> dict[str, float]:
    """The episode metrics of `ZonedGridEnv`, from the observations that Grid2Op's runner has written down."""
    steps = _json(record / EpisodeData.META_FILE)["nb_timestep_played"]
    with np.load(record / EpisodeData.OBSERVATIONS_FILE) as file:
        observations = file["data"][1 : steps + 1]
    columns = {}
    for name in _READ:
        first, last, _ = grid.observation_space.get_indx_extract(name)
        columns[name] = np.ascontiguousarray(observations[:, first:last], dtype=np.float32)
    up = [k for k in range(steps) if columns["line_status"][k].any()]  # no line is in service after a blackout
    values = dict.fromkeys(("score", *COMPONENTS), 0.0)
    for k in up:
        components = reward.components(SimpleNamespace(**{name: column[k] for name, column in columns.items()}))
        for name, value in {"score": reward.total(components), **components}.items():
            values[name] += value
    return {
        "survival": float(len(up) == episode.steps),
        **{name: value / episode.steps for name, value in values.items()},
        "overload_steps": float((columns["rho"][up].max(axis=1) > 1.0).sum()),
        "steps": float(steps),
    }


def _sandbox_cost(record: Path, survival: float) -> float | None:
    costs = [values[EpisodeStatistics.KEY_SCORE] for values in _json(record / EpisodeData.OTHER_REWARDS_FILE)]
    if not survival:
        costs = costs[:-1]
    return float(np.mean(costs)) if costs else None


def _summary(episodes: Episodes, played: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means = {}
    for metric in METRICS:
        values = [episode[metric] for episode in played if episode[metric] is not None]
        means[metric] = float(np.mean(values)) if values else None
    whats = [
        {"episode": k, "seed": episode.seed, "scenario": episode.scenario, "possible_steps": episode.steps}
        for k, episode in enumerate(episodes)
    ]
    return {
        "metrics": means,
        "episodes": [
            {**what, **{metric: values[metric] for metric in METRICS}}
            for what, values in zip(whats, played, strict=True)
        ],
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class _Progress:
    """Counts the rows that series hand out."""

    def __init__(self, episodes: Episodes, runs: int, report: Report) -> None:
        self._steps = sum(episode.steps for episode in episodes)
        self._total = runs * self._steps
        self._report = report
        self._label, self._done, self._end = "", 0, 0
        episodes.on_row = self._advance

    def begin(self, label: str, runs: int) -> None:
        """The run before has ended, wherever it got to."""
        self._label, self._done = label, self._end
        self._end += runs * self._steps
        self._report(label, self._done, self._total)

    def _advance(self) -> None:
        if self._done < self._end:
            self._done += 1
        self._report(self._label, self._done, self._total)
