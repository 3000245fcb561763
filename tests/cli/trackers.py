"""A tracker of results that keeps them in a list, in the place of those that need a service."""

from typing import Any

from ray.tune.logger import LoggerCallback


class Tracker(LoggerCallback):
    """Keeps the iterations that it was told; `offline` refuses to start, as trackers without a connection do."""

    told: list[tuple[str, int]] = []  # noqa: RUF012 - of all of them

    def __init__(self, project: str = "none", offline: bool = False) -> None:
        self.project = project
        self.offline = offline

    def setup(self, *args: Any, **info: Any) -> None:
        if self.offline:
            raise ConnectionError("the tracker does not answer")

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        Tracker.told.append((self.project, result["training_iteration"]))
