"""The options that several commands of `mafql` take."""

from pathlib import Path
from typing import Annotated

import typer

Grid = Annotated[str, typer.Option(help="Grid2Op grid, by name or folder.")]
BundledGrid = Annotated[str, typer.Option(help="Grid2Op grid that ships with Grid2Op, by name.")]
EnvConfig = Annotated[
    str | None, typer.Option(help="env_config keys to override: JSON or YAML, or a .json or .yaml file.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")]
