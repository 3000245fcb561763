"""What Ray knows of nodes and actors, without its dashboard."""

import ray
from ray._private.internal_api import node_stats
from ray.core.generated.gcs_pb2 import ActorTableData


def actors():
    """Of the actors that are alive: (name on the dashboard, node id, resources asked for)."""
    accessor = ray._private.state.state._connect_and_get_accessor()
    table = [ActorTableData.FromString(data) for data in accessor.get_actor_table(None, None)]
    return [
        (actor.repr_name, actor.address.node_id.hex(), dict(actor.required_resources))
        for actor in table
        if actor.state == ActorTableData.ActorState.ALIVE
    ]


def stored_bytes(node_id):
    """Bytes that were ever put or fetched into a node's object store."""
    (node,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    return node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False).store_stats.cumulative_created_bytes
