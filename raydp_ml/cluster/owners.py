"""Makes the actor that owns converted blocks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydp_ml.cluster.nodes import node_label
from raydp_ml.exchange.owner import BlockOwner

__all__ = ["NAME_SUFFIX", "make_owner"]

logger = logging.getLogger(__name__)


# RayDP's programs look their master actor up by the application's name and this.
NAME_SUFFIX = "_SPARK_MASTER"


def make_owner(app_name: str, resources: Mapping[str, float], node: str) -> ActorHandle:
    """The owner of an application's blocks, beside the driver, so that both are lost together or not at all.

    Parameters
    ----------
    app_name : str
        Name of the application; ``ray.get_actor`` finds the owner by it and :data:`NAME_SUFFIX`, unless an application of the
        same name in the same namespace has an owner already.
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
    options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
    try:
        return ray.remote(BlockOwner).options(name=app_name + NAME_SUFFIX, **options).remote()
    except ValueError as error:
        logger.debug("the owner of blocks has no name: %s", error)
        return ray.remote(BlockOwner).options(**options).remote()
