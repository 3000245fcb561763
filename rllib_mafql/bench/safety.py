"""What the safety projection changes: the same agents in the same episodes, at each of its levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.rollouts import EpisodeResult, run_episodes
from rllib_mafql.evaluation.settings import merge

#: How Grid2Op's refusal to balance the dispatch is told.
IMPOSSIBLE = "redispatch impossible"


def measure_safety(
    agents: Sequence[AgentSpec],
    levels: Sequence[str],
    episodes: int,
    workers: int,
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[dict[str, Any]]:
    """Lets every agent play the same episodes at each level.

    Args:
        agents: From `resolve_agents`.
        levels: Of `env_config.safety.level`.
        episodes: Of each agent and level.
        workers: Ray workers; 0 plays in this process.
        on_result: Called with each episode's result.
        on_note: Called with what the user should know.

    Returns:
        For each agent and level: "agent", "level", "episodes", "steps" (played), "survival" (share of episodes),
        "score" (mean), "overload_steps" (all episodes together), "overload_steps_per_1000" (steps played),
        "refused_actions" (illegal or ambiguous ones), "impossible_redispatch" (episodes ended by it), "decision_ms"
        (mean) and "errors" (episodes without a result); with a projection "projected" (share of steps) and
        "projection_distance" (mean); with lines "unguaranteed" (share of steps in which some zone's lines were not
        guaranteed) and "broken_guarantees" (steps after which a line was above its limit although all were).
    """
    rows = []
    for level in levels:
        specs = [replace(agent, env_config=merge(agent.env_config, {"safety": {"level": level}})) for agent in agents]
        results = run_episodes(specs, episodes, workers=workers, on_result=on_result, on_note=on_note)
        for agent in agents:
            own = [result for result in results if result.agent == agent.name]
            rows.append({"agent": agent.name, "level": level, **_summary(own, level)})
    return rows


def _summary(results: Sequence[EpisodeResult], level: str) -> dict[str, Any]:
    whole = [result for result in results if result.error is None]
    count, steps = max(len(whole), 1), max(_sum(whole, "steps"), 1.0)
    overload = _sum(whole, "overload_steps")
    summary: dict[str, Any] = {
        "episodes": len(results),
        "steps": int(_sum(whole, "steps")),
        "survival": _sum(whole, "survived") / count,
        "score": _sum(whole, "score") / count,
        "overload_steps": int(overload),
        "overload_steps_per_1000": 1e3 * overload / steps,
        "refused_actions": int(_sum(whole, "illegal_actions")),
        "impossible_redispatch": sum(result.end_reason == IMPOSSIBLE for result in whole),
        "decision_ms": _sum(whole, "decision_ms") / count,
        "errors": len(results) - len(whole),
    }
    if whole and level != "none":
        distance = sum(result.metrics["projection_distance"] * result.metrics["steps"] for result in whole)
        summary |= {
            "projected": _sum(whole, "projected_steps") / steps,
            "projection_distance": distance / steps,
        }
    if whole and level == "lines":
        summary |= {
            "unguaranteed": _sum(whole, "unguaranteed_steps") / steps,
            "broken_guarantees": int(_sum(whole, "broken_guarantees")),
        }
    return summary


def _sum(results: Sequence[EpisodeResult], metric: str) -> float:
    return sum(result.metrics[metric] for result in results)
