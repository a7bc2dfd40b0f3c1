"""The Ray actor of the warm worker: it brings rows out of Ray's object store and has a zygote train them."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raydp_ml.cluster.zygotes import receive, send
from raydp_ml.errors import RaydpMLError
from raydp_ml.estimators.launch.cpus import threads_for
from raydp_ml.estimators.launch.encoding import Encoding
from raydp_ml.estimators.launch.shared_rows import SharedRows, share_rows
from raydp_ml.estimators.launch.warm_work import Work
from raydp_ml.estimators.launch.zygote import Exit, Fork, Import
from raydp_ml.estimators.shards import Shard
from raydp_ml.estimators.streamed import SpooledRows
from raydp_ml.estimators.survey import Survey, survey
from raydp_ml.frames.arrays import Arrays, fetch

__all__ = ["Died", "Printed", "WarmHost"]


@dataclass(frozen=True)
class Printed:
    """What the training process wrote to its output or its errors."""

    text: str
    error: bool


@dataclass(frozen=True)
class Died:
    """The training process ended without a result; a negative code is a signal's number."""

    code: int


class _Zygote:
    """One process per training library, and the only connection to it."""

    def __init__(self, modules: tuple[str, ...], leisurely: bool) -> None:
        self._modules = modules
        ours, theirs = socket.socketpair()
        # Ray tells OpenMP to use one thread in actors without CPUs; how many a fit uses is said to the fit.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from raydp_ml.estimators.launch.zygote import main; main({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours
        self._lock = threading.Lock()
        send(ours, Import(modules, leisurely))
        self._importing = True

    def ask(self, message: Any, descriptors: tuple[int, ...] = ()) -> Any:
        """Send a message and wait for its answer."""
        try:
            with self._lock:
                if self._importing:
                    receive(self._connection)
                    self._importing = False
                send(self._connection, message, descriptors)
                return receive(self._connection)[0]
        except (EOFError, OSError) as error:
            raise RaydpMLError(
                f"the process that trains could not be started: importing {', '.join(self._modules)} ended it on the node "
                f"{os.uname().nodename}; its log in the Ray session says why"
            ) from error

    def alive(self) -> bool:
        return self._process.poll() is None


class WarmHost:
    """Starts training processes that have their library imported, and hands on what they print and find.

    It is a Ray actor with several threads: fits at the same time each have a process.
    """

    def __init__(self) -> None:
        self._zygotes: dict[tuple[str, ...], _Zygote] = {}
        self._lock = threading.Lock()
        self._looked: dict[str, dict[Any, Arrays]] = {}
        self._preparing: set[str] = set()
        self._forgotten: set[str] = set()
        self._running: dict[str, int] = {}

    def answer(self) -> None:
        """Say that the actor runs and is heard."""

    def warm(self, modules: tuple[str, ...], leisurely: bool = False) -> None:
        """Start a zygote that imports modules, unless there is one, at leisure where no fit waits for it; does not wait for it."""
        self._zygote(modules, leisurely)

    def look(
        self, fit: str, refs: list[Any], selection: Any, classify: bool, drop_nulls: bool, keep: bool
    ) -> list[Survey]:
        """Survey blocks; where ``keep`` says so, what was read of them stays for the training."""
        if not keep:
            return [survey(fetch(ref, selection), classify, drop_nulls) for ref in refs]
        arrays = {ref: fetch(ref, selection) for ref in refs}
        with self._lock:
            self._looked.setdefault(fit, {}).update(arrays)
        return [survey(arrays[ref], classify, drop_nulls) for ref in refs]

    def forget(self, fit: str) -> None:
        """End a fit: its rows go, and its process is killed where there is one."""
        with self._lock:
            self._looked.pop(fit, None)
            pid = self._running.get(fit)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            elif fit in self._preparing:
                self._forgotten.add(fit)

    def train(
        self,
        fit: str,
        modules: tuple[str, ...],
        assignment: bytes,
        shard: Shard,
        validation: Shard | None,
        cpus: float,
        encodings: tuple[Encoding, Encoding] | None = None,
    ) -> Iterator[Printed | Died | bytes]:
        """Train; what the process prints comes at once, and its answer last.

        With encodings, one for each side, the rows go to the disk, else into memory.
        """
        with self._lock:
            looked = self._looked.get(fit, {})
            self._preparing.add(fit)
        zygote = self._zygote(modules)
        files: list[int] = []
        described: list[SharedRows | SpooledRows | None] = []
        try:
            for side, each in enumerate((shard, validation)):
                if each is None:
                    described.append(None)
                elif encodings is None:
                    file, rows = share_rows(each.parts(looked))
                    files.append(file)
                    described.append(rows)
                else:
                    spooled, several = encodings[side].written(each)
                    files += several
                    described.append(spooled)
            with self._lock:
                self._looked.pop(fit, None)
            looked = {}
            work = Work(assignment, described, threads_for(cpus), list(sys.path), os.getcwd())
            pipes = [os.pipe() for _ in range(3)]
        except BaseException:
            self._close(fit, files)
            raise
        inherited = [*(write for _, write in pipes), *files]
        try:
            pid = zygote.ask(Fork(pickle.dumps(work)), tuple(inherited))
        except BaseException:
            self._close(fit, [*inherited, *(read for read, _ in pipes)])
            raise
        with self._lock:
            self._running[fit] = pid
            if fit in self._forgotten:  # its caller was interrupted while the rows were made ready
                os.kill(pid, signal.SIGKILL)
        self._close(fit, inherited)
        try:
            output, errors, result = (read for read, _ in pipes)
            answer = bytearray()
            for descriptor, data in _read_until_closed([output, errors], result):
                if descriptor == result:
                    answer += data
                else:
                    yield Printed(data.decode("utf-8", "replace"), descriptor == errors)
        except GeneratorExit:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            with self._lock:
                del self._running[fit]
            for read, _ in pipes:
                os.close(read)
            code = zygote.ask(Exit(pid))
        yield Died(code) if code else bytes(answer)

    def _close(self, fit: str, descriptors: list[int]) -> None:
        """A fit is no longer being made ready."""
        for descriptor in descriptors:
            os.close(descriptor)
        with self._lock:
            self._preparing.discard(fit)
            self._forgotten.discard(fit)

    def _zygote(self, modules: tuple[str, ...], leisurely: bool = False) -> _Zygote:
        with self._lock:
            zygote = self._zygotes.get(modules)
            if zygote is None or not zygote.alive():
                zygote = self._zygotes[modules] = _Zygote(modules, leisurely)
            return zygote


def _read_until_closed(others: list[int], decisive: int) -> Iterator[tuple[int, bytes]]:
    """What comes through pipes, until the decisive one is closed and nothing more lies in the others.

    The others may stay open in processes that the training has left behind.
    """
    with selectors.DefaultSelector() as selector:
        for descriptor in (*others, decisive):
            selector.register(descriptor, selectors.EVENT_READ)
        waiting = True
        while selector.get_map():
            ready = selector.select(None if waiting else 0)
            if not ready:
                return
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if data:
                    yield key.fd, data
                else:
                    selector.unregister(key.fd)
                    waiting = waiting and key.fd != decisive
