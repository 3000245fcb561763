"""The multi-agent environment: zones of a Grid2Op grid as agents that act together and share one reward."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from grid2op.Exceptions import EnvError
from gymnasium.spaces import Box
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from grid2op_zones.action import ActionMap, line_to_reconnect
from grid2op_zones.config import check_env_config
from grid2op_zones.fast_step import GridStepper
from grid2op_zones.grid_state import GridState
from grid2op_zones.observation import make_observer
from grid2op_zones.reward import COMPONENTS, CompositeReward
from grid2op_zones.safety.joint import JointProjection, Projected
from grid2op_zones.simulator import grid_references, make_scenarios, make_simulator, series_played
from grid2op_zones.view import BOUND
from grid2op_zones.zones import grid_name, make_zones

if TYPE_CHECKING:
    from grid2op_zones.dispatch import BehaviorPolicy

logger = logging.getLogger(__name__)

NOT_RUNNING = "no episode is running: call reset() first"

_MAX_SEED = 2**31 - 1

#: Draws after which an episode in which the grid falls apart at once is given up.
MAX_STARTS = 20

#: Draws after which a given start is replaced by another one of its series.
GIVEN_STARTS = 10

#: What ``episode_metrics`` counts of the projection, where there is one.
PROJECTION_METRICS = ("projection_distance", "projected_steps", "unguaranteed_steps", "broken_guarantees")

#: Distance, in steps of the units, from which an action counts as moved by the projection.
MOVED = 1e-3

#: What names or texts of Grid2Op's exceptions, in this order, make ``end_reason`` say. Cascades of overloads end in the
#: second.
_END_REASONS = (
    ("ImpossibleRedispatching", "redispatch impossible"),
    ("non connected grid", "grid fell apart"),
    ("Islanded", "grid fell apart"),
    ("Isolated", "grid fell apart"),
    ("Diverg", "power flow diverged"),
    ("BackendError", "power flow diverged"),
)


class ZonedGridEnv(MultiAgentEnv):
    """Grid2Op with one agent per zone.

    All agents act in every step and receive the same reward, the weighted sum of four components in [0, 1] (see
    ``CompositeReward``), 0 when the grid fails. An episode is truncated after ``max_steps`` or where its series' part
    ends, and terminated when the grid fails (a diverged power flow never raises).

    Every step's ``infos[agent]`` is one dict, the same for all agents: ``reward_components``, ``rho_max`` (highest line
    loading), ``dispatch_mw`` (sum of dispatch per zone, MW), ``idle``. That of ``reset`` also has ``scenario``, which
    says what is played: source, series and row, as "generated/2035-01-15_0000000042 row 288". On the last step also
    ``end_reason`` and ``episode_metrics``: ``survived`` (0 or 1), ``score`` and the four components (sums over the
    steps the episode could have had), ``overload_steps`` (steps with a line above its limit), ``illegal_actions``.

    With ``safety.level`` units or lines every zone's action is projected before it is sent (docs/safety.md), and infos
    have ``projection``: ``action``, the joint action as executed, (sum m_i,) float32; ``distance`` and ``slack``, the
    zones' largest (see ``Certificate``). ``episode_metrics`` then has ``projection_distance`` (mean of a step),
    ``projected_steps``, ``unguaranteed_steps`` (some zone's lines not guaranteed) and ``broken_guarantees`` (steps with
    all of them guaranteed, after which a line was above its limit even so).

    Args:
        config: ``env_config``, see ``DEFAULT_ENV_CONFIG``; a dict, RLlib's EnvContext, or None for the defaults. Where
            ``reset`` gets no seed, episodes follow from ``scenarios.seed`` and RLlib's worker index.

    Attributes:
        zones: The partition; ``zones[i].name`` is ``possible_agents[i]``.
        action_map: Maps normalised actions to MW and back.
        observer: Builds observations; ``observer.names(agent)`` names their components.
        simulator: The Grid2Op environment.
        config: The full configuration.
        fingerprint: JSON-able summary that tells whether a policy fits this grid.

    Raises:
        ValueError: Any key, value, grid or zone map that is wrong, named.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config = check_env_config(config)
        self.simulator = make_simulator(self.config)
        self.zones = make_zones(self.simulator, self.config["zones"])
        self.action_map = ActionMap(
            self.simulator, self.zones, self.config["actions"], self.config["balance"], self.config["curtail_step"]
        )
        references = grid_references(self.simulator, self.config)
        self.observer = make_observer(self.simulator, self.zones, self.config, references)
        self.projection: JointProjection | None = None
        if self.config["safety"]["level"] != "none":
            self.projection = JointProjection(
                self.simulator, self.zones, self.action_map, self.observer, self.config, references.loads
            )
        self._reward = CompositeReward(self.simulator, self.config["reward"], float(references.loads.sum()))
        scenarios = self.config["scenarios"]
        self.scenarios = make_scenarios(self.simulator, self.config)
        self._names = [zone.name for zone in self.zones]
        self.possible_agents, self.agents = list(self._names), list(self._names)
        self.observation_spaces = {
            agent: Box(-BOUND, BOUND, (size,), np.float32) for agent, size in self.observer.sizes.items()
        }
        self.action_spaces = {
            agent: Box(-1.0, 1.0, (size,), np.float32) for agent, size in self.action_map.sizes.items()
        }
        self.fingerprint: dict[str, Any] = {
            "grid": grid_name(self.simulator),
            "agents": {
                agent: {
                    "units": self.action_map.names[agent],
                    "obs_dim": self.observer.sizes[agent],
                    "act_dim": self.action_map.sizes[agent],
                }
                for agent in self._names
            },
        }
        # EnvContext carries the indices of RLlib's runner and of the copy within it
        entropy = [scenarios["seed"], *(getattr(config, name, 0) or 0 for name in ("worker_index", "vector_index"))]
        self.np_random = np.random.default_rng(entropy)
        self._stepper = GridStepper(self.simulator, self.action_map, self.config["fast_step"])
        self._running = False

    @property
    def grid_state(self) -> GridState:
        """What the grid measures now, under the names of Grid2Op's observation; cheap, and changes with every step."""
        return self._stepper.state

    @property
    def grid_observation(self) -> Any:
        """The current Grid2Op observation, built when asked for; Grid2Op overwrites it in the next step."""
        return self._stepper.observation()

    def reset(  # type: ignore[override]  # agents are strings here
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: Fixes everything random in this episode and the following ones: which part of which series,
                maintenance, the opponent. The same seed and options replay the same episode.
            options: ``{"scenario": series index, "start": row of its first observation}``, both or the first only. A
                start at which the grid falls apart whatever is drawn is replaced by another one, with a warning.

        Raises:
            ValueError: An option is unknown or the split has no such scenario.
            RuntimeError: The grid falls apart before its first observation, whatever is drawn.
        """
        info = self._begin(seed, options)
        obs = self.observer.observe(self.grid_state)
        return obs, dict.fromkeys(self._names, info)

    def step(  # type: ignore[override]  # agents are strings here
        self, action_dict: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Play one step with every agent's action, each (m_i,) in [-1, 1]; what lies outside is clipped.

        Raises:
            ValueError: An agent is missing or unknown, an action has the wrong shape or a component is no number.
            RuntimeError: The episode is over, or none was started.
        """
        if not self._running:
            raise RuntimeError(NOT_RUNNING)
        reward, terminated, truncated, info = self._advance(self.action_map.joint(action_dict))
        obs = self.observer.blank() if terminated else self.observer.observe(self.grid_state)
        agents = self._names
        return (
            obs,
            dict.fromkeys(agents, reward),
            dict.fromkeys((*agents, "__all__"), terminated),
            dict.fromkeys((*agents, "__all__"), truncated),
            dict.fromkeys(agents, info),
        )

    def joint_reset(
        self, out: np.ndarray, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """``reset`` for runners: writes the zones' observations side by side into ``out`` (sum d_i,) float32.

        Returns:
            The info that ``reset`` gives every agent.
        """
        info = self._begin(seed, options)
        self.observer.write(self.grid_state, out)
        return info

    def joint_step(self, action: np.ndarray, out: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """``step`` for runners: the zones' actions side by side, (sum m_i,); what they see is written into ``out``.

        Returns:
            (reward, terminated, truncated, info), as ``step`` gives every agent.

        Raises:
            ValueError: The action has the wrong shape or a component is no number.
            RuntimeError: The episode is over, or none was started.
        """
        if not self._running:
            raise RuntimeError(NOT_RUNNING)
        result = self._advance(self.action_map.checked(action))
        if result[1]:
            out[:] = 0.0
        else:
            self.observer.write(self.grid_state, out)
        return result

    def behavior_policy(self, name: str, *, noise: float = 0.0, seed: int | None = None) -> BehaviorPolicy:
        """A dispatcher that acts on this environment, by its name in ``grid2op_zones.dispatch.POLICIES``."""
        from grid2op_zones.dispatch import make_policy

        return make_policy(self, name, noise=noise, seed=seed)

    def episode_spec(self, k: int) -> dict[str, Any]:
        """What ``reset`` needs for episode ``k`` of this split, the same for every agent that is evaluated.

        ``env.reset(**env.episode_spec(k))`` cycles through the series, with full length where the data allow.
        """
        seed, episode = self.scenarios.numbered(k)
        return {"seed": seed, "options": {"scenario": episode.series, "start": episode.start}}

    def close(self) -> None:
        """Release the simulator."""
        self.simulator.close()

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        options = dict(options or {})
        series, start = options.pop("scenario", None), options.pop("start", None)
        if options:
            raise ValueError(f"options: unknown {sorted(options)}; known are 'scenario' and 'start'")
        if seed is not None:
            self.np_random = np.random.default_rng(seed)
        self._start_episode(series, start)
        self._stepper.begin()
        if self.projection is not None:
            self.projection.reset()
        self._steps = 0
        self._running = True
        counted = ("overload_steps", "illegal_actions", *(PROJECTION_METRICS if self.projection is not None else ()))
        self._sums = dict.fromkeys(("score", *COMPONENTS, *counted), 0.0)
        info = self._info(self._reward.components(self.grid_state), idle=False)
        source = self.config["scenarios"]["source"]
        info["scenario"] = f"{source}/{series_played(self.simulator)} row {self._episode.start}"
        return info

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Plays one step with a joint action (sum m_i,) in [-1, 1]: reward, terminated, truncated, info."""
        state, action_map = self.grid_state, self.action_map
        threshold = self.config["idle_threshold"]
        idle = threshold is not None and float(state.rho.max()) < threshold
        projected = None
        if self.projection is not None:
            projected = self.projection.project(None if idle else action, state)
            orders = projected.orders
        elif idle:
            orders = action_map.orders(action_map.feasible(action_map.idle(), state), state)
        else:
            orders = action_map.plan(action, state)
        outcome = self._stepper.step(orders, line_to_reconnect(state) if self.config["auto_reconnect"] else None)
        self._steps += 1
        components = dict.fromkeys(COMPONENTS, 0.0) if outcome.failed else self._reward.components(state)
        reward = self._reward.total(components)
        over = outcome.failed or self._steps >= self._episode.steps
        info = self._info(components, idle, outcome.failed)
        sums = self._sums
        for name, value in components.items():
            sums[name] += value
        sums["score"] += reward
        sums["overload_steps"] += float(info["rho_max"] > 1.0)
        sums["illegal_actions"] += float(outcome.refused)
        if projected is not None:
            info["projection"] = self._projection_info(projected, overloaded=info["rho_max"] > 1.0 or outcome.failed)
        if over:
            self._running = False
            info["end_reason"] = _end_reason(outcome.errors) if outcome.failed else self._truncation_reason()
            info["episode_metrics"] = self._metrics(survived=not outcome.failed)
        return reward, outcome.failed, over and not outcome.failed, info

    def _projection_info(self, projected: Projected, overloaded: bool) -> dict[str, Any]:
        distance = max(one.distance for one in projected.certificates)
        slack = max(one.slack for one in projected.certificates)
        sums = self._sums
        sums["projection_distance"] += distance
        sums["projected_steps"] += float(distance > MOVED)
        sums["unguaranteed_steps"] += float(not slack <= 0.0)
        sums["broken_guarantees"] += float(slack <= 0.0 and overloaded)
        return {"action": projected.action, "distance": distance, "slack": slack}

    def _start_episode(self, series: int | None, start: int | None) -> None:
        """Set the episode and its first observation.

        Grid2Op plays a step before the first observation. Where the maintenance drawn breaks the grid in it (about one
        start in 400 on l2rpn_idf_2023), what the options leave open, maintenance included, is drawn anew. A start that
        is given is kept for half of the draws; generated weeks, whose maintenance is fixed, have nothing else to draw.
        """
        for draw in range(MAX_STARTS):
            kept = start if draw < GIVEN_STARTS else None
            self._episode = self.scenarios.pinned(series, kept, self.np_random)
            try:
                self._reset_simulator(int(self.np_random.integers(_MAX_SEED)))
            except EnvError as error:
                failure = error
            else:
                if start is not None and self._episode.start != start:
                    logger.warning(
                        "scenario %d cannot start at %d, the grid falls apart at once: it starts at %d",
                        *(self._episode.series, start, self._episode.start),
                    )
                return
        raise RuntimeError(
            f"scenario {self._episode.series} cannot start at {self._episode.start if start is None else start}: the "
            f"grid fell apart before its first observation in {MAX_STARTS} draws"
        ) from failure

    def _reset_simulator(self, seed: int) -> None:
        options: dict[str, Any] = {"time serie id": self._episode.series}
        if self.config["scenarios"]["before_outages"]:  # weeks are generated then
            self.simulator.chronics_handler.real_data.further_outage = self._episode.outage
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # an attack under way leaks into an episode that starts late, unless one without "init ts" lies between
            if self._episode.start == 0 or self.config["opponent"]:
                self.simulator.reset(seed=seed, options=options)
            if self._episode.start > 0:
                self.simulator.reset(seed=seed, options={**options, "init ts": self._episode.start})

    def _info(self, components: dict[str, float], idle: bool, failed: bool = False) -> dict[str, Any]:
        dispatch = self.grid_state.actual_dispatch
        return {
            "reward_components": components,
            "rho_max": 0.0 if failed else float(self.grid_state.rho.max()),
            "dispatch_mw": {
                zone.name: 0.0 if failed else float(dispatch[zone.redispatchable].sum()) for zone in self.zones
            },
            "idle": idle,
        }

    def _truncation_reason(self) -> str:
        return "max_steps" if self._steps >= self.config["max_steps"] else "end of the series"

    def _metrics(self, survived: bool) -> dict[str, float]:
        metrics = {"survived": float(survived), **self._sums}
        for name in ("score", *COMPONENTS):
            metrics[name] /= self._episode.steps
        if self.projection is not None:
            metrics["projection_distance"] /= self._steps
        return metrics


def _end_reason(errors: Sequence[Exception]) -> str:
    names = " ".join(base.__name__ for error in errors for base in type(error).__mro__)
    texts = " ".join(str(error) for error in errors)
    for name, reason in _END_REASONS:
        if name in names or name in texts:
            return reason
    return "game over"
