"""Running experiments with Ray Tune."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rllib_mafql.cli.checks import Checked, check
from rllib_mafql.cli.cluster import check_resources, hush, ray_session
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.experiments import Experiment
from rllib_mafql.cli.options import TrainOptions
from rllib_mafql.cli.outcome import FINISHED, INTERRUPTED, print_lines, print_outcome, shown
from rllib_mafql.cli.restoring import restored_from

DEFAULT_STORAGE_PATH = "~/ray_results"


def train_all(experiments: Sequence[Experiment], options: TrainOptions) -> int:
    """Checks all experiments, then runs one after the other.

    Returns:
        The command's exit code (see `rllib_mafql.cli.outcome`).

    Raises:
        InputError: If anything about an experiment is wrong; nothing has been started then, except that lacking
            resources show only once Ray runs.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # nothing to fit into
    if options.verbose == 0:
        hush()
    checked = [check(experiment) for experiment in experiments]
    arguments = [_tune_arguments(*pair, options) for pair in zip(experiments, checked, strict=True)]
    code = FINISHED
    with ray_session(options.ray_address, options.ray_num_cpus, options.ray_num_gpus, options.verbose):
        for experiment, ready in zip(experiments, checked, strict=True):
            check_resources(ready.resources, experiment.source, options.ray_address)
        for experiment, ready, kwargs in zip(experiments, checked, arguments, strict=True):
            code = max(code, _train(experiment, ready, kwargs, options, console))
            if code == INTERRUPTED:
                break
    return code


def _tune_arguments(experiment: Experiment, ready: Checked, options: TrainOptions) -> dict[str, Any]:
    """Arguments of tune.run that need checking before Ray starts: paths and checkpoint settings."""
    from ray import tune

    source = experiment.source
    restore = experiment.restore
    if restore is not None:
        if options.resume:
            raise InputError("--restore starts a new run and --resume goes on with an old one: give one of them")
        restore = str(restored_from(restore, ready.algorithm, ready.config, source))
    storage = experiment.storage_path or DEFAULT_STORAGE_PATH
    if "://" not in storage:
        folder = Path(storage).expanduser().absolute()
        if options.resume and not list((folder / experiment.name).glob("experiment_state-*.json")):
            raise InputError(f"{source}: nothing to resume: no interrupted run in {folder / experiment.name}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{source}: storage_path: {summary(error)}") from error
        storage = str(folder)
    try:
        checkpoint_config = tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint})
    except (ValueError, TypeError) as error:
        raise InputError(f"{source}: checkpoint_config: {summary(error)}") from error
    return {"storage_path": storage, "restore": restore, "checkpoint_config": checkpoint_config}


def _train(
    experiment: Experiment, ready: Checked, kwargs: dict[str, Any], options: TrainOptions, console: Console
) -> int:
    from ray import tune

    from rllib_mafql.cli.progress import ProgressLines

    folder = f"{kwargs['storage_path']}/{experiment.name}"
    env = ready.config.get("env")
    console.print(
        f"training {ready.algorithm.__name__} on {env}, results in {shown(folder)}", highlight=False, soft_wrap=True
    )
    progress = ProgressLines(console, experiment.stop)
    analysis = tune.run(
        ready.algorithm,
        name=experiment.name,
        config=ready.config,
        stop=experiment.stop,
        num_samples=experiment.num_samples,
        max_failures=experiment.max_failures,
        resume="AUTO+ERRORED" if options.resume else None,
        callbacks=[progress],
        verbose=min(options.verbose, 2),
        raise_on_failed_trial=False,
        **kwargs,
    )
    if options.resume and not progress.reported:
        print_lines(console, "the run had finished before; to train further, start a new one with --restore CHECKPOINT")
    return print_outcome(analysis.trials, progress.unfinished, ready.algorithm, folder, console)
