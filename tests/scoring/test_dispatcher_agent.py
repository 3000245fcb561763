"""A dispatcher as a Grid2Op agent does in Grid2Op's own runner what it does in ZonedGridEnv."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from grid2op.Chronics import Multifolder
from grid2op.Runner import Runner

from grid2op_zones import ZonedGridEnv
from grid2op_zones.agents import DispatcherAgent, line_to_reconnect

STEPS = 40


def in_zones(env: ZonedGridEnv, name: str, resets: list[dict[str, Any]]) -> list[Any]:
    """Loadings, dispatch, storage power and line status of every state of episode 0."""
    simulator_reset = env.simulator.reset

    def spy(**given: Any) -> Any:
        resets.append(given)
        return simulator_reset(**given)

    env.simulator.reset = spy
    env.reset(**env.episode_spec(0))
    policy = env.behavior_policy(name, seed=3)
    policy.reset()
    seen, done = [measured(env.grid_state)], False
    while not done:
        _, _, terminated, truncated, _ = env.step(policy.act())
        done = terminated["__all__"] or truncated["__all__"]
        if not terminated["__all__"]:
            seen.append(measured(env.grid_state))
    return seen


def in_runner(env: ZonedGridEnv, name: str, reset: dict[str, Any]) -> list[Any]:
    params = env.simulator.get_params_for_runner()
    kept = ("gridvalueClass", "h_forecast")
    params["gridStateclass_kwargs"] = {k: v for k, v in params["gridStateclass_kwargs"].items() if k in kept}
    agent = DispatcherAgent(env.simulator, env.config, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(**{**params, "gridStateclass": Multifolder}, agentClass=None, agentInstance=agent)
        ((*_, episode),) = runner.run(
            nb_episode=1,
            env_seeds=[reset["seed"]],
            agent_seeds=[3],
            reset_options=[dict(reset["options"])],
            max_iter=STEPS,
            add_detailed_output=True,
        )
    seen = [observation for observation in episode.observations if observation is not None]
    return [measured(observation) for observation in seen if observation.line_status.any()]


def measured(state: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.array(part) for part in (state.rho, state.actual_dispatch, state.storage_power, state.line_status))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("qp_zones", {"grid": "educ_case14_storage", "thermal_limit_scale": 0.9}),
        ("proportional", {"grid": "educ_case14_storage", "thermal_limit_scale": 0.85, "idle_threshold": 0.9}),
        ("random", {"grid": "educ_case14_storage"}),
        ("random", {"grid": "educ_case14_storage", "safety": {"level": "lines"}}),
        ("qp_zones", {"grid": "educ_case14_storage", "thermal_limit_scale": 0.85, "safety": {"level": "units"}}),
        ("do_nothing", {"grid": "educ_case14_storage", "thermal_limit_scale": 0.8}),  # a line trips, and is closed
    ],
)
def test_it_plays_the_same_episode(name: str, config: dict[str, Any]) -> None:
    env = ZonedGridEnv({**config, "max_steps": STEPS})
    resets: list[dict[str, Any]] = []
    expected = in_zones(env, name, resets)
    found = in_runner(env, name, resets[-1])
    env.close()
    assert len(found) == len(expected) > 5
    for k, (here, there) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(here, there, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"state {k}")
    if name == "do_nothing":
        count = [line_status.sum() for *_, line_status in found]
        assert min(count) < count[0] == count[-1]
    else:
        assert any(dispatch.any() for _, dispatch, _, _ in found)


def test_the_lowest_line_that_may_be_closed_is() -> None:
    state = SimpleNamespace(
        line_status=np.array([True, False, False, False]), time_before_cooldown_line=np.array([0, 3, 0, 0])
    )
    assert line_to_reconnect(state) == 2
    state.time_before_cooldown_line[:] = 1
    assert line_to_reconnect(state) is None


def test_an_unknown_dispatcher_is_told() -> None:
    env = ZonedGridEnv({"grid": "l2rpn_case14_sandbox"})
    with pytest.raises(ValueError, match="the nearest is 'qp_zones'"):
        DispatcherAgent(env.simulator, env.config, "qp_zone")
    env.close()
