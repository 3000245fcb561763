"""Random states of a zone and random policies, from real measurements of its grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grid2op_zones import ZonedGridEnv
from grid2op_zones.measurement import QUANTITIES, Measurement
from grid2op_zones.safety.devices import UnitData
from grid2op_zones.safety.joint import ZoneProjection

#: Steps of random play between two states that are kept as templates.
EVERY = 7

TEMPLATES = 6


class Grid:
    """An environment and some of the states that random play leads it to.

    Attributes:
        env: With a projection at level "lines".
        zones: The zones' projections.
        templates: Of each zone, measurements of the same states.
    """

    def __init__(self, env: ZonedGridEnv) -> None:
        assert env.projection is not None
        self.env = env
        self.zones: list[ZoneProjection] = env.projection.zones
        self.templates: list[list[Measurement]] = [[] for _ in self.zones]
        rng = np.random.default_rng(0)
        over, step = True, 0
        while len(self.templates[0]) < TEMPLATES:
            if over:
                env.reset(seed=step)
            actions = {zone: rng.uniform(-1.0, 1.0, space.shape) for zone, space in env.action_spaces.items()}
            _, _, terminated, truncated, _ = env.step(actions)
            over = terminated["__all__"] or truncated["__all__"]
            step += 1
            if step % EVERY == 0 and not terminated["__all__"]:
                for zone, kept in zip(self.zones, self.templates, strict=True):
                    kept.append(zone.meter.read(env.grid_state))


class Mix(NamedTuple):
    """What random states are like."""

    loading: float = 0.8  #: of the most loaded lines, share of their limits
    outages: int = 0  #: most own lines that are open
    imbalance: float = 0.3  #: typical one of a balanced zone, in its units' ramps


def random_state(
    grid: Grid, zone: int, rng: np.random.Generator, mix: Mix, status: np.ndarray | None = None
) -> Measurement:
    """A state that the zone could measure: everything that its projection reads is drawn anew.

    status: which of its lines are connected; None draws it.
    """
    projection, templates = grid.zones[zone].projection, grid.templates[zone]
    data = projection.units.data
    template = templates[rng.integers(len(templates))]
    names = [name for quantities in QUANTITIES.values() for name in quantities]
    m = template._replace(**{name: getattr(template, name).copy() for name in names})
    count = len(grid.env.zones[zone].lines)
    if status is None:
        status = np.ones(count, dtype=bool)
        status[rng.choice(count, rng.integers(mix.outages + 1), replace=False)] = False
    _draw_lines(m, status, rng, mix)
    _draw_renewables(m, data.curtailable, data.curtail_pmax, rng)
    _draw_storages(m, data.storages, data.storage_limits, rng)
    _draw_dispatch(m, data, rng, mix)
    return m


def _draw_lines(m: Measurement, status: np.ndarray, rng: np.random.Generator, mix: Mix) -> None:
    count = len(status)
    own = slice(count)
    m.line_status[own] = status
    m.v_or[own] = np.where(m.v_or[own] > 0.0, m.v_or[own], 100.0) * rng.uniform(0.95, 1.05, count)
    m.thermal_limit[own] *= rng.uniform(0.9, 1.1, count)
    capacity = np.sqrt(3.0) * 1e-3 * m.v_or[own] * m.thermal_limit[own]
    m.p_or[own] = mix.loading * rng.uniform(-1.0, 1.0, count) * capacity
    m.q_or[own] = 0.15 * rng.standard_normal(count) * capacity
    if rng.random() < 0.1:  # a line full of reactive power
        k = rng.integers(count)
        m.q_or[k] = rng.uniform(0.9, 1.2) * capacity[k]
    for values in (m.p_or, m.q_or, m.v_or, m.rho):
        values[own] *= m.line_status[own]


def _draw_renewables(m: Measurement, cur: np.ndarray, pmax: np.ndarray, rng: np.random.Generator) -> None:
    n = len(cur)
    available = pmax * rng.random(n) * (rng.random(n) < 0.85)
    cap = np.where(rng.random(n) < 0.5, rng.random(n), 1.0)
    m.gen_p_delta[cur] = 0.0
    m.gen_p_before_curtail[cur] = available
    m.curtailment_limit[cur] = cap
    m.gen_p[cur] = np.minimum(available, cap * pmax) + rng.choice([0.0, 4e-4, -4e-4], n) * (available > 1.0)


def _draw_storages(m: Measurement, sto: np.ndarray, limits: tuple[np.ndarray, ...], rng: np.random.Generator) -> None:
    absorb, produce, e_max, e_min, *_ = limits
    n = len(sto)
    place = rng.choice([0.0, 1.0, np.nan, np.nan, np.nan], n)  # empty, full, or in between
    m.storage_charge[sto] = e_min + np.where(np.isnan(place), rng.random(n), place) * (e_max - e_min)
    connected = rng.random(n) < 0.9
    m.storage_bus[sto] = np.where(connected, 1, -1)
    m.storage_power[sto] = rng.uniform(-produce, absorb) * connected * (rng.random(n) < 0.7)


def _draw_dispatch(m: Measurement, data: UnitData, rng: np.random.Generator, mix: Mix) -> None:
    red, pmin, pmax, ramp = data.redispatchable, data.pmin, data.pmax, data.ramp_up
    n = len(red)
    if not n:
        return
    output = rng.uniform(pmin, pmax)
    edge = rng.random(n)
    output = np.where(edge < 0.1, pmax, np.where(edge < 0.2, pmin, output)) * np.where(edge < 0.03, 1.02, 1.0)
    on = rng.random(n) < 0.93
    on[0] = True
    dispatch = rng.normal(0.0, 2.0, n) * ramp * (rng.random(n) < 0.8) * on
    if rng.random() < 0.8:
        cur, sto = data.curtailable, data.storages
        taken = np.maximum(m.gen_p_before_curtail[cur] - m.gen_p[cur], 0.0).sum() + m.storage_power[sto].sum()
        lacking = taken + mix.imbalance * rng.normal(0.0, 1.0) * ramp[on].sum() - dispatch.sum()
        dispatch += lacking * ramp * on / ramp[on].sum()
    m.gen_bus[red] = np.where(on, 1, -1)
    m.gen_p_delta[red] = rng.normal(0.0, 0.3, n) * on
    m.gen_p[red] = output * on + m.gen_p_delta[red]
    m.actual_dispatch[red] = dispatch
    m.target_dispatch[red] = (dispatch + rng.normal(0.0, 1.0, n) * ramp * (rng.random(n) < 0.3)) * (rng.random(n) < 0.9)


def random_actions(size: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Actions (count, size), float32, of all sorts: anywhere, in the corners, sparse, small, and far outside."""
    uniform = rng.uniform(-1.0, 1.0, (count, size))
    sorts = np.stack([uniform, np.sign(uniform), uniform * (rng.random((count, size)) < 0.2), 0.05 * uniform])
    actions = sorts[rng.integers(len(sorts), size=count), np.arange(count)]
    actions[rng.random(count) < 0.1] *= 10.0
    return actions.astype(np.float32)
