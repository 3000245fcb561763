"""What the units allow: limits, balance and orders, against a reference that is written unit by unit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid2op_zones.measurement import Measurement
from grid2op_zones.safety.projection import NOT_FINITE, Certificate
from grid2op_zones.safety.projection import TOLERANCE as LEFT_FREE
from tests.safety.reference import Unit, sums_of, unit_of
from tests.safety.states import Grid, Mix, random_actions, random_state

#: Share of a unit's range by which it may miss its limits.
TOLERANCE = 1e-6

STATES, ACTIONS = 12, 6  # of an example and zone; two more actions are not finite, one is none, and one holds

MIXES = st.builds(Mix, st.sampled_from([0.3, 0.7, 1.0, 1.4]), st.integers(0, 3), st.sampled_from([0.0, 0.3, 2.0]))

#: What the examples came to.
seen: Counter[str] = Counter()


def certificates(grid: Grid, zone: int, m: Measurement, rng: np.random.Generator) -> list[Certificate]:
    """What the zone's projection makes of every kind of policy in one state."""
    projection = grid.zones[zone].projection
    actions = random_actions(projection.units.action_size, rng, ACTIONS + 2)
    actions[-2:, rng.integers(actions.shape[1])] = np.nan, rng.choice([-np.inf, np.inf])
    return [*(projection.project(action, m) for action in actions), projection.project(None, m), projection.hold(m)]


def check_limits(units: list[Unit], c: Certificate) -> None:
    slack = TOLERANCE * np.array([unit.range for unit in units])
    low, high = (np.array([getattr(unit, name) for unit in units]) for name in ("low", "high"))
    assert (np.abs(c.room.low - low) <= slack).all()
    assert (np.abs(c.room.high - high) <= slack).all()
    assert (c.change >= low - slack).all()
    assert (c.change <= high + slack).all()


def check_balance(balanced: bool, units: list[Unit], c: Certificate) -> None:
    np.testing.assert_allclose(c.room.sums, sums_of(units, balanced), atol=1e-6 * sum(unit.range for unit in units))
    assert c.room.sums[0] - 1e-6 <= c.change.sum() <= c.room.sums[1] + 1e-6
    if not balanced:
        assert ("sum" in c.active) == bool(np.isclose(c.change.sum(), c.room.sums, rtol=0.0, atol=1e-6).any())
        seen["made room"] += "sum" in c.active
        assert c.room.gap == 0.0
        assert np.isnan(c.room.total)
        return
    after = np.array([unit.present for unit in units]) + c.change
    kinds = np.array([unit.kind for unit in units])
    dispatch, curtailed_and_charged = after[kinds == "redispatch"].sum(), -after[kinds != "redispatch"].sum()
    assert dispatch + c.room.gap == pytest.approx(curtailed_and_charged, abs=1e-6 * sum(unit.range for unit in units))
    if c.room.gap != 0.0:  # then every unit is at its limit
        bound = c.room.high if c.room.gap > 0.0 else c.room.low
        np.testing.assert_allclose(c.change, bound, atol=1e-6)


def check_setpoints(grid: Grid, m: Measurement, c: Certificate) -> None:
    """Set-points come to the changes, and orders are what Grid2Op takes."""
    cls = type(grid.env.simulator)
    setpoints, orders = np.concatenate(c.plan), np.concatenate(c.orders)
    assert np.isfinite(setpoints).all() and np.isfinite(orders).all()
    for name, change, setpoint, order in zip(c.names, c.change, setpoints, orders, strict=True):
        kind, element = name.removesuffix("]").split("[")
        if kind == "redispatch":
            g = list(cls.name_gen).index(element)
            assert setpoint == change
            assert -cls.gen_max_ramp_down[g] < order < cls.gen_max_ramp_up[g]
        elif kind == "curtail":
            g, k = list(cls.name_gen).index(element), m.elements.generators.index(element)
            pmax, available = float(cls.gen_pmax[g]), float(m.gen_p_before_curtail[k])
            unit = unit_of(grid, name, m)
            assert 0.0 <= order <= 1.0
            assert min(setpoint * pmax, available) - available == pytest.approx(unit.present + change, abs=1e-6 * pmax)
            # what rises in the step is let in as gradually as what there is
            assert setpoint == 1.0 or setpoint * pmax <= available + unit.present + 0.1 * pmax + 1e-6 * pmax
        else:
            s, k = list(cls.name_storage).index(element), m.elements.storages.index(element)
            absorb, produce = cls.storage_max_p_absorb[s], cls.storage_max_p_prod[s]
            assert setpoint == pytest.approx(float(m.storage_power[k]) - change, abs=1e-9)
            assert -produce <= order <= absorb
            hours = grid.env.simulator.delta_time_seconds / 3600.0
            if order > 0.0:
                stored = order * hours * cls.storage_charging_efficiency[s]
            else:
                stored = order * hours / cls.storage_discharging_efficiency[s]
            energy = TOLERANCE * cls.storage_Emax[s]
            assert cls.storage_Emin[s] - energy <= m.storage_charge[k] + stored <= cls.storage_Emax[s] + energy
            assert m.storage_bus[k] >= 1 or order == 0.0


@given(seed=st.integers(0, 2**32 - 1), mix=MIXES)
@settings(deadline=None, max_examples=25)
def test_units_keep_their_limits_whatever_the_policy_does(grid: Grid, seed: int, mix: Mix) -> None:
    """9,000 certificates a grid, in 900 states: no limit and no balance is violated."""
    rng = np.random.default_rng(seed)
    for zone, found in enumerate(grid.zones):
        found.projection.failures = 0
        balanced = grid.env.action_map.balance == "zone" and len(grid.env.zones[zone].redispatchable) > 0
        for _ in range(STATES):
            m = random_state(grid, zone, rng, mix)
            made = certificates(grid, zone, m, rng)
            units = [unit_of(grid, name, m) for name in made[0].names]
            for c in made:
                check_limits(units, c)
                check_balance(balanced, units, c)
                check_setpoints(grid, m, c)
                assert c.action.dtype == np.float32 and (np.abs(c.action) <= 1.0).all()
                seen[c.how] += 1
                seen["gap"] += c.room.gap != 0.0
            assert [c.fallback for c in made] == [None] * ACTIONS + [NOT_FINITE] * 3 + [None]
        assert found.projection.failures == 0


def test_the_states_were_of_all_kinds() -> None:
    assert sum(seen[how] for how in ("closed form", "program", "least violation")) >= 10_000
    assert min(seen[how] for how in ("closed form", "program", "least violation", "gap", "made room")) >= 300


def expressible(c: Certificate, projected: np.ndarray, scale: np.ndarray) -> bool:
    """Whether the executed action proposes what was executed; it cannot where that is beyond +-1."""
    inside = np.abs(c.action[: len(scale)]) < 1.0
    off = np.abs(projected - c.change) / scale
    assert (off[inside] <= 1e-6).all()
    return bool((off <= 1e-6).all())


def violation(c: Certificate) -> float:
    """Sum of the squared violations that the least violation is one of."""
    closed = np.isfinite(c.limit_mw)
    margin, limit, worst = c.margin_mw[closed], c.limit_mw[closed], c.worst_mw[closed]
    free = np.maximum(1.0 - LEFT_FREE - margin / limit, 0.0)
    return float(np.square(np.maximum((worst - margin) / limit - free, 0.0)).sum())


@given(seed=st.integers(0, 2**32 - 1), mix=MIXES)
@settings(deadline=None, max_examples=25)
def test_what_is_executed_comes_back_unchanged(grid: Grid, seed: int, mix: Mix) -> None:
    """The executed action of a state, projected in the same state, is executed as it is."""
    rng = np.random.default_rng(seed)
    for zone, found in enumerate(grid.zones):
        projection = found.projection
        for _ in range(STATES):
            m = random_state(grid, zone, rng, mix)
            first = projection.project(random_actions(projection.units.action_size, rng, 1)[0], m)
            again = projection.units.propose(first.action, first.room)
            if not expressible(first, again, projection.units.scale):
                seen["clipped"] += 1
                continue
            second = projection.project(first.action, m)
            if first.how == "least violation":
                # violations have a finite price: from where it got to, it gets on a little
                assert violation(second) <= violation(first) * (1.0 + 1e-6) + 1e-11
                continue
            seen["repeated"] += 1
            np.testing.assert_array_equal(second.action, first.action)
            assert second.distance < 1e-6
            np.testing.assert_allclose(second.change, first.change, atol=1e-5)
            np.testing.assert_allclose(np.concatenate(second.orders), np.concatenate(first.orders), atol=1e-5)


def test_most_could_be_repeated() -> None:
    assert seen["repeated"] > 1_000 and seen["repeated"] > seen["clipped"]


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_a_feasible_action_is_executed_bit_for_bit(grid: Grid, seed: int) -> None:
    """Points inside what the units allow, on lines that have room for them."""
    rng = np.random.default_rng(seed)
    for zone, found in enumerate(grid.zones):
        projection, units = found.projection, found.projection.units
        for _ in range(STATES):
            m = random_state(grid, zone, rng, Mix(loading=0.05))
            m.q_or[:] = 0.0
            room = units.room(m)
            inside = room.low + (room.high - room.low) * rng.uniform(0.2, 0.8, units.size)
            inside = units.nearest(inside, room)
            action = units.settle(inside, inside, None, room).action
            proposed = units.propose(action, room)
            if not np.allclose(proposed, inside, atol=1e-5):
                continue  # beyond what an action can say
            c = projection.project(action, m)
            if c.slack > 0.0 or c.how != "closed form":
                continue  # small grids have lines that others alone may fill
            seen["inside"] += 1
            np.testing.assert_array_equal(c.action, action)
            assert c.distance < 1e-6
            within = (np.clip(proposed, room.low, room.high) == proposed).all()
            if within and not np.isfinite(room.sums).any():
                assert c.distance == 0.0  # neither a sum nor a bound that float32 could miss
                seen["exact"] += 1


def test_there_were_feasible_actions() -> None:
    assert seen["inside"] > 500 and seen["exact"] > 100
