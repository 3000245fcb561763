"""Results of several commands as those of one: the same episodes, played by other agents or by further runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.results import METRICS, summarize
from rllib_mafql.evaluation.rollouts import EpisodeResult
from rllib_mafql.evaluation.settings import INTERFACE_KEYS, config_key

Summary = Mapping[str, Any]


def merge(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """One summary of several, by the name of each; see `rllib_mafql.evaluation.results` for the keys.

    An agent that several of them have has all of their runs; a dispatcher, which always does the same, those of one.

    Raises:
        ValueError: They are not of the same settings, an agent is not of the same kind, algorithm or execution, or a
            run is there twice.
    """
    first_name, first = next(iter(summaries.items()))
    wanted = _same(first)
    agents: list[AgentSpec] = []
    results: list[EpisodeResult] = []
    curves: dict[tuple[str, int], Any] = {}
    runs: dict[str, int] = defaultdict(int)
    seen: dict[str, tuple[str, AgentSpec]] = {}
    played: set[tuple[str, Path | None]] = set()
    for name, summary in summaries.items():
        for key, value in _same(summary).items():
            if value != wanted[key]:
                raise ValueError(f"{name} and {first_name} differ in {key}: they are of different episodes")
        for agent_name, agent in summary["agents"].items():
            if agent["kind"] == "rule" and agent_name in seen:
                continue
            for run, spec in enumerate(_specs(agent_name, agent, summary["settings"]["env_config"])):
                other, like = seen.setdefault(agent_name, (name, spec))
                if _nature(like) != _nature(spec):
                    raise ValueError(f"{agent_name} is not the same agent in {name} and {other}")
                if spec.checkpoint is not None and (agent_name, spec.checkpoint) in played:
                    raise ValueError(
                        f"{agent_name}: the run {agent['checkpoints'][run]} is there twice, in {name} again"
                    )
                played.add((agent_name, spec.checkpoint))
                agents.append(replace(spec, run=runs[agent_name]))
                results += _episodes(agent_name, agent, run, runs[agent_name])
                if agent.get("curves"):
                    curves[agent_name, runs[agent_name]] = agent["curves"][run]
                runs[agent_name] += 1
    given = [summary["settings"] for summary in summaries.values()]
    settings = {
        **first["settings"],
        "wall_s": sum(one["wall_s"] for one in given),
        "command": "\n".join(dict.fromkeys(one["command"] for one in given)),
        "commit": ", ".join(dict.fromkeys(str(one["commit"]) for one in given)),
    }
    order = {name: k for k, name in enumerate(runs)}
    agents.sort(key=lambda agent: order[agent.name])
    return summarize(agents, results, settings, Path.cwd(), curves)


def _same(summary: Summary) -> dict[str, Any]:
    """What must agree: which episodes were played, through whatever interface, which is each agent's own."""
    settings = summary["settings"]
    config = {key: value for key, value in settings["env_config"].items() if key not in INTERFACE_KEYS}
    return {"grid": settings["grid"], "episodes": settings["episodes"], "env_config": config}


def _nature(spec: AgentSpec) -> tuple[Any, ...]:
    return spec.kind, spec.algorithm, spec.execution, spec.flow_steps, config_key(spec.env_config)


def _specs(name: str, agent: Mapping[str, Any], env_config: dict[str, Any]) -> Sequence[AgentSpec]:
    """An agent's runs."""
    config = {**env_config, **agent["interface"]}
    common = {"algorithm": agent["algorithm"], "execution": agent["execution"], "flow_steps": agent["flow_steps"]}
    paths = [None] if agent["checkpoints"] is None else [Path.cwd() / path for path in agent["checkpoints"]]
    return [AgentSpec(name, agent["label"], agent["kind"], config, checkpoint=path, **common) for path in paths]


def _episodes(name: str, agent: Mapping[str, Any], run: int, number: int) -> list[EpisodeResult]:
    """The episodes of one run, which gets another number."""
    played = [
        EpisodeResult(
            name,
            one["episode"],
            spec={"seed": one["seed"], "options": {"scenario": one["scenario"], "start": one["start"]}},
            metrics={key: one[metric] for metric, key in METRICS.items()},
            end_reason=one["end_reason"],
            run=number,
        )
        for one in agent["episodes"]
        if one["run"] == run
    ]
    lost = [
        EpisodeResult(name, one["episode"], error=one["error"], run=number)
        for one in agent["failed"]
        if one["run"] == run
    ]
    return played + lost
