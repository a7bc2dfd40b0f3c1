"""Waiting for resources of the Ray cluster, with one table of what is missing."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping

from raydp_ml.cluster.nodes import autoscaler
from raydp_ml.errors import ResourceTimeoutError

__all__ = ["TIMEOUT_VARIABLE", "missing_table", "wait_for_room"]

TIMEOUT_VARIABLE = "RAYDP_ML_RESOURCE_TIMEOUT_S"
"""Environment variable: how many seconds to wait for resources before saying what is missing."""


def missing_table(wanted: Mapping[str, float]) -> str:
    """A table of what is wanted, what is free and what there is in all.

    Parameters
    ----------
    wanted : mapping of str to float
        Amount of each of Ray's resources.
    """
    import ray

    free, total = ray.available_resources(), ray.cluster_resources()
    rows = [
        f"  {name:<12} {amount:>10g} {free.get(name, 0.0):>10g} {total.get(name, 0.0):>10g}"
        for name, amount in wanted.items()
        if amount
    ]
    return "\n".join([f"  {'resource':<12} {'wanted':>10} {'free':>10} {'in all':>10}", *rows])


def wait_for_room(each: Mapping[str, float], what: str, advice: str, *, together: int = 1, count: int = 1) -> int:
    """Wait until the cluster has free what something takes.

    Parameters
    ----------
    each : mapping of str to float
        What a part of it takes of Ray's resources, all on one node.
    what : str
        What waits, for messages.
    advice : str
        What to do when there is no room, for messages.
    together : int, default=1
        How many parts it has, which start together.
    count : int, default=1
        How many of it are wanted at most.

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
    import ray

    wanted = {name: amount * together for name, amount in each.items() if amount}
    limit = float(os.environ.get(TIMEOUT_VARIABLE, "60"))
    deadline = time.monotonic() + limit
    pause = threading.Event()
    while True:
        free = ray.available_resources()
        room = min((math.floor(free.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items()), default=count)
        if room >= 1:
            return min(room, count)
        if not _could_hold(each, wanted) and autoscaler() is None:
            raise ResourceTimeoutError(f"{what} can never start on this cluster:\n{missing_table(wanted)}\n{advice}")
        if time.monotonic() > deadline:
            raise ResourceTimeoutError(f"{what} found no room within {limit:g} s:\n{missing_table(wanted)}\n{advice}")
        pause.wait(0.1)


def _could_hold(each: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    """Whether there is a node for one part, and enough in the whole cluster for all of them."""
    import ray

    total = ray.cluster_resources()
    if any(amount > total.get(name, 0.0) + 1e-6 for name, amount in wanted.items()):
        return False
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(all(node.get(name, 0.0) + 1e-6 >= amount for name, amount in each.items() if amount) for node in nodes)
