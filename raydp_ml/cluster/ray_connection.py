"""Which Ray this process is connected to: handles of a Ray that was shut down mean nothing to the one that was started after it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray

from raydp_ml.cluster.forks import refuse_if_forked
from raydp_ml.errors import RaydpMLError
from raydp_ml.exchange.ray_seam import client_id, is_client
from raydp_ml.progress import waiting_for

__all__ = ["connection", "start_quiet_ray", "start_ray"]


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
    if is_client():
        return client_id(), "client"
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
    refuse_if_forked()
    with waiting_for("Ray starts"):
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)


def start_ray(address: str | None = None) -> None:
    """Connect this process to Ray, when it is not connected.

    Parameters
    ----------
    address : str, optional
        The cluster; None: that of RAY_ADDRESS, or a new one on this machine.

    Raises
    ------
    RaydpMLError
        When the cluster cannot be reached, or asks for a token.
    """
    if ray.is_initialized():
        return
    if address is None and "RAY_ADDRESS" not in os.environ:
        with _in_silence(), waiting_for("Ray starts"):
            ray.init(include_dashboard=False)
        return
    try:
        with _in_silence(), waiting_for("Ray answers"):
            ray.init(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or f"{os.environ['RAY_ADDRESS']} (RAY_ADDRESS)"
        raise RaydpMLError(
            f"cannot connect to the Ray cluster {where}: {error}\nWhere the cluster asks for a token, RAY_AUTH_MODE=token and the "
            "token itself have to be there, too; `ray start --head` and `ray.init()` on another terminal say so when they start"
        ) from error


class _Expected(logging.Filter):
    """Holds back what Ray says at every start: where it is, and that tokens are on."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING and "Token authentication is enabled" not in str(record.msg)


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    # The modules whose loggers say it in Ray 2.60.
    names = ("ray._private.worker", "ray._private.authentication.authentication_token_setup")
    expected = _Expected()
    for name in names:
        logging.getLogger(name).addFilter(expected)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(expected)
