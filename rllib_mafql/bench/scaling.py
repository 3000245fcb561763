"""What rollouts cost the driver, measured, and what that comes to with many runners, computed from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE

from rllib_mafql.bench.runners import joint_config
from rllib_mafql.replay import JointReplay
from rllib_mafql.rollout import Rollout

#: Numbers of runners that the model is worked out for.
RUNNERS = (1, 2, 10, 100, 1000)

#: Runners that a node of the modelled cluster has.
RUNNERS_PER_NODE = 16

#: Steps of a request, as in the tuned examples.
FRAGMENT = 200

#: Steps of recorded play that the replay is measured with.
HELD = 10_000


def measure_constants(
    env_config: dict[str, Any], repeats: int, on_repeat: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """What a step of rollouts and a sync of weights cost, each the median of `repeats` measurements. Needs Ray.

    Returns:
        runner_steps_per_s: of one runner in this process with its learned policy and one environment.
        bytes_per_step: that a rollout takes in Ray's object store.
        get_us_per_step: for the driver to read it from there. put_us_per_step: for the runner to put it there.
        store_us_per_step: for the driver to add it to the replay.
        sample_us_per_row: to draw a transition of a batch of 256.
        weights_mb: of the weights that runners get, MB. put_weights_ms: to put them into the object store.
        load_weights_ms: for a runner to take them over.
    """
    torch.set_num_threads(1)  # as in the runners' own processes
    config = joint_config(env_config)
    runner = config.env_runner_cls(config=config)
    row_bytes = 4.0 * sum(space.shape[0] for space in _boxes(runner))
    replay = JointReplay(HELD, config.gamma, config.n_step, seed=0)
    found: dict[str, list[float]] = {}

    def timed(name: str, scale: float, call: Callable[[], Any]) -> Any:
        before = time.perf_counter()
        result = call()
        found.setdefault(name, []).append(scale * (time.perf_counter() - before))
        return result

    weights = runner.get_state(components=COMPONENT_RL_MODULE)[COMPONENT_RL_MODULE]
    for number in range(1, repeats + 2):
        (rollout,) = timed("sample_s", 1.0, partial(runner.sample, num_timesteps=FRAGMENT))
        reference = timed("put_us_per_step", 1e6 / FRAGMENT, partial(ray.put, rollout))
        received = timed("get_us_per_step", 1e6 / FRAGMENT, partial(ray.get, reference))
        timed("store_us_per_step", 1e6 / FRAGMENT, partial(_store, replay, received))
        timed("sample_us_per_row", 1e6 / 256, partial(replay.sample, 256))
        reference = timed("put_weights_ms", 1e3, partial(ray.put, weights))
        state = {COMPONENT_RL_MODULE: reference, "weights_seq_no": number}
        timed("load_weights_ms", 1e3, partial(runner.set_state, state))
        on_repeat()
    runner.stop()
    constants = {name: float(np.median(values[1:])) for name, values in found.items()}
    constants["runner_steps_per_s"] = FRAGMENT / constants.pop("sample_s")
    constants["bytes_per_step"] = float(stored_bytes(rollout)) / FRAGMENT
    constants["weights_mb"] = stored_bytes(weights) / 1e6
    constants["row_bytes"] = row_bytes
    return constants


def model(constants: dict[str, float], syncs_per_s: float, runners: int) -> dict[str, float]:
    """What so many runners ask of the driver and the network, were nothing else in the way.

    Args:
        constants: of `measure_constants`.
        syncs_per_s: how often a second runners get new weights.
        runners: how many, each on a core like the measured one, RUNNERS_PER_NODE on a node.

    Returns:
        steps_per_s: of all runners. object_store_mb_per_s: what they put there. driver_share: seconds of one core that
        reading and storing take in a second; above 1 the driver is too slow. weights_mb_per_s: that nodes fetch, once
        each. replay_gb_per_hour: of transitions.
    """
    steps = runners * constants["runner_steps_per_s"]
    nodes = -(-runners // RUNNERS_PER_NODE)
    driver_us = constants["get_us_per_step"] + constants["store_us_per_step"]
    return {
        "runners": runners,
        "steps_per_s": steps,
        "object_store_mb_per_s": steps * constants["bytes_per_step"] / 1e6,
        "driver_share": steps * driver_us / 1e6,
        "weights_mb_per_s": nodes * syncs_per_s * constants["weights_mb"],
        "replay_gb_per_hour": steps * 3600 * constants["row_bytes"] / 1e9,
    }


def _store(replay: JointReplay, rollout: Rollout) -> None:
    for fragment in rollout.fragments:
        replay.add(fragment)


def _boxes(runner: Any) -> list[Any]:
    return [box for agent in runner.env.possible_agents for box in runner.get_spaces()[agent]]


def stored_bytes(value: Any) -> int:
    """Bytes of a value in Ray's object store."""
    return ray._private.worker.global_worker.get_serialization_context().serialize(value).total_bytes
