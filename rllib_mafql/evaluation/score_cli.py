"""The command `mafql score`: Grid2Op's own scorers on dispatchers and exported policies."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.progress import TaskID
from rich.table import Table

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, nearest, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import EnvConfig, JsonFile
from rllib_mafql.evaluation.agents import LABELS
from rllib_mafql.evaluation.cli import read_overrides
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.provenance import provenance
from rllib_mafql.evaluation.settings import DEFAULT_GRID, shared_config
from rllib_mafql.pretrained import PRETRAINED, pretrained_export

if TYPE_CHECKING:
    from grid2op.Agent import BaseAgent

#: Metric, heading and form of each column.
COLUMNS = (
    ("score_l2rpn_2022", "ScoreL2RPN2022", "{:.2f}"),
    ("score_l2rpn_2020", "ScoreL2RPN2020", "{:.2f}"),
    ("sandbox_cost", "L2RPNSandBoxScore", "{:.1f}"),
    ("score", "Score", "{:.3f}"),
    ("survival", "Survival", "{:.0%}"),
    ("overload_steps", "Overload steps", "{:.1f}"),
)

FOOTNOTE = (
    "ScoreL2RPN2022 and ScoreL2RPN2020: at most 100, 0 for Grid2Op's do-nothing agent, which closes no line again, "
    "-100 for a blackout at once. ScoreL2RPN2020 is made of L2RPNSandBoxScore, the cost of a step; less is better. "
    "Score: this project's own, per step of a full episode, in [0, 1]."
)


def score(
    agents: Annotated[
        list[str],
        typer.Argument(
            metavar="AGENT...",
            help="Dispatcher (do_nothing, random, proportional, proportional_zones, qp, qp_zones, "
            "qp_n1, qp_n1_zones), "
            "folder of an exported policy, or `pretrained`, the policy that comes with this package for the grid.",
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes, the same for every agent.")] = 10,
    grid: Annotated[str | None, typer.Option(help=f"Grid2Op grid; default: {DEFAULT_GRID}.")] = None,
    config: EnvConfig = None,
    json_file: JsonFile = None,
) -> None:
    """Let Grid2Op's own scorers, as it ships them, judge agents on the held-out episodes of `mafql evaluate`."""
    with reported():
        for word in agents:
            check_word(word)
        try:
            env_config, _ = shared_config({}, grid, {} if config is None else read_overrides(config))
        except ValueError as error:
            raise InputError(str(error)) from error
        makers = {word: partial(make_agent, word, env_config=env_config) for word in agents}
        try:
            results = _play(makers, env_config, episodes)
        except SetupError as error:
            raise InputError(str(error)) from error
        results["settings"] |= provenance()
        console = wide_console()
        console.print(_title(results), markup=False, style="bold", soft_wrap=True)
        console.print(_table(results))
        console.print(FOOTNOTE, markup=False)
        try:
            write_json(json_file, results)
        except OSError as error:
            raise InputError(f"--json: cannot write {json_file}: {error}") from error


def check_word(word: str) -> None:
    """Raise InputError, which names the nearest word, unless `word` is a dispatcher, a folder or `pretrained`."""
    with warnings.catch_warnings():
        # Grid2Op's first import recommends Numba for a backend that is not used here
        warnings.filterwarnings("ignore", message="Numba cannot be loaded")
        from grid2op_zones.dispatch import POLICIES
    if word not in (*POLICIES, PRETRAINED) and not Path(word).is_dir():
        raise InputError(
            f"{word}: no dispatcher and no folder of an exported policy{nearest(word, (*POLICIES, PRETRAINED))}"
        )


def make_agent(word: str, simulator: Any, *, env_config: Mapping[str, Any]) -> BaseAgent:
    """The Grid2Op agent that one of the command's words stands for.

    Args:
        word: one that `check_word` lets through.
        simulator: a Grid2Op environment of the grid, on LightSimBackend.
        env_config: full; what dispatchers act through. Exported policies project as `safety.level` says, too: no
            further than on units where it is none.

    Raises:
        ValueError: The folder holds no policy for this grid, or none comes with the package for it.
    """
    from grid2op_zones.agents import DispatcherAgent
    from grid2op_zones.dispatch import POLICIES

    if word in POLICIES:
        return DispatcherAgent(simulator, env_config, word)
    from rllib_mafql.deploy import MAFQLAgent

    folder = pretrained_export(env_config["grid"]) if word == PRETRAINED else Path(word)
    level = "lines" if env_config["safety"]["level"] == "lines" else "units"
    return MAFQLAgent(simulator, folder, auto_reconnect=env_config["auto_reconnect"], level=level)


def _play(
    makers: Mapping[str, Callable[[Any], BaseAgent]], env_config: Mapping[str, Any], episodes: int
) -> dict[str, Any]:
    from rllib_mafql.evaluation.scoring import score as run_scorers

    with counting_bar() as progress:
        task: TaskID = progress.add_task("starting", total=None, rate="")
        started = time.perf_counter()

        def show(run: str, step: int, total: int) -> None:
            rate = step / (time.perf_counter() - started)
            progress.update(task, completed=step, total=total, description=run, rate=f"{rate:.0f} steps/s")

        return run_scorers(makers, env_config, episodes, on_progress=show)


def _title(results: Mapping[str, Any]) -> str:
    settings = results["settings"]
    config = settings["env_config"]
    parts = [
        f"{settings['grid']}, {config['scenarios']['split']} split",
        f"{settings['episodes']} episodes of up to {config['max_steps']} steps",
        f"thermal limits x{config['thermal_limit_scale']:g}",
        *(["opponent"] if config["opponent"] else []),
        *([f"projection of {config['safety']['level']}"] if config["safety"]["level"] != "none" else []),
        f"scorers of Grid2Op {settings['grid2op']}",
    ]
    return ", ".join(parts)


def _table(results: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("Agent")
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for name, agent in results["agents"].items():
        table.add_row(LABELS.get(name, name), *_cells(agent["metrics"]))
    return table


def _cells(metrics: Mapping[str, float | None]) -> Sequence[str]:
    values = ((metrics[metric], form) for metric, _, form in COLUMNS)
    return ["–" if value is None else form.format(value) for value, form in values]
