"""What the projection claims, computed another way: plainly, from the grid's own data, without the code under test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from grid2op_zones.measurement import Measurement
from grid2op_zones.ptdf import line_susceptance
from grid2op_zones.safety.devices import CURTAILED
from grid2op_zones.safety.lines import Bounds
from grid2op_zones.safety.projection import TOLERANCE, Certificate
from grid2op_zones.simulator import grid_references
from tests.safety.states import Grid

SHARE = 0.999  # of a ramp that may be asked for


class Unit(NamedTuple):
    """One unit in one state."""

    kind: str
    sub: int
    present: float  # MW that it injects now, against its schedule: dispatch, less what is curtailed or charged
    low: float  # MW, lowest change of that
    high: float
    step: float  # MW that count as a distance of 1
    range: float  # MW
    needs: float = 0.0  # MW, lowest change where headroom is one step at most: what must not wait
    leaves: float = 0.0  # highest


def unit_of(grid: Grid, name: str, m: Measurement) -> Unit:
    """The unit called `name`, such as "redispatch[gen_7_2]"."""
    cls, config = type(grid.env.simulator), grid.env.config
    kind, element = name.removesuffix("]").split("[")
    if kind == "storage":
        k, at = m.elements.storages.index(element), list(cls.name_storage).index(element)
        absorb, produce = float(cls.storage_max_p_absorb[at]), float(cls.storage_max_p_prod[at])
        hours = grid.env.simulator.delta_time_seconds / 3600.0
        free = max(float(cls.storage_Emax[at]) - float(m.storage_charge[k]), 0.0)
        held = max(float(m.storage_charge[k]) - float(cls.storage_Emin[at]), 0.0)
        most = min(absorb, free / hours / float(cls.storage_charging_efficiency[at]))
        least = -min(produce, held / hours * float(cls.storage_discharging_efficiency[at]))
        if m.storage_bus[k] < 1:
            most = least = 0.0
        power = float(m.storage_power[k])
        size = absorb + produce
        return Unit(kind, int(cls.storage_to_subid[at]), -power, power - most, power - least, size / 2, size)
    k, at = m.elements.generators.index(element), list(cls.name_gen).index(element)
    sub, pmin, pmax = int(cls.gen_to_subid[at]), float(cls.gen_pmin[at]), float(cls.gen_pmax[at])
    output = float(m.gen_p[k]) - float(m.gen_p_delta[k])
    if kind == "curtail":
        available, step = float(m.gen_p_before_curtail[k]), config["curtail_step"] * pmax
        curtailed = available - output
        if curtailed <= 1e-3:
            curtailed = 0.0
        present = available - curtailed
        return Unit(kind, sub, -curtailed, -min(present, step), min(curtailed, step), CURTAILED * step, pmax)
    up, down = SHARE * float(cls.gen_max_ramp_up[at]), SHARE * float(cls.gen_max_ramp_down[at])
    dispatch = float(m.actual_dispatch[k])
    boxes = []
    for steps in (2.5, 1.0):
        ceiling = pmax - min(steps * float(cls.gen_max_ramp_up[at]), (pmax - pmin) / 4)
        floor = pmin + min(steps * float(cls.gen_max_ramp_down[at]), (pmax - pmin) / 4)
        # above the ceiling dispatch that raised the unit goes, but it need not go lower; below the floor alike
        high = min(ceiling - output, up) if output <= ceiling else max(ceiling - output, -max(dispatch, 0.0), -down)
        low = max(floor - output, -down) if output >= floor else min(floor - output, max(-dispatch, 0.0), up)
        boxes += [low, high]
    if m.gen_bus[k] < 1:
        boxes = [0.0] * 4
    low, high, needs, leaves = boxes
    return Unit(kind, sub, dispatch, low, high, (up + down) / 2, pmax - pmin, needs, leaves)


def sums_of(units: list[Unit], balanced: bool) -> tuple[float, float]:
    """What the changes of a zone's units sum to, MW: at least and at most."""
    redispatched = [unit for unit in units if unit.kind == "redispatch"]
    low, high = sum(unit.low for unit in units), sum(unit.high for unit in units)
    if balanced and redispatched:
        return (min(max(-sum(unit.present for unit in units), low), high),) * 2
    # where those that are redispatched must rise together, the others go down as far as they can, and vice versa
    least = min(0.0, high) if sum(unit.leaves for unit in redispatched) < 0.0 else -np.inf
    most = max(0.0, low) if sum(unit.needs for unit in redispatched) > 0.0 else np.inf
    return least, most


class Problem(NamedTuple):
    """The projection's problem of one state, in MW."""

    low: np.ndarray
    high: np.ndarray
    step: np.ndarray
    least: float  # what the changes sum to: at least and at most, the same where the zone balances itself
    most: float
    effects: np.ndarray  # (lines, n) of the closed lines
    flow: np.ndarray
    limit: np.ndarray
    margin: np.ndarray


def problem_of(grid: Grid, zone: int, certificate: Certificate, m: Measurement) -> Problem:
    """The problem that a certificate of this state answers; of the lines it takes the margins only."""
    env = grid.env
    units = [unit_of(grid, name, m) for name in certificate.names]
    low, high, step = (np.array([getattr(unit, name) for unit in units]) for name in ("low", "high", "step"))
    least, most = sums_of(units, env.action_map.balance == "zone")
    lines = env.zones[zone].lines
    closed = m.line_status[: len(lines)]
    network = Network(grid, lines[~closed])
    injections = np.zeros((network.n_sub, len(units)))
    injections[[unit.sub for unit in units], np.arange(len(units))] = 1.0
    injections -= np.outer(network.compensation, np.ones(len(units)))
    effects = network.flows(injections)[lines][closed]
    capacity = np.sqrt(3.0) * m.v_or[: len(lines)].astype(float) * m.thermal_limit[: len(lines)] / 1000.0
    room = np.maximum(capacity**2 - m.q_or[: len(lines)].astype(float) ** 2, (0.05 * capacity) ** 2)
    flow = m.p_or[: len(lines)].astype(float)
    limit, margin = np.sqrt(room)[closed], certificate.margin_mw[closed]
    return Problem(low, high, step, least, most, effects, flow[closed], limit, margin)


class Network:
    """The DC power flow of a grid with some lines open, by a sparse factorisation of its Laplacian."""

    def __init__(self, grid: Grid, open_lines: np.ndarray) -> None:
        simulator = grid.env.simulator
        cls = type(simulator)
        self.n_sub = int(cls.n_sub)
        b = line_susceptance(simulator)
        b[open_lines] = 0.0
        self._b, self._start, self._end = b, cls.line_or_to_subid, cls.line_ex_to_subid
        rows = np.concatenate([self._start, self._end, self._start, self._end])
        columns = np.concatenate([self._start, self._end, self._end, self._start])
        matrix = coo_matrix((np.concatenate([b, b, -b, -b]), (rows, columns)), shape=(self.n_sub, self.n_sub)).tocsc()
        self._solve = splu(matrix[1:, 1:]).solve
        self.compensation = np.zeros(self.n_sub)
        for g in np.flatnonzero(cls.gen_redispatchable):
            self.compensation[cls.gen_to_subid[g]] += cls.gen_max_ramp_up[g] + cls.gen_max_ramp_down[g]
        self.compensation /= self.compensation.sum()

    def flows(self, injections: np.ndarray) -> np.ndarray:
        """MW on every line, (n_line, k), of balanced injections (n_sub, k)."""
        assert np.abs(injections.sum(axis=0)).max() < 1e-6 * max(1.0, np.abs(injections).max())
        angles = np.zeros_like(injections)
        angles[1:] = self._solve(np.ascontiguousarray(injections[1:]))
        return self._b[:, None] * (angles[self._start] - angles[self._end])

    def sensitivity(self, line: int) -> np.ndarray:
        """MW on `line` per MW at each substation, (n_sub,), against the first."""
        ends = np.zeros(self.n_sub)
        ends[self._start[line]] += self._b[line]
        ends[self._end[line]] -= self._b[line]
        result = np.zeros(self.n_sub)
        result[1:] = self._solve(ends[1:])
        return result


def balanced_vertex(most: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The balanced changes within +-most (k,) that go furthest along each direction (count, k): the same shape."""
    order = np.argsort(-direction, axis=1)
    size = most[order]
    before = np.cumsum(size, axis=1) - size
    result = np.empty_like(direction)
    # up goes half of all that can move, in the order of the direction; the rest goes down
    np.put_along_axis(result, order, 2.0 * np.clip(most.sum() / 2.0 - before, 0.0, size) - size, axis=1)
    return result


def balanced_inside(most: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Balanced changes anywhere within +-most, (count, k)."""
    y = rng.uniform(-1.0, 1.0, (count, len(most))) * most
    up, down = np.maximum(y, 0.0).sum(axis=1), np.maximum(-y, 0.0).sum(axis=1)
    smaller = np.minimum(up, down)
    scale = np.where(y > 0.0, (smaller / np.maximum(up, 1e-12))[:, None], (smaller / np.maximum(down, 1e-12))[:, None])
    return y * scale


def behaviours(
    grid: Grid, zone: int, network: Network, bounds: Bounds, rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What everyone else may do in a step, as injections (n_sub, count) that sum to 0.

    Half of them are the worst for one of the zone's lines each, and those lines are returned, too. A quarter are
    vertices in random directions, the rest are points inside.
    """
    env = grid.env
    cls, actions = type(env.simulator), env.config["actions"]
    lines = rng.choice(env.zones[zone].lines, count // 2)
    signs = rng.choice([-1.0, 1.0], len(lines))
    worst = np.array([sign * network.sensitivity(line) for line, sign in zip(lines, signs, strict=True)])
    directions = np.concatenate([worst, rng.standard_normal((count // 4, network.n_sub))])
    inside = count - len(directions)
    result = np.zeros((count, network.n_sub))

    def add(subs: np.ndarray, most: np.ndarray, balanced: bool) -> None:
        if not len(subs):
            return
        if balanced:
            moved = np.concatenate([balanced_vertex(most, directions[:, subs]), balanced_inside(most, rng, inside)])
        else:
            # each unit's effect is that against what makes up for it
            against = directions @ network.compensation
            moved = np.concatenate(
                [np.sign(directions[:, subs] - against[:, None]) * most, rng.uniform(-1, 1, (inside, len(most))) * most]
            )
        np.add.at(result.T, subs, moved.T)
        if not balanced:
            result[:] -= np.outer(moved.sum(axis=1), network.compensation)

    ramps = np.maximum(cls.gen_max_ramp_up, cls.gen_max_ramp_down).astype(float)
    for k, other in enumerate(env.zones):
        if k == zone:
            continue
        red = other.redispatchable if "redispatch" in actions else other.redispatchable[:0]
        cur = other.curtailable if "curtail" in actions else other.curtailable[:0]
        sto = other.storages if "storage" in actions else other.storages[:0]
        subs = np.concatenate([cls.gen_to_subid[red], cls.gen_to_subid[cur], cls.storage_to_subid[sto]])
        power = (cls.storage_max_p_absorb + cls.storage_max_p_prod).astype(float)
        most = np.concatenate([SHARE * ramps[red], env.config["curtail_step"] * cls.gen_pmax[cur], power[sto]])
        add(subs, bounds.others * most, env.action_map.balance == "zone" and len(red) > 0)
    loads = np.abs(grid_references(env.simulator, env.config).loads)
    red, cur = cls.gen_redispatchable, cls.gen_renewable
    add(
        np.concatenate([cls.load_to_subid, cls.gen_to_subid[cur], cls.gen_to_subid[red]]),
        np.concatenate([bounds.load * loads, bounds.renewable * cls.gen_pmax[cur], bounds.schedule * ramps[red]]),
        True,
    )
    return result.T, lines


__all__ = [
    "TOLERANCE",
    "Network",
    "Problem",
    "Unit",
    "balanced_vertex",
    "behaviours",
    "problem_of",
    "sums_of",
    "unit_of",
]
