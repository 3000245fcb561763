"""The dispatchers as plain Grid2Op agents, for Grid2Op's own runner, scorers and whatever else takes a `BaseAgent`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grid2op.Agent import BaseAgent

from grid2op_zones.action import ActionMap, line_to_reconnect
from grid2op_zones.config import check_env_config
from grid2op_zones.dispatch import make_policy
from grid2op_zones.observation import make_observer
from grid2op_zones.safety.joint import JointProjection
from grid2op_zones.simulator import grid_references
from grid2op_zones.zones import Zone, make_zones


@dataclass
class Surroundings:
    """What a dispatcher asks of its environment, with a Grid2Op observation as the state of the grid."""

    simulator: Any
    zones: Sequence[Zone]
    action_map: ActionMap
    config: Mapping[str, Any]
    grid_state: Any = None


class DispatcherAgent(BaseAgent):
    """A dispatcher of `grid2op_zones.dispatch.POLICIES` that acts on Grid2Op's observations alone.

    It does what the same dispatcher does in a `ZonedGridEnv` of this configuration, `safety`, `idle_threshold` and
    `auto_reconnect` included. `do_nothing` with `auto_reconnect` closes lines and takes dispatch back to schedule.

    Args:
        simulator: A Grid2Op environment on LightSimBackend, which the grid's data and line parameters are read from;
            the agent can act in any other of the same grid.
        env_config: As of `ZonedGridEnv`; of it count zones, actions, balance, curtail_step, safety, idle_threshold and
            auto_reconnect.
        name: One of `POLICIES`.

    Raises:
        ValueError: The name, a key or a value is unknown.
    """

    def __init__(self, simulator: Any, env_config: Mapping[str, Any] | None, name: str) -> None:
        super().__init__(simulator.action_space)
        config = check_env_config(env_config)
        zones = make_zones(simulator, config["zones"])
        action_map = ActionMap(simulator, zones, config["actions"], config["balance"], config["curtail_step"])
        self._projection: JointProjection | None = None
        if config["safety"]["level"] != "none":
            references = grid_references(simulator, config)
            observer = make_observer(simulator, zones, config, references)
            self._projection = JointProjection(simulator, zones, action_map, observer, config, references.loads)
        self._surroundings = Surroundings(simulator, zones, action_map, config)
        self.name = name
        self._seed: int | None = None
        self._policy = make_policy(self._surroundings, name)

    def seed(self, seed: int) -> Any:
        """Fixes what "random" does from the next `reset` on."""
        self._seed = seed
        return super().seed(seed)

    def reset(self, obs: Any) -> None:
        """Begin an episode."""
        if self.name == "random":  # the others draw nothing
            self._policy = make_policy(self._surroundings, self.name, seed=self._seed)
        self._policy.reset()
        if self._projection is not None:
            self._projection.reset()

    def act(self, observation: Any, reward: float, done: bool = False) -> Any:
        """The legal Grid2Op action for what was observed."""
        here = self._surroundings
        action_map, config = here.action_map, here.config
        here.grid_state = observation
        threshold = config["idle_threshold"]
        idle = threshold is not None and float(observation.rho.max()) < threshold
        if self._projection is not None:
            action = None if idle else action_map.joint(self._policy.act())
            orders = self._projection.project(action, observation).orders
        elif idle:
            orders = action_map.orders(action_map.feasible(action_map.idle(), observation), observation)
        else:
            orders = action_map.plan(action_map.joint(self._policy.act()), observation)
        return action_map.action(orders, line_to_reconnect(observation) if config["auto_reconnect"] else None)
