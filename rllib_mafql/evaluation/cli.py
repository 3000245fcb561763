"""The command `mafql evaluate`: agents on the same held-out episodes, a table, and files of results and figures."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.cluster import cluster_address, ray_session
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import tell, wide_console
from rllib_mafql.cli.shared_options import EnvConfig
from rllib_mafql.cli.yaml_values import parse_mapping, read_text
from rllib_mafql.evaluation.agents import LABELS, AgentSpec, resolve_agents
from rllib_mafql.evaluation.curves import held_out_curve
from rllib_mafql.evaluation.marl_eval import marl_eval
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.provenance import provenance
from rllib_mafql.evaluation.results import markdown, rich_table, summarize, title
from rllib_mafql.evaluation.rollouts import EpisodeResult, run_episodes
from rllib_mafql.evaluation.settings import config_key

REFERENCE = "do_nothing"


def evaluate(
    agents: Annotated[
        list[str],
        typer.Argument(
            metavar="AGENT...",
            help="Dispatcher (do_nothing, random, proportional, proportional_zones, qp, qp_zones, "
            "qp_n1, qp_n1_zones), "
            "or checkpoint, run folder or export, or pretrained: the export that ships with this package. A MAFQL "
            "checkpoint is two agents; PATH:decentralized or PATH:centralized is one of them. NAME=PATH,PATH: runs of "
            "one agent.",
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes, the same for every agent.")] = 20,
    grid: Annotated[
        str | None, typer.Option(help="Grid2Op grid; default: the checkpoints' own, or l2rpn_idf_2023 without one.")
    ] = None,
    config: EnvConfig = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray workers of one CPU each; 0: play in this process.")] = 2,
    ray_address: Annotated[str | None, typer.Option(help="Use this Ray cluster.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")] = None,
    marl_eval_file: Annotated[
        Path | None, typer.Option("--marl-eval", metavar="FILE", help="Write them as JSON in marl-eval's form too.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write results.json, results.md, comparison.png, learning_curves.png and episode.png there.",
        ),
    ] = None,
    flow_steps: Annotated[
        int | None, typer.Option(min=1, max=5, help="MAFQL's Euler steps from noise to action; default: as trained.")
    ] = None,
) -> None:
    """Let agents play the same held-out episodes, and compare them in a table."""
    with reported():
        try:
            overrides = {} if config is None else read_overrides(config)
            specs, notes = resolve_agents(
                agents, find_checkpoint=find_checkpoint, grid=grid, overrides=overrides, flow_steps=flow_steps
            )
            check_grids(specs, folders=cluster_address(ray_address) == "local")
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
        for note in notes:
            tell(note)
        try:
            with _ray(workers, ray_address):
                files: Any = {"json_file": json_file, "marl_eval_file": marl_eval_file, "out": out}
                failed = run_and_report(specs, episodes, workers=workers, **files)
        except SetupError as error:
            raise InputError(str(error)) from error
    if failed:
        raise typer.Exit(1)


def check_grids(agents: Sequence[AgentSpec], folders: bool) -> None:
    """ValueError if the environment of an agent cannot be made; `folders`: what it names must be on this machine."""
    from grid2op_zones.preflight import check_on_grid

    for config in {config_key(agent.env_config): agent.env_config for agent in agents}.values():
        check_on_grid(config, folders=folders)


def _ray(workers: int, address: str | None) -> AbstractContextManager[None]:
    if workers == 0:
        return nullcontext()
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers that Ray starts here
    return ray_session(address, num_cpus=None if address else max(os.cpu_count() or 1, workers))


def run_and_report(
    agents: Sequence[AgentSpec],
    episodes: int,
    *,
    workers: int,
    json_file: Path | None = None,
    marl_eval_file: Path | None = None,
    out: Path | None = None,
) -> int:
    """Play, print the table and write the files.

    Args:
        agents: from `resolve_agents`.
        episodes: per agent.
        workers: Ray workers, of a Ray that is connected; 0 plays in this process.
        json_file: where to write the results, see `rllib_mafql.evaluation.results` for the keys.
        marl_eval_file: where to write them in marl-eval's form.
        out: folder for results.json, results.md and the figures; made if it is missing.

    Returns:
        How many episodes gave no result.
    """
    started = time.perf_counter()
    results = _play(agents, episodes, workers)
    settings = {
        "grid": agents[0].env_config["grid"],
        "env_config": agents[0].env_config,
        "episodes": episodes,
        "workers": workers,
        "wall_s": round(time.perf_counter() - started, 1),
        **provenance(),
    }
    curves = {
        (agent.name, agent.run): held_out_curve(agent.checkpoint) for agent in agents if agent.checkpoint is not None
    }
    summary = summarize(agents, results, settings, Path.cwd(), curves)
    console = wide_console()
    console.print(title(summary), markup=False, style="bold", soft_wrap=True)
    console.print(rich_table(summary))
    failed = [result for result in results if result.error is not None]
    for result in failed:
        tell(f"episode {result.episode} of {result.agent} has no result: {result.error}")
    text = json.dumps(summary, indent=2, default=str) + "\n"
    if json_file is not None:
        _write(json_file, text)
    if marl_eval_file is not None:
        _write(marl_eval_file, json.dumps(marl_eval(summary, title(summary))) + "\n")
    if out is not None:
        _write(out / "results.json", text)
        _write(out / "results.md", markdown(summary))
        _draw_comparison(summary, out)
        _draw_curves(agents, summary, out)
        _draw_episode(agents, results, out)
    return len(failed)


def read_overrides(text: str) -> dict[str, Any]:
    """The mapping that --config gives, as text or in a file; InputError if it is none."""
    path = Path(text)
    if path.suffix not in (".json", ".yaml", ".yml"):
        return parse_mapping(text, "--config")
    if not path.is_file():
        raise InputError(f"--config: no such file: {text}")
    return parse_mapping(read_text(path), text)


def _play(agents: Sequence[AgentSpec], episodes: int, workers: int) -> list[EpisodeResult]:
    with counting_bar() as progress:
        total = len(agents) * episodes
        task: TaskID = progress.add_task("starting", total=total, rate="")
        labels = {agent.name: agent.label for agent in agents}
        steps = 0.0
        started = time.perf_counter()

        def advance(result: EpisodeResult) -> None:
            nonlocal steps
            steps += result.metrics.get("steps", 0.0)
            rate = steps / (time.perf_counter() - started)
            progress.update(task, advance=1, description=labels[result.agent], rate=f"{rate:.0f} steps/s")

        def note(text: str) -> None:
            progress.console.print(text, markup=False, soft_wrap=True)

        return run_episodes(agents, episodes, workers=workers, on_result=advance, on_note=note)


def _draw_comparison(summary: dict[str, Any], out: Path) -> None:
    from rllib_mafql.evaluation.comparison_plot import comparison_figure

    if any(agent["metrics"] for agent in summary["agents"].values()):
        comparison_figure(summary, out / "comparison.png", title=title(summary))
        tell(f"wrote {out / 'comparison.png'}")


def _draw_curves(agents: Sequence[AgentSpec], summary: dict[str, Any], out: Path) -> None:
    from rllib_mafql.evaluation.curves import learning_curves, read_progress, trial_folder

    references = {
        entry["label"]: {name: value["mean"] for name, value in entry["metrics"].items()}
        for entry in summary["agents"].values()
        if entry["kind"] == "rule"
    }
    count = Counter(agent.name for agent in agents)
    runs = {agent.checkpoint: agent for agent in agents if agent.checkpoint is not None and agent.run == 0}
    for number, (checkpoint, agent) in enumerate(runs.items(), start=1):
        trial = trial_folder(checkpoint)
        if trial is None:
            tell(f"no learning curves of {agent.name}: Ray Tune's result.json is not beside {checkpoint}")
            continue
        path = out / ("learning_curves.png" if number == 1 else f"learning_curves_{number}.png")
        title = f"{agent.algorithm} on {agent.env_config['grid']}"
        if count[agent.name] > 1:
            title += f", the first of {count[agent.name]} runs of {agent.label}"
        learning_curves(read_progress(trial), path, title=title, references=references)
        tell(f"wrote {path}")


def _draw_episode(agents: Sequence[AgentSpec], results: Sequence[EpisodeResult], out: Path) -> None:
    from rllib_mafql.evaluation.episode_plot import choose_episode, episode_figure

    others = sorted((agent for agent in agents if agent.name != REFERENCE), key=lambda agent: agent.kind != "learned")
    if not others:
        return
    shown = others[0]
    own = [result for result in results if result.agent == shown.name and result.run == shown.run]
    reference = [result for result in results if result.agent == REFERENCE]
    if not reference:
        spec = AgentSpec(name=REFERENCE, label=LABELS[REFERENCE], kind="rule", env_config=agents[0].env_config)
        reference = run_episodes([spec], 1, workers=0)
    k = choose_episode(reference, own)
    if k is None:
        tell(f"no picture of an episode: {shown.name} and {REFERENCE} have none in common")
        return
    path = out / "episode.png"
    episode_figure(
        path,
        reference=(LABELS[REFERENCE], next(result for result in reference if result.episode == k)),
        agent=(shown.label, next(result for result in own if result.episode == k)),
        grid=shown.env_config["grid"],
    )
    tell(f"wrote {path}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    tell(f"wrote {path}")
