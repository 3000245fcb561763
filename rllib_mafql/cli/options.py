"""The options that `rllib train` and `rllib train file` share."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

_EXPERIMENT, _OUTPUT, _CLUSTER = "What to train", "Checkpoints and results", "Ray"


@dataclass
class TrainOptions:
    """What the command line says about a training run. None: not given, so a file's word or the default holds."""

    algo: Annotated[
        str | None,
        typer.Option(
            "--algo", "--run", help="Algorithm: MAFQL, PPO, SAC, ... or a class path.", rich_help_panel=_EXPERIMENT
        ),
    ] = None
    env: Annotated[
        str | None,
        typer.Option(help="Environment: grid2op_zones, a Gymnasium id or a class path.", rich_help_panel=_EXPERIMENT),
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            help="Algorithm settings as YAML or JSON; merged over a file's.",
            rich_help_panel=_EXPERIMENT,
            metavar="MAPPING",
        ),
    ] = None
    stop: Annotated[
        str | None,
        typer.Option(
            help="Metrics and the values at which to stop, whichever comes first, such as "
            "'{training_iteration: 100}'; replaces a file's.",
            rich_help_panel=_EXPERIMENT,
            metavar="MAPPING",
        ),
    ] = None
    num_samples: Annotated[
        int | None,
        typer.Option("--num-samples", "-n", min=1, help="How often to run each trial.", rich_help_panel=_EXPERIMENT),
    ] = None
    restore: Annotated[
        str | None,
        typer.Option(help="Start from this checkpoint, or the newest in this folder.", rich_help_panel=_EXPERIMENT),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with this experiment where it was interrupted.", rich_help_panel=_EXPERIMENT
        ),
    ] = False
    only: Annotated[
        str | None,
        typer.Option(help="The one of the file's experiments to train.", rich_help_panel=_EXPERIMENT, metavar="NAME"),
    ] = None
    experiment_name: Annotated[
        str | None,
        typer.Option(help="Name of the results folder; instead of the file's.", rich_help_panel=_OUTPUT),
    ] = None
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Where results and checkpoints go (a folder, or a URI such as s3://...) (default: ~/ray_results)",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    checkpoint_freq: Annotated[
        int | None,
        typer.Option(
            min=0, help="Iterations between checkpoints; 0: none on the way (default: 0)", rich_help_panel=_OUTPUT
        ),
    ] = None
    checkpoint_at_end: Annotated[
        bool | None,
        typer.Option(help="Whether to write a checkpoint at the end (default: yes)", rich_help_panel=_OUTPUT),
    ] = None
    keep_checkpoints_num: Annotated[
        int | None,
        typer.Option(min=1, help="How many checkpoints to keep (default: all)", rich_help_panel=_OUTPUT),
    ] = None
    checkpoint_score_attr: Annotated[
        str | None,
        typer.Option(
            help="Metric by which to keep the best, such as env_runners/episode_return_mean; min-METRIC: the lowest.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    ray_address: Annotated[
        str | None, typer.Option(help="Use this Ray cluster instead of starting Ray here.", rich_help_panel=_CLUSTER)
    ] = None
    ray_num_cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs that Ray may use here.", rich_help_panel=_CLUSTER)
    ] = None
    ray_num_gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs that Ray may use here.", rich_help_panel=_CLUSTER)
    ] = None
    progress: Annotated[
        bool,
        typer.Option(help="A line for each iteration, in a terminal and in a log alike.", rich_help_panel=_OUTPUT),
    ] = True
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="-v: also Ray Tune's tables and the workers' output; -vv: more, and tracebacks.",
            rich_help_panel=_CLUSTER,
        ),
    ] = 0

    def given(self) -> list[str]:
        """Names of the options that differ from their defaults."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


def takes_train_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command(..., options: TrainOptions)` one command line option for each field of TrainOptions."""
    hints = get_type_hints(TrainOptions, include_extras=True)
    names = [f.name for f in fields(TrainOptions)]
    extra = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(TrainOptions)
    ]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        options = TrainOptions(**{name: kwargs.pop(name) for name in names})
        command(*args, options=options, **kwargs)

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    wrapped.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
    return wrapped
