"""One-step optimal dispatch: a small quadratic program around the measured state, with priced line limits."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from grid2op_zones.area import IN_USE_MW, Area, Snapshot
from grid2op_zones.program import QuadraticProgram, SolverError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QPSettings:
    """What the optimal dispatch goes by. Loadings are current over thermal limit; redispatch costs 1 per MW^2."""

    act_above: float = 0.88  #: loading of a watched line from which units move; those in use move at any loading
    margin: float = 0.89  #: loading that no line shall exceed
    watch_above: float = 0.60  #: lines loaded less are left out of the program
    price: float = 1e7  #: of a line's squared loading above the margin
    curtail_cost: float = 16.0  #: of curtailed power, per MW^2
    storage_cost: float = 2.0  #: of storage power, per MW^2
    move_cost: float = 1.0  #: of the change in this step, per MW^2, which makes the dispatch gentle
    by_price: bool = False  #: whether redispatch costs in proportion to the units' prices, 1 being their mean
    linear_from: float | None = None  #: MW in use from which costs grow by MW; None: by MW^2 however many


class QPDispatcher:
    """Moves an area's units by the optimum of one step.

    The program's variables are the changes of the units' injections. What dispatch, curtailment and storage amount to
    after them has a cost, so that they return to zero by themselves as far as the lines allow.

    Attributes:
        area: The lines watched and the units moved.
        counts: "solver_failed": programs that were not solved, where what there is was held.
    """

    def __init__(self, area: Area, settings: QPSettings | None = None) -> None:
        self.area = area
        self.counts: Counter[str] = Counter()
        self._base = self._settings = settings or QPSettings()
        sizes = [len(area.redispatchable), len(area.curtailable), len(area.storages)]
        self._base_cost = self._cost = np.repeat([1.0, self._base.curtail_cost, self._base.storage_cost], sizes)
        if self._base.by_price:
            self._base_cost[: sizes[0]] = area.prices

    def draw(self, rng: np.random.Generator, noise: float) -> None:
        """For the episode to come: log-normal costs of the units (`noise`: std of the logarithm), shifted margin."""
        self._cost = self._base_cost * np.exp(noise * rng.standard_normal(self.area.size))
        shift = float(np.clip(0.02 * noise * rng.standard_normal(), -0.03, 0.03))
        self._settings = replace(self._base, margin=self._base.margin + shift)

    def changes(self, snapshot: Snapshot) -> np.ndarray | None:
        """Changes of the units' injections, MW, (n,); None where nothing is to be done and nothing is in use."""
        in_use = (np.abs(self.area.displaced(snapshot)) > IN_USE_MW).any()
        if self.area.size == 0 or (not in_use and self.quiet(snapshot)):
            return None
        try:
            return self.program(snapshot).solve().x
        except SolverError as error:
            logger.warning("%s: dispatch held, %s", self.area.name, error)
            self.counts["solver_failed"] += 1
            return np.zeros(self.area.size)

    def quiet(self, snapshot: Snapshot) -> bool:
        """Whether no line is loaded such that units should move."""
        return bool(snapshot.loading[self.area.lines].max(initial=0.0) < self._settings.act_above)

    def program(self, snapshot: Snapshot) -> QuadraticProgram:
        """The program of this step.

        A line's limit on active power leaves room for the reactive power that it carries,
        sqrt((margin sqrt(3) V I_max)^2 - q^2). Each group's dispatch is brought to what it curtails and charges. Costs
        that are linear from some MW on are reweighted squares (Daubechies et al., CPAM 63, 2010): few units move far,
        where plain squares move all of them a little.
        """
        area, settings, obs = self.area, self._settings, snapshot.observation
        present = area.displaced(snapshot)
        cost = self._cost
        if settings.linear_from is not None:
            cost = cost * settings.linear_from / (np.abs(present) + settings.linear_from)
        low, high = area.room(snapshot)
        lines = area.lines[snapshot.loading[area.lines] > settings.watch_above]
        capacity = snapshot.capacity[lines]
        flow, limit = obs.p_or[lines].astype(float), snapshot.active_limit(settings.margin)[lines]
        return QuadraticProgram(
            hessian=2.0 * (cost + settings.move_cost),
            linear=2.0 * cost * present,
            lower=low,
            upper=high,
            equal=area.balanced,
            total=np.clip(-area.balanced @ present, area.balanced @ low, area.balanced @ high),
            rows=area.effects(snapshot.ptdf, lines) / capacity[:, None],
            row_lower=(-limit - flow) / capacity,
            row_upper=(limit - flow) / capacity,
            price=settings.price,
        )
