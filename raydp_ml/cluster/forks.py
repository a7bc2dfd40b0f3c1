"""Processes that were forked from one with a session: they have its names and handles, and none of its threads.

Neither Ray's core worker nor the connections to the JVM work in such a process. A call would wait for ever, or write between the
bytes that the other process writes to the same sockets, and exit handlers would end what the other process still uses. So the child
lets go of everything without ending it, and what needs it there is an error.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from typing import Any, NoReturn

from raydp_ml.errors import SessionStoppedError

__all__ = ["leave_session", "refuse", "refuse_if_forked"]

_left_session = False


def leave_session() -> None:
    """Called in a process that was forked from one with a session: remember it, and let go of Ray."""
    global _left_session
    _left_session = True
    _leave_ray()


def refuse(*_: Any, **__: Any) -> NoReturn:
    """Raise the error of a call that needs what the other process has.

    Raises
    ------
    SessionStoppedError
        Always; it says how processes are started that can have a session.
    """
    which = "a Spark session runs" if _left_session else "Ray runs"
    raise SessionStoppedError(
        f"this process ({os.getpid()}) was forked from one in which {which}, and Ray and Spark work in that one only. Start "
        'processes that use them with multiprocessing.get_context("spawn") or subprocess, or fork before Ray and Spark start'
    )


def refuse_if_forked() -> None:
    """Raise that error in a process that was forked from one with Ray or a session.

    Examples
    --------
    >>> from raydp_ml.cluster.forks import refuse_if_forked
    >>> refuse_if_forked()
    """
    if _left_session or _has_rays_threads_missing():
        refuse()


# What follows is private to Ray; seen in 2.60, watched by tests/session/test_seams.py.


def _has_rays_threads_missing() -> bool:
    """Whether this process believes that it is a driver of Ray, and was forked from that driver."""
    if "ray" not in sys.modules:
        return False
    from ray._private import worker

    driver = worker.global_worker.connected and worker.global_worker.mode == worker.SCRIPT_MODE
    return driver and not worker.global_worker.listener_thread.is_alive()


def _leave_ray() -> None:
    """Make this process one that is not connected to Ray, without a word to Ray.

    Ray's exit handlers would disconnect the other process, and end the Ray that it has started. Its client of the cluster's state
    crashes where it is freed without its threads, and the destructors of its library wait for theirs at the end of a process.
    """
    from ray._private import worker
    from ray._private.state import state

    atexit.unregister(worker.shutdown)
    if worker._global_node is not None:
        worker._global_node.all_processes.clear()
    worker.global_worker.set_mode(None)
    if state._global_state_accessor is not None:
        # Never freed: one reference that nobody gives back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(state._global_state_accessor))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        # glibc calls the handler that came last first, with the exit code. Python has written its buffers before.
        libc.on_exit(libc._exit, None)
