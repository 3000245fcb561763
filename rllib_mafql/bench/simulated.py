"""A cluster of Ray simulated on this machine: every node a raylet with its own object store and resources."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster

#: Resources that place actors: the driver on the head, runners and learners on the nodes.
DRIVER, RUNNER, LEARNER = "mafql_driver", "mafql_runner", "mafql_learner"


@contextmanager
def simulated_cluster(nodes: int, runners_per_node: int = 1, store_mb: int = 150) -> Iterator[Cluster | None]:
    """Starts a head that runs nothing but the driver, and nodes of one logical CPU each; connects this process.

    A Ray that is already connected in this process is used, as in `ray_session`, and None is yielded. Processes on the
    nodes share nothing with this one but the machine: what they import, they find as on a cluster.

    Args:
        nodes: beside the head.
        runners_per_node: places for runners on each of them; one place for a learner each.
        store_mb: object store of each node, 2^20 bytes.
    """
    if ray.is_initialized():
        yield None
        return
    # Ray writes its newest cluster's address into this folder, where other programs' ray.init() would find it.
    folder, before = tempfile.mkdtemp(prefix="ray_"), os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = folder
    common: dict[str, Any] = {"object_store_memory": store_mb * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": {DRIVER: 1}, **common})
    try:
        for _ in range(nodes):
            cluster.add_node(wait=False, num_cpus=1, resources={RUNNER: runners_per_node, LEARNER: 1}, **common)
        cluster.wait_for_nodes(timeout=120)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["RAY_TMPDIR"]
        else:
            os.environ["RAY_TMPDIR"] = before
