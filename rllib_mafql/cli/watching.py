"""Callbacks of a search: the scheduler's state is kept, its metric is looked after, and exploits are told."""

import io
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.cloudpickle import CloudPickler
from ray.train._internal.session import _FutureTrainingResult
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.console import Console

from rllib_mafql.cli.errors import InputError, nearest, warn
from rllib_mafql.cli.metric_names import METRICS
from rllib_mafql.cli.space import dotted
from rllib_mafql.ranges import Range

#: So many results of a trial may lack the metric though its group is there.
PATIENCE = 3


class SchedulerState(Callback):
    """Keeps a scheduler's state with the experiment's, and gives it back when that is resumed.

    Tune saves trials, search algorithm and callbacks, but not the scheduler: ASHA would forget what trials had reached
    at its rungs, and a population when it was last perturbed.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._saved: bytes | None = None

    def get_state(self) -> dict[str, Any]:
        """The scheduler's state; it refers to trials by their ids."""
        buffer = io.BytesIO()
        _Pickler(buffer).dump(self._scheduler.__dict__)
        return {"type": type(self._scheduler).__name__, "state": buffer.getvalue()}

    def set_state(self, state: dict[str, Any]) -> None:
        """To be given back with the first step, when Tune has its trials again."""
        if state["type"] == type(self._scheduler).__name__:
            self._saved = state["state"]
        else:
            warn(f"the search was begun with {state['type']} and goes on with {type(self._scheduler).__name__}, anew")

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Gives back what was saved; its trials are those of now."""
        if self._saved is not None:
            state = _Unpickler(io.BytesIO(self._saved), {trial.trial_id: trial for trial in trials}).load()
            self._scheduler.__dict__.update(state)
            self._saved = None


class _Pickler(CloudPickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Trial):
            return "trial", obj.trial_id
        if isinstance(obj, _FutureTrainingResult):  # a checkpoint that is being written
            result = obj.resolve(block=False)
            return "checkpoint", result and result.checkpoint
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, trials: Mapping[str, Trial]) -> None:
        super().__init__(file)
        self._trials = trials

    def persistent_load(self, pid: Any) -> Any:
        kind, content = pid
        return self._trials[content] if kind == "trial" else content


class MetricGuard(Callback):
    """Ends a search whose metric is not reported; Tune would go on and compare nothing.

    Tune's own check refuses the first result without the metric, and so all metrics of evaluations, which are not in
    every result.
    """

    def __init__(self, metric: str, source: str) -> None:
        self._metric = metric
        self._source = source
        self._lacking: Counter[str] = Counter()
        self._reported: set[str] = set()
        self.problem: InputError | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Raises InputError when results of a trial lack the metric though it is due."""
        if trial.trial_id in self._reported:
            return
        flat = flatten_dict(result)
        if self._metric in flat:
            self._reported.add(trial.trial_id)
            return
        if _due(self._metric, flat):
            self._lacking[trial.trial_id] += 1
        if self._lacking[trial.trial_id] >= PATIENCE:
            found = [name for name, value in flat.items() if Range().holds(value) and not name.startswith("config/")]
            self.problem = InputError(
                f"{self._source}: {trial} reports no {self._metric}{nearest(self._metric, found)}"
            )
            raise self.problem


def _due(metric: str, flat: Mapping[str, Any]) -> bool:
    """Whether a result with these metrics should have `metric`.

    Evaluations, and episodes of the policy that learns, are not in every one; `METRICS` are known to come.
    """
    head, found, _ = metric.rpartition("env_runners/")
    if found:
        return f"{head}env_runners/episode_return_mean" in flat
    if "/" in metric:
        return any(name.startswith(metric.split("/")[0] + "/") for name in flat)
    return metric not in METRICS


class ExploitLines(Callback):
    """Prints a line when a trial goes on from another's checkpoint, with what was changed.

    Args:
        console: Where to print.
        varied: Where in the settings stands what is changed.
    """

    def __init__(self, console: Console, varied: Sequence[tuple[str | int, ...]]) -> None:
        self._console = console
        self._varied = varied

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Compares the folder of the checkpoint that the trial starts from with its own."""
        start = trial.checkpoint
        folders = {_folder(other): other for other in trials}
        if start is None or Path(start.path).parent == _folder(trial):
            return
        donor = folders.get(Path(start.path).parent)
        values = ", ".join(f"{dotted(path)} {shown_value(setting(trial.config, path))}" for path in self._varied)
        line = f"{trial}  goes on from {donor or start.path} with {values}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _folder(trial: Any) -> Path:
    return Path(trial.storage.trial_fs_path)


def setting(config: Any, path: Sequence[str | int]) -> Any:
    """What stands at `path` in settings; None if there is nothing."""
    for key in path:
        try:
            config = config[key]
        except (KeyError, IndexError, TypeError):
            return None
    return config


def shown_value(value: Any) -> str:
    """A setting as tables show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
