"""What a step costs: plain Grid2Op, its gym layer, the environment and the runners side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rllib_mafql.bench.players import (
    Clock,
    Episode,
    Player,
    env_player,
    gym_player,
    plain_player,
    powerflow_player,
    record_random_play,
)

#: Ways to play, as in `<way>_steps_per_s`.
WAYS = (
    "plain_grid2op",
    "tuned_grid2op",
    "gym_compat",
    "env",
    "rllib_runner",
    "rllib_runner_policy",
    "powerflow_limit",
    "runner_slsqp",
    "runner_policy",
    "runner",
)

#: Ratio -> the two ways that it compares.
RATIOS = {
    "runner_over_plain": ("runner", "plain_grid2op"),
    "runner_over_tuned": ("runner", "tuned_grid2op"),
    "runner_over_gym": ("runner", "gym_compat"),
    "runner_over_env": ("runner", "env"),
    "runner_over_rllib": ("runner", "rllib_runner"),
    "runner_over_limit": ("runner", "powerflow_limit"),
    "runner_slsqp_over_plain": ("runner_slsqp", "plain_grid2op"),
    "runner_policy_over_rllib_policy": ("runner_policy", "rllib_runner_policy"),
}

#: How many times the steps of the others runners in processes take, whose resets count and come as they may.
WORKER_SHARE = 10

#: Steps before the first measurement.
WARM_UP = 20


def measure_rollouts(
    env_config: dict[str, Any],
    steps: int,
    repeats: int,
    on_block: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Steps per second of random legal actions on the grid's own series, each way of playing in turn.

    The joint actions are uniformly random and what ZonedGridEnv makes of them is legal. Plain Grid2Op (as
    `grid2op.make` gives it, with the environment's rules for actions), the same with the environment's own settings
    (no forecasts, no opponent, series in memory), Grid2Op's gym layer and the environment play the same recorded
    episodes; the runners draw their own. Plain Grid2Op has the grid's opponent, whose attacks may end an episode
    before its recorded end.

    Args:
        env_config: of ZonedGridEnv, with bundled scenarios.
        steps: of each way in each repeat.
        repeats: how often each way has its turn.
        on_block: called after each turn.

    Returns:
        For each way `<way>_steps_per_s`, the median over the repeats, and in `reset_ms` the mean time of its resets,
        which the rates leave out; the ratios of RATIOS, medians of those within the repeats; runner_own_us, what the
        runner adds to its environment's steps, microseconds a step, most of what its resets do beside Grid2Op's
        included; episode_steps, the mean length of the recorded episodes. The runners play at random, but those called
        `policy`, in which the policies of all zones act: untrained, on networks of the default sizes of each.
        `runner_slsqp` is the runner with Grid2Op's own redispatch solver.
    """
    from grid2op_zones import ZonedGridEnv

    recorded = ZonedGridEnv({**env_config, "fast_step": False})  # which sends Grid2Op all that it does as actions
    episodes = record_random_play(recorded, steps)
    recorded.close()
    env = ZonedGridEnv(env_config)
    players, env_steps = _players(env, env_config, episodes)
    rates: dict[str, list[float]] = {name: [] for name in players}
    for player in players.values():
        player.seconds(WARM_UP)
    stepping = env_steps.seconds
    for k in range(repeats):
        order = list(players.items())
        for name, player in order if k % 2 == 0 else reversed(order):
            rates[name].append(steps / player.seconds(steps))
            on_block()
    report: dict[str, Any] = {f"{way}_steps_per_s": float(np.median(rate)) for way, rate in rates.items()}
    for ratio, (one, other) in RATIOS.items():
        report[ratio] = float(np.median(np.divide(rates[one], rates[other])))
    playing, stepping = float(np.sum(steps / np.array(rates["runner"]))), env_steps.seconds - stepping
    report["runner_own_us"] = 1e6 * (playing - stepping) / (steps * repeats)
    clocks = {way: player.resets for way, player in players.items()}
    report["reset_ms"] = {way: 1e3 * clock.seconds / max(clock.calls, 1) for way, clock in clocks.items()}
    report["episode_steps"] = float(np.mean([len(episode.sent) for episode in episodes]))
    return report


def turns(repeats: int, workers: Sequence[int]) -> int:
    """How many turns `measure_rollouts` and `measure_workers` together take."""
    return repeats * (len(WAYS) + len(workers))


def measure_workers(
    env_config: dict[str, Any],
    steps: int,
    repeats: int,
    workers: Sequence[int],
    on_block: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What runners in processes of Ray come to. Needs a Ray that has CPUs for all of them.

    Args:
        env_config: of ZonedGridEnv.
        steps: a tenth of those of each runner in each repeat.
        repeats: how often each number of runners has its turn.
        workers: numbers of runners to measure.
        on_block: called after each turn.

    Returns:
        workers_steps_per_s: number of runners -> median rate of all of them together, resets included.
        scaling_efficiency: the rate of the most runners over as many times that of one (None without one).
        rss_mb: resident memory of a runner's process with 4 environments, 10^6 bytes; private_mb: what of it no other
        process shares, as runners of one machine do their libraries.
    """
    from rllib_mafql.bench.runners import MEMORY_ENVS, RemoteRunners

    rates: dict[int, list[float]] = {number: [] for number in workers}
    group = RemoteRunners(env_config, max(workers))
    try:
        group.steps_per_second(max(workers), WARM_UP)
        for _ in range(repeats):
            for number in workers:
                rates[number].append(group.steps_per_second(number, WORKER_SHARE * steps))
                on_block()
    finally:
        group.stop()
    efficiency = None
    if 1 in rates and max(workers) > 1:
        efficiency = float(np.median(rates[max(workers)]) / np.median(rates[1])) / max(workers)
    group = RemoteRunners(env_config, 1, MEMORY_ENVS)
    try:
        group.steps_per_second(1, steps)
        rss_mb, private_mb = group.memory_mb()
    finally:
        group.stop()
    return {
        "workers_steps_per_s": {str(number): float(np.median(rate)) for number, rate in rates.items()},
        "scaling_efficiency": efficiency,
        "rss_mb": rss_mb,
        "private_mb": private_mb,
    }


def _players(env: Any, env_config: dict[str, Any], episodes: list[Episode]) -> tuple[dict[str, Player], Clock]:
    from grid2op_zones.simulator import make_simulator
    from rllib_mafql.bench.runners import rllib_player, runner_player

    runner, env_steps = runner_player(env_config)
    players = {
        "plain_grid2op": plain_player(stock_grid2op(env_config["grid"]), episodes),
        "tuned_grid2op": plain_player(make_simulator(env.config), episodes),
        "gym_compat": gym_player(stock_grid2op(env_config["grid"]), episodes),
        "env": env_player(env, episodes),
        "rllib_runner": rllib_player(env_config, env.possible_agents),
        "rllib_runner_policy": rllib_player(env_config, env.possible_agents, acting=True),
        "powerflow_limit": powerflow_player(make_simulator(env.config), episodes),
        "runner_slsqp": runner_player({**env_config, "redispatch_solver": "slsqp"})[0],
        "runner_policy": runner_player(env_config, acting=True)[0],
        "runner": runner,
    }
    return players, env_steps


def stock_grid2op(grid: str) -> Any:
    """The grid as Grid2Op makes it, but that it takes and limits the environment's actions as the environment does."""
    import grid2op
    from grid2op.Action import PlayableAction
    from lightsim2grid import LightSimBackend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock: Any = grid2op.make(grid, test=True, backend=LightSimBackend(), action_class=PlayableAction)
        parameters = stock.parameters
        parameters.LIMIT_INFEASIBLE_CURTAILMENT_STORAGE_ACTION = True
        parameters.IGNORE_MIN_UP_DOWN_TIME = True
        parameters.ALLOW_DISPATCH_GEN_SWITCH_OFF = True
        stock.change_parameters(parameters)
        stock.reset()
    return stock
