"""The command `mafql export`: a checkpoint's policies as folders that zones' controllers run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import JsonFile


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="MAFQL checkpoint, or run folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: one folder a zone.")],
    flow_steps: Annotated[
        int | None, typer.Option(min=1, max=5, help="Euler steps from noise to action; default: as trained.")
    ] = None,
    safety: Annotated[
        str | None,
        typer.Option(help="What controllers project onto: units, or lines, too; default: as trained, else lines."),
    ] = None,
    centralized: Annotated[bool, typer.Option(help="Export the centralised policy, too.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Export a checkpoint's policies: for each zone an ONNX model and what its controller has to know."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from rllib_mafql.deploy.export import export_checkpoint

        try:
            done = export_checkpoint(
                find_checkpoint(checkpoint), out, flow_steps=flow_steps, level=safety, centralized=centralized
            )
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        wide_console().print(
            f"{done.out}: {', '.join(done.zones)}{' and the centralised policy' * centralized}, "
            f"{done.megabytes:.1f} MB; actions differ from the checkpoint's by {done.parity:.1e} at most",
            markup=False,
            soft_wrap=True,
        )
        write_json(
            json_file,
            {
                "out": str(done.out),
                "zones": done.zones,
                "centralized": centralized,
                "parity": done.parity,
                "megabytes": done.megabytes,
            },
        )
