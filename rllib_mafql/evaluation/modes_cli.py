"""The command `mafql modes`: do policies' samples reach the several good dispatches of a state?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, wide_console, write_json
from rllib_mafql.cli.shared_options import EnvConfig, JsonFile
from rllib_mafql.evaluation.agents import resolve_agents
from rllib_mafql.evaluation.cli import check_grids, read_overrides
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.provenance import provenance

#: What its JSON says that it is.
KIND = "modes"
#: So many states are drawn.
SHOWN = 2

#: Measure -> heading and form in the table.
COLUMNS = {
    "coverage": ("Coverage", "{:.0%}"),
    "precision": ("Precision", "{:.0%}"),
    "energy": ("Energy distance", "{:.3f}"),
    "average_distance": ("Average's distance", "{:.2f}"),
    "worst_loading": ("Worst loading", "{:.3f}"),
    "moved_mw": ("MW moved", "{:.1f}"),
    "units": ("Units moved", "{:.1f}"),
}


def modes(
    agents: Annotated[
        list[str],
        typer.Argument(
            metavar="AGENT...", help="Checkpoints of MAFQL or of what is built on it, as for `mafql evaluate`."
        ),
    ],
    states: Annotated[int, typer.Option(min=1, help="States, each of another held-out episode.")] = 24,
    draws: Annotated[int, typer.Option(min=8, help="The QP's dispatches, and each agent's samples, in a state.")] = 64,
    noise: Annotated[
        float,
        typer.Option(min=0.01, help="Standard deviation of the logarithm of the QP's costs, as of `mafql record`."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the policies' samples.")] = 0,
    config: EnvConfig = None,
    json_file: JsonFile = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="PNG of the first two states.")] = None,
) -> None:
    """Compare what policies draw with the several dispatches that answer a state about equally well.

    These are the QP's per zone, with its costs perturbed anew each time, where it begins to act in held-out episodes.
    """
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        import torch

        from rllib_mafql.evaluation.modes import MEASURES, QP, averages, find_states
        from rllib_mafql.evaluation.modes_plot import modes_figure, shown_state
        from rllib_mafql.evaluation.rollouts import create_env

        overrides = {} if config is None else read_overrides(config)
        torch.manual_seed(seed)
        try:
            specs, notes = resolve_agents(agents, find_checkpoint=find_checkpoint, overrides=overrides)
            check_grids(specs, folders=True)
            for note in notes:
                tell(note)
            with counting_bar() as progress:
                task = progress.add_task("looking for states", total=states, rate="")
                env = create_env(specs[0].env_config)
                found = find_states(env, specs, states, draws, noise, lambda: progress.update(task, advance=1))
        except (SetupError, ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        means = averages(found)
        labels = {QP: "QP, other draws", **{spec.name: spec.label for spec in specs}}
        wide_console().print(_table(means, labels))
        result: dict[str, Any] = {
            "kind": KIND,
            "settings": {
                "states": states,
                "draws": draws,
                "noise": noise,
                "seed": seed,
                "env_config": specs[0].env_config,
                **provenance(),
            },
            "measures": MEASURES,
            "agents": {name: {"label": label, "metrics": means[name]} for name, label in labels.items()},
            "shown": [shown_state(state) for state in found[:SHOWN]],
        }
        try:
            write_json(json_file, result)
            if figure is not None:
                modes_figure(result, figure, title=title(result))
                tell(f"wrote {figure}")
        except OSError as error:
            raise InputError(f"cannot write: {error}") from error


def title(summary: Mapping[str, Any]) -> str:
    """What was compared where, for people."""
    settings = summary["settings"]
    config = settings["env_config"]
    return (
        f"{config['grid']}, {config['scenarios']['split']} split, thermal limits x{config['thermal_limit_scale']:g}, "
        f"{settings['states']} states, {settings['draws']} dispatches and samples in each"
    )


def _table(means: dict[str, dict[str, float]], labels: dict[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("Samples of")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for name, label in labels.items():
        table.add_row(label, *(form.format(means[name][key]) for key, (_, form) in COLUMNS.items()))
    return table
