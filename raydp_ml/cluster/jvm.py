"""A JVM that is the child of an actor, and folders that belong to it: both end with the actor's process.

Two processes keep the promise that nothing stays behind: ``child.py`` in front of the JVM, which ties it to the thread that started
it, and ``janitor.py``, which removes the folders when the actor's process ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from raydp_ml.errors import RaydpMLError

_LOG_TAIL_LINES = 40
_LAST_LINES_SECONDS = 2.0


def private_folder(base: str | os.PathLike[str], app_id: str, *parts: str) -> Path:
    """Make ``base/app_id/parts`` so that only this user can enter it.

    Raises
    ------
    RaydpMLError
        When somebody else made the folder, or others may enter it.
    """
    top = Path(base) / app_id
    Path(base).mkdir(parents=True, exist_ok=True)
    while True:
        top.mkdir(mode=0o700, exist_ok=True)
        try:
            status = top.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077 or top.is_symlink():
                raise RaydpMLError(
                    f"{top} belongs to another user or is open to others; remove it or choose another folder"
                )
            folder = top
            for part in parts:
                folder = folder / part
                folder.mkdir(mode=0o700, exist_ok=True)
            return folder
        except FileNotFoundError:
            # The janitor of the application's last executor on this node has just removed the empty folder.
            continue


def tied(command: Sequence[str]) -> list[str]:
    """The command that starts a program which dies with the thread of this process that starts it (``child.py``)."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), str(os.getpid()), *command]


class Janitor:
    """A process that cleans up when this one ends, however it does."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("janitor.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )

    def tell(self, line: str) -> None:
        """Pass a line on; janitor.py says which there are."""
        ready, pipe = self._process.stdout, self._process.stdin
        if ready is None or pipe is None:
            raise RaydpMLError("the janitor has no pipes")
        if not ready.closed:
            if ready.readline() != "ready\n":
                raise RaydpMLError("the process that removes an actor's folders could not be started")
            ready.close()
        pipe.write(line + "\n")
        pipe.flush()

    def own(self, base: str | os.PathLike[str], app_id: str, name: str) -> Path:
        """Make the private folder ``base/app_id/name``, which is removed when this process ends."""
        # First, so that there is no moment in which the folder is nobody's.
        self.tell(f"dir {Path(base) / app_id / name}")
        return private_folder(base, app_id, name)

    def dismiss(self) -> None:
        """Have it clean up now, and end."""
        if self._process.stdin is not None:
            self._process.stdin.close()


class ChildJvm:
    """Starts one program, watches it, and owns folders.

    Parameters
    ----------
    what : str
        What it is, for errors: ``"executor"``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._janitor = Janitor()
        self._exited = threading.Event()
        self._code = 0

    def own(self, base: str | os.PathLike[str], app_id: str, name: str) -> Path:
        """Make the private folder ``base/app_id/name``, which is removed when this process ends."""
        return self._janitor.own(base, app_id, name)

    def local_folders(self, work: Path, configured: str | None, app_id: str, name: str) -> list[str]:
        """Folders for shuffle and spill files: below each of spark.local.dir when it is set, so that only ours are removed.

        Parameters
        ----------
        work : pathlib.Path
            An owned folder, for when nothing is configured.
        configured : str, optional
            Value of ``spark.local.dir``.
        app_id, name : str
            Names of the folders to make.
        """
        if configured:
            return [str(self.own(base.strip(), app_id, name)) for base in configured.split(",")]
        folder = work / "local"
        folder.mkdir()
        return [str(folder)]

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], work: Path, log: Path, *, repeats: bool = False
    ) -> int:
        """Start the program.

        Parameters
        ----------
        command : sequence of str
            Program and arguments.
        environment : mapping
            All of its environment.
        work : pathlib.Path
            Folder that it runs in.
        log : pathlib.Path
            File for its output.
        repeats : bool, default False
            Write the output to the standard output of this process, too.

        Returns
        -------
        int
            Process id.
        """
        self._log = log
        started = threading.Event()
        problem: list[BaseException] = []

        def run() -> None:
            # This thread waits for the JVM: the parent-death signal fires when the thread that forked ends.
            try:
                with open(log, "wb") as output:
                    self._process = subprocess.Popen(
                        tied(command),
                        env=environment,
                        cwd=work,
                        stdout=subprocess.PIPE if repeats else output,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                    )
                copying = _repeat(self._process.stdout, log) if self._process.stdout is not None else None
            except BaseException as error:
                problem.append(error)
                started.set()
                return
            self._janitor.tell(f"pid {self._process.pid}")
            started.set()
            self._code = self._process.wait()
            if copying is not None:
                # The tail of the log is asked for next. A process that the program left may hold the pipe open.
                copying.join(_LAST_LINES_SECONDS)
            self._exited.set()

        threading.Thread(target=run, name=f"raydp-ml-{self._what}", daemon=True).start()
        started.wait()
        if problem:
            raise RaydpMLError(f"the {self._what} JVM could not be started: {problem[0]}") from problem[0]
        return self._process.pid

    def wait(self) -> int:
        """Wait for its end, and return the exit code (negative: the signal)."""
        self._exited.wait()
        return self._code

    def has_ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        return self._exited.wait(seconds)

    def log_tail(self) -> str:
        """The last lines of its output."""
        with open(self._log, errors="replace") as log:
            return "".join(log.readlines()[-_LOG_TAIL_LINES:])

    def stop(self, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL after ``grace`` seconds."""
        self._process.terminate()
        if not self._exited.wait(grace):
            self._process.kill()
            self._exited.wait()


def _repeat(output: IO[bytes], log: Path) -> threading.Thread:
    """Write a program's output to its log, and line by line to the standard output of this process, in a thread."""

    def copy() -> None:
        with output, open(log, "ab", buffering=0) as file:
            for line in output:
                file.write(line)
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()

    thread = threading.Thread(target=copy, name="raydp-ml-repeat", daemon=True)
    thread.start()
    return thread
