"""Processes that were forked from one with a session: they have its names and handles, and none of its threads.

Neither Ray's core worker nor the connections to the JVM work in such a process. A call would wait for ever, or write between the
bytes that the other process writes to the same sockets, and exit handlers would end what the other process still uses. So the child
lets go of everything without ending it, and what needs it there is an error.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn

from raydp_ml.errors import SessionStoppedError

__all__ = ["leave_ray", "note", "refuse", "refuse_if_forked"]

_inherited: str | None = None


def note(session: bool) -> None:
    """Called in a forked process: remember what it cannot use.

    Parameters
    ----------
    session : bool
        Whether the other process had a Spark session at the moment of the fork.
    """
    global _inherited
    if session:
        _inherited = "a Spark session runs"
    elif "ray" in sys.modules and sys.modules["ray"].is_initialized():
        _inherited = "Ray runs"
    # Otherwise what an earlier fork has noted holds for the children of the child, too.


def refuse(*_: Any, **__: Any) -> NoReturn:
    """Raise the error of a call that needs what the other process has.

    Raises
    ------
    SessionStoppedError
        Always; it says how processes are started that can have a session.
    """
    raise SessionStoppedError(
        f"this process ({os.getpid()}) was forked from one in which {_inherited}, and Ray and Spark work in that one only. Start "
        'processes that use them with multiprocessing.get_context("spawn") or subprocess, or fork before Ray and Spark start'
    )


def refuse_if_forked() -> None:
    """Raise that error in a process that was forked from one with Ray or a session.

    Examples
    --------
    >>> from raydp_ml.cluster.forks import refuse_if_forked
    >>> refuse_if_forked()
    """
    if _inherited is not None:
        refuse()


def leave_ray() -> None:
    """Make this process one that is not connected to Ray, without a word to Ray.

    Ray's exit handlers would disconnect the other process, and end the Ray that it has started. They have no public switch; seen in
    Ray 2.60, watched by tests/session/test_seams.py.
    """
    from ray._private import worker

    atexit.unregister(worker.shutdown)
    if worker._global_node is not None:
        worker._global_node.all_processes.clear()
    worker.global_worker.set_mode(None)
