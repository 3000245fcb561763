"""Zone controllers: where the policy gives nothing to go by, dispatch is held and released."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rllib_mafql.deploy.controller import ZoneController
from rllib_mafql.deploy.package import POLICY
from tests.deploy.measured import (
    KINDS,
    Zone,
    assert_released,
    assert_within_limits,
    with_policy,
)


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


def test_models_with_broken_weights_are_replaced(zone: Zone, tmp_path: Path) -> None:
    model = onnx.load(str(zone.folder / POLICY))
    weights = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    controller = ZoneController(with_policy(zone, tmp_path / "zone_1", model.SerializeToString()))
    decision = controller.decide(zone.measured)
    assert_released(controller, zone.measured, decision, "the policy gave no finite action")
