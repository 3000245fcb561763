"""Linear model of the line flows: how much each line's power changes when power is injected somewhere.

The DC power flow neglects losses and voltage changes: line l from bus i to bus j carries b_l (theta_i - theta_j). Its
sensitivities to injections (power transfer distribution factors, PTDF) depend only on which lines are connected, so
that one matrix serves all steps between two outages. Wood, Wollenberg and Sheble, *Power Generation, Operation and
Control*, 2013, chapter 7.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np


def line_susceptance(simulator: Any) -> np.ndarray:
    """Series susceptance of every line and transformer, in Grid2Op's line order.

    Taken as -Im(1 / (r + jx)) / tap ratio, which comes closer to the AC flow than 1 / x where resistance is not small.

    Args:
        simulator: A Grid2Op environment with LightSimBackend.

    Returns:
        (n_line,) susceptances, > 0, per unit of the backend's own base (PTDF depend on their ratios only).

    Raises:
        TypeError: The backend does not hold a lightsim2grid model, or its branches are not the environment's lines.
    """
    model: Any = getattr(simulator.backend, "_grid", None)
    if not hasattr(model, "get_trafos"):
        name = type(simulator.backend).__name__
        raise TypeError(f"line parameters are read from lightsim2grid, and {name} is not: use LightSimBackend")
    lines = [(line.r_pu, line.x_pu, 1.0, line.sub1_id, line.sub2_id) for line in model.get_lines()]
    trafos = [(trafo.r_pu, trafo.x_pu, trafo.ratio, trafo.sub1_id, trafo.sub2_id) for trafo in model.get_trafos()]
    r, x, ratio, start, end = np.array(lines + trafos, dtype=np.float64).T
    if not (np.array_equal(start, simulator.line_or_to_subid) and np.array_equal(end, simulator.line_ex_to_subid)):
        raise TypeError("the backend's lines and transformers do not come in the order of the environment's lines")
    return x / (r**2 + x**2) / ratio


class LinearFlow:
    """PTDF of the present topology, kept for the topologies met last.

    All elements are taken to be on bus 1 of their substation (no policy here splits one); lines may be out of service.

    Args:
        simulator: A Grid2Op environment with LightSimBackend.
        cache_size: Topologies kept, n_line x n_sub x 8 bytes each; the one not used for longest goes first.
        susceptance: (n_line,) to use instead of `line_susceptance`.

    Attributes:
        computed: Matrices computed so far; those found in the cache are not counted.

    Raises:
        ValueError: `cache_size` is below 1.
        TypeError: As `line_susceptance`.
    """

    def __init__(self, simulator: Any, *, cache_size: int = 128, susceptance: np.ndarray | None = None) -> None:
        if cache_size < 1:
            raise ValueError(f"cache_size is {cache_size}, must be at least 1")
        self._b = line_susceptance(simulator) if susceptance is None else np.asarray(susceptance, dtype=np.float64)
        self._start = np.asarray(simulator.line_or_to_subid, dtype=np.int64)
        self._end = np.asarray(simulator.line_ex_to_subid, dtype=np.int64)
        self._n_sub = int(simulator.n_sub)
        self._cache: OrderedDict[bytes, np.ndarray | None] = OrderedDict()
        self._cache_size = cache_size
        self.computed = 0

    def ptdf(self, grid_obs: Any) -> np.ndarray | None:
        """PTDF for the topology of a Grid2Op observation.

        Returns:
            (n_line, n_sub), MW on the line (origin to extremity) per MW injected at the substation and withdrawn evenly
            from all substations: rows sum to 0, and the withdrawal cancels in every balanced redispatch. Rows of
            disconnected lines are 0. Read-only. None where the model does not hold: islands, or a split substation.
        """
        if grid_obs.topo_vect.max() > 1:
            return None
        return self.of_status(grid_obs.line_status)

    def of_status(self, line_status: np.ndarray) -> np.ndarray | None:
        """As `ptdf`, for (n_line,) booleans that tell which lines are connected."""
        key = np.packbits(line_status).tobytes()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        matrix = power_transfer(np.where(line_status, self._b, 0.0), self._start, self._end, self._n_sub)
        self.computed += 1
        self._cache[key] = matrix
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return matrix


def power_transfer(b: np.ndarray, start: np.ndarray, end: np.ndarray, n_sub: int) -> np.ndarray | None:
    """PTDF (n_line, n_sub) of lines with susceptances b, 0 where open, between substations start and end.

    See `LinearFlow.ptdf`; None where the lines leave islands.
    """
    if not _connected(start[b > 0.0], end[b > 0.0], n_sub):
        return None
    laplacian = np.zeros((n_sub, n_sub))
    np.add.at(laplacian, (start, start), b)
    np.add.at(laplacian, (end, end), b)
    np.add.at(laplacian, (start, end), -b)
    np.add.at(laplacian, (end, start), -b)
    # a constant added to every entry makes the matrix regular, shifts all angles alike and so cancels in the flows
    angles = np.linalg.inv(laplacian + b.mean() / n_sub)
    matrix = b[:, None] * (angles[start] - angles[end])
    matrix.setflags(write=False)
    return matrix


def outage_factors(
    ptdf: np.ndarray, outages: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Line outage distribution factors.

    Args:
        ptdf: (n_line, n_sub), see `LinearFlow.ptdf`.
        outages: Ids of connected lines.
        start, end: Substations of the lines, (n_line,) each.

    Returns:
        (n_line, k) MW on a line per MW that the lost line carried, -1 on the lost line itself, and the k outages that
        do not split the grid.
    """
    transfer = ptdf[:, start[outages]] - ptdf[:, end[outages]]
    left = 1.0 - transfer[outages, np.arange(len(outages))]
    whole = left > 1e-6
    factors = transfer[:, whole] / left[whole]
    kept = outages[whole]
    factors[kept, np.arange(len(kept))] = -1.0
    return factors, kept


def _connected(start: np.ndarray, end: np.ndarray, n_sub: int) -> bool:
    reached = np.zeros(n_sub, dtype=bool)
    reached[0] = True
    count = 1
    while True:
        touched = reached[start] | reached[end]
        reached[start[touched]] = reached[end[touched]] = True
        if reached.sum() == count:
            return count == n_sub
        count = int(reached.sum())
