"""What a zone measures, and that it sees the same as in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.measurement import (
    QUANTITIES,
    Elements,
    Measurement,
    MeasurementError,
    Meter,
    check_measurement,
    measurement_of,
    not_finite,
)
from grid2op_zones.safety.build import elements_of
from grid2op_zones.view import ZoneView
from tests.safety.states import Grid

VIEWS = [
    {"observability": "local"},
    {"observability": "outages"},
    {"observability": "border"},
    {"observability": "global"},
    {"grid": "educ_case14_storage"},
    {"grid": "l2rpn_case14_sandbox", "observability": "border", "zones": 2},
]


@pytest.fixture(scope="module", params=VIEWS, ids=lambda config: "-".join(map(str, config.values())))
def played(request: pytest.FixtureRequest) -> Iterator[ZonedGridEnv]:
    env = ZonedGridEnv({**request.param, "redispatch_solver": "direct", "scenarios": {"split": "all"}})
    yield env
    env.close()


def test_a_zone_s_view_is_the_environment_s_observation_bit_for_bit(played: ZonedGridEnv) -> None:
    env = played
    cls = type(env.simulator)
    views = {}
    for zone in env.zones:
        seen = env.observer.elements[zone.name]
        references = env.observer.references.part(
            seen["line"], seen["generator"], seen["load"], seen["storage"], env.observer.full_lines[zone.name]
        )
        views[zone.name] = Meter(elements_of(seen, cls), cls), ZoneView(references)
        assert references.size == env.observer.sizes[zone.name]
    rng, over = np.random.default_rng(0), True
    for step in range(60):
        if over:
            env.reset(seed=step)
        actions = {agent: rng.uniform(-1.0, 1.0, space.shape) for agent, space in env.action_spaces.items()}
        observed, _, terminated, truncated, _ = env.step(actions)
        over = terminated["__all__"] or truncated["__all__"]
        if terminated["__all__"]:
            continue
        for state in (env.grid_state, env.grid_observation) if step % 10 == 0 else (env.grid_state,):
            for agent, (meter, view) in views.items():
                measured = meter.read(state)
                check_measurement(meter.elements, measured)
                seen = view.observe(measured)
                assert seen.dtype == np.float32
                np.testing.assert_array_equal(seen, observed[agent])


def test_a_measurement_does_not_change_with_the_grid(idf: Grid) -> None:
    env, meter = idf.env, idf.zones[1].meter
    env.reset(seed=0)
    measured = meter.read(env.grid_state)
    before = [np.copy(value) for value in measured[2:]]
    for _ in range(3):
        env.step({agent: np.ones(space.shape) for agent, space in env.action_spaces.items()})
    for one, other in zip(before, measured[2:], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(meter.read(env.grid_state).p_or, measured.p_or)


# ---------------------------------------------------------------- measurements from elsewhere


@pytest.fixture
def measured(storage14: Grid) -> Measurement:
    return storage14.templates[1][0]


def values_of(m: Measurement) -> dict[str, np.ndarray]:
    return {name: getattr(m, name).copy() for names in QUANTITIES.values() for name in names}


def test_values_by_array_and_by_name_make_the_same_measurement(measured: Measurement) -> None:
    values = values_of(measured)
    arrays = measurement_of(measured.elements, measured.time, values)
    named: dict[str, object] = {}
    for kind, names in QUANTITIES.items():
        order = getattr(measured.elements, kind)
        for name in names:
            named[name] = dict(reversed(list(zip(order, values[name].tolist(), strict=True))))
    for made in (arrays, measurement_of(measured.elements, measured.time, named)):
        check_measurement(measured.elements, made)
        assert made.time == measured.time
        for one, other in zip(made[2:], measured[2:], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_a_missing_or_unknown_quantity_is_named(measured: Measurement) -> None:
    values = values_of(measured)
    del values["gen_bus"]
    with pytest.raises(MeasurementError, match=r"missing \['gen_bus'\], unknown \['gen_buss'\]"):
        measurement_of(measured.elements, measured.time, {**values, "gen_buss": np.zeros(3)})


def test_a_missing_or_unknown_element_is_named(measured: Measurement) -> None:
    line = measured.elements.lines[2]
    by_name = dict(zip(measured.elements.lines, measured.p_or.tolist(), strict=True))
    wrong = {name if name != line else "9_9_9": value for name, value in by_name.items()}
    with pytest.raises(MeasurementError, match=rf"p_or: missing \['{line}'\], unknown \['9_9_9'\]"):
        measurement_of(measured.elements, measured.time, {**values_of(measured), "p_or": wrong})


@pytest.mark.parametrize("name", ["rho", "gen_p", "storage_charge"])
def test_a_wrong_length_is_named(measured: Measurement, name: str) -> None:
    count = len(getattr(measured, name))
    for wrong in (np.zeros(count + 1), np.zeros((count, 1)), 0.0):
        with pytest.raises(MeasurementError, match=rf"{name}: expected {count} values"):
            measurement_of(measured.elements, measured.time, {**values_of(measured), name: wrong})
    short = measured._replace(**{name: getattr(measured, name)[:-1]})
    with pytest.raises(MeasurementError, match=rf"{name}: expected {count} values, found shape \({count - 1},\)"):
        check_measurement(measured.elements, short)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("gen_p", np.float64, "gen_p: expected float32, found float64"),
        ("line_status", np.int8, "line_status: expected bool, found int8"),
        ("gen_bus", np.int64, "gen_bus: expected int32, found int64"),
    ],
)
def test_a_wrong_type_is_named(measured: Measurement, name: str, dtype: type, message: str) -> None:
    wrong = measured._replace(**{name: getattr(measured, name).astype(dtype)})
    with pytest.raises(MeasurementError, match=message):
        check_measurement(measured.elements, wrong)


def test_a_wrong_order_and_another_grid_s_elements_are_named(measured: Measurement, sandbox14: Grid) -> None:
    elements = measured.elements
    swapped = elements._replace(lines=(elements.lines[1], elements.lines[0], *elements.lines[2:]))
    with pytest.raises(MeasurementError, match=rf"lines: element 0 is {elements.lines[1]!r}, expected"):
        check_measurement(elements, measured._replace(elements=swapped))
    fewer = elements._replace(loads=elements.loads[:-1])
    with pytest.raises(MeasurementError, match=f"loads: expected {len(elements.loads)} elements, found"):
        check_measurement(elements, measured._replace(elements=fewer))
    check_measurement(elements, measured._replace(elements=Elements(*elements)))
    with pytest.raises(ValueError, match="storages: the grid has no"):
        Meter(elements, sandbox14.env.simulator)


def test_what_is_not_a_number_is_found(measured: Measurement) -> None:
    assert not_finite(measured) == []
    wrong = measured._replace(**values_of(measured))
    wrong.p_or[[1, 3]], wrong.gen_p[0] = np.nan, np.inf
    found = [(kind, name, positions.tolist()) for kind, name, positions in not_finite(wrong)]
    assert found == [("lines", "p_or", [1, 3]), ("generators", "gen_p", [0])]


def test_nothing_is_guaranteed_by_flows_that_are_not_numbers(idf: Grid) -> None:
    """Callers look for these first; without that a certificate still claims nothing."""
    m = idf.templates[0][0]
    wrong = m._replace(p_or=m.p_or.copy(), time=datetime(2035, 1, 1))
    wrong.p_or[0] = np.nan
    projection = idf.zones[0].projection
    c = projection.project(np.zeros(projection.units.size), wrong)
    assert np.isnan(c.slack) and not c.guaranteed
