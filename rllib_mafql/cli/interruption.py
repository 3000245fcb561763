"""Ctrl-C and SIGTERM during training: every trial saves a checkpoint, then the run ends and can be resumed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT
from rich.console import Console

#: What ends a run: Ctrl-C, and what `kill`, Slurm and Kubernetes send before they take the machine away.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# On which Tune ends, as it does on SIGINT where nobody else wants that.
_TUNE_ENDS = signal.SIGUSR1


class Interruption(Callback):
    """Has trials save themselves after a signal, and ends the run once all have; a second signal ends it at once.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._saved: set[str] = set()
        #: The first signal that came, or None.
        self.signal: int | None = None

    @property
    def exit_code(self) -> int:
        """As shells put it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Signals come here within the context; outside the main thread none do."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            del os.environ["TUNE_DISABLE_SIGINT_HANDLER"]
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            self._end()
            return
        self.signal = number
        self._console.print(
            f"{signal.Signals(number).name}: the run ends after the present iteration, with a checkpoint; "
            "once more to end it at once",
            highlight=False,
            soft_wrap=True,
        )

    def _end(self) -> None:
        if callable(signal.getsignal(_TUNE_ENDS)):
            signal.raise_signal(_TUNE_ENDS)
        else:  # Tune has not begun
            raise KeyboardInterrupt

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if self.signal is not None and trial.trial_id not in self._saved:
            result[SHOULD_CHECKPOINT] = True

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self.signal is not None:
            self._saved.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        unsaved = [trial for trial in trials if trial.status == Trial.RUNNING and trial.trial_id not in self._saved]
        if self.signal is not None and not unsaved:
            self._end()
