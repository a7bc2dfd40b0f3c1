"""Which Ray this process is connected to: handles of a Ray that was shut down mean nothing to the one that was started after it."""

from __future__ import annotations

import ray

from raydp_ml.progress import waiting_for

__all__ = ["connection", "start_quiet_ray"]


def connection() -> tuple[str, str] | None:
    """The job and the node of this process; None while it is not connected to Ray.

    Returns
    -------
    tuple of str, optional
        Differs between two connections: a cluster has each job once, and another cluster has other nodes.

    Examples
    --------
    >>> from raydp_ml.cluster.ray_connection import connection
    >>> connection() is None or len(connection()) == 2
    True
    """
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    try:
        return context.get_job_id(), context.get_node_id()
    except (AssertionError, RuntimeError):
        return None  # another thread has shut Ray down since the first line


def start_quiet_ray() -> None:
    """Start Ray on this machine, for a fit or a search: without its dashboard, and without what its processes log.

    Examples
    --------
    >>> from raydp_ml.cluster.ray_connection import start_quiet_ray
    >>> start_quiet_ray()  # doctest: +SKIP
    """
    with waiting_for("Ray starts"):
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
