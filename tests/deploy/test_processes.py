"""Zones in processes of their own, in which nothing that trains or simulates can be imported, play the same episode."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv, check_env_config
from grid2op_zones.action import line_to_reconnect
from grid2op_zones.measurement import QUANTITIES, Meter
from grid2op_zones.simulator import make_simulator
from rllib_mafql.deploy import MAFQLAgent, ZoneController
from rllib_mafql.evaluation.agents import resolve_agents
from rllib_mafql.evaluation.policies import ZonePolicy, build_policy
from tests.deploy.conftest import Setup, env_config

#: What a zone's process runs: measurements come in, decisions go out, and at the end what it has loaded.
WORKER = """
import importlib.abc
import pickle
import sys

BLOCKED = {"ray", "torch", "grid2op", "lightsim2grid", "scipy", "gymnasium", "pandas", "onnx", "pandapower"}


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocker())
from rllib_mafql.deploy import ZoneController

controller = ZoneController(sys.argv[1])
for name in BLOCKED:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} could be imported")
while True:
    try:
        time, values = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    decision = controller.decide(controller.measurement(time, values))
    orders = how = None
    if decision.orders is not None:
        orders = dict(zip(controller.units, (x for part in decision.orders for x in part.tolist()), strict=True))
        how = decision.certificate.how
    pickle.dump((orders, decision.setpoints, how, decision.problem), sys.stdout.buffer)
    sys.stdout.buffer.flush()
pickle.dump(sorted({name.partition(".")[0] for name in sys.modules} & BLOCKED), sys.stdout.buffer)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Here as in the zones' processes: with more threads, the last bits of inverses are others."""
    library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
        if hasattr(library, name):
            getattr(library, name)(1)


class Answer(NamedTuple):
    """What a zone's process decided."""

    orders: dict[str, float] | None  #: unit -> what Grid2Op is told
    setpoints: dict[str, float]
    how: str | None
    problem: str | None


class ZoneProcess:
    """A zone's controller in a process of its own, which is given the zone's folder and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._answers = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def decide(self, time: Any, values: dict[str, np.ndarray]) -> Answer:
        pickle.dump((time, values), self._to)
        self._to.flush()
        return Answer(*pickle.load(self._answers))

    def finish(self) -> list[str]:
        """Ends the process; what it has loaded of what it must not need."""
        self._to.close()
        loaded = pickle.load(self._answers)
        assert self._process.wait(10) == 0
        return loaded

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._answers.close()


@contextmanager
def zone_process(folder: Path) -> Iterator[ZoneProcess]:
    process = ZoneProcess(folder)
    try:
        yield process
    finally:
        process.close()


def plain(measurement: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A measurement as plain arrays."""
    return measurement.time, {name: getattr(measurement, name) for names in QUANTITIES.values() for name in names}


# Episodes ----------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What the grid shows after a step."""

    rho: np.ndarray
    line_status: np.ndarray
    actual_dispatch: np.ndarray
    storage_charge: np.ndarray
    gen_p: np.ndarray
    curtailment_limit: np.ndarray
    reward: float

    @classmethod
    def of(cls, state: Any, reward: float) -> Step:
        return cls(*(np.array(getattr(state, name)) for name in cls._fields[:-1]), reward)


class History(NamedTuple):
    """An episode."""

    steps: list[Step]
    failed: bool
    closed: int  #: lines that were closed again
    start: dict[str, Any]  #: of `reset` of Grid2Op's environment, which began it


def assert_same(one: History, other: History) -> None:
    """To the last bit."""
    assert len(one.steps) == len(other.steps) and one.failed == other.failed and one.closed == other.closed
    for k, (first, second) in enumerate(zip(one.steps, other.steps, strict=True)):
        for name, a, b in zip(Step._fields, first, second, strict=True):
            assert np.array_equal(a, b), f"step {k}: {name}"


def in_the_environment(env: ZonedGridEnv, folder: Path, episode: int) -> History:
    """The exported policies act in one process, and the environment projects."""
    (agent,) = resolve_agents([f"{folder}:decentralized"], find_checkpoint=lambda path: path)[0]
    policy = build_policy(agent, env)
    assert isinstance(policy, ZonePolicy)
    resets, reset = [], env.simulator.reset
    env.simulator.reset = lambda seed, options: (
        resets.append({"seed": seed, "options": dict(options)}) or reset(seed=seed, options=options)
    )
    try:
        obs, _ = env.reset(**env.episode_spec(episode))
    finally:
        del env.simulator.reset
    policy.start(episode)
    steps, closed, over, failed = [], 0, False, False
    while not over:
        closed += line_to_reconnect(env.grid_state) is not None
        obs, rewards, terminated, truncated, _ = env.step(policy.act(obs))
        failed = terminated["__all__"]
        over = failed or truncated["__all__"]
        if not failed:
            steps.append(Step.of(env.grid_state, rewards["zone_0"]))
    return History(steps, failed, closed, resets[-1])


def in_grid2op(simulator: Any, start: dict[str, Any], act: Any, reward: Any, length: int) -> History:
    """Plain Grid2Op, with what `act` makes of its observations."""
    steps: list[Step] = []
    closed, failed = 0, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = simulator.reset(seed=start["seed"], options=dict(start["options"]))
        while len(steps) < length and not failed:
            action = act(obs)
            closed += int((action.line_set_status == 1).sum())
            obs, _, _, info = simulator.step(action)
            assert not info["is_illegal"] and not info["is_ambiguous"], info["exception"]
            failed = not obs.line_status.any()
            if not failed:
                steps.append(Step.of(obs, reward.total(reward.components(obs))))
    return History(steps, failed, closed, start)


def action_of(simulator: Any, obs: Any, answers: list[Answer]) -> Any:
    """Grid2Op's action from what the zones' processes sent, by the names of units alone."""
    orders = {name: value for answer in answers for name, value in (answer.orders or {}).items()}
    action, kinds = simulator.action_space(), {"redispatch": [], "curtail": [], "storage": []}
    for name, value in orders.items():
        kind, unit = name.removesuffix("]").split("[")
        kinds[kind].append((unit, value))
    action.redispatch = [(unit, value) for unit, value in kinds["redispatch"] if value != 0.0]
    limits = dict(zip(simulator.name_gen, obs.curtailment_limit, strict=True))
    if any(abs(value - limits[unit]) > 1e-6 for unit, value in kinds["curtail"]):
        action.curtail = kinds["curtail"]
    action.storage_p = [(unit, value) for unit, value in kinds["storage"] if value != 0.0]
    line = line_to_reconnect(obs)
    if line is not None:
        action.line_set_status = [(line, 1)]
    return action


@pytest.mark.parametrize(
    ("name", "episode", "changes"),
    [
        ("case118", 1, {}),  # a day in which a line goes out for maintenance and is closed again
        ("case14", 0, {"max_steps": 120}),
        ("case14", 1, {"max_steps": 120}),  # the grid falls apart
    ],
)
def test_an_episode_of_three_processes_is_that_of_one(
    request: pytest.FixtureRequest, name: str, episode: int, changes: dict[str, Any]
) -> None:
    case: Setup = request.getfixturevalue(name)
    config = check_env_config(env_config(case.env.config["grid"], **changes))
    env, simulator = ZonedGridEnv(config), make_simulator(config)
    zones = env.possible_agents
    try:
        one = in_the_environment(env, case.folder, episode)
        reward, length = env._reward, len(one.steps) + one.failed
        with ExitStack() as stack:
            processes = [stack.enter_context(zone_process(case.folder / zone)) for zone in zones]
            assert len({os.getpid(), *(process.pid for process in processes)}) == 4
            meters = [Meter(ZoneController(case.folder / zone).package.elements, simulator) for zone in zones]
            answers: list[list[Answer]] = []

            def act(obs: Any) -> Any:
                pairs = zip(processes, meters, strict=True)
                answers.append([process.decide(*plain(meter.read(obs))) for process, meter in pairs])
                return action_of(simulator, obs, answers[-1])

            three = in_grid2op(simulator, one.start, act, reward, length)
            assert [process.finish() for process in processes] == [[], [], []]
        agent = MAFQLAgent(simulator, case.folder)
        agent.reset(None)
        whole = in_grid2op(simulator, one.start, lambda obs: agent.act(obs, 0.0), reward, length)
    finally:
        env.close()
        simulator.close()
    assert_same(one, three)
    assert_same(one, whole)
    assert all(answer.problem is None and answer.orders is not None for step in answers for answer in step)
    hows = {answer.how for step in answers for answer in step}
    if name == "case118":
        assert len(one.steps) == 287 and one.closed >= 1 and "program" in hows
    assert one.failed == (name == "case14" and episode == 1)
    charges, dispatch = one.steps[-1].storage_charge, np.abs([step.actual_dispatch for step in one.steps]).max()
    assert dispatch > 1.0 and not np.array_equal(charges, one.steps[0].storage_charge)
    assert len({step.reward for step in one.steps}) > 50


# One decision ------------------------------------------------------------------------------------------------------


def test_a_zone_without_ray_torch_and_grid2op_decides_as_here(case: Setup, tmp_path: Path) -> None:
    """On measurements saved to a file; the policy's set-points are the same to the last bit."""
    env = case.env
    env.reset(**env.episode_spec(0))
    rng = np.random.default_rng(2)
    controllers = {zone: ZoneController(case.folder / zone) for zone in env.possible_agents}
    wanted: dict[str, list[Any]] = {zone: [] for zone in controllers}
    for k in range(6):
        for zone, controller in controllers.items():
            measurement = Meter(controller.package.elements, env.simulator).read(env.grid_observation)
            if k == 4:  # hold and release
                measurement.load_p[0] = np.nan
            if k == 5:  # nothing is sent
                measurement.p_or[0] = np.nan
            time, values = plain(measurement)
            np.savez(tmp_path / f"{zone} {k}.npz", **values)
            decision = controller.decide(controller.measurement(time, values))
            wanted[zone].append((time, decision))
            assert (decision.orders is None) == (k == 5) and (decision.problem is None) == (k < 4)
        env.step({zone: rng.uniform(-1, 1, space.shape) for zone, space in env.action_spaces.items()})
    for zone in controllers:
        with zone_process(case.folder / zone) as process:
            for k, (time, decision) in enumerate(wanted[zone]):
                with np.load(tmp_path / f"{zone} {k}.npz") as file:
                    answer = process.decide(time, dict(file))
                assert answer.problem == decision.problem
                assert list(answer.setpoints) == list(decision.setpoints)
                sent, here = list(answer.setpoints.values()), list(decision.setpoints.values())
                assert [value.hex() for value in sent] == [value.hex() for value in here]
                if decision.orders is not None and answer.orders is not None:
                    assert list(answer.orders.values()) == np.concatenate(decision.orders).tolist()
            assert process.finish() == []
