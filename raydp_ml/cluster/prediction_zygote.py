"""A process of an executor's node that has imported what models need to predict, and has computed nothing.

The daemons of Spark's Python workers for predictions are forked from it (:mod:`raydp_ml.cluster.python_daemon`), and the workers
from them. An executor's host starts it while a fit trains, so that the first prediction finds everything imported. Executors of
one node share the one of the first of them; it ends with that executor's host.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from raydp_ml.cluster.python_daemon import ForkDaemon, import_modules, say_how_modules_are_shipped
from raydp_ml.cluster.zygotes import at_leisure, forget_random_state, receive, send

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["PredictionZygote", "main", "warm"]

# Libraries read it when they are loaded, so a daemon with another number is no fork of this process.
_READ_AT_LOAD = "OMP_NUM_THREADS"


class PredictionZygote:
    """The process as its host sees it; it is started when it is first told to import something.

    Parameters
    ----------
    path : pathlib.Path
        Where daemons find it: a Unix socket, in a folder that only this user can enter.
    environment : mapping
        All of its environment.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path, self._environment = path, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()

    def warm(self, modules: tuple[str, ...]) -> str:
        """Have modules imported; does not wait for it.

        Returns
        -------
        str
            Where the process listens.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            if self._control is not None:
                send(self._control, modules)
        return str(self._path)

    def share(self, path: str) -> None:
        """Have daemons of this host find the process of another one."""
        with self._lock:
            if path != str(self._path):
                self._path.unlink(missing_ok=True)
                self._path.symlink_to(path)

    def _start(self) -> None:
        self._path.unlink(missing_ok=True)
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._path))
            listener.listen()
            ends = (theirs.fileno(), listener.fileno())
            program = "from raydp_ml.cluster.prediction_zygote import main; main{}"
            self._process = subprocess.Popen(
                [sys.executable, "-c", program.format(ends)],
                pass_fds=ends,
                env=dict(self._environment),
                cwd=self._path.parent,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


def warm(hosts: Iterable[Iterable[ActorHandle]], modules: tuple[str, ...]) -> None:
    """Have what models need imported on each node of a session; does not wait for it.

    Parameters
    ----------
    hosts : iterable of iterable of ActorHandle
        The hosts of executors, node by node.
    modules : tuple of str
        What to import.
    """
    for first, *others in hosts:
        path = first.warm_predictions.remote(modules)
        for other in others:
            other.share_predictions.remote(path)


def main(control_end: int, listening_end: int) -> None:
    """Import and fork as told, until the host is gone.

    Parameters
    ----------
    control_end, listening_end : int
        Descriptors: the connection to the host, and the socket that daemons connect to.
    """
    control, listener = socket.socket(fileno=control_end), socket.socket(fileno=listening_end)
    say_how_modules_are_shipped()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if control in ready:
                try:
                    modules = receive(control)[0]
                except EOFError:
                    return
                at_leisure(partial(import_modules, modules))  # no prediction waits for it yet
            if listener in ready:
                _answer(listener.accept()[0], (control, listener))
            _reap()


def _answer(connection: socket.socket, ours: tuple[socket.socket, ...]) -> None:
    """Fork a daemon for the process that has connected."""
    with connection:
        try:
            request, descriptors = receive(connection)
        except (EOFError, OSError):
            return
        pid = None
        if (request.executable, request.environment.get(_READ_AT_LOAD)) == (
            sys.executable,
            os.environ.get(_READ_AT_LOAD),
        ):
            import_modules(request.modules)
            pid = os.fork()
            if pid == 0:
                for each in ours:
                    each.close()
                _become(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            send(connection, pid)
        except OSError:
            return  # the executor has ended meanwhile; its daemon finds the standard input closed


def _become(request: ForkDaemon, descriptors: list[int]) -> NoReturn:
    """Be the process that asked, as Spark's daemon."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request.environment)
        os.chdir(request.folder)
        sys.argv[:], sys.path[:] = request.arguments, request.path
        signal.signal(signal.SIGINT, signal.default_int_handler)
        forget_random_state()
        os.register_at_fork(after_in_child=forget_random_state)
        from pyspark.daemon import manager

        manager()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
