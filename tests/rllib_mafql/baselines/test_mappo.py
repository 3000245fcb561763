"""MAPPO: its critic sees all, its policies their own part, and it learns."""

import numpy as np
import pytest
import torch
from ray import tune

from rllib_mafql.baselines.mappo import JOINT_OBS, MAPPOConfig
from tests.rllib_mafql.toy_env import STEPS, EchoEnv


class Twins(EchoEnv):
    """Both agents see as much, so that they can share a policy."""

    def __init__(self):
        super().__init__()
        spaces = dict.fromkeys(self.possible_agents, self.observation_spaces["left"])
        self.observation_spaces = spaces

    def _cut(self, obs):
        return {agent: values[: self.observation_spaces["left"].shape[0]] for agent, values in obs.items()}

    def reset(self, **kwargs):
        obs, infos = super().reset(**kwargs)
        return self._cut(obs), infos

    def step(self, actions):
        obs, *rest = super().step(actions)
        return self._cut(obs), *rest


def config():
    made = MAPPOConfig().environment("echo").env_runners(num_env_runners=0, num_envs_per_env_runner=4)
    made.multi_agent(policies={"left", "right"}, policy_mapping_fn=_own)
    made.training(lr=1e-3, gamma=0.5, train_batch_size_per_learner=800, minibatch_size=100, num_epochs=10)
    made.rl_module(model_config={"fcnet_hiddens": [32, 32]})
    return made.evaluation(evaluation_interval=None, evaluation_duration=5, evaluation_config={"explore": False})


def _own(agent, *args, **kwargs):
    return agent


def test_it_learns(ray_instance):
    algorithm = config().debugging(seed=1).build_algo()
    try:
        first = algorithm.evaluate()["env_runners"]["episode_return_mean"]
        for _ in range(12):
            algorithm.train()
        learned = algorithm.evaluate()["env_runners"]["episode_return_mean"]
    finally:
        algorithm.stop()
    agents = 2  # RLlib sums their rewards, each of which is the team's
    assert first < 0.5 * agents * STEPS < 0.7 * agents * STEPS < learned


def test_values_follow_from_all_observations_and_actions_from_an_agent_s_own(ray_instance):
    algorithm = config().build_algo()
    try:
        module = algorithm.learner_group._learner.module["left"]
        runner = algorithm.env_runner.module["left"]
        size = module.observation_space.shape[0]
        batch = {"obs": torch.randn(5, size), JOINT_OBS: torch.randn(5, module.model_config["joint_obs_size"])}
        joint = algorithm.learner_group._learner.module
        assert batch[JOINT_OBS].shape[1] == sum(joint[agent].observation_space.shape[0] for agent in ("left", "right"))
        values, actions = module.compute_values(batch), module.forward_inference(batch)["action_dist_inputs"]
        batch[JOINT_OBS] = batch[JOINT_OBS] + torch.randn_like(batch[JOINT_OBS])
        assert values.shape == (5,) and not torch.allclose(values, module.compute_values(batch))
        assert torch.equal(actions, module.forward_inference(batch)["action_dist_inputs"])
        assert not hasattr(runner, "critic")

        episodes = algorithm.env_runner.sample(num_timesteps=60)
        seen = [np.array(agent.get_observations()) for agent in episodes[0].agent_episodes.values()]
        columns = algorithm.learner_group._learner._learner_connector(
            rl_module=joint, batch={}, episodes=episodes, shared_data={}, metrics=None
        )
        together = columns["left"][JOINT_OBS].numpy()
        assert np.array_equal(together, columns["right"][JOINT_OBS].numpy())
        left = seen[0].shape[1]
        assert np.allclose(together[: len(seen[0]) - 1], np.concatenate([s[: len(seen[0]) - 1] for s in seen], 1))
        assert np.allclose(columns["left"]["obs"].numpy(), together[:, :left])
    finally:
        algorithm.stop()


def test_agents_that_share_a_policy_are_refused(ray_instance):
    shared = config().multi_agent(policies={"left"}, policy_mapping_fn=lambda agent, *args, **kwargs: "left")
    shared.environment(env="twins")
    tune.register_env("twins", lambda config: Twins())
    algorithm = shared.build_algo()
    try:
        with pytest.raises(ValueError, match="MAPPO needs a policy for each agent"):
            algorithm.train()
    finally:
        algorithm.stop()
