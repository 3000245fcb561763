"""Zone controllers: what they send is allowed whatever comes in, and they say what was wrong with it."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from grid2op_zones.limits import RAMP_SHARE
from grid2op_zones.measurement import QUANTITIES, Elements, Measurement, MeasurementError, Meter
from grid2op_zones.program import QuadraticProgram, SolverError
from grid2op_zones.safety.devices import ZoneUnits
from grid2op_zones.safety.projection import SafetyProjection
from rllib_mafql.deploy.controller import Decision, ZoneController
from rllib_mafql.deploy.package import MANIFEST, POLICY, PackageError, ZonePackage
from rllib_mafql.deploy.session import Session
from tests.deploy.conftest import Setup

STEP = timedelta(minutes=5)

KINDS = {name: kind for kind, names in QUANTITIES.items() for name in names}


class Zone(NamedTuple):
    """A zone's folder and what is measured there while its dispatch, caps and storages are in use."""

    folder: Path
    measured: Measurement

    def controller(self, **options: Any) -> ZoneController:
        return ZoneController(self.folder, **options)

    def changed(self, **values: np.ndarray) -> Measurement:
        """What is measured, with other values of some quantities."""
        return self.measured._replace(**values)

    def with_one(self, name: str, position: int, value: Any) -> Measurement:
        """What is measured, with another value of one quantity of one element."""
        values = getattr(self.measured, name).copy()
        values[position] = value
        return self.changed(**{name: values})


@pytest.fixture(scope="module", params=["case118", "case14"])
def zone(request: pytest.FixtureRequest) -> Zone:
    """A zone with units of all kinds: one that balances itself, and a small one that does not."""
    case: Setup = request.getfixturevalue(request.param)
    env, folder = case.env, case.folder / "zone_1"
    elements = ZoneController(folder).package.elements
    share = {"redispatch": 0.3, "curtail": -0.5, "storage": 0.5}
    actions = {
        zone: np.array([share[name.partition("[")[0]] for name in names])
        for zone, names in env.action_map.names.items()
    }
    spec = env.episode_spec(0)
    spec["options"]["start"] += 110  # at dawn neither wind nor sun may be lacking
    env.reset(**spec)
    for _ in range(6):
        env.step(actions)
    measured = Meter(elements, env.simulator).read(env.grid_observation)
    assert np.abs(measured.actual_dispatch).max() > 0.5
    assert np.abs(measured.storage_power).max() > 0.5
    assert (measured.gen_p_before_curtail - measured.gen_p).max() > 0.5
    return Zone(folder, measured)


@pytest.fixture
def controller(zone: Zone) -> ZoneController:
    return zone.controller()


@pytest.fixture
def bold(zone: Zone) -> Callable[..., ZoneController]:
    """A controller whose policy asks for more than the units allow."""

    def make(sign: float = 1.0, **options: Any) -> ZoneController:
        size = len(zone.controller().units)
        action = sign * np.where(np.arange(size) % 2, 1.0, -1.0).astype(np.float32)
        return zone.controller(policy=lambda obs, noise: action, **options)

    return make


def values_of(measurement: Measurement) -> dict[str, Any]:
    return {name: getattr(measurement, name) for name in KINDS}


def assert_within_limits(package: ZonePackage, m: Measurement, decision: Decision) -> None:
    """What is sent keeps to what the units allow: by the projection's own account, and reckoned here once more."""
    certificate, orders, data = decision.certificate, decision.orders, package.units
    assert certificate is not None and orders is not None
    room = ZoneUnits(data).room(m)
    size = np.maximum(1.0, np.maximum(np.abs(room.low), np.abs(room.high)))
    assert (certificate.change >= room.low - 1e-9 * size).all() and (
        certificate.change <= room.high + 1e-9 * size
    ).all()
    if data.balanced:
        assert certificate.change.sum() == pytest.approx(room.total, abs=1e-6)

    near = 1e-3
    red, cur, sto = data.redispatchable, data.curtailable, data.storages
    moves, caps, power = certificate.plan
    assert (moves <= RAMP_SHARE * data.ramp_up).all() and (moves >= -RAMP_SHARE * data.ramp_down).all()
    assert (moves[m.gen_bus[red] < 1] == 0.0).all()
    scheduled = m.gen_p[red] - m.gen_p_delta[red]
    assert (scheduled + moves <= np.maximum(data.pmax, scheduled) + near).all()
    assert (scheduled + moves >= np.minimum(data.pmin, scheduled) - near).all()
    assert (orders.redispatch <= data.ramp_up).all() and (orders.redispatch >= -data.ramp_down).all()

    assert (caps >= 0.0).all() and (caps <= 1.0).all()
    np.testing.assert_array_equal(orders.curtail, caps.astype(np.float32))
    available, present = m.gen_p_before_curtail[cur], m.gen_p[cur] - m.gen_p_delta[cur]
    injected = np.minimum(caps * data.curtail_pmax, available)
    assert (np.abs(injected - present) <= data.curtail_step * data.curtail_pmax + near).all()

    limits, on = data.storage_limits, m.storage_bus[sto] >= 1
    assert (power <= limits.absorb).all() and (power >= -limits.produce).all() and (power[~on] == 0.0).all()
    charge = m.storage_charge[sto] + power / np.where(power > 0.0, limits.charge_rate, limits.discharge_rate)
    assert (charge <= limits.e_max + near).all() and (charge >= limits.e_min - near).all()
    np.testing.assert_array_equal(orders.storage, power.astype(np.float32))

    assert list(decision.setpoints) == list(package.units.names)
    np.testing.assert_array_equal(list(decision.setpoints.values()), np.concatenate(certificate.plan))


def assert_nothing_sent(decision: Decision, *named: str) -> None:
    assert decision.orders is None and decision.certificate is None and decision.setpoints == {}
    for name in named:
        assert name in str(decision.problem)


def assert_released(controller: ZoneController, m: Measurement, decision: Decision, *named: str) -> None:
    """Hold and release was projected, whatever the policy says."""
    for name in named:
        assert name in str(decision.problem)
    assert_within_limits(controller.package, m, decision)
    projection = SafetyProjection(ZoneUnits(controller.package.units), controller.projection.lines)
    assert decision.certificate is not None
    np.testing.assert_array_equal(decision.certificate.change, projection.project(None, m, "because").change)
    if decision.certificate.how == "closed form":
        released = projection.units.nearest(projection.units.release(m), projection.units.room(m))
        np.testing.assert_array_equal(decision.certificate.change, released)


# Sound input -------------------------------------------------------------------------------------------------------


def test_an_action_within_the_limits_is_done_as_it_is(zone: Zone, controller: ZoneController) -> None:
    quiet = zone.changed(p_or=0.01 * zone.measured.p_or, q_or=0.01 * zone.measured.q_or)
    idle = zone.controller(policy=lambda obs, noise: np.zeros(len(controller.units)), level="units")
    decision = idle.decide(quiet)
    assert decision.problem is None and decision.certificate is not None and decision.certificate.fallback is None
    assert_within_limits(controller.package, quiet, decision)


def test_the_exported_policy_is_projected(zone: Zone, controller: ZoneController) -> None:
    decision = controller.decide(zone.measured)
    assert decision.problem is None and decision.certificate is not None
    assert_within_limits(controller.package, zone.measured, decision)
    noisy = zone.controller().decide(zone.measured, noise=np.ones(len(controller.units), np.float32))
    assert_within_limits(controller.package, zone.measured, noisy)
    assert noisy.setpoints != decision.setpoints


@pytest.mark.parametrize("level", ["units", "lines"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_the_units_do_not_allow_is_not_sent(
    zone: Zone, bold: Callable[..., ZoneController], level: str, sign: float
) -> None:
    controller = bold(sign, level=level)
    units = controller.projection.units
    asked = units.propose(controller.policy(np.zeros(1), None), zone.measured)
    room = units.room(zone.measured)
    assert (asked < room.low - 0.1).any() or (asked > room.high + 0.1).any()
    decision = controller.decide(zone.measured)
    assert decision.problem is None and decision.certificate is not None
    assert_within_limits(controller.package, zone.measured, decision)
    assert np.abs(decision.certificate.change - asked).max() > 0.1
    assert decision.certificate.distance > 0.0


def test_names_and_arrays_give_the_same(zone: Zone, controller: ZoneController) -> None:
    elements, values = controller.package.elements, values_of(zone.measured)
    named = {name: dict(zip(getattr(elements, KINDS[name]), value, strict=True)) for name, value in values.items()}
    shuffled = {name: dict(reversed(value.items())) for name, value in named.items()}
    lists = {name: value.tolist() for name, value in values.items()}
    wanted = controller.decide(zone.measured)
    for given in (values, named, shuffled, lists):
        other = zone.controller()
        decision = other.decide(other.measurement(zone.measured.time, given))
        assert decision.problem is None and decision.setpoints == wanted.setpoints


def test_columns_of_a_table_are_read(zone: Zone, controller: ZoneController) -> None:
    """Arrays that are not contiguous."""
    columns = {name: np.repeat(value, 3).reshape(-1, 3)[:, 1] for name, value in values_of(zone.measured).items()}
    assert not columns["p_or"].flags.contiguous
    decision = controller.decide(zone.changed(**columns))
    assert decision.problem is None
    assert decision.setpoints == zone.controller().decide(zone.measured).setpoints
    other = zone.controller()
    assert other.decide(other.measurement(zone.measured.time, columns)).setpoints == decision.setpoints


def test_copies_and_pickles_decide_alike(zone: Zone, controller: ZoneController) -> None:
    wanted = controller.decide(zone.measured).setpoints
    controller.reset()
    for other in (copy.deepcopy(controller), pickle.loads(pickle.dumps(controller))):
        assert other.policy is not controller.policy
        assert other.decide(zone.measured).setpoints == wanted
    assert controller.decide(zone.measured).setpoints == wanted


def test_after_a_reset_all_is_as_new(zone: Zone, controller: ZoneController) -> None:
    """To the last bit: what the solver starts from is forgotten, too."""
    rng = np.random.default_rng(0)
    for scale in (1.5, 2.0, 3.0, 5.0):
        laden = zone.changed(p_or=(scale * zone.measured.p_or).astype(np.float32))
        for _ in range(5):
            noise = rng.normal(size=controller.policy.action_size).astype(np.float32)
            controller.decide(laden._replace(time=zone.measured.time + STEP), noise=noise)
            controller.reset()
            assert controller.decide(laden).setpoints == zone.controller().decide(laden).setpoints
            controller.reset()


def test_measurements_stay_as_they_are(zone: Zone, controller: ZoneController) -> None:
    kept = {name: value.copy() for name, value in values_of(zone.measured).items()}
    controller.decide(zone.measured)
    for name, value in values_of(zone.measured).items():
        np.testing.assert_array_equal(value, kept[name])


# Measurements from which nothing can be decided ----------------------------------------------------------------------


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


# Hold and release --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["load_p", "rho"])
def test_what_the_policy_alone_reads_may_be_lacking(
    zone: Zone, bold: Callable[..., ZoneController], name: str, value: float
) -> None:
    controller = bold()
    m = zone.with_one(name, 1, value)
    element = getattr(controller.package.elements, KINDS[name])[1]
    assert_released(controller, m, controller.decide(m), f"{name} of {element} is {value}, not a number")


def test_lines_need_not_be_measured_where_they_are_not_in_the_projection(
    zone: Zone, bold: Callable[..., ZoneController]
) -> None:
    controller = bold(level="units")
    m = zone.with_one("p_or", 2, np.nan)
    assert_released(controller, m, controller.decide(m), f"p_or of {controller.package.elements.lines[2]} is nan")


def raising(obs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    raise MemoryError("no memory is left")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (raising, "the policy failed: MemoryError: no memory is left"),
        (lambda obs, noise: None, "the policy gave"),
        (lambda obs, noise: "up", "the policy failed: ValueError"),
        (lambda obs, noise: np.zeros(1), "the policy gave"),
        (lambda obs, noise: np.zeros(400), "the policy gave"),
        (lambda obs, noise: np.zeros((3, 1)), "the policy gave"),
    ],
)
def test_policies_that_fail_are_replaced(zone: Zone, policy: Any, named: str) -> None:
    controller = zone.controller(policy=policy)
    assert_released(controller, zone.measured, controller.decide(zone.measured), named)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_numbers_are_replaced(zone: Zone, value: float) -> None:
    action = np.ones(len(zone.controller().units), np.float32)
    action[1] = value
    controller = zone.controller(policy=lambda obs, noise: action)
    assert_released(controller, zone.measured, controller.decide(zone.measured), "the policy gave no finite action")


@pytest.mark.parametrize("size", [1e9, -1e30])
def test_actions_without_bound_are_projected(zone: Zone, size: float) -> None:
    controller = zone.controller(policy=lambda obs, noise: np.full(len(controller.units), size))
    decision = controller.decide(zone.measured)
    assert decision.problem is None
    assert_within_limits(controller.package, zone.measured, decision)


def test_late_policies_are_replaced(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    controller = bold(deadline_ms=0.0)
    decision = controller.decide(zone.measured)
    assert_released(controller, zone.measured, decision, "the policy was late: it took", "ms of 0")


def test_noise_of_the_wrong_size_is_the_policys_failure(zone: Zone, controller: ZoneController) -> None:
    decision = controller.decide(zone.measured, noise=np.zeros(1, np.float32))
    assert_released(controller, zone.measured, decision, "the policy failed: ValueError: noise: expected shape")


def with_policy(zone: Zone, path: Path, content: bytes) -> Path:
    """A copy of the zone's folder with another policy, and the checksum to it."""
    shutil.copytree(zone.folder, path)
    (path / POLICY).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["sha256"][POLICY] = hashlib.sha256(content).hexdigest()
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


def test_models_with_broken_weights_are_replaced(zone: Zone, tmp_path: Path) -> None:
    model = onnx.load(str(zone.folder / POLICY))
    weights = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    controller = ZoneController(with_policy(zone, tmp_path / "zone_1", model.SerializeToString()))
    decision = controller.decide(zone.measured)
    assert_released(controller, zone.measured, decision, "the policy gave no finite action")


# The grid is not as usual ------------------------------------------------------------------------------------------


def test_where_the_solver_fails_the_units_limits_are_kept(
    zone: Zone, bold: Callable[..., ZoneController], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = bold()
    laden = zone.changed(p_or=5.0 * zone.measured.p_or)

    def fails(program: QuadraticProgram, start: Any = None) -> Any:
        raise SolverError("DAQP exit flag -4")

    monkeypatch.setattr(QuadraticProgram, "solve", fails)
    decision = controller.decide(laden)
    assert controller.projection.failures == 1 and decision.certificate is not None
    assert decision.certificate.how == "closed form" and not decision.certificate.guaranteed
    assert_within_limits(controller.package, laden, decision)
    units = bold(level="units").decide(laden)
    assert units.certificate is not None
    np.testing.assert_array_equal(decision.certificate.change, units.certificate.change)
    monkeypatch.undo()
    solved = bold().decide(laden)
    assert solved.certificate is not None and solved.certificate.how != "closed form"
    violations = [((one.slack_mw / one.limit_mw) ** 2).sum() for one in (solved.certificate, decision.certificate)]
    assert violations[0] < violations[1]


def test_overloaded_lines_are_relieved_within_the_units_limits(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    for scale in (1.5, 3.0, 10.0):
        laden = zone.changed(p_or=np.float32(scale) * zone.measured.p_or)
        for sign in (1.0, -1.0):
            controller = bold(sign)
            assert_within_limits(controller.package, laden, controller.decide(laden))


def test_own_lines_may_be_out_of_service(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    m = zone.measured
    for out in ([0], [len(m.line_status) - 1], range(0, len(m.line_status), 2), range(len(m.line_status))):
        status, flow = m.line_status.copy(), m.p_or.copy()
        status[out], flow[out] = False, 0.0
        controller = bold()
        opened = zone.changed(line_status=status, p_or=flow, rho=np.where(status, m.rho, np.float32(0.0)))
        decision = controller.decide(opened)
        assert decision.problem is None
        assert_within_limits(controller.package, opened, decision)


@pytest.mark.parametrize("name", ["v_or", "thermal_limit", "q_or", "p_or"])
@pytest.mark.parametrize("value", [0.0, 1e-24, -1.0, 3e38])
def test_senseless_measurements_of_lines_move_no_unit_beyond_its_limits(
    zone: Zone, bold: Callable[..., ZoneController], name: str, value: float
) -> None:
    controller = bold()
    m = zone.with_one(name, 0, value)
    assert_within_limits(controller.package, m, controller.decide(m))
    m = zone.changed(**{name: np.full_like(getattr(m, name), value)})._replace(time=m.time + STEP)
    assert_within_limits(controller.package, m, controller.decide(m))


def test_a_generator_out_of_service_is_not_moved(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    for sign in (1.0, -1.0):
        controller = bold(sign)
        units = controller.package.units
        for k, position in enumerate(units.redispatchable):
            controller.reset()
            m = zone.with_one("gen_bus", int(position), -1)
            decision = controller.decide(m)
            assert decision.problem is None and decision.setpoints[units.names[k]] == 0.0
            assert_within_limits(controller.package, m, decision)


def test_a_disconnected_storage_is_left_alone(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    for sign in (1.0, -1.0):
        controller = bold(sign)
        units = controller.package.units
        m = zone.with_one("storage_bus", int(units.storages[0]), -1)
        first = len(units.redispatchable) + len(units.curtailable)
        assert zone.controller(level="units").decide(zone.measured).setpoints[units.names[first]] != 0.0
        decision = controller.decide(m)
        assert decision.problem is None and decision.setpoints[units.names[first]] == 0.0
        assert_within_limits(controller.package, m, decision)


def test_full_and_empty_storages(zone: Zone, bold: Callable[..., ZoneController]) -> None:
    limits = zone.controller().package.units.storage_limits
    for charge in (limits.e_min, limits.e_max):
        for sign in (1.0, -1.0):
            controller = bold(sign)
            m = zone.changed(storage_charge=charge.astype(np.float32))
            assert_within_limits(controller.package, m, controller.decide(m))


def test_whatever_the_state_and_the_action_limits_are_kept(zone: Zone) -> None:
    """Random outages, loadings, outputs and actions; what is no number now and then."""
    rng, action = np.random.default_rng(0), np.zeros(0)
    controller = zone.controller(policy=lambda obs, noise: action)
    units, lines = controller.package.units, len(zone.measured.line_status)
    red, m = units.redispatchable, zone.measured
    counts: Counter[str] = Counter()
    for k in range(150):
        action = rng.uniform(-1.0, 1.0, len(controller.units)) * rng.choice([0.0, 0.3, 1.0, 3.0])
        if rng.random() < 0.1:
            action[rng.integers(len(action))] = np.nan
        output, available = m.gen_p.copy(), m.gen_p_before_curtail.copy()
        output[red] = rng.uniform(units.pmin, units.pmax)
        available[units.curtailable] = rng.uniform(0.0, units.curtail_pmax)
        output[units.curtailable] = available[units.curtailable] * rng.choice([1.0, 0.7, 0.0], len(units.curtailable))
        load = m.load_p.copy()
        if rng.random() < 0.1:
            load[0] = np.nan
        random = zone.changed(
            p_or=(m.p_or * rng.choice([0.1, 1.0, 4.0]) * rng.uniform(-1, 1, lines)).astype(np.float32),
            q_or=(m.q_or * rng.uniform(-1, 1, lines)).astype(np.float32),
            v_or=(m.v_or * rng.uniform(0.9, 1.1, lines)).astype(np.float32),
            line_status=rng.random(lines) > rng.choice([0.0, 0.02, 0.5]),
            gen_p=output,
            gen_p_delta=np.zeros_like(output),
            gen_p_before_curtail=available,
            actual_dispatch=(m.actual_dispatch * rng.uniform(-2, 2)).astype(np.float32),
            gen_bus=np.where(rng.random(len(output)) < 0.1, -1, m.gen_bus).astype(np.int32),
            load_p=load,
            storage_charge=rng.uniform(units.storage_limits.e_min, units.storage_limits.e_max).astype(np.float32),
            storage_bus=np.where(rng.random(len(m.storage_bus)) < 0.1, -1, m.storage_bus).astype(np.int32),
        )._replace(time=m.time + k * STEP)
        decision = controller.decide(random)
        assert_within_limits(controller.package, random, decision)
        assert (decision.problem is None) == (np.isfinite(action).all() and np.isfinite(load).all())
        assert decision.certificate is not None
        counts["released" if decision.problem else decision.certificate.how] += 1
    assert min(counts[how] for how in ("released", "least violation", "closed form")) > 10


# Folders -----------------------------------------------------------------------------------------------------------


def test_folders_that_do_not_fit_are_refused(zone: Zone) -> None:
    controller = zone.controller()
    assert zone.controller(grid=controller.package.grid).units == controller.units
    with pytest.raises(PackageError, match=f"is for grid '{controller.package.grid}', not for 'another'"):
        zone.controller(grid="another")
    with pytest.raises(ValueError, match="level: expected 'units' or 'lines', found 'none'"):
        zone.controller(level="none")
    with pytest.raises(PackageError, match=f"is not an exported zone: it has no {MANIFEST}"):
        ZoneController(zone.folder.parent)


def test_policies_that_do_not_fit_are_refused(zone: Zone, tmp_path: Path) -> None:
    other = zone.folder.parent / "zone_2" / POLICY
    view, units = Session(zone.folder / POLICY), Session(other)
    path = with_policy(zone, tmp_path / "another's", other.read_bytes())
    message = (
        f"maps {units.obs_size} numbers to {units.action_size}, its zone has {view.obs_size} and {view.action_size}"
    )
    with pytest.raises(PackageError, match=message):
        ZoneController(path)
    path = with_policy(zone, tmp_path / "damaged", (zone.folder / POLICY).read_bytes()[:500])
    with pytest.raises(PackageError, match=rf"{POLICY} cannot be run: .*"):
        ZoneController(path)
