"""Optimal dispatch that is ready for outages: `QPDispatcher` with the lines' limits after the loss of one more line.

Preventive security-constrained dispatch (Alsac and Stott, "Optimal load flow with steady-state security", 1974): after
the outage of line k line l carries f_l + L_lk f_k, with the line outage distribution factors L (Wood, Wollenberg and
Sheble, *Power Generation, Operation and Control*, 2013, chapter 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from grid2op_zones.area import Area, Snapshot
from grid2op_zones.program import QuadraticProgram
from grid2op_zones.ptdf import outage_factors
from grid2op_zones.qp import QPDispatcher, QPSettings


@dataclass(frozen=True)
class N1Settings(QPSettings):
    """What the dispatch after outages goes by, beside what it goes by before them. Loadings are as in QPSettings.

    Being ready for outages is a standing cost, so costs are near those of operation: by MW and price, and curtailment
    dear. Who learns from this dispatch does a little less than it does, so that its margins are wider.
    """

    act_above: float = 0.865
    margin: float = 0.875
    price: float = 3.3e6
    curtail_cost: float = 64.0
    storage_cost: float = 0.2
    move_cost: float = 0.1
    by_price: bool = True
    linear_from: float | None = 3.0
    margin_after: float = 1.0  #: loading that no line shall exceed after an outage
    act_above_after: float = 0.98  #: share of that loading from which units move
    watch_above_after: float = 0.85  #: share of it below which a line is left out of the program
    price_after: float = 3.3e5  #: of a line's squared loading above the margin after an outage
    notice: int = 24  #: steps ahead of a planned maintenance from which it counts as an outage to come
    most: int = 80  #: pairs of a line and an outage in the program, those loaded most


class _Pairs(NamedTuple):
    """Lines and what each carries after an outage, one after another, (p,) each."""

    line: np.ndarray
    outage: np.ndarray
    factor: np.ndarray  #: MW on the line per MW that the lost line carried
    flow: np.ndarray  #: MW after the outage
    limit: np.ndarray  #: MW that the flow may reach, in either direction

    @property
    def loading(self) -> np.ndarray:
        """Flow over limit."""
        return np.abs(self.flow) / self.limit


class N1Dispatcher(QPDispatcher):
    """Moves an area's units by the optimum of one step, such that the next outage finds room on the lines.

    Outages are counted with if the area watches the line: those that an opponent may cause, and maintenance that is
    about to begin. An outage that would split the grid is left out, as no dispatch helps there.

    Args:
        area: The lines watched and the units moved.
        threatened: Ids of lines that may be lost at any time; with none, planned maintenance alone counts.
        ends: Substations that the lines begin and end at, (n_line,) each.
        settings: See `N1Settings`.
    """

    def __init__(
        self,
        area: Area,
        threatened: Iterable[int],
        ends: tuple[np.ndarray, np.ndarray],
        settings: N1Settings | None = None,
    ) -> None:
        self._after = settings or N1Settings()
        super().__init__(area, self._after)
        self._start, self._end = ends
        self._watched = np.zeros(len(self._start), dtype=bool)
        self._watched[area.lines] = True
        self._threatened = np.zeros_like(self._watched)
        self._threatened[np.asarray(list(threatened), dtype=int)] = True

    def quiet(self, snapshot: Snapshot) -> bool:
        """Whether no line is loaded such that units should move, now or after an outage."""
        return super().quiet(snapshot) and self._pairs(snapshot, self._after.act_above_after).line.size == 0

    def program(self, snapshot: Snapshot) -> QuadraticProgram:
        """The program of `QPDispatcher`, with rows for the lines after outages."""
        program = super().program(snapshot)
        pairs = self._pairs(snapshot, self._after.watch_above_after)
        if not pairs.line.size:
            return program
        # slacks have one price, so that rows which shall cost less are scaled down
        weight = np.sqrt(self._after.price_after / self._after.price) / snapshot.capacity[pairs.line]
        effects = self.area.effects(snapshot.ptdf, pairs.line)
        effects = effects + pairs.factor[:, None] * self.area.effects(snapshot.ptdf, pairs.outage)
        return replace(
            program,
            rows=np.vstack([program.rows, weight[:, None] * effects]),
            row_lower=np.concatenate([program.row_lower, weight * (-pairs.limit - pairs.flow)]),
            row_upper=np.concatenate([program.row_upper, weight * (pairs.limit - pairs.flow)]),
        )

    def _pairs(self, snapshot: Snapshot, above: float) -> _Pairs:
        """The lines that an outage would load above a share of their limits, and the outages; the worst of them."""
        obs, ptdf = snapshot.observation, snapshot.ptdf
        ahead = np.asarray(obs.time_next_maintenance)
        coming = self._threatened | ((ahead >= 0) & (ahead <= self._after.notice))
        outages = np.flatnonzero(coming & self._watched & obs.line_status)
        factors, outages = outage_factors(ptdf, outages, self._start, self._end)
        flow = obs.p_or.astype(float)
        after = flow[:, None] + factors * flow[outages]
        limit = snapshot.active_limit(self._after.margin_after)
        loading = np.where((self._watched & obs.line_status)[:, None], np.abs(after) / limit[:, None], 0.0)
        lines, columns = np.nonzero(loading > above)
        if lines.size > self._after.most:
            worst = np.argsort(-loading[lines, columns], kind="stable")[: self._after.most]
            lines, columns = lines[worst], columns[worst]
        return _Pairs(lines, outages[columns], factors[lines, columns], after[lines, columns], limit[lines])
