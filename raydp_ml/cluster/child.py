"""Runs a program that dies with the thread that started it; executed as a script in front of the executor's JVM.

PR_SET_PDEATHSIG survives exec. It is set here, in a process with one thread, because running Python between fork and exec in
a process full of threads (as a Ray worker is) can deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """``child.py PARENT_PID PROGRAM ARGUMENT...``"""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent died before the signal was armed.
        os._exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
