"""Waiting for resources of the Ray cluster, with one table of what is missing."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping

from raydp_ml.errors import ResourceTimeoutError

__all__ = ["TIMEOUT_VARIABLE", "free_resources", "missing_table", "wait_for_room"]

TIMEOUT_VARIABLE = "RAYDP_ML_RESOURCE_TIMEOUT_S"
"""Environment variable: how many seconds to wait for resources before saying what is missing."""


def free_resources(node: str | None = None) -> dict[str, float]:
    """What is free, in the whole cluster or on one node.

    Parameters
    ----------
    node : str, optional
        Id of a node. (Seen in Ray 2.60: the public functions tell of the cluster only.)
    """
    import ray

    if node is None:
        return ray.available_resources()
    from ray._private.state import available_resources_per_node

    return dict(available_resources_per_node().get(node, {}))


def _all_resources(node: str | None) -> dict[str, float]:
    import ray

    if node is None:
        return ray.cluster_resources()
    return next((dict(each["Resources"]) for each in ray.nodes() if each["NodeID"] == node and each["Alive"]), {})


def missing_table(wanted: Mapping[str, float], node: str | None = None) -> str:
    """A table of what is wanted, what is free and what there is in all.

    Parameters
    ----------
    wanted : mapping of str to float
        Amount of each of Ray's resources.
    node : str, optional
        Tell of this node only.
    """
    free, total = free_resources(node), _all_resources(node)
    rows = [
        f"  {name:<12} {amount:>10g} {free.get(name, 0.0):>10g} {total.get(name, 0.0):>10g}"
        for name, amount in wanted.items()
        if amount
    ]
    return "\n".join([f"  {'resource':<12} {'wanted':>10} {'free':>10} {'in all':>10}", *rows])


def wait_for_room(
    wanted: Mapping[str, float],
    what: str,
    advice: str,
    *,
    part: Mapping[str, float] | None = None,
    count: int = 1,
    node: str | None = None,
) -> int:
    """Wait until the cluster has free what something takes.

    Parameters
    ----------
    wanted : mapping of str to float
        What it takes of Ray's resources in all.
    what : str
        What waits, for messages.
    advice : str
        What to do when there is no room, for messages.
    part : mapping of str to float, optional
        The part of it that must lie on one node.
    count : int, default=1
        How many of it are wanted at most.
    node : str, optional
        Id of the node that it must start on.

    Returns
    -------
    int
        How many of it the free resources hold, from 1 to ``count``.

    Raises
    ------
    ResourceTimeoutError
        At once when the cluster could not hold it with everything free and nothing can make it grow; otherwise after
        ``RAYDP_ML_RESOURCE_TIMEOUT_S`` seconds (60).
    """
    from raydp_ml.cluster.nodes import autoscaler

    wanted = {name: amount for name, amount in wanted.items() if amount}
    limit = float(os.environ.get(TIMEOUT_VARIABLE, "60"))
    deadline = time.monotonic() + limit
    pause = threading.Event()
    while True:
        free = free_resources(node)
        room = min((math.floor(free.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items()), default=count)
        if room >= 1:
            return min(room, count)
        if not _could_hold(wanted, part or {}, node) and autoscaler() is None:
            raise ResourceTimeoutError(
                f"{what} can never start on this cluster:\n{missing_table(wanted, node)}\n{advice}"
            )
        if time.monotonic() > deadline:
            raise ResourceTimeoutError(
                f"{what} found no room within {limit:g} s:\n{missing_table(wanted, node)}\n{advice}"
            )
        pause.wait(0.1)


def _could_hold(wanted: Mapping[str, float], part: Mapping[str, float], node: str | None) -> bool:
    """Whether there is enough in the whole cluster, and a node for the part."""
    import ray

    total = _all_resources(node)
    if any(amount > total.get(name, 0.0) + 1e-6 for name, amount in wanted.items()):
        return False
    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return any(all(each.get(name, 0.0) + 1e-6 >= amount for name, amount in part.items()) for each in nodes)
