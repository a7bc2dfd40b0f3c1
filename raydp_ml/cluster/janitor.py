"""Outlives a host actor to clean up after it: a process of its own that waits for the actor's end.

Run as a script by the host with a pipe as its standard input. When the pipe closes, for whatever reason, the executor's JVM is
ended and the host's directories are removed. It is started twice removed (fork, new session) because Ray kills the direct children
of a worker, and the process group of one, when the worker ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys


def _process_start(pid: int) -> str | None:
    """Start time of a process: with the pid it names the process, though pids are used again."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def main() -> None:
    """Read lines ``pid N`` and ``dir PATH`` until the pipe closes, then end those processes and remove those directories."""
    if os.fork():
        os._exit(0)
    os.setsid()
    # From now on nothing that ends the actor ends this process; the actor waits for it before it makes a folder.
    print("ready", flush=True)
    processes: list[tuple[int, str | None]] = []
    folders: list[str] = []
    for line in sys.stdin:
        kind, _, value = line.rstrip("\n").partition(" ")
        if kind == "pid":
            processes.append((int(value), _process_start(int(value))))
        elif kind == "dir":
            folders.append(value)
    for pid, started in processes:
        if started is not None and _process_start(pid) == started:
            os.kill(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.rmdir(os.path.dirname(folder))
        except OSError:
            # Another executor of the application still has its folder in there.
            continue


if __name__ == "__main__":
    main()
