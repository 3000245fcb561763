"""The environment's own step against plain Grid2Op: the same actions, and everything compared to the last bit."""

from __future__ import annotations

import warnings
from collections import Counter
from copy import deepcopy

import grid2op
import numpy as np
import pytest
from grid2op.Action import PlayableAction
from grid2op.Chronics import MultifolderWithCache
from grid2op.Reward import ConstantReward
from lightsim2grid import LightSimBackend

from grid2op_zones import ZonedGridEnv
from grid2op_zones.redispatch import DirectRedispatchSolver
from grid2op_zones.simulator import NO_OPPONENT

#: Grids with their config: stressed, so that lines trip and grids fall apart, or calm, so that episodes last.
CASES = [
    {"grid": "l2rpn_idf_2023"},
    {"grid": "l2rpn_idf_2023", "thermal_limit_scale": 1.1, "redispatch_solver": "direct"},
    {"grid": "educ_case14_storage", "redispatch_solver": "direct"},
    {"grid": "l2rpn_case14_sandbox", "thermal_limit_scale": 0.8},
    {"grid": "l2rpn_idf_2023", "opponent": True, "thermal_limit_scale": 1.4, "redispatch_solver": "direct"},
    {"grid": "l2rpn_idf_2023", "opponent": True},
]

#: Grid2Op does not set these in the observation of a lost grid: they hold what memory held before.
UNSET_WHEN_LOST = ("attack_under_alert", "was_alert_used_after_attack")


def plain_grid2op(config):
    """The grid as any user of Grid2Op makes it, with the rules of our environment and none of its code for stepping."""
    solver = {"redispatch_solver": DirectRedispatchSolver} if config["redispatch_solver"] == "direct" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grid = grid2op.make(
            config["grid"],
            test=True,
            backend=LightSimBackend(),
            action_class=PlayableAction,
            reward_class=ConstantReward,
            chronics_class=MultifolderWithCache,  # series that are not cached draw maintenance in another order
            **({} if config["opponent"] else NO_OPPONENT),
            **solver,
        )
        parameters = grid.parameters
        parameters.LIMIT_INFEASIBLE_CURTAILMENT_STORAGE_ACTION = True
        parameters.IGNORE_MIN_UP_DOWN_TIME = True
        parameters.ALLOW_DISPATCH_GEN_SWITCH_OFF = True
        grid.change_parameters(parameters)
        grid.chronics_handler.real_data.set_filter(lambda path: True)
        grid.chronics_handler.real_data.reset()
        grid.reset()
        grid.set_thermal_limit(grid.get_thermal_limit() * np.float32(config["thermal_limit_scale"]))
    return grid


def differences(one, two):
    """Names of the observations' parts that are not equal to the last bit."""
    unset = () if two.line_status.any() else UNSET_WHEN_LOST
    return [
        name
        for name in one.attr_list_vect
        if name not in unset
        and not np.array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(two, name)), equal_nan=True)
    ]


@pytest.mark.parametrize("given", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_plain_grid2op_gives_the_same_observations_and_ends(given):
    """Every action that the environment sends, replayed in plain Grid2Op: each observation, reward and end is equal."""
    env = ZonedGridEnv({**given, "scenarios": {"split": "all"}})
    plain = plain_grid2op(env.config)
    rng = np.random.default_rng(0)
    out = np.zeros(sum(env.observer.sizes.values()), np.float32)
    seen = np.zeros_like(out)
    ends, sent, resets, attacked = Counter(), [], [], 0
    send, reset = env._stepper.step, env.simulator.reset
    env._stepper.step = lambda orders, line: sent.append((orders, line)) or send(orders, line)
    env.simulator.reset = lambda **kwargs: resets.append(deepcopy(kwargs)) or reset(**kwargs)  # it changes the options
    try:
        for episode in range(4):
            env.joint_reset(out, seed=episode)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = plain.reset(**resets[-1])
            assert not differences(env.grid_observation, theirs)
            over, scale = False, (1.0, 0.3, 0.05, 1.0)[episode]
            while not over:
                reward, terminated, truncated, info = env.joint_step(
                    rng.uniform(-scale, scale, env.action_map.size), out
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs, _, done, told = plain.step(env.action_map.action(*sent[-1]))
                attacked += told["opponent_attack_line"] is not None
                over = terminated or truncated
                assert not differences(env.grid_observation, theirs), f"episode {episode}, step {env._steps}"
                assert terminated == (not theirs.line_status.any()) and (done or not terminated)
                if not terminated:
                    env.observer.write(theirs, seen)
                    np.testing.assert_array_equal(out, seen)
                    assert reward == env._reward.total(env._reward.components(theirs))
            ends[info.get("end_reason")] += 1
        assert env._stepper.handed_over < 0.3 * len(sent)  # or this test would compare Grid2Op with itself
    finally:
        env.close()
        plain.close()
    assert sum(ends.values()) == 4
    assert not env.config["opponent"] or attacked > 10


@pytest.mark.parametrize("opponent", [False, True])
def test_steps_through_grid2op_alone_play_the_same_episode(opponent):
    """``fast_step: false`` is the same environment."""
    config = {"opponent": opponent, "thermal_limit_scale": 1.4}
    histories, attacked = [], []
    for fast in (True, False):
        env = ZonedGridEnv({**config, "fast_step": fast})
        rng = np.random.default_rng(3)
        out = np.zeros(sum(env.observer.sizes.values()), np.float32)
        history = [(env.joint_reset(out, seed=5), out.copy())]
        while "end_reason" not in history[-1][0]:
            *_, info = env.joint_step(rng.uniform(-0.05, 0.05, env.action_map.size), out)
            history.append((info, out.copy()))
            attacked.append(env.simulator._oppSpace.last_attack is not None)
        histories.append(history)
        handed_over = env._stepper.handed_over
        assert handed_over < 0.3 * len(history) if fast else handed_over == len(history) - 1
        env.close()
    assert len(histories[0]) == len(histories[1])
    assert not opponent or sum(attacked) > 20
    for (info, obs), (other_info, other_obs) in zip(*histories, strict=True):
        assert info == other_info
        np.testing.assert_array_equal(obs, other_obs)


def test_joint_and_dict_steps_are_one_and_the_same(case14):
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (30, case14.action_map.size))
    out = np.zeros(sum(case14.observer.sizes.values()), np.float32)
    played = [(case14.joint_reset(out, seed=2), out.copy())]
    for action in actions:
        reward, terminated, truncated, info = case14.joint_step(action, out)
        played.append(((reward, terminated, truncated, info), out.copy()))
    obs, infos = case14.reset(seed=2)
    assert infos["zone_0"] == played[0][0]
    np.testing.assert_array_equal(np.concatenate(list(obs.values())), played[0][1])
    for action, (result, joint) in zip(actions, played[1:], strict=True):
        parts = np.split(action, np.cumsum(list(case14.action_map.sizes.values()))[:-1])
        step = case14.step(dict(zip(case14.possible_agents, parts, strict=True)))
        obs, rewards, terminateds, truncateds, infos = step
        assert (rewards["zone_1"], terminateds["__all__"], truncateds["__all__"], infos["zone_2"]) == result
        np.testing.assert_array_equal(np.concatenate(list(obs.values())), joint)


@pytest.mark.parametrize(
    ("action", "message"),
    [(np.zeros(3), r"joint action: expected shape \(\d+,\), found \(3,\)"), (np.nan, r"component 0 .* is nan")],
)
def test_joint_actions_are_checked(case14, action, message):
    case14.joint_reset(np.zeros(sum(case14.observer.sizes.values()), np.float32), seed=0)
    with pytest.raises(ValueError, match=message):
        case14.joint_step(
            action if isinstance(action, np.ndarray) else np.full(case14.action_map.size, action), np.zeros(0)
        )
