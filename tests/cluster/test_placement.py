"""Where actors come to run, what they are called, and what is sent there: told by AlgorithmConfig alone."""

import os
from collections import Counter

import ray
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SPACES

from rllib_mafql.bench.simulated import LEARNER, RUNNER
from tests.cluster.nodes import actors, stored_bytes
from tests.rllib_mafql.toy_env import EchoEnv, echo_config


def placed(runners, learners, **training):
    """Echo with runners and learners that only nodes with places for them can hold."""
    config = echo_config(warm_start_steps=20, **training)
    config.env_runners(
        num_env_runners=runners, num_cpus_per_env_runner=0.25, custom_resources_per_env_runner={RUNNER: 1}
    )
    config.env_runners(rollout_fragment_length=10)
    return config.learners(num_learners=learners, num_cpus_per_learner=0.5, custom_resources_per_learner={LEARNER: 1})


def test_eight_nodes_train_with_eight_runners_and_two_learners(cluster, monkeypatch):
    head = ray.get_runtime_context().get_node_id()
    built = []
    monkeypatch.setattr(EchoEnv, "__init__", lambda self, config=None: built.append(config))
    algorithm = placed(runners=8, learners=2, num_updates=2).build_algo()
    try:
        results = [algorithm.train() for _ in range(3)]
        assert results[-1]["num_learner_updates"] == 6
        assert algorithm.replay.added == results[-1]["env_runners"]["num_env_steps_sampled_lifetime"] == 3 * 8 * 2 * 10
        assert algorithm.env_runner_group.num_healthy_remote_workers() == 8

        # environments are built where runners are, by what these import; the driver, on the head, has none
        assert not built and algorithm.env_runner.env is None
        assert INPUT_ENV_SPACES in algorithm.env_runner.get_spaces()
        where = algorithm.env_runner_group.foreach_env_runner(_whereabouts, local_env_runner=False)
        assert all(module == "rllib_mafql.env_runner" and process != os.getpid() for module, process, _, _ in where)
        assert all(isinstance(steps, int) for *_, steps in where)

        alive = actors()
        runners = [node for name, node, _ in alive if name.startswith("JointEnvRunner")]
        learners = [node for name, node, _ in alive if name.startswith("MAFQLLearner")]
        assert Counter(runners) == Counter(node for _, _, node, _ in where)
        assert len(runners) == 8 and max(Counter(runners).values()) <= 2
        assert len(set(learners)) == 2
        assert head not in {*runners, *learners}
        asked = {name: resources for name, _, resources in alive}
        names = {f"JointEnvRunner(worker={i}, env=echo)" for i in range(1, 9)}
        assert set(asked) == names | {"MAFQLLearner(env=echo, one of 2)"}
        assert asked["JointEnvRunner(worker=8, env=echo)"] == {"CPU": 0.25, RUNNER: 1}
        assert asked["MAFQLLearner(env=echo, one of 2)"] == {"CPU": 0.5, LEARNER: 1}
    finally:
        algorithm.stop()


def _whereabouts(runner):
    node = ray.get_runtime_context().get_node_id()
    return type(runner).__module__, os.getpid(), node, runner.env.steps


def test_weights_reach_a_node_once_however_many_runners_it_has(cluster):
    config = placed(runners=2, learners=1, num_updates=1, actor_hidden=512)
    algorithm = config.env_runners(custom_resources_per_env_runner={"pair": 1}).build_algo()
    try:
        algorithm.train()
        (node,) = {node for name, node, _ in actors() if name.startswith("JointEnvRunner")}
        weights = algorithm.learner_group.get_state()["learner"][COMPONENT_RL_MODULE]
        acting = algorithm.env_runner.module.get_state()
        size = sum(values.nbytes for module in acting.values() for values in module.values())
        assert size > 2e6 and set(acting) < set(weights)  # critic and teacher stay with the learner
        before, rounds = stored_bytes(node), 5
        for _ in range(rounds):
            algorithm.train()
        grown = stored_bytes(node) - before
        assert (rounds - 1) * size < grown < (rounds + 1) * size
        numbers = algorithm.env_runner_group.foreach_env_runner(_weights_seq_no, local_env_runner=False)
        assert len(numbers) == 2 and min(numbers) >= rounds
    finally:
        algorithm.stop()


def _weights_seq_no(runner):
    return runner._weights_seq_no
