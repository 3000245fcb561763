"""The series that ship with a grid: what generated ones are calibrated on and compared with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from grid2op.Chronics import Multifolder
from grid2op.MakeEnv.Make import TEST_DEV_ENVS

from grid2op_zones.simulator import make_grid

#: Series that are read at most; a downloaded grid has hundreds.
MOST_SERIES = 10

#: Rows of a day of 5-minute steps.
DAY = 288

#: Time between two rows.
STEP = timedelta(minutes=5)


@dataclass(frozen=True, eq=False)
class Series:
    """One series in the order of Grid2Op's vectors; T rows of 5 minutes."""

    start: datetime  #: time of the first row
    load_p: np.ndarray  #: (T, n_load) MW
    load_q: np.ndarray  #: (T, n_load) MVAr
    prod_p: np.ndarray  #: (T, n_gen) MW
    prod_v: np.ndarray | None  #: (n_gen,) kV, None where the grid file's own set points hold

    @property
    def days(self) -> int:
        """Whole days that the series covers, from its first row on."""
        return len(self.load_p) // DAY


def open_grid(name: str) -> Any:
    """The Grid2Op environment ``name`` with its own series and LightSimBackend; the caller closes it.

    Raises:
        ValueError: Grid2Op cannot make it.
    """
    return make_grid(name, {"chronics_class": Multifolder}, test=name in TEST_DEV_ENVS)


def read_series(env: Any, most: int = MOST_SERIES) -> list[Series]:
    """The first ``most`` series of ``env``, which is reset for each of them."""
    found = []
    for k in range(min(most, len(env.chronics_handler.real_data.subpaths))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env.reset(options={"time serie id": k})
        data = env.chronics_handler.real_data.data
        prod_v = getattr(data, "prod_v", None)
        found.append(
            Series(
                start=data.start_datetime + STEP,
                load_p=np.asarray(data.load_p, dtype=float),
                load_q=np.asarray(data.load_q, dtype=float),
                prod_p=np.asarray(data.prod_p, dtype=float),
                prod_v=None if prod_v is None else np.asarray(prod_v, dtype=float).mean(axis=0),
            )
        )
    return found
