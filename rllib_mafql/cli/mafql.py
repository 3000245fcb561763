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

#: Command -> (module, function with a Typer signature, what `mafql --help` says of it).
COMMANDS = {
    "evaluate": (
        "rllib_mafql.evaluation.cli",
        "evaluate",
        "Compare trained policies and rule-based dispatchers on held-out episodes.",
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
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        command.command(name)(getattr(importlib.import_module(module), function))
        command(context.args, prog_name=f"mafql {name}")


for _name, (_module, _function, _summary) in COMMANDS.items():
    _mount(_name, _module, _function, _summary)


def main() -> None:
    """Entry point of the command `mafql`."""
    app(prog_name="mafql")


if __name__ == "__main__":
    main()
