"""How long a grid lasts when nothing is done, and how long its reset takes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grid2op.Chronics import MultifolderWithCache
from grid2op.Exceptions import EnvError
from grid2op.MakeEnv.Make import TEST_DEV_ENVS

from grid2op_zones.generator.chronics import GeneratedWeeks
from grid2op_zones.simulator import NO_OPPONENT, make_grid

#: Steps of an episode, a day.
EPISODE = 287

#: Quantile of the normal distribution for intervals of 95 %.
NORMAL_95 = 1.959964


def make_env(name: str, folder: str | Path | None = None) -> Any:
    """Grid ``name`` without opponent and forecasts, with the weeks of ``folder``, or its own series where None."""
    series: dict[str, Any] = {"chronics_class": MultifolderWithCache}
    if folder is not None:
        series = {"chronics_class": GeneratedWeeks, "chronics_path": str(folder)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = make_grid(name, {**series, **NO_OPPONENT}, test=name in TEST_DEV_ENVS)
        env.deactivate_forecast()
        if folder is None:
            chronics = env.chronics_handler.real_data
            chronics.set_filter(lambda path: True)
            chronics.reset()
    return env


def do_nothing(env: Any, starts: Sequence[tuple[int, int]], steps: int = EPISODE) -> np.ndarray:
    """Steps that each episode lasts, (n,), when lines are reconnected and nothing else is done; 0 if it ends in reset.

    Args:
        env: A Grid2Op environment.
        starts: Series and first row of each episode.
        steps: At most.
    """
    lasted = []
    for k, (series, row) in enumerate(starts):
        options: dict[str, Any] = {"time serie id": series, **({"init ts": row} if row else {})}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                obs = env.reset(seed=k, options=options)
            except EnvError:
                # a start in mid-series plays one step within reset, which a grid far above its limits does not survive
                lasted.append(0)
                continue
            step, done = 0, False
            while step < steps and not done:
                closable = np.flatnonzero(~obs.line_status & (obs.time_before_cooldown_line == 0))[:1]
                action = env.action_space({"set_line_status": [(int(line), 1) for line in closable]})
                obs, _, done, _ = env.step(action)
                step += 1
        lasted.append(step)
    return np.array(lasted)


def wilson(survived: int, episodes: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, as if episodes were independent; (0, 1) of none."""
    if episodes == 0:
        return 0.0, 1.0
    share, z2 = survived / episodes, NORMAL_95**2
    middle = (share + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = NORMAL_95 / (1 + z2 / episodes) * np.sqrt(share * (1 - share) / episodes + z2 / (4 * episodes**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def reset_ms(env: Any, resets: int, series: int) -> float:
    """Median processor time of ``resets`` resets, ms, which other work on the machine does not lengthen.

    They go through the first ``series`` series, each of which is read before.
    """
    times = []
    for k in range(-series, resets):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started = time.process_time()
            env.reset(seed=k % 1000, options={"time serie id": k % series})
        if k >= 0:
            times.append(1000.0 * (time.process_time() - started))
    return float(np.median(times))
