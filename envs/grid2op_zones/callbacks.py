"""For RLlib's own algorithms: what an episode came to, among the results."""

from __future__ import annotations

from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback


class EpisodeMetrics(RLlibCallback):
    """Logs every episode's `episode_metrics` (survived, score, safety, ...) under `env_runners/`.

    In a YAML: `callbacks: grid2op_zones.callbacks.EpisodeMetrics`. MAFQL's own runner logs them without it.
    """

    def on_episode_end(self, *args: Any, **kwargs: Any) -> None:
        """Called by RLlib's env runners at the end of each episode."""
        info = next(iter(kwargs["episode"].get_infos(-1).values()))
        for name, value in info["episode_metrics"].items():
            kwargs["metrics_logger"].log_value(name, value, window=100)
