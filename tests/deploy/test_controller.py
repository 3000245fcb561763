"""Zone controllers: what they send is allowed whatever the state, and nothing else is changed."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid2op_zones.program import QuadraticProgram, SolverError
from rllib_mafql.deploy.controller import ZoneController
from rllib_mafql.deploy.package import MANIFEST, POLICY, PackageError
from rllib_mafql.deploy.session import Session
from tests.deploy.measured import (
    KINDS,
    STEP,
    Zone,
    assert_within_limits,
    values_of,
    with_policy,
)

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
    room = units.room(zone.measured)
    asked = units.propose(controller.policy(np.zeros(1), None), room)
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
