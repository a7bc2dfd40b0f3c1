"""Waiting for resources of the Ray cluster, with one table of what is missing."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from raydp_ml.errors import ResourceTimeoutError
from raydp_ml.progress import waiting_for

__all__ = ["TIMEOUT_VARIABLE", "cores", "free_resources", "missing_table", "room_for"]

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


def cores() -> int:
    """How many cores this process may use, of which Ray can be told that there are more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


@contextmanager
def room_for(
    bundle: Mapping[str, float],
    work: str,
    advice: str,
    *,
    pieces: int = 1,
    count: int = 1,
    node: str | None = None,
    also: float = 0.0,
) -> Iterator[int]:
    """Wait until the cluster has free what some work takes; Spark's executors lend their CPUs meanwhile and until the block ends.

    Parameters
    ----------
    bundle : mapping of str to float
        What a piece of the work takes of Ray's resources.
    work : str
        What a piece is, for messages.
    advice : str
        What to do when there is no room, for messages.
    pieces : int, default=1
        How many pieces the work has, which start together.
    count : int, default=1
        How often the work is wanted at most.
    node : str, optional
        Id of the node that it must start on; None: the pieces go anywhere.
    also : float, default=0.0
        CPUs that executors are asked for beyond what is needed; they are not waited for.

    Yields
    ------
    int
        How often the free resources hold the work, from 1 to ``count``.

    Raises
    ------
    ResourceTimeoutError
        At once when the cluster could not hold it with everything free and nothing can make it grow; otherwise after
        ``RAYDP_ML_RESOURCE_TIMEOUT_S`` seconds (60).
    """
    from raydp_ml.cluster.lending import require_possible

    wanted = {name: amount * pieces for name, amount in bundle.items() if amount}
    limit = float(os.environ.get(TIMEOUT_VARIABLE, "60"))
    deadline = time.monotonic() + limit
    pause = threading.Event()
    with _lent(wanted.get("CPU", 0.0) * count + also, bundle.get("CPU", 0.0)) as ask_again:
        with waiting_for(f"no room yet for {pieces} {work}"):
            while True:
                free = free_resources(node)
                room = min(
                    (math.floor(free.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items()), default=count
                )
                if room >= 1:
                    break
                require_possible(bundle, pieces, work)
                if time.monotonic() > deadline:
                    raise ResourceTimeoutError(
                        f"no room for {pieces} {work} within {limit:g} s:\n{missing_table(wanted, node)}\n{advice}"
                    )
                pause.wait(0.1)
                ask_again()
        yield min(room, count)


@contextmanager
def _lent(cpus: float, each: float) -> Iterator[Callable[[], None]]:
    """Have executors of this process's session lend CPUs; the value asks again."""
    from raydp_ml.cluster.lending import ask_for

    if cpus <= 0:
        yield lambda: None
        return
    with ask_for(cpus, each or cpus) as loan:
        yield loan.ask_again
