"""Who is evaluated: the command's words for agents, and what they stand for."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rllib_mafql.deploy.package import EXPORT, read_export
from rllib_mafql.evaluation.checkpoint import CheckpointInfo, read_checkpoint
from rllib_mafql.evaluation.settings import DEFAULT_GRID, agent_config, shared_config
from rllib_mafql.pretrained import PRETRAINED, pretrained_export

EXECUTIONS = ("decentralized", "centralized")

LABELS = {
    "do_nothing": "do nothing",
    "random": "random",
    "proportional": "proportional, central",
    "proportional_zones": "proportional, per zone",
    "qp": "QP, central",
    "qp_zones": "QP, per zone",
}


@dataclass(frozen=True)
class AgentSpec:
    """One agent to evaluate; small and picklable, so that a worker can build its policy.

    Attributes:
        name: unique key in results, such as "qp_zones" or "mafql_decentralized".
        label: the same for people.
        kind: "rule" (a dispatcher of grid2op_zones), "learned" (modules of a checkpoint) or "exported" (ONNX models).
        env_config: full configuration of the environment it acts in.
        algorithm: the RLlib algorithm's name; None for a rule.
        execution: "decentralized" (every module sees its own zone) or "centralized" (one module sees all); None for a
            rule.
        checkpoint: the checkpoint's or export's folder; None for a rule.
        flow_steps: Euler steps from noise to action, if not those of training.
    """

    name: str
    label: str
    kind: Literal["rule", "learned", "exported"]
    env_config: dict[str, Any]
    algorithm: str | None = None
    execution: str | None = None
    checkpoint: Path | None = None
    flow_steps: int | None = None


@dataclass(frozen=True, eq=False)
class ExportInfo:
    """What an export says of itself, as far as evaluation needs it; see `CheckpointInfo`."""

    path: Path
    algorithm: str
    env_config: dict[str, Any]
    centralized: bool
    is_mafql: bool = True


def resolve_agents(
    words: Sequence[str],
    *,
    find_checkpoint: Callable[[Path], Path],
    grid: str | None = None,
    overrides: dict[str, Any] | None = None,
    flow_steps: int | None = None,
) -> tuple[list[AgentSpec], list[str]]:
    """Turn the command's words into agents that share one evaluation setting.

    Args:
        words: dispatcher names, or paths of checkpoints, run folders or exports, or "pretrained" for the export that
            ships with this package, these with an optional ":decentralized" or ":centralized".
        find_checkpoint: path -> newest checkpoint folder in it.
        grid: the grid to play, or None for that of the checkpoints.
        overrides: env_config keys that replace those of training.
        flow_steps: 1 to 5 Euler steps for MAFQL's modules, or None for those of training.

    Returns:
        The agents in the order of the words, each once, and notes worth telling the user.

    Raises:
        ValueError: an unknown name or path, a suffix that does not fit, flow_steps out of range, or a checkpoint of
            another grid.
    """
    if flow_steps is not None and not 1 <= flow_steps <= 5:
        raise ValueError(f"flow_steps must lie in 1..5, got {flow_steps}")
    overrides = overrides or {}
    # word without suffix, checkpoint or export, execution
    found: list[tuple[str, CheckpointInfo | ExportInfo | None, str | None]] = []
    infos: dict[str, CheckpointInfo | ExportInfo] = {}
    for word in words:
        base, suffix = _split(word)
        if suffix is None and base in _rules():
            found.append((base, None, None))
            continue
        path = Path(base)
        if base == PRETRAINED:
            path = pretrained_export(grid or overrides.get("grid", DEFAULT_GRID))
        elif not path.exists():
            raise ValueError(_unknown(base, suffix))
        if base not in infos:
            exported = (path / EXPORT).is_file()
            infos[base] = _export_info(path) if exported else read_checkpoint(find_checkpoint(path))
        found.extend((base, infos[base], execution) for execution in _executions(infos[base], suffix))
    shared, notes = shared_config({word: info.env_config for word, info in infos.items()}, grid, overrides)
    trained = [info for info in infos.values() if isinstance(info, CheckpointInfo) and info.is_mafql]
    if flow_steps is not None and not trained:
        raise ValueError("flow_steps: none of the agents is a MAFQL checkpoint")

    agents = []
    for base, info, execution in dict.fromkeys(found):
        config = agent_config(shared, info.env_config if info else None, overrides)
        if info is None:
            agents.append(AgentSpec(name=base, label=LABELS.get(base, base), kind="rule", env_config=config))
            continue
        name, label = info.algorithm.lower(), info.algorithm
        if info.is_mafql:
            name, label = f"{name}_{execution}", f"{label}, {str(execution).replace('ized', 'ised')}"
        agents.append(
            AgentSpec(
                name=name,
                label=label,
                kind="learned" if isinstance(info, CheckpointInfo) else "exported",
                env_config=config,
                algorithm=info.algorithm,
                execution=execution,
                checkpoint=info.path.resolve(),
                flow_steps=flow_steps if info in trained else None,
            )
        )
    return _distinct(agents, [base for base, _, _ in dict.fromkeys(found)]), notes


def _export_info(path: Path) -> ExportInfo:
    manifest = read_export(path)
    return ExportInfo(path, manifest["algorithm"], manifest["env_config"], manifest["centralized"])


def _rules() -> tuple[str, ...]:
    with warnings.catch_warnings():
        # Grid2Op's import recommends Numba for a backend that is not used here
        warnings.filterwarnings("ignore", message="Numba cannot be loaded")
        from grid2op_zones.dispatch import POLICIES
    return tuple(POLICIES)


def _split(word: str) -> tuple[str, str | None]:
    base, colon, suffix = word.rpartition(":")
    return (base, suffix) if colon and not Path(word).exists() else (word, None)


def _executions(info: CheckpointInfo | ExportInfo, suffix: str | None) -> Sequence[str | None]:
    offered = ["decentralized"]
    if info.centralized:
        offered.append("centralized")
    if suffix is None:
        return offered
    if suffix not in offered:
        raise ValueError(f"{info.path} ({info.algorithm}) offers :{' and :'.join(offered)}, not :{suffix}")
    return [suffix]


def _unknown(base: str, suffix: str | None) -> str:
    if suffix is not None and base in _rules():
        return f"{base}:{suffix}: a dispatcher takes no suffix; write {base}"
    nearest = difflib.get_close_matches(base, (*_rules(), PRETRAINED), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{base}: no such checkpoint, run folder or export, and no such dispatcher{hint} (dispatchers: "
        f"{', '.join(_rules())}; {PRETRAINED}: the export that ships with this package)"
    )


def _distinct(agents: list[AgentSpec], words: list[str]) -> list[AgentSpec]:
    """Append the path as it was typed where two checkpoints would share a name."""
    count = Counter(agent.name for agent in agents)
    return [
        replace(agent, name=f"{agent.name}@{word}", label=f"{agent.label} ({word})") if count[agent.name] > 1 else agent
        for agent, word in zip(agents, words, strict=True)
    ]
