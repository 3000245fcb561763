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
    "qp_n1": "QP with N-1, central",
    "qp_n1_zones": "QP with N-1, per zone",
}


@dataclass(frozen=True)
class AgentSpec:
    """One agent to evaluate, or one of its runs; small and picklable, so that a worker can build its policy.

    Attributes:
        name: key in results, such as "qp_zones" or "mafql_decentralized"; shared by the runs of one agent.
        label: the same for people.
        kind: "rule" (a dispatcher of grid2op_zones), "learned" (modules of a checkpoint) or "exported" (ONNX models).
        env_config: full configuration of the environment it acts in.
        algorithm: the RLlib algorithm's name; None for a rule.
        execution: "decentralized" (every module sees its own zone) or "centralized" (one module sees all); None for a
            rule.
        checkpoint: the checkpoint's or export's folder; None for a rule.
        flow_steps: Euler steps from noise to action, if not those of training.
        run: which of the agent's runs this is, from 0: one training run, of its own seed, each.
    """

    name: str
    label: str
    kind: Literal["rule", "learned", "exported"]
    env_config: dict[str, Any]
    algorithm: str | None = None
    execution: str | None = None
    checkpoint: Path | None = None
    flow_steps: int | None = None
    run: int = 0


@dataclass(frozen=True)
class Word:
    """One of the command's words: [NAME=]PATH[,PATH...][:EXECUTION].

    Attributes:
        text: as it was typed, without the suffix.
        name: what its agents are called, if it says.
        bases: dispatchers' names or paths; several are runs of one agent.
        suffix: "decentralized", "centralized", or None for what there is.
    """

    text: str
    name: str | None
    bases: tuple[str, ...]
    suffix: str | None


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
            ships with this package, these with an optional ":decentralized" or ":centralized". "NAME=PATH,PATH" are
            several runs of one agent, and what it is called.
        find_checkpoint: path -> newest checkpoint folder in it.
        grid: the grid to play, or None for that of the checkpoints.
        overrides: env_config keys that replace those of training.
        flow_steps: 1 to 5 Euler steps for MAFQL's modules, or None for those of training.

    Returns:
        The agents in the order of the words, each once and its runs one after the other, and notes worth telling.

    Raises:
        ValueError: an unknown name or path, a suffix that does not fit, flow_steps out of range, or a checkpoint of
            another grid.
    """
    if flow_steps is not None and not 1 <= flow_steps <= 5:
        raise ValueError(f"flow_steps must lie in 1..5, got {flow_steps}")
    overrides = overrides or {}
    # word, execution; what is known of a path
    found: list[tuple[Word, str | None]] = []
    infos: dict[str, CheckpointInfo | ExportInfo] = {}
    for word in map(_word, words):
        if word.suffix is None and word.name is None and word.text in _rules():
            found.append((word, None))
            continue
        for base in word.bases:
            path = Path(base)
            if base == PRETRAINED:
                path = pretrained_export(grid or overrides.get("grid", DEFAULT_GRID))
            elif not path.exists():
                raise ValueError(_unknown(base, word))
            if base not in infos:
                exported = (path / EXPORT).is_file()
                infos[base] = _export_info(path) if exported else read_checkpoint(find_checkpoint(path))
        offered = [_executions(infos[base], word.suffix) for base in word.bases]
        if len({(infos[base].algorithm, *own) for base, own in zip(word.bases, offered, strict=True)}) > 1:
            raise ValueError(f"{word.text}: the runs of one agent must be of one algorithm")
        found.extend((word, execution) for execution in offered[0])
    shared, notes = shared_config({word: info.env_config for word, info in infos.items()}, grid, overrides)
    trained = [info for info in infos.values() if isinstance(info, CheckpointInfo) and info.flows]
    if flow_steps is not None and not trained:
        raise ValueError("flow_steps: none of the agents is a MAFQL checkpoint")

    agents: list[list[AgentSpec]] = []
    unique: dict[Any, tuple[Word, str | None]] = {}
    for word, execution in found:
        unique.setdefault((word.name, word.bases, execution), (word, execution))
    for word, execution in unique.values():
        if execution is None:
            config = agent_config(shared, None, overrides)
            rule = AgentSpec(name=word.text, label=LABELS.get(word.text, word.text), kind="rule", env_config=config)
            agents.append([rule])
            continue
        runs = []
        for run, base in enumerate(word.bases):
            info = infos[base]
            name, label = _called(word, info, execution)
            runs.append(
                AgentSpec(
                    name=name,
                    label=label,
                    kind="learned" if isinstance(info, CheckpointInfo) else "exported",
                    env_config=agent_config(shared, info.env_config, overrides),
                    algorithm=info.algorithm,
                    execution=execution,
                    checkpoint=info.path.resolve(),
                    flow_steps=flow_steps if info in trained else None,
                    run=run,
                )
            )
        agents.append(runs)
    return _distinct(agents, [word.text for word, _ in unique.values()]), notes


def _called(word: Word, info: CheckpointInfo | ExportInfo, execution: str) -> tuple[str, str]:
    """Name and label of a learned agent: its algorithm's, and how it is executed where there is a choice."""
    name, label = word.name or info.algorithm.lower(), word.name or info.algorithm
    if word.name and (word.suffix or not info.centralized):
        return name, label
    if info.is_mafql:
        name, label = f"{name}_{execution}", f"{label}, {execution.replace('ized', 'ised')}"
    return name, label


def _export_info(path: Path) -> ExportInfo:
    manifest = read_export(path)
    return ExportInfo(path, manifest["algorithm"], manifest["env_config"], manifest["centralized"])


def _rules() -> tuple[str, ...]:
    with warnings.catch_warnings():
        # Grid2Op's import recommends Numba for a backend that is not used here
        warnings.filterwarnings("ignore", message="Numba cannot be loaded")
        from grid2op_zones.dispatch import POLICIES
    return tuple(POLICIES)


def _word(text: str) -> Word:
    if Path(text).exists():
        return Word(text, None, (text,), None)
    base, colon, suffix = text.rpartition(":")
    if not colon:
        base, suffix = text, ""
    name, equals, paths = base.partition("=")
    if not equals or Path(base).exists():
        return Word(base, None, (base,), suffix or None)
    if not name.isidentifier():
        raise ValueError(f"{text}: an agent's name consists of letters, digits and _, not {name!r}")
    bases = tuple(paths.split(","))
    repeated = [path for path, times in Counter(bases).items() if times > 1]
    if repeated or "" in bases:
        raise ValueError(f"{text}: {f'{repeated[0]} is there twice' if repeated else 'a path is missing'}")
    return Word(base, name, bases, suffix or None)


def _executions(info: CheckpointInfo | ExportInfo, suffix: str | None) -> Sequence[str]:
    offered = ["decentralized"]
    if info.centralized:
        offered.append("centralized")
    if suffix is None:
        return offered
    if suffix not in offered:
        raise ValueError(f"{info.path} ({info.algorithm}) offers :{' and :'.join(offered)}, not :{suffix}")
    return [suffix]


def _unknown(base: str, word: Word) -> str:
    if base in _rules():
        return f"{word.text}: a dispatcher takes no name, runs or suffix; write {base}"
    nearest = difflib.get_close_matches(base, (*_rules(), PRETRAINED), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{base}: no such checkpoint, run folder or export, and no such dispatcher{hint} (dispatchers: "
        f"{', '.join(_rules())}; {PRETRAINED}: the export that ships with this package)"
    )


def _distinct(agents: list[list[AgentSpec]], words: list[str]) -> list[AgentSpec]:
    """All agents' runs; the path as it was typed is appended to names that two agents would share."""
    count = Counter(runs[0].name for runs in agents)
    return [
        replace(run, name=f"{run.name}@{word}", label=f"{run.label} ({word})") if count[run.name] > 1 else run
        for runs, word in zip(agents, words, strict=True)
        for run in runs
    ]
