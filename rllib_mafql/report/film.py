"""The film of an episode: every line's loading at every step, for several agents, and where the grid's parts lie.

The keys of `film` are stable::

    format, kind    1, "film"
    grid, env_config, episode, seed, scenario, start
    step_minutes    time between pictures
    zones           their names
    substations     list of {"name", "x", "y", "zone" (index), "units" (number of the zone's units there)}
    lines           list of {"name", "from", "to" (indices of substations), "tie"}
    agents          name -> {"label", "kind", "steps", "survived", "score", "end_reason",
                    "loading": base64 of (steps, lines) bytes, percent of the limit, 254 for more, 255 for an open line,
                    "raised_mw", "lowered_mw": zone -> (steps,) MW above and below schedule}
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rllib_mafql.evaluation.agents import AgentSpec
from rllib_mafql.evaluation.policies import build_policy
from rllib_mafql.evaluation.rollouts import create_env, play

FORMAT = 1
KIND = "film"

#: Bytes of a loading that is more than can be told, and of an open line.
MOST, OPEN = 254, 255


def film(
    agents: Sequence[AgentSpec], episode: int, on_agent: Callable[[AgentSpec], None] = lambda agent: None
) -> dict[str, Any]:
    """Lets agents play one held-out episode, and keeps what the lines carried; see this module's docstring.

    Args:
        agents: from `resolve_agents`.
        episode: its number, as `mafql evaluate` counts.
        on_agent: called when an agent has played.

    Raises:
        SetupError: an environment that cannot be built, or an agent that does not fit it.
    """
    shown: dict[str, Any] = {}
    result: Any = None
    for agent in agents:
        env = create_env(agent.env_config)
        try:
            pictures: list[np.ndarray] = []
            result = play(
                env,
                build_policy(agent, env),
                agent.name,
                episode,
                watch=_recorder(pictures),
            )
            shown[agent.name] = {"label": agent.label, "kind": agent.kind, **_course(result, pictures)}
            stage = _stage(env)
        finally:
            env.close()
        on_agent(agent)
    trace, spec = result.trace, result.spec
    return {
        "format": FORMAT,
        "kind": KIND,
        "grid": agents[0].env_config["grid"],
        "env_config": agents[0].env_config,
        "episode": episode,
        "seed": spec["seed"],
        "scenario": spec["options"],
        "start": trace.start,
        "step_minutes": trace.step_minutes,
        **stage,
        "agents": shown,
    }


def _recorder(pictures: list[np.ndarray]) -> Callable[[Any], None]:
    return lambda env: pictures.append(_picture(env))


def _picture(env: Any) -> np.ndarray:
    """(n_line,) bytes: see `film`."""
    state = env.grid_state
    percent = np.clip(np.rint(100.0 * np.asarray(state.rho, dtype=float)), 0, MOST)
    return np.where(state.line_status, percent, OPEN).astype(np.uint8)


def _course(result: Any, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    trace = result.trace
    moved = {
        name: {zone: np.round(values, 1).tolist() for zone, values in getattr(trace, name).items()}
        for name in ("raised_mw", "lowered_mw")
    }
    return {
        "steps": len(pictures),
        "survived": bool(result.metrics["survived"]),
        "score": round(result.metrics["score"], 4),
        "end_reason": result.end_reason,
        "loading": base64.b64encode(np.stack(pictures).tobytes()).decode(),
        **moved,
    }


def _stage(env: Any) -> dict[str, Any]:
    """Where substations and lines lie."""
    cls = type(env.simulator)
    layout = cls.grid_layout
    zone_of = {int(sub): z for z, zone in enumerate(env.zones) for sub in zone.substations}
    ties = {int(line) for zone in env.zones for line in zone.ties}
    units = np.zeros(cls.n_sub, dtype=int)
    for zone in env.zones:
        np.add.at(units, cls.gen_to_subid[np.union1d(zone.redispatchable, zone.curtailable).astype(int)], 1)
        np.add.at(units, cls.storage_to_subid[np.asarray(zone.storages, dtype=int)], 1)
    substations = []
    for k, name in enumerate(map(str, cls.name_sub)):
        x, y = layout[name]
        substations.append({"name": name, "x": float(x), "y": float(y), "zone": zone_of[k], "units": int(units[k])})
    ends = zip(map(str, cls.name_line), cls.line_or_to_subid, cls.line_ex_to_subid, strict=True)
    lines = [{"name": name, "from": int(a), "to": int(b), "tie": k in ties} for k, (name, a, b) in enumerate(ends)]
    return {"zones": [zone.name for zone in env.zones], "substations": substations, "lines": lines}
