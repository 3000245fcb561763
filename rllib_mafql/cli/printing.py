"""How the commands report: tables on stdout, lines beside them on stderr, and JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def mix_table(mixes: list[dict[str, Any]]) -> Table:
    """Episodes by who played them, one order of policies a row; `mixes` is from `Tally.report`."""
    table = Table("played by", box=None, pad_edge=False)
    for name in ("steps", "episodes", "whole", "survived", "score", "return"):
        table.add_column(name, justify="right")
    for mix in mixes:
        numbers = [f"{mix[name]:,}" for name in ("rows", "episodes", "whole_episodes")]
        means = (("survival", "{:.0%}"), ("mean_score", "{:.3f}"), ("mean_return", "{:.1f}"))
        numbers += ["-" if mix[name] is None else text.format(mix[name]) for name, text in means]
        table.add_row(", then ".join(mix["policies"]), *numbers)
    return table


def wide_console() -> Console:
    """For the output proper; where it is no terminal, there is nothing to fit into."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def write_json(file: Path | None, content: Mapping[str, Any]) -> None:
    """Writes a report, in a folder that may be new, and tells so; nothing without a file. Raises OSError."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tell(f"wrote {file}")


def tell(text: str) -> None:
    """A line on stderr."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
