"""The episodes of an environment as series that Grid2Op's scorers can play: recorded, and handed out from memory.

The scorers play whole series, each once, and keep statistics of reference agents in the grid's own folder, to be used
again whatever the limits and parameters are by then. So every episode is recorded as a series of its own, and the
scorers get a folder of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from grid2op.Chronics import GridValue

from grid2op_zones import ZonedGridEnv


class Row(NamedTuple):
    """What a series gives for one step: the result of Grid2Op's `load_next`, and the forecasts made in this step."""

    values: tuple[datetime, dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
    forecasts: list[tuple[datetime, dict[str, Any]]]


class Episode(NamedTuple):
    """One episode, recorded. Its first row is that of the first observation."""

    seed: int
    scenario: str  #: source, series and row, as "bundled/2035-01-15_0 row 287"
    rows: list[Row]

    @property
    def steps(self) -> int:
        """Steps until it is truncated."""
        return len(self.rows) - 1


class Episodes(tuple[Episode, ...]):
    """Episodes that Grid2Op does not copy for every environment that it builds.

    Attributes:
        on_row: Called with each row that is played.
    """

    on_row: Callable[[], None] = staticmethod(lambda: None)

    def __deepcopy__(self, memo: Any) -> Episodes:
        return self

    def __repr__(self) -> str:
        return f"<{len(self)} recorded episodes>"


def record_episodes(env: ZonedGridEnv, count: int) -> Episodes:
    """Episodes 0 .. count - 1 of `env.episode_spec`, whatever the source of their series. `env` is left in the last."""
    real = env.simulator.chronics_handler.real_data
    load_next = real.load_next
    shown: list[Any] = []

    def spy() -> Any:
        shown[:] = [load_next()]
        return shown[0]

    def row(values: Any) -> Row:
        ahead = [forecast for forecast in real.forecasts()[:1] if "injection" in forecast[1]]  # only of the next step
        # without forecasts the next step is expected to be like this one
        return copy.deepcopy(
            Row(values, ahead or [(values[0] + real.time_interval, {"injection": values[1]["injection"]})])
        )

    found = []
    for k in range(count):
        spec = env.episode_spec(k)
        real.load_next = spy
        try:
            _, infos = env.reset(**spec)
        finally:
            del real.load_next
        scenario = next(iter(infos.values()))["scenario"]
        start = int(scenario.rpartition(" row ")[2])  # not always the one that was asked for
        steps = env.scenarios.at(spec["options"]["scenario"], start).steps
        rows = [row(shown[0]), *(row(load_next()) for _ in range(steps))]
        found.append(Episode(spec["seed"], scenario, rows))
    return Episodes(found)


class RecordedSeries(GridValue):
    """Plays recorded episodes as Grid2Op series, each from its first row to its last.

    Args:
        episodes: from `record_episodes`; series k is episode k.
        others: what Grid2Op hands to every class of this kind.
    """

    MULTI_CHRONICS = True

    def __init__(self, episodes: Episodes, **others: Any) -> None:
        first, second = (row.values[0] for row in episodes[0].rows[:2])
        super().__init__(time_interval=second - first)
        self._episodes, self._place = episodes, 0

    def initialize(self, loads: Any, prods: Any, lines: Any, subs: Any, names_chronics_to_backend: Any = None) -> None:
        self._rows = self._episodes[self._place].rows
        self.n_load, self.n_gen, self.n_line = len(loads), len(prods), len(lines)
        self.start_datetime = self.current_datetime = self._rows[0].values[0] - self.time_interval
        self.curr_iter, self._max_iter = 0, len(self._rows) - 1

    def load_next(self) -> Any:
        if self.curr_iter >= len(self._rows):
            raise StopIteration
        values = self._rows[self.curr_iter].values
        self.curr_iter += 1
        self.current_datetime = values[0]
        self._episodes.on_row()
        return copy.deepcopy(values)

    def forecasts(self) -> list[Any]:
        return copy.deepcopy(self._rows[self.curr_iter - 1].forecasts)

    def done(self) -> bool:
        return self.curr_iter >= len(self._rows)

    def max_timestep(self) -> int:
        return self._max_iter

    def check_validity(self, backend: Any) -> None:
        """They were played on this grid."""

    def next_chronics(self) -> None:
        self._place = (self._place + 1) % len(self._episodes)

    def tell_id(self, id_num: int, previous: bool = False) -> None:
        self._place = (int(id_num) - previous) % len(self._episodes)

    def get_id(self) -> str:
        return series_name(self._place)


def series_name(k: int) -> str:
    """Under which the scorers record series `k`; they take the series in the order of their names."""
    return f"{k:06d}"


class ScoredGrid:
    """A Grid2Op environment as the scorers see it: with a folder of its own, and the recorded episodes as series."""

    def __init__(self, simulator: Any, episodes: Episodes, folder: Path) -> None:
        self._simulator, self._episodes, self._folder = simulator, episodes, folder
        (folder / "chronics").mkdir(parents=True)  # the scorers' checksum looks into it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def get_path_env(self) -> str:
        """Where the scorers keep their statistics."""
        return str(self._folder)

    def get_params_for_runner(self) -> dict[str, Any]:
        """What Grid2Op's runner builds its environments from."""
        series = {"gridStateclass": RecordedSeries, "gridStateclass_kwargs": {"episodes": self._episodes}}
        return {**self._simulator.get_params_for_runner(), **series, "path_chron": None}
