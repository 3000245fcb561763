"""Zone controllers: measurements from which nothing can be decided are refused, and what was wrong is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from grid2op_zones.measurement import Elements, MeasurementError
from rllib_mafql.deploy.controller import ZoneController
from rllib_mafql.deploy.package import ZonePackage
from tests.deploy.measured import (
    KINDS,
    STEP,
    Zone,
    assert_nothing_sent,
    values_of,
)


def test_quantities_that_are_missing_or_unknown_are_named(zone: Zone, controller: ZoneController) -> None:
    values = values_of(zone.measured)
    without = {name: value for name, value in values.items() if name != "gen_p"}
    with pytest.raises(MeasurementError, match=r"missing \['gen_p'\], unknown \[\]"):
        controller.measurement(zone.measured.time, without)
    with pytest.raises(MeasurementError, match=r"missing \[\], unknown \['load_q'\]"):
        controller.measurement(zone.measured.time, {**values, "load_q": values["load_p"]})


def test_elements_that_are_missing_or_unknown_are_named(zone: Zone, controller: ZoneController) -> None:
    values, elements = values_of(zone.measured), controller.package.elements
    named: dict[str, Any] = dict(zip(elements.generators, values["gen_p"], strict=True))
    without = {name: value for name, value in named.items() if name != elements.generators[0]}
    with pytest.raises(MeasurementError, match=rf"gen_p: missing \['{elements.generators[0]}'\], unknown \[\]"):
        controller.measurement(zone.measured.time, {**values, "gen_p": without})
    with pytest.raises(MeasurementError, match=r"gen_p: missing \[\], unknown \['gen_99'\]"):
        controller.measurement(zone.measured.time, {**values, "gen_p": {**named, "gen_99": 1.0}})


@pytest.mark.parametrize("name", ["rho", "gen_bus", "load_p", "storage_power"])
def test_wrong_lengths_are_named(zone: Zone, controller: ZoneController, name: str) -> None:
    value = getattr(zone.measured, name)
    for wrong in (value[:-1], np.append(value, value[-1:]), value[:, None], value[0]):
        with pytest.raises(MeasurementError, match=rf"{name}: expected {len(value)} values, one of each of the"):
            controller.measurement(zone.measured.time, {**values_of(zone.measured), name: wrong})
        decision = controller.decide(zone.changed(**{name: np.asarray(wrong)}))
        assert_nothing_sent(decision, name, f"expected {len(value)} values")


@pytest.mark.parametrize(
    ("name", "wrong", "found"),
    [
        ("rho", lambda value: value.astype(np.float64), "expected float32, found float64"),
        ("line_status", lambda value: value.astype(np.int32), "expected bool, found int32"),
        ("gen_bus", lambda value: value.astype(np.int64), "expected int32, found int64"),
        ("gen_p", lambda value: value.astype("<U8"), "expected float32, found <U8"),
        ("load_p", lambda value: value.astype(object), "expected float32, found object"),
        ("storage_charge", lambda value: value.tolist(), "expected an array, found list"),
        ("v_or", lambda value: None, "expected an array, found NoneType"),
        ("q_or", lambda value: 1.0, "expected an array, found float"),
    ],
)
def test_wrong_types_are_named(zone: Zone, name: str, wrong: Callable[[np.ndarray], Any], found: str) -> None:
    decision = zone.controller().decide(zone.changed(**{name: wrong(getattr(zone.measured, name))}))
    assert_nothing_sent(decision, f"{name}: {found}")


def test_elements_in_another_order_are_named(zone: Zone, controller: ZoneController) -> None:
    elements = controller.package.elements
    first, second, *rest = elements.lines
    swapped = elements._replace(lines=(second, first, *rest))
    decision = controller.decide(zone.measured._replace(elements=swapped))
    assert_nothing_sent(decision, f"lines: element 0 is {second!r}, expected {first!r}: wrong order or grid")
    short = elements._replace(loads=elements.loads[:-1])
    decision = controller.decide(zone.measured._replace(elements=short))
    assert_nothing_sent(decision, f"loads: expected {len(elements.loads)} elements, found {len(elements.loads) - 1}")
    same = Elements(*(tuple(names) for names in elements))
    assert controller.decide(zone.measured._replace(elements=same)).problem is None


def test_another_zones_measurement_is_refused(zone: Zone) -> None:
    other = ZoneController(zone.folder.parent / "zone_2")
    assert_nothing_sent(other.decide(zone.measured), "lines: element 0 is", "wrong order or grid")


def own(package: ZonePackage) -> Iterator[tuple[str, int]]:
    """Quantities of the zone's own units and lines, each with the position of one of them."""
    units = package.units
    for name in ("gen_p", "gen_p_delta", "actual_dispatch", "target_dispatch"):
        yield name, int(units.redispatchable[-1])
    for name in ("gen_p_before_curtail", "curtailment_limit", "gen_p"):
        yield name, int(units.curtailable[0])
    for name in ("storage_charge", "storage_power"):
        yield name, int(units.storages[0])
    for name in ("p_or", "q_or", "v_or", "thermal_limit"):
        yield name, len(package.lines.lines) - 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_own_units_and_lines_that_are_not_measured_stop_everything(zone: Zone, value: float) -> None:
    controller = zone.controller()
    for name, position in own(controller.package):
        element = getattr(controller.package.elements, KINDS[name])[position]
        decision = controller.decide(zone.with_one(name, position, value))
        assert_nothing_sent(decision, f"{name} of {element} is {value}, not a number")
    assert controller.decide(zone.measured).problem is None  # of the same time, once it is complete


def test_the_worse_of_two_faults_counts(zone: Zone, controller: ZoneController) -> None:
    m = zone.with_one("load_p", 0, np.nan)
    m = m._replace(storage_charge=np.full_like(m.storage_charge, np.nan))
    assert_nothing_sent(controller.decide(m), "storage_charge of")


def test_stale_measurements_are_refused(zone: Zone, controller: ZoneController) -> None:
    m = zone.measured
    assert controller.decide(m).problem is None
    assert_nothing_sent(controller.decide(m), f"the measurement of {m.time} is stale", "was used already")
    older = m._replace(time=m.time - STEP)
    assert_nothing_sent(controller.decide(older), f"the measurement of {older.time} is stale", f"one of {m.time}")
    assert controller.decide(m._replace(time=m.time + STEP)).problem is None
    controller.reset()
    assert controller.decide(older).problem is None


def test_measurements_of_another_time_than_the_present_are_refused(zone: Zone, controller: ZoneController) -> None:
    m, second = zone.measured, timedelta(seconds=1)
    now = m.time + STEP + second
    assert_nothing_sent(controller.decide(m, now=now), f"the measurement of {m.time} is stale: it is {now}")
    now = m.time - STEP - second
    assert_nothing_sent(controller.decide(m, now=now), f"the measurement of {m.time} lies ahead: it is {now}")
    assert controller.decide(m, now=m.time + STEP).problem is None  # what was refused made it no older
    assert controller.decide(m._replace(time=m.time + STEP), now=m.time).problem is None


@pytest.mark.parametrize("wrong", [None, "2035-01-15 00:00", 1.0, np.datetime64("2035-01-15")])
def test_times_that_are_none_are_refused(zone: Zone, controller: ZoneController, wrong: Any) -> None:
    assert_nothing_sent(controller.decide(zone.measured._replace(time=wrong)), "time: expected a datetime", repr(wrong))
    assert controller.decide(zone.measured).problem is None


def test_times_with_and_without_a_zone_do_not_mix(zone: Zone, controller: ZoneController) -> None:
    aware = zone.measured._replace(time=zone.measured.time.replace(tzinfo=UTC))
    decision = controller.decide(zone.measured, now=datetime(2035, 1, 1, tzinfo=UTC))
    assert_nothing_sent(decision, "time: ", "cannot be compared", "time zone")
    assert controller.decide(aware, now=aware.time).problem is None
    assert_nothing_sent(controller.decide(zone.measured), "time: ", "cannot be compared")


def test_what_is_wrong_is_logged(zone: Zone, controller: ZoneController, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "rllib_mafql.deploy"):
        controller.decide(zone.measured)
        assert not caplog.records
        controller.decide(zone.measured)
        controller.decide(zone.with_one("load_p", 0, np.nan)._replace(time=zone.measured.time + STEP))
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [
        "zone_1: nothing is sent: the measurement",
        "zone_1: hold and release: load_p",
    ]
