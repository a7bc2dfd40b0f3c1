"""Makes the actor that owns converted blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydp_ml.cluster.nodes import node_label
from raydp_ml.exchange.owner import BlockOwner

__all__ = ["make_owner"]


def make_owner(resources: Mapping[str, float], node: str) -> ActorHandle:
    """The owner of an application's blocks, beside the driver, so that both are lost together or not at all.

    Parameters
    ----------
    resources : mapping
        What it shall ask Ray for.
    node : str
        Id of the driver's node.
    """
    custom = {name: amount for name, amount in resources.items() if amount}
    # Ray lets a random node place an actor that needs nothing, and one that joined a moment ago may not know the wanted
    # node yet and keep the actor. One that needs something is placed by the driver's node, which knows itself (Ray 2.60).
    custom = custom or {node_label(node): 0.0001}
    options: dict[str, Any] = {
        "num_cpus": custom.pop("cpu", custom.pop("CPU", 0)),
        "memory": custom.pop("memory", None),
        "max_concurrency": 1000,
        "resources": custom,
        # Ray's memory monitor, or anybody else, may kill it. Its handles then mean the one that Ray starts in its place, and
        # calls that it had not answered are made again.
        "max_restarts": -1,
        "max_task_retries": -1,
    }
    beside = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(BlockOwner).options(scheduling_strategy=beside, **options).remote()
