"""Outlives a host actor, or the driver, to clean up after it: a process of its own that waits for the other's end.

Run as a script with a pipe as its standard input. When the pipe closes, for whatever reason, the JVM of an executor is ended, that
of the driver (which ends by itself) is waited for, and their directories are removed. It is started twice removed (fork, new
session) because Ray kills the direct children of a worker, and the process group of one, when the worker ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

_PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.1


def _process_start(pid: int) -> str | None:
    """Start time of a process: with the pid it names the process, though pids are used again."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def main() -> None:
    """Read lines until the pipe closes, then do what they say.

    ``pid N``: kill this process; ``wait N``: the same, but give it time to end by itself; ``dir PATH``: remove this directory.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    # From now on nothing that ends the actor ends this process; the actor waits for it before it makes a folder.
    print("ready", flush=True)
    processes: list[tuple[int, str | None, float]] = []
    folders: list[str] = []
    for line in sys.stdin:
        kind, _, value = line.rstrip("\n").partition(" ")
        if kind in ("pid", "wait"):
            processes.append((int(value), _process_start(int(value)), _PATIENCE_SECONDS if kind == "wait" else 0.0))
        elif kind == "dir":
            folders.append(value)
    for pid, started, patience in processes:
        end = time.monotonic() + patience
        while started is not None and _process_start(pid) == started:
            if time.monotonic() >= end:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(_POLL_SECONDS)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.rmdir(os.path.dirname(folder))
        except OSError:
            # Another executor of the application still has its folder in there.
            continue


if __name__ == "__main__":
    main()
