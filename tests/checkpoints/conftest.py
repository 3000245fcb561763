"""What the tests of checkpoints share."""

from tests.rllib_mafql.conftest import ray_instance

__all__ = ["ray_instance"]
