"""Waiting for executors: in silence at first, then with a table of what is missing, and not for ever."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from raydp_ml.cluster.master import Master, Snapshot
from raydp_ml.cluster.placement import Bundles, ExecutorRequest, resource_table
from raydp_ml.errors import ExecutorStartError, ResourceTimeoutError, SessionStoppedError

__all__ = ["place_bundles", "wait_for_executors"]

# A caller that waits longer than this gets a warning that lists the missing resources.
_SILENCE_SECONDS = 10.0
# When some executors run, the session does not wait longer than this for the others.
_PATIENCE_SECONDS = 30.0
# ... and less when nothing moves: the others wait for room that nobody frees.
_STALL_SECONDS = 8.0


def wait_for_executors(
    master: Master, timeout: float, dynamic: bool, bundles: Bundles | None, ended: Callable[[], str | None]
) -> None:
    """Return when all executors have registered, or one has and the others do not come.

    Parameters
    ----------
    master : Master
        The application's.
    timeout : float
        Seconds to wait for the first executor.
    dynamic : bool
        Whether Spark itself decides how many there are; then one is enough.
    bundles : Bundles, optional
        The placement group that they go into.
    ended : callable
        Says why the application is over, or None.

    Raises
    ------
    ResourceTimeoutError
        When none came in time.
    ExecutorStartError
        When they die at start again and again.
    SessionStoppedError
        When the application ended meanwhile.
    """
    began = moved = time.monotonic()
    warned = False
    last: Snapshot | None = None

    def table() -> str:
        return resource_table(now.request, now.wanted, bundles) if now.request else ""

    while True:
        now = master.snapshot()
        if master.failure is not None:
            raise ExecutorStartError(master.failure)
        reason = ended()
        if reason is not None:
            raise SessionStoppedError(reason)
        if now.wanted and now.running >= now.wanted:
            return
        if dynamic and now.running >= 1:
            return
        clock = time.monotonic()
        if now != last:
            moved, last = clock, now
        missing = now.wanted - now.running
        stalled = now.placed <= now.running and clock - moved >= _STALL_SECONDS
        if now.running and (clock - began >= _PATIENCE_SECONDS or stalled):
            warnings.warn(
                f"{now.running} of {now.wanted} executors run, {missing} wait for resources and join when there are some:"
                f"\n{table()}",
                stacklevel=5,
            )
            return
        if clock - began >= timeout:
            raise ResourceTimeoutError(
                f"no executor started within {timeout:.0f} s (spark.ray.resource.timeout):\n{table()}"
            )
        if clock - began >= _SILENCE_SECONDS and not warned and not now.running:
            warned = True
            warnings.warn(_still_waiting(timeout, table()), stacklevel=5)
        master.wait_for_change(now, 0.5)


def _still_waiting(timeout: float, table: str) -> str:
    """What a caller that waits is warned of."""
    return f"still waiting for executors, {timeout - _SILENCE_SECONDS:.0f} s more at most:\n{table}"


def place_bundles(executor: ExecutorRequest, count: int, strategy: str, timeout: float) -> Bundles:
    """Make a placement group with a bundle for each executor, and wait until Ray has placed it.

    Parameters
    ----------
    executor : ExecutorRequest
        What one of them needs.
    count : int
        How many bundles.
    strategy : str
        Ray's strategy, ``"SPREAD"`` for example.
    timeout : float
        Seconds to wait.

    Raises
    ------
    ResourceTimeoutError
        When it was not placed in time; it is removed then.
    """
    group = placement_group([executor.bundle()] * count, strategy=strategy)
    bundles = Bundles(group, tuple(range(count)), ours=True)
    try:
        ready, _ = ray.wait([group.ready()], timeout=min(timeout, _SILENCE_SECONDS))
        if not ready and timeout > _SILENCE_SECONDS:
            warnings.warn(_still_waiting(timeout, resource_table(executor, count, bundles)), stacklevel=6)
            ready, _ = ray.wait([group.ready()], timeout=timeout - _SILENCE_SECONDS)
        if not ready:
            raise ResourceTimeoutError(
                f"the placement group was not placed within {timeout:.0f} s (spark.ray.resource.timeout):\n"
                + resource_table(executor, count, bundles)
            )
    except BaseException:
        remove_placement_group(group)
        raise
    return bundles
