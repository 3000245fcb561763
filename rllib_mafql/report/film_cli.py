"""The command `mafql film`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, write_json
from rllib_mafql.cli.shared_options import EnvConfig
from rllib_mafql.evaluation.agents import resolve_agents
from rllib_mafql.evaluation.cli import check_grids, read_overrides
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.provenance import provenance
from rllib_mafql.report.film import film


def record(
    agents: Annotated[list[str], typer.Argument(metavar="AGENT...", help="Agents, as for `mafql evaluate`.")],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="The film, for `mafql report`.")],
    episode: Annotated[int, typer.Option(min=0, help="Number of the held-out episode.")] = 0,
    grid: Annotated[str | None, typer.Option(help="Grid2Op grid; default: the checkpoints' own.")] = None,
    config: EnvConfig = None,
) -> None:
    """Film one held-out episode with each of several agents, to be watched on the grid's map in the report."""
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        overrides = {} if config is None else read_overrides(config)
        try:
            specs, notes = resolve_agents(agents, find_checkpoint=find_checkpoint, grid=grid, overrides=overrides)
            check_grids(specs, folders=True)
            for note in notes:
                tell(note)
            with counting_bar() as progress:
                task = progress.add_task("playing", total=len(specs), rate="")
                shown = film(specs, episode, lambda agent: progress.update(task, advance=1, description=agent.label))
        except (SetupError, ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        write_json(json_file, {**shown, **provenance()})
        for agent in shown["agents"].values():
            tell(f"{agent['label']}: score {agent['score']:.3f}, {agent['end_reason']} at step {agent['steps'] - 1}")
