"""A cluster of eight simulated nodes for all tests of this folder that need one."""

import os

import pytest
import ray
from ray import tune

from rllib_mafql.bench.simulated import simulated_cluster
from tests.rllib_mafql.toy_env import EchoEnv

NODES = 8


@pytest.fixture(scope="package")
def cluster(request):
    """Eight nodes with places for runners and a learner each, and one more with a "pair" of places of its own."""
    ray.shutdown()  # another module's
    with pytest.MonkeyPatch.context() as patch:
        # for the tests' own functions, which workers import as tests.cluster.test_...
        patch.setenv("PYTHONPATH", os.pathsep.join([str(request.config.rootpath), os.environ.get("PYTHONPATH", "")]))
        with simulated_cluster(NODES, runners_per_node=2, store_mb=100) as nodes:
            nodes.add_node(num_cpus=1, resources={"pair": 2}, object_store_memory=100 * 2**20, include_dashboard=False)
            tune.register_env("echo", EchoEnv)
            yield nodes
