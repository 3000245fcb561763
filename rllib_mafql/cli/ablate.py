"""The command `mafql ablate`: trains an experiment with one thing changed at a time, and compares what comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.cluster import cluster_address, ray_session
from rllib_mafql.cli.errors import InputError, nearest, reported
from rllib_mafql.cli.experiments import Experiment, Layer, read_file
from rllib_mafql.cli.options import TrainOptions
from rllib_mafql.cli.outcome import FINISHED
from rllib_mafql.cli.printing import tell
from rllib_mafql.evaluation.ablations import ABLATIONS, BASE, Ablation
from rllib_mafql.evaluation.agents import AgentSpec, resolve_agents
from rllib_mafql.evaluation.cli import check_grids, read_overrides, run_and_report
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.results import title
from rllib_mafql.evaluation.settings import merge, shared_config


def _list(wanted: bool) -> None:
    if wanted:
        for name, ablation in ABLATIONS.items():
            typer.echo(f"{name:20} {ablation.label}")
        raise typer.Exit()


def ablate(
    file: Annotated[Path, typer.Argument(help="YAML of one MAFQL experiment, as for `rllib train file`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Runs, results.json, results.md and figures go there.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One of the variants; may be repeated. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every variant, with seeds 0, 1, ...")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes, the same for every variant.")] = 24,
    config: Annotated[
        str | None, typer.Option(help="env_config keys of evaluation to override: JSON or YAML, or a file.")
    ] = None,
    stop: Annotated[str | None, typer.Option(metavar="MAPPING", help="When to stop training instead.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray workers that play; 0: play in this process.")] = 2,
    ray_address: Annotated[str | None, typer.Option(help="Use this Ray cluster.")] = None,
    listed: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list, help="Tell the variants, and stop.")
    ] = False,
) -> None:
    """Train an experiment with one thing changed at a time, evaluate all variants on the same held-out episodes.

    Runs that are finished are kept: the same command again goes on where it was interrupted, and refuses runs of other
    settings.
    """
    with reported():
        options = TrainOptions(stop=stop, ray_address=ray_address)
        overrides = {} if config is None else read_overrides(config)
        base = _base(file, options)
        _check_evaluation(base, overrides, folders=cluster_address(ray_address) == "local")
        chosen = _chosen(only, base, overrides)
        runs = {
            name: [_run(file, options, out, name, ablation, seed) for seed in range(seeds)]
            for name, ablation in chosen.items()
            if ablation.training or name == BASE
        }
        with ray_session(ray_address):
            for experiment in (one for own in runs.values() for one in own):
                _train(experiment, options)
            try:
                specs = [
                    spec
                    for name, ablation in chosen.items()
                    for spec in _agents(name, ablation, runs.get(name, runs[BASE]), overrides)
                ]
                check_grids(specs, folders=cluster_address(ray_address) == "local")
                failed = run_and_report(specs, episodes, workers=workers, out=out)
                _report(out)
            except (SetupError, ValueError, FileNotFoundError) as error:
                raise InputError(str(error)) from error
    if failed:
        raise typer.Exit(1)


def _check_evaluation(base: Experiment, overrides: dict[str, Any], folders: bool) -> None:
    """InputError if the base cannot be evaluated so: better now than after hours of training."""
    from grid2op_zones.preflight import check_on_grid

    try:
        check_on_grid(shared_config({"": _evaluated(base.config())}, None, overrides)[0], folders=folders)
    except ValueError as error:
        raise InputError(f"--config: {error}") from error


def _evaluated(settings: dict[str, Any]) -> dict[str, Any]:
    """What env_config says in evaluations of an experiment of these settings."""
    own = (settings.get("evaluation_config") or {}).get("env_config") or {}
    return merge(settings.get("env_config") or {}, own)


def _report(out: Path) -> None:
    from rllib_mafql.evaluation import ablation_report

    summary = json.loads((out / "results.json").read_text())
    table = ablation_report.markdown(summary)
    (out / "ablations.md").write_text(f"{title(summary)}.\n\n{table}")
    ablation_report.figure(summary, out / "ablations.png", title=title(summary))
    for name in ("ablations.md", "ablations.png"):
        tell(f"wrote {out / name}")


def _chosen(only: list[str] | None, base: Experiment, overrides: dict[str, Any]) -> dict[str, Ablation]:
    """The variants asked for; by default those that make sense with the base's data and change anything of it."""
    reasons = {name: _unfit(ablation, base.config(), overrides) for name, ablation in ABLATIONS.items()}
    unfit = {name: reason for name, reason in reasons.items() if reason}
    for name in only or ():
        if name not in ABLATIONS:
            raise InputError(f"--only {name}: no such variant{nearest(name, ABLATIONS)}; --list tells all")
        if name in unfit:
            raise InputError(f"--only {name}: {unfit[name]}")
    return {name: one for name, one in ABLATIONS.items() if name not in unfit and (not only or name in {BASE, *only})}


def _unfit(ablation: Ablation, base: dict[str, Any], overrides: dict[str, Any]) -> str:
    """Why a variant makes no sense with the base's settings; empty if it does."""
    from rllib_mafql.offline.columns import RecordingError
    from rllib_mafql.offline.reader import open_recording

    recorded = base.get("input_")
    data = "recorded" if recorded else "played"
    if ablation.data not in ("any", data):
        return f"is of {ablation.data} data, the experiment's are {data}"
    if recorded and (cloned := ablation.training.get("offline_cloned_policies")):
        try:
            open_recording(recorded).clone_only(cloned)
        except (RecordingError, OSError) as error:
            return str(error)
    training = dict(ablation.training)
    changes = training.pop("env_config", ablation.env_config)
    env_config = shared_config({"": _evaluated(base)}, None, overrides)[0]
    return (
        "changes nothing of the experiment"
        if changes and not training and merge(env_config, changes) == env_config
        else ""
    )


def _base(file: Path, options: TrainOptions) -> Experiment:
    """The experiment in `file`."""
    experiments = read_file(file, options)
    if len(experiments) > 1:
        raise InputError(f"{file}: has {len(experiments)} experiments; an ablation is of one")
    return experiments[0]


def _run(file: Path, options: TrainOptions, out: Path, name: str, ablation: Ablation, seed: int) -> Experiment:
    """The experiment in `file` with what the variant changes, as a run of its own below `out`."""
    experiment = _base(file, options)
    # all variants are evaluated together in the end
    layer = Layer(f"variant {name}", {**ablation.training, "seed": seed, "evaluation_interval": 0})
    experiment.layers.append(layer)
    experiment.name, experiment.storage_path = f"{name}_seed{seed}", str(out / "runs")
    return experiment


def _train(experiment: Experiment, options: TrainOptions) -> None:
    """Trains, unless that was done before; goes on with a run that was interrupted."""
    from rllib_mafql.cli.training import train_all

    folder = Path(str(experiment.storage_path)) / experiment.name
    begun = bool(list(folder.glob("experiment_state-*.json")))
    _check_settings(experiment, folder / "settings.json", begun)
    results = [path.read_text().splitlines() for path in folder.glob("*/result.json")]
    if any(lines and json.loads(lines[-1]).get("done") for lines in results):
        tell(f"{experiment.name} is trained")
        return
    code = train_all([experiment], replace(options, resume=begun))
    if code != FINISHED:
        raise typer.Exit(code)


def _check_settings(experiment: Experiment, file: Path, begun: bool) -> None:
    """Writes down what is trained; InputError if what was begun there is something else."""
    wanted = {"run": str(experiment.run), "stop": experiment.stop, "config": experiment.config()}
    wanted = json.loads(json.dumps(wanted, default=str))
    if begun and file.is_file():
        found = json.loads(file.read_text())
        if found != wanted:
            keys = sorted({*found["config"], *wanted["config"]})
            differ = [key for key in keys if found["config"].get(key) != wanted["config"].get(key)]
            what = f"config.{differ[0]}" if differ else "run or stop"
            raise InputError(f"{file.parent}: was trained with another {what}; give another --out, or remove it")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(wanted, indent=1))


def _agents(name: str, ablation: Ablation, runs: list[Experiment], overrides: dict[str, Any]) -> list[AgentSpec]:
    folders = ",".join(f"{run.storage_path}/{run.name}" for run in runs)
    specs, _ = resolve_agents(
        [f"{name}={folders}:{ablation.execution}"],
        find_checkpoint=find_checkpoint,
        overrides=merge(overrides, ablation.env_config),
    )
    return [replace(spec, label=ablation.label) for spec in specs]
