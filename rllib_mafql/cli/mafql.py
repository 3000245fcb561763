"""The command `mafql`: this project's own tools. Each is imported only when called, so that `mafql --help` is quick."""

import importlib
from typing import Any

import typer

app = typer.Typer(
    help="Tools for policies trained with MAFQL. To train, use `rllib train`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Command -> (module, function with a Typer signature or Typer app, what `mafql --help` says of it).
COMMANDS = {
    "evaluate": (
        "rllib_mafql.evaluation.cli",
        "evaluate",
        "Compare trained policies and rule-based dispatchers on held-out episodes.",
    ),
    "ablate": (
        "rllib_mafql.cli.ablate",
        "ablate",
        "Train an experiment with one thing changed at a time, and compare.",
    ),
    "modes": (
        "rllib_mafql.evaluation.modes_cli",
        "modes",
        "Compare what policies draw with the several good dispatches of a state.",
    ),
    "values": (
        "rllib_mafql.evaluation.values_cli",
        "values",
        "Hold a critic's values against what came of recorded play.",
    ),
    "film": (
        "rllib_mafql.report.film_cli",
        "record",
        "Film a held-out episode, to be watched on the grid's map in the report.",
    ),
    "report": (
        "rllib_mafql.report.cli",
        "report",
        "One page of all results, and the tables of README.",
    ),
    "score": (
        "rllib_mafql.evaluation.score_cli",
        "score",
        "Grid2Op's own scores of dispatchers and exported policies, on held-out episodes.",
    ),
    "export": (
        "rllib_mafql.deploy.cli",
        "export",
        "Export a checkpoint's policies for zones' controllers, without Ray and torch.",
    ),
    "record": (
        "rllib_mafql.cli.record",
        "record",
        "Record what behaviour policies do, for offline training.",
    ),
    "bench": (
        "rllib_mafql.bench.cli",
        "app",
        "Measure what the parts of MAFQL cost.",
    ),
    "data": (
        "rllib_mafql.cli.data",
        "app",
        "Describe recorded data, and exchange them with Minari.",
    ),
    "scenarios": (
        "rllib_mafql.cli.scenarios",
        "app",
        "Generate weeks of load, wind, sun and dispatch, and compare them with the recorded ones.",
    ),
}


@app.callback()
def _mafql() -> None:
    pass


def _mount(name: str, module: str, function: str, summary: str) -> None:
    # All arguments, --help included, are passed on to the real command.
    settings: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

    @app.command(name, help=summary, context_settings=settings)
    def forward(context: typer.Context) -> None:
        command = getattr(importlib.import_module(module), function)
        if not isinstance(command, typer.Typer):
            only, command = command, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            command.command(name)(only)
        command(context.args, prog_name=f"mafql {name}")


for _name, (_module, _function, _summary) in COMMANDS.items():
    _mount(_name, _module, _function, _summary)


def main() -> None:
    """Entry point of the command `mafql`."""
    app(prog_name="mafql")


if __name__ == "__main__":
    main()
