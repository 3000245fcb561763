"""The command `rllib`: trains and evaluates any RLlib algorithm, as Ray's own command did up to Ray 2.43.

Differences from Ray's: files run on the new API stack, options given override the file and options left out never do,
unknown keys stop it before Ray starts, and each iteration prints one line.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.options import TrainOptions, takes_train_options

app = typer.Typer(
    help="Train and evaluate RLlib algorithms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(
    help="Train an algorithm: `rllib train file FILE`, or `rllib train --run ALGORITHM --env ENV`.",
    invoke_without_command=True,
)
app.add_typer(train_app, name="train")


def _show_version(show: bool) -> None:
    if show:
        typer.echo(f"rllib-mafql {version('rllib-mafql')}, Ray {version('ray')}")
        raise typer.Exit


@app.callback()
def _rllib(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the versions and exit.")
    ] = False,
) -> None:
    pass


@train_app.callback()
@takes_train_options
def train(context: typer.Context, options: TrainOptions) -> None:
    """Train an algorithm, either the one that `--run` names or what a file says (`rllib train file FILE`)."""
    with reported(options.verbose > 1):
        if context.invoked_subcommand is not None:
            if options.given():
                raise InputError("put options behind the file: `rllib train file FILE --option ...`")
            return
        from rllib_mafql.cli.experiments import from_options

        if not options.given():
            typer.echo(context.get_help())
            raise typer.Exit(2)
        _run([from_options(options)], options)


@train_app.command("file")
@takes_train_options
def train_file(
    file: Annotated[
        Path,
        typer.Argument(help="YAML `{experiment: {run, env, stop, config, ...}}`, or Python with `config` and `stop`."),
    ],
    options: TrainOptions,
) -> None:
    """Train what FILE says; options given here go over it."""
    with reported(options.verbose > 1):
        from rllib_mafql.cli.experiments import read_file

        _run(read_file(file, options), options)


def _run(experiments: list, options: TrainOptions) -> None:
    from rllib_mafql.cli.training import train_all

    raise typer.Exit(train_all(experiments, options))


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a folder of a run: its newest checkpoint.")],
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes to play.")] = 10,
    num_env_runners: Annotated[int, typer.Option(min=0, help="Processes that play; 0: this one.")] = 0,
    env: Annotated[str | None, typer.Option(help="Another environment than the checkpoint's.")] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Settings over the checkpoint's, as YAML or JSON, such as env_config.", metavar="MAPPING"),
    ] = None,
    explore: Annotated[bool, typer.Option(help="Sample actions as in training.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", "--out", help="Also write the numbers to this file.", metavar="FILE")
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="Use this Ray cluster.")] = None,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="-vv: also tracebacks.")] = 0,
) -> None:
    """Play episodes with the policy in CHECKPOINT and print its metrics."""
    with reported(verbose > 1):
        from rllib_mafql.cli.evaluating import evaluate_checkpoint

        evaluate_checkpoint(
            checkpoint,
            episodes=episodes,
            num_env_runners=num_env_runners,
            env=env,
            config=config,
            explore=explore,
            json_file=json_file,
            ray_address=ray_address,
            verbose=verbose,
        )


def main() -> None:
    """Entry point of the command `rllib`."""
    app(prog_name="rllib")


if __name__ == "__main__":
    main()
