"""A folder of results: JSON files of this project's commands, each known by what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.scenarios import KIND as INFEASIBLE
from rllib_mafql.evaluation.ablations import ABLATIONS, BASE
from rllib_mafql.evaluation.merging import merge
from rllib_mafql.evaluation.modes_cli import KIND as MODES
from rllib_mafql.evaluation.results import FORMAT
from rllib_mafql.report.film import KIND as FILM

#: Grid -> what its settings are called by.
GRIDS = {"l2rpn_idf_2023": "118", "l2rpn_case14_sandbox": "14", "educ_case14_storage": "14"}

#: What `mafql report` writes there, and does not read.
SUMMARY = "summary.json"

Summary = Mapping[str, Any]


@dataclass
class Results:
    """What a folder holds, each by the name of its file.

    Attributes:
        evaluations: of `mafql evaluate`; those that are called as their setting is are the main ones.
        ablations: of `mafql ablate`.
        latencies: of `mafql bench latency`.
        scores: of `mafql score`.
        films: of `mafql film`.
        modes: of `mafql modes`.
        infeasible: of `mafql scenarios infeasible`.
    """

    evaluations: dict[str, Summary] = field(default_factory=dict)
    ablations: dict[str, Summary] = field(default_factory=dict)
    latencies: dict[str, Summary] = field(default_factory=dict)
    scores: dict[str, Summary] = field(default_factory=dict)
    films: dict[str, Summary] = field(default_factory=dict)
    modes: dict[str, Summary] = field(default_factory=dict)
    infeasible: dict[str, Summary] = field(default_factory=dict)

    @property
    def main(self) -> dict[str, Summary]:
        """The evaluations of the final table, by setting."""
        return {name: summary for name, summary in self.evaluations.items() if name == setting_name(summary)}


def setting_name(summary: Summary) -> str:
    """What an evaluation's setting is called, such as 118_x0.9_opponent; of 14 buses there is one, 14."""
    config = summary["settings"]["env_config"]
    grid = GRIDS.get(config["grid"], config["grid"])
    if grid == "14":
        return grid
    opponent = "_opponent" if config["opponent"] else ""
    return f"{grid}_x{config['thermal_limit_scale']:.1f}{opponent}"


def read_results(folder: Path) -> Results:
    """Reads all JSON files in a folder; those in a folder within it are evaluations of the same episodes, merged.

    Raises:
        InputError: There is no such folder, no result in it, or a file that is none of them, or of another version.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    results = Results()
    for file in sorted(folder.glob("*.json")):
        if file.name != SUMMARY:
            content = _read(file)
            getattr(results, _place(file, content))[file.stem] = content
    for part in sorted({file.parent for file in folder.glob("*/*.json")}):
        results.evaluations[part.name] = _merged(part)
    if not results.evaluations:
        raise InputError(f"{folder}: has no result of `mafql evaluate --json`")
    for name, summary in results.evaluations.items():
        setting = setting_name(summary)
        if name != setting and not name.startswith(f"{setting}_"):
            raise InputError(f"{folder / name}: its name should be or begin with that of its setting, {setting}")
    return results


def _merged(folder: Path) -> Summary:
    """The evaluations in a folder as one."""
    summaries = {}
    for file in sorted(folder.glob("*.json")):
        summaries[file.name] = _read(file)
        if _place(file, summaries[file.name]) != "evaluations":
            raise InputError(f"{file}: is no result of `mafql evaluate --json`")
    try:
        return merge(summaries)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: is no JSON: {error}") from error


def _place(file: Path, content: Any) -> str:
    """Which of `Results`' fields a file belongs to."""
    content = content if isinstance(content, dict) else {}
    if content.get("kind") == FILM:
        return "films"
    if content.get("kind") == MODES:
        return "modes"
    if content.get("kind") == INFEASIBLE:
        return "infeasible"
    if "per_agent_ms" in content:
        return "latencies"
    if "settings" in content and "agents" in content:
        if "grid2op" in content["settings"]:
            return "scores"
        if content.get("format") != FORMAT:
            raise InputError(f"{file}: has format {content.get('format')}, this version reads {FORMAT}")
        agents = content["agents"].keys()
        return "ablations" if BASE in agents and agents <= ABLATIONS.keys() else "evaluations"
    raise InputError(f"{file}: is none of the results that a report is made of")
