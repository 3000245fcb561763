"""What the tests of the algorithm share."""

import pytest
import ray
from ray import tune

import rllib_mafql
from tests.rllib_mafql.toy_env import EchoEnv


@pytest.fixture(scope="module")
def ray_instance():
    """A Ray for one module, with the environment "echo"."""
    ray.shutdown()  # another module's, which may have fewer CPUs
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    rllib_mafql.register()  # another module's Ray may have had it, and took it along
    tune.register_env("echo", EchoEnv)
    yield
    ray.shutdown()
