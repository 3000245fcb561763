"""The env runner: what it plays, how it writes it down, and with which weights."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray import tune

from rllib_mafql.environments import build_environment, checked_boxes
from rllib_mafql.modules import TEACHER
from rllib_mafql.offline import open_recording
from tests.rllib_mafql.toy_env import STEPS, AdvisedEcho, EchoEnv, JointEchoEnv, echo_config


@pytest.fixture(scope="module", autouse=True)
def registered():
    tune.register_env("echo", EchoEnv)
    tune.register_env("joint_echo", JointEchoEnv)


def runner_of(config, env="echo", **env_config):
    config.environment(env, env_config=env_config)
    return config.env_runner_cls(config=config)


def by_modules(runner, obs):
    """Joint actions without noise, module by module."""
    parts = []
    with torch.no_grad():
        for agent, own in (("left", slice(0, 3)), ("right", slice(3, 7))):
            module = runner.module[agent]
            parts.append(module.act_on_average(torch.from_numpy(obs[:, own]), torch.zeros(len(obs), 2)))
    return torch.cat(parts, 1).numpy()


def test_fragments_are_contiguous_steps_in_place():
    runner = runner_of(echo_config())
    first, second = (runner.sample(num_timesteps=50)[0] for _ in range(2))
    assert [fragment.steps for fragment in first.fragments] == [20, 20, 5, 5]
    assert [fragment.steps for fragment in second.fragments] == [15, 15, 10, 10]
    for fragment in (*first.fragments, *second.fragments):
        assert fragment.obs.shape == (fragment.steps + 1, 7)
        assert {a.dtype for a in (fragment.obs, fragment.actions, fragment.rewards)} == {np.dtype(np.float32)}
        assert all(a.flags.c_contiguous for a in (fragment.obs, fragment.actions, fragment.rewards))
        error = np.mean((fragment.actions - fragment.obs[:-1, [0, 1, 3, 4]]) ** 2, -1)
        assert fragment.rewards == pytest.approx(1 - error, abs=1e-5)
    # an episode that a sample cut off goes on where it was; one that ended is followed by another's first observation
    for k in (2, 3):
        assert np.array_equal(first.fragments[k].obs[-1], second.fragments[k - 2].obs[0])
    assert not np.array_equal(first.fragments[0].obs[-1], first.fragments[2].obs[0])
    # what was handed out is not written to any more
    before = [fragment.obs.copy() for fragment in second.fragments]
    runner.sample(num_timesteps=50)
    assert all(np.array_equal(a, b.obs) for a, b in zip(before, second.fragments, strict=True))


@pytest.mark.parametrize("behavior", [False, True])
def test_an_environment_with_joint_methods_plays_the_same(behavior, tmp_path):
    runs = []
    for env in ("echo", "joint_echo"):
        runner = runner_of(echo_config().offline_data(output=str(tmp_path / env)), env)
        runs.append([f for _ in range(3) for f in runner.sample(num_timesteps=34, behavior=behavior)[0].fragments])
        runner.stop()
    for one, other in zip(*runs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    recorded = [list(open_recording(str(tmp_path / env)).read()) for env in ("echo", "joint_echo")]
    for one, other in zip(*recorded, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.fragment, other.fragment, strict=True))
        assert one.policies == other.policies
    assert sum(r.fragment.steps for r in recorded[0]) == 102
    assert {r.scenario for r in recorded[1]} == {"echo"}


@pytest.mark.parametrize("envs", [1, 3])
def test_all_agents_act_as_their_modules_do(envs):
    runner = runner_of(echo_config().env_runners(num_envs_per_env_runner=envs))
    for number in (1, 2):
        fragments = runner.sample(num_timesteps=60, explore=False)[0].fragments
        for fragment in fragments:
            assert np.allclose(fragment.actions, by_modules(runner, fragment.obs[:-1]), atol=1e-5)
        # however the weights change, the next sample plays with them
        state = runner.module.get_state()
        for module in state.values():
            module["field.trunk.3.weight"] = module["field.trunk.3.weight"] + 0.02
        runner.set_state({"rl_module": state, "weights_seq_no": number})
        assert not np.allclose(fragments[0].actions, by_modules(runner, fragments[0].obs[:-1]), atol=1e-3)
    assert runner.sample(num_timesteps=1)[0].weights_seq_no == 2


def test_noise_is_drawn_only_when_exploring():
    runner = runner_of(echo_config(execution="centralized"))
    for explore in (False, True):
        (rollout,) = runner.sample(num_timesteps=20, explore=explore)
        obs = torch.from_numpy(np.concatenate([fragment.obs[:-1] for fragment in rollout.fragments]))
        with torch.no_grad():
            teacher = runner.module[TEACHER].act_on_average(obs, torch.zeros(len(obs), 4)).numpy()
        actions = np.concatenate([fragment.actions for fragment in rollout.fragments])
        assert np.allclose(actions, teacher, atol=1e-6) != explore


@pytest.mark.parametrize("episodes", [0, 1, 2, 5])
def test_episodes_that_are_asked_for_are_played_to_their_ends_and_no_others(episodes):
    runner = runner_of(echo_config())
    runner.sample(num_timesteps=10)
    (rollout,) = runner.sample(num_episodes=episodes)
    assert [fragment.steps for fragment in rollout.fragments] == [STEPS] * episodes
    assert rollout.env_steps() == episodes * STEPS and rollout.agent_steps() == 2 * episodes * STEPS
    assert runner.get_metrics()["num_episodes"].peek() == episodes
    # and timesteps go on from fresh episodes after that
    assert [fragment.steps for fragment in runner.sample(num_timesteps=40)[0].fragments] == [STEPS, STEPS]


def test_evaluation_keeps_no_transitions():
    config = echo_config()
    config.in_evaluation = True
    runner = runner_of(config)
    (rollout,) = runner.sample(num_episodes=3)
    assert (rollout.fragments, rollout.steps) == ([], 60)


def test_metrics_are_counted_for_each_call():
    runner = runner_of(echo_config())
    for _ in range(3):
        runner.sample(num_timesteps=50)
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == metrics["num_env_steps_sampled_lifetime"].peek() == 150
    assert metrics["num_agent_steps_sampled"]["left"].peek() == 150
    assert metrics["num_episodes"].peek() == 6
    assert metrics["episode_len_mean"].peek() == metrics["episode_len_max"].peek() == STEPS


@pytest.mark.parametrize(
    ("spaces", "space", "message"),
    [
        (
            "observation_spaces",
            gym.spaces.Box(-1, 1, (2, 2)),
            "one-dimensional Box as the observation space of 'right'",
        ),
        ("action_spaces", gym.spaces.Discrete(3), "one-dimensional Box as the action space of 'right'"),
        ("action_spaces", gym.spaces.Box(-np.inf, 1, (2,)), "bounded action space for 'right'"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(spaces, space, message):
    env = EchoEnv()
    getattr(env, spaces)["right"] = space
    with pytest.raises(ValueError, match=message):
        checked_boxes(env)


def test_environments_that_do_not_fit_are_refused():
    config = echo_config()
    assert isinstance(build_environment(config.environment(EchoEnv), worker_index=1), EchoEnv)
    with pytest.raises(ValueError, match="'nowhere' is not registered"):
        build_environment(config.environment("nowhere"), worker_index=1)
    tune.register_env("single", lambda config: gym.Env())
    with pytest.raises(ValueError, match="'single' made a Env"):
        build_environment(config.environment("single"), worker_index=1)


@pytest.mark.parametrize("behavior", [False, True])
def test_an_advisor_says_what_to_clone_whoever_plays(behavior):
    tune.register_env("advised", AdvisedEcho)
    settings = {"behavior_policies": {"right": 1.0}, "behavior_noise": 0.3}
    for advisor in (None, "right"):
        runner = runner_of(echo_config(advisor=advisor, **settings), "advised")
        for fragment in runner.sample(num_timesteps=60, behavior=behavior)[0].fragments:
            right = fragment.obs[:-1, [0, 1, 3, 4]]
            assert not np.allclose(fragment.actions, right, atol=0.01)
            if advisor is None:
                assert fragment.advice is None and fragment.behavior.all() == behavior
            else:
                assert np.allclose(fragment.advice, right, atol=1e-6) and fragment.behavior.all()
        runner.stop()
    unknown = runner_of(echo_config(advisor="left", **settings), "advised")
    assert unknown.behavior_problem() == "advisor: no policy left"
    with pytest.raises(ValueError, match="name of a behaviour policy other than random"):
        echo_config(advisor="random").validate()
