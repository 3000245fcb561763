"""What the tests of faults share."""

import pytest
import ray
from ray import tune

from tests.faults.ledger import LedgerEnv
from tests.rllib_mafql.toy_env import echo_config


@pytest.fixture(scope="module")
def ray_instance():
    """A Ray for one module, with the environment "ledger"."""
    ray.shutdown()  # another module's
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    tune.register_env("ledger", LedgerEnv)
    yield
    ray.shutdown()


@pytest.fixture
def ledger_config(tmp_path):
    """Two runners whose environments have the faults that files in `tmp_path` ask for; makes a config."""

    def make(sample_async=True, **training):
        config = echo_config(**{"warm_start_steps": 40, "num_updates": 1, "replay_capacity": 100_000} | training)
        config.environment("ledger", env_config={"faults": str(tmp_path), "sleep_s": 0.005})
        config.env_runners(num_env_runners=2, rollout_fragment_length=10, sample_async=sample_async)
        return config.env_runners(sample_timeout_s=3.0)

    return make
