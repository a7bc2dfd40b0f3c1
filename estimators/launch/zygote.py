"""A process that has a training library imported and has computed nothing: it forks one child per fit.

A child finds the library imported, and nothing of the fits before it: no random state, no threads, no settings, no modules of
the user, no memory. It ends with the fit, so that a crash costs that fit only. The process is started by the host of
the warm worker (:mod:`raydp_ml.estimators.launch.warm_host`), is told what to do over a socket, and ends when the socket closes.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from raydp_ml.cluster.zygotes import at_leisure, forget_random_state, receive, send

__all__ = ["Exit", "Fork", "Import", "main"]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Import:
    """Import modules of this project or of a library; at leisure where no fit waits for them."""

    modules: tuple[str, ...]
    leisurely: bool = False


@dataclass(frozen=True)
class Fork:
    """Start a child; with it come descriptors: of its output, its errors, its result, and of the files with its rows."""

    work: bytes


@dataclass(frozen=True)
class Exit:
    """Ask how a child, whose result has ended, has exited."""

    pid: int


def main(descriptor: int) -> None:
    """Do what the host says, until it is gone.

    Parameters
    ----------
    descriptor : int
        The zygote's end of the connection to its host.
    """
    connection = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's Ctrl-C is the host's matter
    while True:
        try:
            message, descriptors = receive(connection)
        except EOFError:
            return
        if isinstance(message, Import):
            if message.leisurely:
                at_leisure(partial(_import, message.modules))
            _import(message.modules)  # what failed at leisure fails here, where it ends this process
            send(connection, None)
        elif isinstance(message, Fork):
            pid = os.fork()
            if pid == 0:
                connection.close()
                _child(message.work, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            send(connection, pid)
        elif isinstance(message, Exit):
            _, status = os.waitpid(message.pid, 0)
            send(connection, os.waitstatus_to_exitcode(status))
        else:
            raise TypeError(f"the zygote was told {message!r}")


def _import(modules: tuple[str, ...]) -> None:
    for module in modules:
        importlib.import_module(module)


def _child(work: bytes, descriptors: list[int]) -> NoReturn:
    """Train, and end; nothing of the zygote's own runs after that."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output, errors, result, *rows = descriptors
        for descriptor in (result, *rows):
            os.set_inheritable(descriptor, False)  # a program that the training starts must not hold them open
        os.dup2(output, 1)
        os.dup2(errors, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        # A machine that runs out of memory is to lose this process, not the cluster's.
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
        forget_random_state()
        from raydp_ml.estimators.launch.warm_work import do_work

        answer = do_work(work, rows)
        with os.fdopen(result, "wb") as file:
            file.write(answer)
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)
