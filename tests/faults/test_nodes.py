"""A node that goes away with its runner, and one that comes in its place."""

import os
import time

import pytest
import ray
from ray import tune

from rllib_mafql.bench.simulated import RUNNER, simulated_cluster
from tests.faults.ledger import LedgerEnv, of_replay
from tests.faults.patience import patience


@pytest.fixture
def cluster(request):
    """A head, and two nodes with a place for a runner each."""
    ray.shutdown()  # another module's
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(request.config.rootpath), os.environ.get("PYTHONPATH", "")]))
        with simulated_cluster(2, store_mb=80) as nodes:
            tune.register_env("ledger", LedgerEnv)
            yield nodes


def nodes_of_runners(algorithm):
    return algorithm.env_runner_group.foreach_env_runner(
        lambda runner: ray.get_runtime_context().get_node_id(), local_env_runner=False
    )


def test_a_lost_node_takes_its_runner_and_a_new_one_gets_it_back(cluster, ledger_config):
    config = ledger_config().env_runners(num_cpus_per_env_runner=0.5, custom_resources_per_env_runner={RUNNER: 1})
    algorithm = config.build_algo()
    try:
        while algorithm.replay.added < 100:
            algorithm.train()
        lost = next(node for node in cluster.worker_nodes if node.node_id == nodes_of_runners(algorithm)[0])
        cluster.remove_node(lost, allow_graceful=False)
        healthy, deadline = algorithm.env_runner_group.num_healthy_remote_workers, time.monotonic() + patience(60)
        while healthy() == 2:
            algorithm.train()
            assert time.monotonic() < deadline
        played, longest = algorithm.replay.added, 0.0
        while algorithm.replay.added < played + 200:  # the other one goes on; there is no place for this one
            began = time.monotonic()
            algorithm.train()
            longest = max(longest, time.monotonic() - began)
        assert healthy() == 1 and longest < patience(2.0)

        cluster.add_node(num_cpus=1, resources={RUNNER: 1}, object_store_memory=80 * 2**20, include_dashboard=False)
        while healthy() == 1:
            result = algorithm.train()
            assert time.monotonic() < deadline + patience(60)
        assert len(set(nodes_of_runners(algorithm))) == 2
        played = algorithm.replay.added
        while algorithm.replay.added < played + 200:
            result = algorithm.train()
        ledger = of_replay(algorithm.replay)
        ledger.check()
        assert len(ledger.names) == result["env_runners"]["num_env_steps_sampled_lifetime"]
        assert result["mafql"]["env_runners_lost"] == 1
    finally:
        algorithm.stop()
