"""Where the time of an environment step goes: in plain Grid2Op, and in ZonedGridEnv with either redispatch solver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rllib_mafql.bench.players import Clock, env_player, plain_player, record_random_play
from rllib_mafql.evaluation.style import RULE, ZONES, house_style, save

#: Parts of a step, in the order in which they are drawn.
PARTS = ("power flow", "redispatch solver", "actions", "observations, reward", "time series", "all else")

PLAIN = "plain Grid2Op"


def profile_steps(
    grid: str, steps: int, repeats: int, on_block: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Microseconds of each part of a step, the mean over random legal play, for each way to play the same episodes.

    "actions" is what makes Grid2Op's action of what is asked for: of dictionaries in plain Grid2Op, of the zones'
    numbers (and what is feasible of them) in the environment. "all else" is what no other part accounts for, and in the
    environment the few steps that it hands over to Grid2Op.

    Args:
        grid: that ships with Grid2Op.
        steps: of each way in each of the `repeats` turns, which are taken in turn.
        on_block: called after each turn.
    """
    from grid2op_zones import ZonedGridEnv
    from rllib_mafql.bench.rollout import stock_grid2op

    recorder = ZonedGridEnv({"grid": grid, "fast_step": False})
    episodes = record_random_play(recorder, steps)
    recorder.close()
    plain = stock_grid2op(grid)
    calls = SimpleNamespace(reset=plain.reset, step=plain.step, action_space=plain.action_space)
    ways = {PLAIN: (plain_player(calls, episodes), _plain_clocks(plain, calls))}
    for solver in ("slsqp", "direct"):
        env = ZonedGridEnv({"grid": grid, "redispatch_solver": solver})
        ways[f"environment, {solver}"] = (env_player(env, episodes), _env_clocks(env))
    totals = dict.fromkeys(ways, 0.0)
    for player, _ in ways.values():
        player.seconds(20)
    for _, clocks in ways.values():
        for clock in (clock for group in clocks.values() for clock in group):
            clock.seconds = 0.0
    for _ in range(repeats):
        for name, (player, _) in ways.items():
            totals[name] += player.seconds(steps)
            on_block()
    return {name: _shares(totals[name], clocks, 1e6 / (steps * repeats)) for name, (_, clocks) in ways.items()}


def _shares(total: float, clocks: dict[str, list[Clock]], scale: float) -> dict[str, float]:
    parts = {part: sum(clock.seconds for clock in clocks.get(part, ())) for part in PARTS[:-1]}
    return {part: scale * seconds for part, seconds in parts.items()} | {
        PARTS[-1]: scale * (total - sum(parts.values()))
    }


def _plain_clocks(simulator: Any, calls: Any) -> dict[str, list[Clock]]:
    return {
        "power flow": [Clock(simulator.backend, "runpf")],
        "redispatch solver": [Clock(simulator._redispatch_solver, "solve")],
        "actions": [Clock(calls, "action_space")],
        "observations, reward": [Clock(simulator, "get_obs")],
        "time series": [Clock(simulator.chronics_handler, "next_time_step")],
    }


def _env_clocks(env: Any) -> dict[str, list[Clock]]:
    """Of the steps that the environment plays itself; those that it hands over to Grid2Op are among "all else"."""
    return {
        "power flow": [Clock(env._stepper, "_run_powerflow")],
        "redispatch solver": [Clock(env._stepper, "_redispatch")],
        "actions": [Clock(env.action_map, name) for name in ("joint", "plan")],
        "observations, reward": [Clock(env.observer, "observe"), Clock(env._reward, "components")],
        "time series": [Clock(env.simulator.chronics_handler, "next_time_step")],
    }


def draw_profile(report: dict[str, dict[str, float]], title: str, path: Path) -> None:
    """Draws `profile_steps` as a bar for each way, its parts side by side (a PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(9, 1.5 + 0.55 * len(report)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        starts = dict.fromkeys(report, 0.0)
        for part, color in zip(PARTS, (*ZONES[:5], RULE), strict=True):
            widths = [shares[part] for shares in report.values()]
            axes.barh(list(report), widths, left=list(starts.values()), color=color, label=part, height=0.6)
            starts = {way: starts[way] + shares[part] for way, shares in report.items()}
        for row, total in enumerate(starts.values()):
            axes.text(total, row, f"  {total:,.0f}", va="center")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("microseconds a step")
        axes.set_title(title)
        axes.set_xlim(0, 1.1 * max(starts.values()))
        figure.legend(loc="outside lower left", ncols=len(PARTS))
        save(figure, path)
