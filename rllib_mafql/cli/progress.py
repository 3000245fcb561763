"""One line per training iteration, the same in a terminal and in a log file."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from rllib_mafql.cli.trial_errors import last_error

#: Stop criteria that grow steadily, so that the time left can be estimated from them.
GROWING = ("training_iteration", "num_env_steps_sampled_lifetime", "time_total_s", "num_learner_updates")
#: What an iteration's time goes into: its name in the line, and in the metric `timers/share_*`.
SHARES = (("play", "sampling"), ("learn", "learning"), ("sync", "syncing"))
#: Iterations over which the pace is measured for that estimate.
PACE_WINDOW = 10


class ProgressLines(Callback):
    """Prints one line for each result of each trial.

    Args:
        console: Where to print.
        stop: The stop criteria (a mapping from metric path to value), or anything else for "unknown".
        iterations: Whether each result has its line; failures have theirs all the same.
    """

    def __init__(self, console: Console, stop: Any, iterations: bool = True) -> None:
        self._console = console
        self._iterations = iterations
        self._stop = dict(stop) if isinstance(stop, Mapping) else {}
        self._past: dict[str, deque[Mapping[str, Any]]] = {}  # trial id -> the last few results
        #: Trials that had neither finished nor failed after Tune's last step: those that Ctrl-C cuts off.
        self.unfinished: list[Trial] = []

    @property
    def reported(self) -> bool:
        """Whether any trial has reported a result."""
        return bool(self._past)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.unfinished = [trial for trial in trials if not trial.is_finished()]

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        past = self._past.setdefault(trial.trial_id, deque(maxlen=PACE_WINDOW))
        if not past and result.get("iterations_since_restore") == result["training_iteration"]:
            past.append(dict.fromkeys(GROWING, 0.0))  # the start of a trial that was not restored
        elif result.get("iterations_since_restore") == 1:
            past.clear()  # it goes on from a checkpoint, perhaps that of another trial
        seen = {key: result.get(key, 0.0) for key in GROWING}
        # RLlib repeats its last evaluation in every result until the next one.
        interval = trial.config.get("evaluation_interval") or 1
        line = describe(result, past[-1] if past else None, evaluated=result["training_iteration"] % interval == 0)
        past.append(seen)
        left = time_left(self._stop, past)
        if left is not None:
            line += f"  {clock(left)} left"
        if self._iterations:
            self._print(f"{trial}  {line}" if len(trials) > 1 else line)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._print(f"{trial} failed")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        saved = trial.latest_checkpoint_result
        if saved is None:
            start = "starts again from the beginning, since it wrote no checkpoint yet (see --checkpoint-freq)"
        else:
            start = f"goes on from iteration {saved.metrics.get('training_iteration')}, its last checkpoint"
        allowed = "any number" if trial.max_failures < 0 else str(trial.max_failures)
        failure = f"failure {trial.run_metadata.num_failures}, of which {allowed} are allowed"
        self._print(f"{trial} failed ({last_error(trial)[0]}) and {start} ({failure})")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def describe(result: Mapping[str, Any], before: Mapping[str, Any] | None, evaluated: bool = True) -> str:
    """The line for one result: iteration, steps, pace, what the time went into, returns, survival, time so far.

    Args:
        result: What the algorithm reported, RLlib's nested metrics.
        before: The values of `GROWING` one iteration ago; None if not known.
        evaluated: Whether the evaluation in `result` is new.
    """
    parts = [f"iter {result['training_iteration']:>4}"]
    steps = result.get("num_env_steps_sampled_lifetime")
    if steps is not None:
        parts.append(f"steps {int(steps):>9,}")
        seconds = result.get("time_this_iter_s") or 0.0
        if before is not None and seconds > 0:
            parts.append(f"{(steps - before.get('num_env_steps_sampled_lifetime', 0)) / seconds:>6,.0f}/s")
    shares = [(name, (result.get("timers") or {}).get(f"share_{part}")) for name, part in SHARES]
    if any(share is not None for _, share in shares):
        parts.append(" ".join(f"{name} {share or 0.0:>3.0%}" for name, share in shares))
    parts += _episodes("return", result.get("env_runners"))
    if evaluated:
        parts += _episodes("eval", (result.get("evaluation") or {}).get("env_runners"))
    return "  ".join([*parts, clock(result.get("time_total_s", 0.0))])


def _episodes(label: str, metrics: Mapping[str, Any] | None) -> list[str]:
    """Mean return, and the share of episodes survived where the environment reports it."""
    mean = (metrics or {}).get("episode_return_mean")
    if metrics is None or mean is None:
        return []
    survived = metrics.get("survived")
    return [f"{label} {mean:.4g}" + (f" (survived {survived:.2f})" if survived is not None else "")]


def time_left(stop: Mapping[str, Any], past: "deque[Mapping[str, Any]]") -> float | None:
    """Seconds until the first of the `GROWING` stop criteria is met at the recent pace; None if that cannot be told.

    Args:
        stop: Stop criteria.
        past: The values of `GROWING` of recent iterations, oldest first.
    """
    if len(past) < 2:
        return None
    first, last = past[0], past[-1]
    seconds = last["time_total_s"] - first["time_total_s"]
    estimates = []
    for key in GROWING:
        if key in stop and last[key] > first[key]:
            estimates.append(seconds * max(0.0, stop[key] - last[key]) / (last[key] - first[key]))
    return min(estimates, default=None)


def clock(seconds: float) -> str:
    """`seconds` as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
