"""The environment agents are evaluated on: one setting for all, but for what shapes their inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DEFAULT_GRID = "l2rpn_idf_2023"

# These shape a policy's observations and actions, so they come from its own checkpoint; all others are shared.
INTERFACE_KEYS = ("zones", "observability", "actions", "balance", "curtail_step")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` put over it, mappings merged key by key at every depth; neither argument is changed."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def shared_config(
    trained: Mapping[str, Mapping[str, Any]], grid: str | None, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The env_config that all agents are evaluated with.

    It is that of the first checkpoint (the environment's defaults where there is none) on the test split, with starts
    as they come and with Grid2Op's own redispatch solver, with `overrides` over it.

    Args:
        trained: checkpoint's name -> env_config it was trained with, in the order the agents were given.
        grid: the wanted grid, or None for the checkpoints' own.
        overrides: env_config keys from `--config`.

    Returns:
        The full env_config, and notes on shared keys in which a checkpoint was trained differently.

    Raises:
        ValueError: a checkpoint of another grid than the wanted one or than the first checkpoint's, or an invalid key
            or value.
    """
    from grid2op_zones.config import check_env_config

    if grid is not None and overrides.get("grid", grid) != grid:
        raise ValueError(f"--grid says {grid!r} and --config says grid {overrides['grid']!r}; give one of them")
    wanted = grid or overrides.get("grid")
    full = {name: check_env_config(dict(config)) for name, config in trained.items()}
    for name, config in full.items():
        wanted = wanted or config["grid"]
        if config["grid"] != wanted:
            raise ValueError(f"{name} was trained on grid {config['grid']!r} and cannot act on grid {wanted!r}")
    base: dict[str, Any] = next(iter(full.values()), {})
    scenarios = {"split": "test", "before_outages": 0.0}
    evaluation = {"grid": wanted or DEFAULT_GRID, "scenarios": scenarios, "redispatch_solver": "slsqp"}
    config = check_env_config(merge(merge(base, evaluation), overrides))
    notes = []
    for name, own in full.items():
        for key in sorted(set(config) - set(INTERFACE_KEYS) - {"scenarios"}):
            if own[key] != config[key] and key not in overrides:
                notes.append(f"{name} was trained with {key} {own[key]!r} and is evaluated with {config[key]!r}")
    return config, notes


def agent_config(
    shared: Mapping[str, Any], trained: Mapping[str, Any] | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """`shared` with the interface keys that one agent's checkpoint was trained with.

    Args:
        shared: from `shared_config`.
        trained: the checkpoint's env_config; None for a rule, which plays through the shared interface.
        overrides: env_config keys from `--config`; they win.
    """
    from grid2op_zones.config import check_env_config

    if trained is None:
        return dict(shared)
    own = {key: value for key, value in trained.items() if key in INTERFACE_KEYS and key not in overrides}
    return check_env_config({**shared, **own})


def config_key(env_config: Mapping[str, Any]) -> str:
    """A text that two env_configs share exactly when they are equal."""
    return json.dumps(env_config, sort_keys=True, default=str)
