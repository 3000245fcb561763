"""The report: one HTML page that needs nothing beside it, not even a network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rllib_mafql import __version__
from rllib_mafql.evaluation import ablation_report
from rllib_mafql.evaluation.comparison_plot import comparison_figure
from rllib_mafql.evaluation.modes_cli import COLUMNS as MODES_COLUMNS
from rllib_mafql.evaluation.modes_cli import title as modes_title
from rllib_mafql.evaluation.modes_plot import modes_figure
from rllib_mafql.evaluation.results import title
from rllib_mafql.report.curves_plot import curves_figure
from rllib_mafql.report.results_folder import Results, Summary, setting_name
from rllib_mafql.report.tables import COLUMNS, page_rows, summarize

TEMPLATES = "templates"


def write_page(results: Results, folder: Path) -> list[Path]:
    """Writes index.html and its pictures as PNG files.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _Pictures(folder)
    environment = Environment(
        loader=PackageLoader("rllib_mafql.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    main = results.main
    others = {name: one for name, one in results.evaluations.items() if name not in main}
    text = environment.get_template("page.html").render(
        version=__version__,
        style=_asset("page.css"),
        script=_asset("film.js"),
        summary=summarize(results),
        columns=COLUMNS,
        evaluations=[_evaluation(name, one, pictures) for name, one in [*main.items(), *others.items()]],
        curves=[
            (title(one), picture)
            for name, one in main.items()
            if (picture := pictures.draw(f"curves_{name}", curves_figure, one, title(one)))
        ],
        ablations=[
            {
                "title": title(one),
                "command": one["settings"]["command"],
                "rows": list(ablation_report.rows(one)),
                "picture": pictures.draw(name, ablation_report.figure, one, title(one)),
            }
            for name, one in results.ablations.items()
        ],
        modes=[
            {
                "title": modes_title(one),
                "measures": one["measures"],
                "headings": MODES_COLUMNS,
                "command": one["settings"]["command"],
                "agents": one["agents"].values(),
                "picture": pictures.draw(name, modes_figure, one, modes_title(one)),
            }
            for name, one in results.modes.items()
        ],
        infeasible=[{"name": setting_name(one), **one} for one in results.infeasible.values()],
        latencies=list(results.latencies.values()),
        scores=list(results.scores.values()),
        films=[{"name": name, "json": _embedded(one)} for name, one in results.films.items()],
    )
    page = folder / "index.html"
    page.write_text(text, encoding="utf-8")
    return [page, *pictures.written]


def _evaluation(name: str, summary: Summary, pictures: _Pictures) -> dict[str, Any]:
    return {
        "name": name,
        "title": title(summary),
        "command": summary["settings"]["command"],
        "commit": summary["settings"]["commit"],
        "rows": list(page_rows(summary)),
        "picture": pictures.draw(name, comparison_figure, summary, title(summary)),
    }


class _Pictures:
    """Pictures as files and as what a page holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[Path] = []

    def draw(self, name: str, figure: Callable[..., Any], content: Mapping[str, Any], heading: str) -> str | None:
        """The address of a picture, with all of it in it; None if there is nothing to be drawn."""
        buffer = io.BytesIO()
        if figure(content, buffer, title=heading) is False:
            return None
        file = self._folder / f"{name}.png"
        file.write_bytes(buffer.getvalue())
        self.written.append(file)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _asset(name: str) -> Markup:
    return Markup((files("rllib_mafql.report") / TEMPLATES / name).read_text(encoding="utf-8"))  # our own files


def _embedded(content: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a script element."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))
