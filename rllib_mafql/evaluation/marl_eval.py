"""Results in the form that marl-eval reads (Gorsane et al., NeurIPS 2022)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any


def marl_eval(summary: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Environment -> task -> algorithm -> run -> step -> metric -> values, one for each episode.

    Every run has one step, since evaluation is of trained agents, and `absolute_metrics` are the same values; its
    `step_count` is 0, as results do not know for how long agents were trained.

    Args:
        summary: see `rllib_mafql.evaluation.results`.
        task: what the setting is called.
    """
    algorithms = {}
    for name, agent in summary["agents"].items():
        runs: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for episode in agent["episodes"]:
            for metric in agent["metrics"]:
                runs[episode["run"]][metric].append(episode[metric])
        algorithms[name] = {
            f"run_{run}": {"step_0": {"step_count": 0, **metrics}, "absolute_metrics": dict(metrics)}
            for run, metrics in sorted(runs.items())
        }
    return {summary["settings"]["grid"]: {task: algorithms}}
