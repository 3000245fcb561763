"""What env runners report of steps and episodes, under RLlib's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)

from rllib_mafql.slots import Slot


def log_steps(metrics: Any, agents: Sequence[str], steps: int) -> None:
    """Counts environment steps in RLlib's MetricsLogger, in each of which every agent took one."""
    metrics.log_value(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
    metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum", with_throughput=True)
    metrics.log_value(NUM_EPISODES, 0, reduce="sum")
    for agent in agents:
        metrics.log_value((NUM_AGENT_STEPS_SAMPLED, agent), steps, reduce="sum")
        metrics.log_value((NUM_AGENT_STEPS_SAMPLED_LIFETIME, agent), steps, reduce="lifetime_sum")


def log_episode(metrics: Any, slot: Slot, info: dict[str, Any], window: int) -> None:
    """The learned policy's episodes under RLlib's names; those with a behaviour policy under behavior/.

    info: of the last step. window: episodes that means and extremes are taken over.
    """
    group = () if slot.own else ("behavior",)
    metrics.log_value(NUM_EPISODES, 1, reduce="sum")
    metrics.log_value(NUM_EPISODES_LIFETIME, 1, reduce="lifetime_sum")
    means = {EPISODE_RETURN_MEAN: slot.total, EPISODE_LEN_MEAN: slot.length}
    means |= info.get("episode_metrics", {})
    for name, value in means.items():
        metrics.log_value((*group, name), value, window=window)
    extremes = {
        "min": {EPISODE_RETURN_MIN: slot.total, EPISODE_LEN_MIN: slot.length},
        "max": {EPISODE_RETURN_MAX: slot.total, EPISODE_LEN_MAX: slot.length},
    }
    for reduce, values in extremes.items():
        for name, value in values.items():
            metrics.log_value((*group, name), value, reduce=reduce, window=window)
