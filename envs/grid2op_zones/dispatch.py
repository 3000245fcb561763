"""Dispatchers that act on a `ZonedGridEnv`: behaviour policies to learn from, and baselines to compare with.

By name: `do_nothing`; `random`; `proportional`, `qp` and `qp_n1` (which is ready for outages), which see the whole
grid; the same with `_zones`, where every zone sees and moves only its own lines and units. They measure the present
Grid2Op observation, plan in MW, and answer with the normalised actions that agents give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np

from grid2op_zones.area import Area, Snapshot, make_areas
from grid2op_zones.n1 import N1Dispatcher
from grid2op_zones.opponent import threatened_lines
from grid2op_zones.proportional import ProportionalDispatcher
from grid2op_zones.ptdf import LinearFlow
from grid2op_zones.qp import QPDispatcher

POLICIES = (
    "do_nothing",
    "random",
    "proportional",
    "proportional_zones",
    "qp",
    "qp_zones",
    "qp_n1",
    "qp_n1_zones",
)

#: Gaussian noise on the actions of units in use, per unit of `noise`: a share of what the unit can change in one step.
ACTION_NOISE = 0.1


class BehaviorPolicy(Protocol):
    """Acts on the environment that it was made for."""

    @property
    def counts(self) -> Counter[str]:
        """What went otherwise than planned, since the policy was made.

        "no_linear_model": steps not acted in, because the topology has islands or a split substation.
        "solver_failed": programs that were not solved, where the area held what there was.
        """

    def reset(self) -> None:
        """Begin an episode, after the environment's `reset`: draws the episode's noise anew."""

    def act(self) -> dict[str, np.ndarray]:
        """Actions for the environment's present state: for each agent (m_i,) float32 in [-1, 1]."""


class Dispatcher(Protocol):
    """Plans the changes of one area."""

    area: Area
    counts: Counter[str]

    def draw(self, rng: np.random.Generator, noise: float) -> None:
        """Perturb costs and thresholds for the episode to come."""

    def changes(self, snapshot: Snapshot) -> np.ndarray | None:
        """Changes of the units' injections, MW, (n,); None where nothing is to be done and nothing is in use."""


class DoNothing:
    """Zero actions: no dispatch, no caps, storages idle."""

    def __init__(self, env: Any) -> None:
        self.counts: Counter[str] = Counter()
        self._sizes = env.action_map.sizes

    def reset(self) -> None:
        """Nothing to draw."""

    def act(self) -> dict[str, np.ndarray]:
        """Zeros."""
        return {agent: np.zeros(size, dtype=np.float32) for agent, size in self._sizes.items()}


class RandomWalk:
    """Uniform noise that changes slowly, so that dispatch wanders off its schedule instead of trembling around it.

    A component keeps its value for `persistence` steps on average, then draws a new one in [-scale, scale]. Some of the
    components stay at 0 for a whole episode, which lets episodes last and visits states where few units are in use.

    Args:
        env: A `ZonedGridEnv`.
        seed: Fixes all draws.
        scale: Largest action, in (0, 1].
        persistence: Mean number of steps that a value lasts, at least 1.
        busy: Share of the components that are used in an episode.
    """

    def __init__(
        self, env: Any, seed: int | None, scale: float = 0.3, persistence: float = 12.0, busy: float = 0.5
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._sizes = env.action_map.sizes
        self._rng = np.random.default_rng(seed)
        self._scale, self._renewal, self._busy = scale, 1.0 / persistence, busy
        self.reset()

    def reset(self) -> None:
        """Choose the components in use and their first values."""
        self._used = {agent: self._rng.random(size) < self._busy for agent, size in self._sizes.items()}
        self._value = {agent: self._fresh(size) for agent, size in self._sizes.items()}

    def act(self) -> dict[str, np.ndarray]:
        """The present values, some of them just renewed."""
        for agent, size in self._sizes.items():
            renewed = self._rng.random(size) < self._renewal
            self._value[agent] = np.where(renewed, self._fresh(size), self._value[agent])
        return {agent: (value * self._used[agent]).astype(np.float32) for agent, value in self._value.items()}

    def _fresh(self, size: int) -> np.ndarray:
        return self._rng.uniform(-self._scale, self._scale, size)


class AreaPolicy:
    """Lets one dispatcher per area plan, and adds noise.

    Args:
        env: A `ZonedGridEnv`.
        dispatchers: Their areas share no units.
        noise: Standard deviation of the logarithm of the units' costs, drawn per episode. The actions of units in use
            get Gaussian noise of `ACTION_NOISE` times this, a share of the ramp, `curtail_step` or storage power.
        seed: Of the noise.
    """

    def __init__(self, env: Any, dispatchers: Sequence[Dispatcher], noise: float, seed: int | None) -> None:
        self._env = env
        self._flow = LinearFlow(env.simulator)
        self._dispatchers = dispatchers
        self._noise = noise
        self._action_noise = {agent: ACTION_NOISE * noise * _step_size(env, agent) for agent in env.action_map.agents}
        self._rng = np.random.default_rng(seed)
        self._unmodelled = 0
        self.reset()

    @property
    def counts(self) -> Counter[str]:
        """See `BehaviorPolicy.counts`."""
        total = Counter({"no_linear_model": self._unmodelled})
        for dispatcher in self._dispatchers:
            total.update(dispatcher.counts)
        return total

    def reset(self) -> None:
        """Draw the episode's costs and thresholds."""
        if self._noise:
            for dispatcher in self._dispatchers:
                dispatcher.draw(self._rng, self._noise)

    def act(self) -> dict[str, np.ndarray]:
        """The dispatchers' plans as actions; that of doing nothing where the linear model does not hold."""
        obs, action_map = self._env.grid_state, self._env.action_map
        setpoints = action_map.idle()
        ptdf = self._flow.ptdf(obs)
        if ptdf is None:
            self._unmodelled += 1
            return action_map.encode(setpoints, obs)
        snapshot = Snapshot(obs, action_map, ptdf)
        for dispatcher in self._dispatchers:
            change = dispatcher.changes(snapshot)
            if change is not None:
                dispatcher.area.write(setpoints, snapshot, change)
        actions = action_map.encode(setpoints, obs)
        if self._noise:
            idle = action_map.encode(action_map.idle(), obs)
            return {agent: self._disturb(agent, action, idle[agent]) for agent, action in actions.items()}
        return actions

    def _disturb(self, agent: str, action: np.ndarray, idle: np.ndarray) -> np.ndarray:
        noisy = action + self._action_noise[agent] * self._rng.standard_normal(action.shape)
        return np.where(action != idle, np.clip(noisy, -1.0, 1.0), action).astype(np.float32)


def make_policy(env: Any, name: str, *, noise: float = 0.0, seed: int | None = None) -> BehaviorPolicy:
    """A policy that acts on `env`.

    Args:
        env: A `ZonedGridEnv`; the policy reads its present observation whenever it acts.
        name: One of `POLICIES`.
        noise: At least 0, see `AreaPolicy`; with 0 a policy does the same in the same state. "do_nothing" and "random"
            take no notice of it.
        seed: Fixes the noise, and what "random" does.

    Raises:
        ValueError: The name is unknown (the nearest one is named), or the noise is negative or not finite.
    """
    if name not in POLICIES:
        near = get_close_matches(str(name).lower(), POLICIES, n=1, cutoff=0.0)[0]
        raise ValueError(f"policy: unknown name {name!r}; the nearest is {near!r}, all are {list(POLICIES)}")
    if not (np.isfinite(noise) and noise >= 0.0):
        raise ValueError(f"noise: expected a finite number of at least 0, found {noise!r}")
    if name == "do_nothing":
        return DoNothing(env)
    if name == "random":
        return RandomWalk(env, seed)
    kinds: dict[str, Callable[[Area], Dispatcher]] = {
        "proportional": ProportionalDispatcher,
        "qp": QPDispatcher,
        "qp_n1": lambda area: N1Dispatcher(area, threatened_lines(env.simulator), _line_ends(env.simulator)),
    }
    kind = kinds[name.removesuffix("_zones")]
    central = not name.endswith("_zones")
    areas = make_areas(env.simulator, env.zones, env.action_map.balance, env.config["actions"], central=central)
    return AreaPolicy(env, [kind(area) for area in areas], noise, seed)


def _line_ends(simulator: Any) -> tuple[np.ndarray, np.ndarray]:
    cls = type(simulator)
    return cls.line_or_to_subid.astype(np.int64), cls.line_ex_to_subid.astype(np.int64)


def _step_size(env: Any, agent: str) -> np.ndarray:
    """How far each component can take its unit in one step, in the component's own scale, (m_i,)."""
    caps = [name.startswith("curtail") for name in env.action_map.names[agent]]
    return np.where(caps, env.action_map.curtail_step, 1.0)
