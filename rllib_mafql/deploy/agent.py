"""Exported zone controllers as one Grid2Op agent, for Grid2Op's own runner, episode data, replay and scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from grid2op.Agent import BaseAgent

from grid2op_zones.action import Orders, grid2op_action, line_to_reconnect
from grid2op_zones.measurement import Meter
from grid2op_zones.zones import grid_name
from rllib_mafql.deploy.controller import Decision, ZoneController
from rllib_mafql.deploy.package import PackageError, read_export


class ZoneStation:
    """A zone's controller and its place in the grid: what it measures of an observation, and where its orders go.

    Args:
        controller: The zone's.
        grid: A Grid2Op environment, observation or class.
    """

    def __init__(self, controller: ZoneController, grid: Any) -> None:
        self.controller = controller
        self.meter = Meter(controller.package.elements, grid)
        data = controller.package.units
        names = {str(name): k for k, name in enumerate(grid.name_gen)}
        generators = np.array([names[name] for name in controller.package.elements.generators], dtype=np.int64)
        names = {str(name): k for k, name in enumerate(grid.name_storage)}
        storages = np.array([names[name] for name in controller.package.elements.storages], dtype=np.int64)
        self.redispatchable, self.curtailable = generators[data.redispatchable], generators[data.curtailable]
        self.storages = storages[data.storages]

    def decide(self, observation: Any) -> Decision:
        """The zone's decision on an observation of the whole grid, of which it reads its own part."""
        return self.controller.decide(self.meter.read(observation))


class MAFQLAgent(BaseAgent):
    """Lets every zone's exported controller decide on its own measurements, and sends what they ordered.

    Args:
        grid: A Grid2Op environment (of `grid2op_zones.simulator.make_simulator`, or any of the export's grid).
        folder: Written by `mafql export`.
        auto_reconnect: Close an open line as soon as that is legal, one a step.
        level: "units" or "lines" instead of the exported level of projection.

    Attributes:
        stations: The zones' controllers and their places.
        decisions: The last decisions, in the order of the zones.

    Raises:
        ValueError: The folder is no export, is damaged, or is another grid's.
    """

    def __init__(self, grid: Any, folder: str | Path, *, auto_reconnect: bool = True, level: str | None = None) -> None:
        super().__init__(grid.action_space)
        folder = Path(folder)
        name = grid_name(grid)
        self.stations = []
        for zone in read_export(folder)["zones"]:
            controller = ZoneController(folder / zone, grid=name, level=level)
            if controller.package.zone != zone:  # two controllers would move the same units
                raise PackageError(f"{folder / zone} is of {controller.package.zone!r}")
            self.stations.append(ZoneStation(controller, grid))
        self.decisions: list[Decision] = []
        self._auto_reconnect = auto_reconnect

    def reset(self, obs: Any) -> None:
        """Begins an episode."""
        for station in self.stations:
            station.controller.reset()

    def act(self, observation: Any, reward: float, done: bool = False) -> Any:
        """The Grid2Op action that sends what the zones ordered."""
        self.decisions = [station.decide(observation) for station in self.stations]
        limits = observation.curtailment_limit
        orders = merged(self.stations, self.decisions, len(limits), len(observation.storage_power))
        if orders.curtail is not None and not caps_change(orders.curtail, limits):
            orders = orders._replace(curtail=None)
        return grid2op_action(
            self.action_space, orders, line_to_reconnect(observation) if self._auto_reconnect else None
        )


def merged(stations: list[ZoneStation], decisions: list[Decision], n_gen: int, n_storage: int) -> Orders:
    """The zones' orders in the grid's order of units; zones that send nothing leave theirs as they are."""
    redispatch = np.zeros(n_gen, dtype=np.float32)
    curtail = np.full(n_gen, -1.0, dtype=np.float32)
    storage = np.zeros(n_storage, dtype=np.float32)
    for station, decision in zip(stations, decisions, strict=True):
        if decision.orders is not None:
            redispatch[station.redispatchable] = decision.orders.redispatch
            curtail[station.curtailable] = decision.orders.curtail
            storage[station.storages] = decision.orders.storage
    return Orders(redispatch, curtail if (curtail >= 0.0).any() else None, storage if storage.any() else None)


def caps_change(curtail: np.ndarray, limits: np.ndarray) -> bool:
    """Whether one of the caps (n_gen,), -1 for none, differs from the present limits (n_gen,) by more than rounding."""
    return bool((np.abs(curtail - limits)[curtail >= 0.0] > 1e-6).any())
