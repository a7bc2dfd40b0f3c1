"""What processes share that import libraries, compute nothing, and are forked: messages over a socket, new random state."""

from __future__ import annotations

import os
import pickle
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["at_leisure", "forget_random_state", "receive", "send"]

_LENGTH = struct.Struct("!Q")
# Three pipes of a training process, and a file for each array of its rows to train and to validate on.
_MOST_DESCRIPTORS = 64
# What has it gets a tenth of a core that others want, too.
_NICENESS = 10


def send(connection: socket.socket, message: Any, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message, with file descriptors."""
    data = pickle.dumps(message)
    header = _LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(connection, [header], list(descriptors))
    else:
        connection.sendall(header)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """Receive one message; EOFError when the other side has closed."""
    header, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, _MOST_DESCRIPTORS)
    while len(header) < _LENGTH.size:
        header += _some(connection, _LENGTH.size - len(header))
    left, parts = _LENGTH.unpack(header)[0], []
    while left:
        parts.append(_some(connection, min(left, 1 << 20)))
        left -= len(parts[-1])
    return pickle.loads(b"".join(parts)), descriptors


def _some(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size)
    if not data:
        raise EOFError("the other side has closed")
    return data


def at_leisure(work: Callable[[], None]) -> None:
    """Do what others need not wait for, so that it takes little from them; raises nothing.

    Niceness is a thread's own in Linux, and cannot be taken back: the thread ends, and what is forked later is like any process.

    Parameters
    ----------
    work : callable
        It is called in a thread of its own, which is waited for.
    """

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        work()

    thread = threading.Thread(target=run, name="raydp-ml-imports")
    thread.start()
    thread.join()


def forget_random_state() -> None:
    """Have this child draw other numbers than its siblings."""
    random.seed()
    for name, reseed in (("numpy", lambda numpy: numpy.random.seed()), ("torch", lambda torch: torch.seed())):
        if name in sys.modules:
            reseed(sys.modules[name])
