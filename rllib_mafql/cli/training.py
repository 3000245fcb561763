"""Running experiments with Ray Tune."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rllib_mafql.cli.checks import Checked, check
from rllib_mafql.cli.cluster import check_cpus, check_resources, cluster_address, hush, ray_session
from rllib_mafql.cli.errors import InputError, summary
from rllib_mafql.cli.experiments import Experiment
from rllib_mafql.cli.options import TrainOptions
from rllib_mafql.cli.outcome import FINISHED, INTERRUPTED, Outcome, print_lines, print_outcome, shown
from rllib_mafql.cli.paths import check_recordings, storage_folder
from rllib_mafql.cli.restoring import restored_from
from rllib_mafql.cli.trials import metric_of, print_trials, sorted_rows, write_trials

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
    here = cluster_address(options.ray_address) == "local"
    checked = [check(experiment, folders=here) for experiment in experiments]
    arguments = [_tune_arguments(*pair, options) for pair in zip(experiments, checked, strict=True)]
    for experiment, ready in zip(experiments, checked, strict=True):
        if here:
            check_recordings(ready.algorithm, ready.config, experiment.source)
            check_cpus(ready.resources, experiment.source, options.ray_num_cpus)
    code = FINISHED
    with ray_session(options.ray_address, options.ray_num_cpus, options.ray_num_gpus, options.verbose):
        for experiment, ready in zip(experiments, checked, strict=True):
            check_resources(ready.resources, experiment.source, options.ray_address)
        from rllib_mafql.cli.interruption import Interruption

        interruption = Interruption(console)
        with interruption.caught():
            for experiment, ready, kwargs in zip(experiments, checked, arguments, strict=True):
                found = _train(experiment, ready, kwargs, options, console, interruption)
                code = max(code, interruption.exit_code if found == INTERRUPTED else found)
                if interruption.signal is not None:
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
    if "://" not in storage and options.resume:
        folder = Path(storage).expanduser().absolute() / experiment.name
        if not list(folder.glob("experiment_state-*.json")):
            raise InputError(f"{source}: nothing to resume: no interrupted run in {folder}")
    storage = storage_folder(storage, source)
    try:
        checkpoint_config = tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint})
    except (ValueError, TypeError) as error:
        raise InputError(f"{source}: checkpoint_config: {summary(error)}") from error
    return {"storage_path": storage, "restore": restore, "checkpoint_config": checkpoint_config}


def _train(
    experiment: Experiment,
    ready: Checked,
    kwargs: dict[str, Any],
    options: TrainOptions,
    console: Console,
    interruption: Any,
) -> int:
    from ray import tune
    from ray.tune import TuneError

    from rllib_mafql.cli.progress import ProgressLines
    from rllib_mafql.cli.watching import ExploitLines, MetricGuard, SchedulerState

    search = ready.search
    folder = f"{kwargs['storage_path']}/{experiment.name}"
    env = ready.config.get("env")
    console.print(
        f"training {ready.algorithm.__name__} on {env}, results in {shown(folder)}", highlight=False, soft_wrap=True
    )
    progress = ProgressLines(console, experiment.stop, options.progress)
    guard = None if search.metric is None else MetricGuard(search.metric, f"{experiment.source}.metric")
    # Tune gives callbacks their states by their places in the list.
    callbacks = [progress, SchedulerState(search.scheduler), ExploitLines(console, search.varied)]
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # MetricGuard checks
    try:
        analysis = tune.run(
            ready.algorithm,
            name=experiment.name,
            config=ready.config,
            stop=experiment.stop,
            num_samples=experiment.num_samples,
            max_failures=experiment.max_failures,
            resume="AUTO+ERRORED" if options.resume else None,
            callbacks=[*callbacks, *([guard] if guard else []), *ready.loggers, interruption],
            verbose=min(options.verbose, 2),
            raise_on_failed_trial=False,
            **search.arguments(),
            **kwargs,
        )
    except TuneError as error:
        if guard is not None and guard.problem is not None:
            raise guard.problem from error
        raise
    if options.resume and not progress.reported:
        print_lines(console, "the run had finished before; to train further, start a new one with --restore CHECKPOINT")
    outcome = Outcome(
        analysis.trials, progress.unfinished, not search.search_alg.is_finished(), ready.algorithm, folder
    )
    if not search.several or not analysis.trials:
        return print_outcome(outcome, console)
    metric, mode = metric_of(search, analysis.trials)
    rows = sorted_rows(analysis.trials, progress.unfinished, search, metric, mode)
    print_trials(rows, metric, mode, console)
    write_trials(rows, metric, mode, folder, console)
    return print_outcome(outcome, console, best=rows[0].trial)
