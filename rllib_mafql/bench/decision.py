"""What a zone's whole decision costs: from Grid2Op's observation to Grid2Op's action, projection included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grid2op_zones import ZonedGridEnv
from grid2op_zones.action import grid2op_action
from grid2op_zones.agents import Surroundings
from grid2op_zones.area import make_areas
from grid2op_zones.dispatch import AreaPolicy
from grid2op_zones.qp import QPDispatcher
from grid2op_zones.simulator import grid_references
from rllib_mafql.bench.latency import FLOW_STEPS, contenders, distribution, measure, on_one_core
from rllib_mafql.bench.latency_models import DIFFUSION_STEPS
from rllib_mafql.deploy.agent import ZoneStation, merged
from rllib_mafql.deploy.controller import ZoneController
from rllib_mafql.deploy.export import package, software
from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.package import write_package
from rllib_mafql.deploy.weights import field_weights
from rllib_mafql.networks import VelocityField

#: States of the grid that are decided on, in turn.
STATES = 256

#: Steps between two of them.
APART = 5

#: Decisions of each kind before the next one's turn, and calls before each turn that are not counted.
BLOCK, WARM_UP = 1_000, 100

Decide = Callable[[Any], Any]


@dataclass(frozen=True)
class Contender:
    """One way of deciding for one zone.

    Attributes:
        policy: Observation (d,) -> action (m,), the inference alone; None where there is no such part.
        decide: Grid2Op observation -> Grid2Op action, the whole decision; None where only inference is measured.
    """

    policy: Callable[..., np.ndarray] | None
    decide: Decide | None


def measure_decisions(
    env_config: Mapping[str, Any],
    flow_steps: int,
    hidden: int,
    layers: int,
    device: str,
    decisions: int,
    on_decisions: Callable[[int], None] = lambda decisions: None,
) -> dict[str, Any]:
    """Measures the flow in every zone, others and the QP in the zone of the most units, and the QP of all zones.

    Policies have random weights, with normalisers fitted to the states that are decided on and to a dispatcher's
    actions, so that the projection has as much to do as with a policy that has learned little.

    Args:
        env_config: Of the grid; `safety.level` is what controllers project onto.
        flow_steps: Euler steps of the flow.
        hidden: Width of the layers.
        layers: Layers that see the action.
        device: "cpu", or "cuda" for the flow as a CUDA graph.
        decisions: Of each measurement.
        on_decisions: Called with the number of decisions whenever some were made.

    Returns:
        "per_agent_ms" and "end_to_end_ms" of the slowest zone, "zones" (zone -> both), "compared" (contender -> both),
        "central" (what decides for all zones -> end_to_end_ms),
        "by_flow_steps" (steps -> inference), each a distribution of p50, p90, p99, p999 and max; "runtime", "device",
        "flow_steps", "how" (how projections of the flow went) and "zone" (that of the comparison).
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    env = ZonedGridEnv(env_config)
    try:
        observations, inputs, actions = collect_states(env)
        loads = grid_references(env.simulator, env.config).loads
        with tempfile.TemporaryDirectory() as folder, on_one_core():
            zones = [zone.name for zone in env.zones]
            widest = max(zones, key=lambda zone: env.action_map.sizes[zone])
            fields = {zone: fitted_field(inputs[zone], actions[zone], hidden, layers) for zone in zones}
            runs: dict[tuple[str, str], Contender] = {}
            stations = {}
            flow = f"{'cuda' if device == 'cuda' else 'onnx'}_flow_"
            for zone in zones:
                policies = contenders(fields[zone], device)
                path = Path(folder, zone)
                model = flow_model(field_weights(fields[zone]), flow_steps)
                write_package(path, package(env, zone, loads, flow_steps, software()), model.SerializeToString())
                runs[zone, "flow"], stations[zone] = _deployed(env, path, policies[f"{flow}{flow_steps}"])
                if zone == widest:
                    for name, contender in COMPARED.items():
                        policy = policies[contender.format(flow_steps)]
                        runs[zone, name], _ = _deployed(env, path, policy)
                    steps = {k: Contender(policies[f"{flow}{k}"], None) for k in FLOW_STEPS if k != flow_steps}
                    runs |= {(zone, f"flow_{k}"): contender for k, contender in steps.items()}
            runs[widest, "qp"] = Contender(None, _qp(env, widest))
            runs[CENTRAL, "qp"] = Contender(None, _qp(env, None))
            results = _in_turns(runs, observations, inputs, decisions, on_decisions)
            how = {zone: _how(stations[zone], observations) for zone in zones}
    finally:
        env.close()
        torch.set_num_threads(threads_before)
    own = {zone: results[zone, "flow"] for zone in zones}
    slowest = {kind: max((own[zone][kind] for zone in zones), key=lambda one: one["p99"]) for kind in KINDS}
    by_steps = {k: results[widest, "flow" if k == flow_steps else f"flow_{k}"]["per_agent_ms"] for k in FLOW_STEPS}
    return {
        **slowest,
        "runtime": "torch CUDA graph" if device == "cuda" else "onnxruntime",
        "device": device,
        "flow_steps": flow_steps,
        "decisions": decisions,
        "zones": own,
        "zone": widest,
        "compared": {name: results[widest, name] for name in (*COMPARED, "qp")},
        "central": {"qp": results[CENTRAL, "qp"]},
        "by_flow_steps": by_steps,
        "how": how,
    }


KINDS = ("per_agent_ms", "end_to_end_ms")

#: What the flow is compared with, and its name among the contenders; {} are the flow's steps.
COMPARED = {
    "gaussian": "onnx_gaussian",
    f"diffusion_{DIFFUSION_STEPS}": f"onnx_diffusion_{DIFFUSION_STEPS}",
    "torch_eager": "torch_flow_{}",
}


#: In the place of a zone: what decides for all of them.
CENTRAL = "central"


def measurements(env_config: Mapping[str, Any]) -> int:
    """How many distributions `measure_decisions` takes."""
    env = ZonedGridEnv(env_config)
    env.close()
    return 2 * (len(env.zones) + len(COMPARED)) + len(FLOW_STEPS) - 1 + 2


def collect_states(env: ZonedGridEnv) -> tuple[list[Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A dispatcher's noisy play: Grid2Op observations, and per zone observations and actions, (STATES, ...)."""
    observations: list[Any] = []
    inputs: dict[str, list[np.ndarray]] = {zone.name: [] for zone in env.zones}
    actions: dict[str, list[np.ndarray]] = {zone.name: [] for zone in env.zones}
    episode = 0
    while len(observations) < STATES:
        obs, _ = env.reset(**env.episode_spec(episode))
        policy = env.behavior_policy("qp_zones", noise=0.3, seed=episode)
        policy.reset()
        over, step = False, 0
        while not over and len(observations) < STATES:
            action = policy.act()
            if step % APART == 0:
                observations.append(env.grid_observation.copy())
                for zone in inputs:
                    inputs[zone].append(obs[zone])
                    actions[zone].append(action[zone])
            obs, _, terminated, truncated, _ = env.step(action)
            over, step = terminated["__all__"] or truncated["__all__"], step + 1
        episode += 1
    return (
        observations,
        {zone: np.stack(rows) for zone, rows in inputs.items()},
        {zone: np.stack(rows) for zone, rows in actions.items()},
    )


def fitted_field(inputs: np.ndarray, actions: np.ndarray, hidden: int, layers: int) -> VelocityField:
    """A field of random weights whose normalisers fit observations (n, d) and actions (n, m)."""
    field = VelocityField(inputs.shape[1], actions.shape[1], hidden, layers)
    for normalizer, rows in ((field.normalizer, inputs), (field.action_normalizer, actions)):
        normalizer.fit(torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(rows.std(axis=0)))
    return field


def _deployed(env: ZonedGridEnv, folder: Path, policy: Callable[..., np.ndarray]) -> tuple[Contender, ZoneStation]:
    """A zone's controller as it is deployed, with `policy` in the place of its own."""
    grid = env.simulator
    station = ZoneStation(ZoneController(folder, policy=lambda obs, noise: policy(obs)), grid)
    n_gen, n_storage = len(grid.name_gen), len(grid.name_storage)

    def decide(observation: Any) -> Any:
        station.controller.reset()  # states come round again
        orders = merged([station], [station.decide(observation)], n_gen, n_storage)
        return grid2op_action(grid.action_space, orders)

    return Contender(policy, decide), station


def _qp(env: ZonedGridEnv, zone: str | None) -> Decide:
    """The QP dispatcher of a zone, or without one that of the whole grid."""
    here = Surroundings(env.simulator, env.zones, env.action_map, env.config)
    central = zone is None
    areas = make_areas(env.simulator, env.zones, env.action_map.balance, env.config["actions"], central=central)
    policy = AreaPolicy(here, [QPDispatcher(area) for area in areas if central or area.name == zone], 0.0, 0)

    def decide(observation: Any) -> Any:
        here.grid_state = observation
        vector = env.action_map.joint(policy.act())
        return env.action_map.action(env.action_map.plan(vector, observation))

    return decide


def _in_turns(
    runs: Mapping[tuple[str, str], Contender],
    observations: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    decisions: int,
    on_decisions: Callable[[int], None],
) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    parts: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {run: {kind: [] for kind in KINDS} for run in runs}
    for done in range(0, decisions, BLOCK):
        block = min(BLOCK, decisions - done)
        for (zone, name), contender in runs.items():
            for kind, call, values in zip(
                KINDS, (contender.policy, contender.decide), (inputs.get(zone), observations), strict=True
            ):
                if call is not None:
                    parts[zone, name][kind].append(measure(call, WARM_UP, block, values))
                    on_decisions(block)
    return {
        run: {kind: distribution(np.concatenate(values)) for kind, values in kinds.items() if values}
        for run, kinds in parts.items()
    }


def _how(station: ZoneStation, observations: Sequence[Any]) -> dict[str, float]:
    """Shares of the states in which the projection took each of its ways."""
    ways: list[str] = []
    for observation in observations:
        station.controller.reset()
        certificate = station.decide(observation).certificate
        ways.append("refused" if certificate is None else certificate.how)
    return {way: ways.count(way) / len(ways) for way in sorted(set(ways))}
