"""The folder in which jars that were compiled here, and archives of Spark's classes, are kept: the newest few of them.

A changed source or another Spark makes a new jar (300 kB) and a new archive (160 MB) beside the earlier ones.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

_KEPT_JARS, _KEPT_ARCHIVES = 4, 3
# Another program that was started with an earlier version of this package takes no lock.
_RECENT_SECONDS = 24 * 3600.0
_in_use: dict[Path, IO[str]] = {}


def folder() -> Path:
    """Where they are."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "raydp-ml" / "jars"


def lock_of(jar: Path) -> Path:
    """The file whose lock says that the jar is being made, or used; it was changed when the jar was last used."""
    return jar.with_suffix(".lock")


def use(jar: Path) -> None:
    """Keep a jar of the folder from being removed for as long as this process lives."""
    if jar in _in_use or jar.parent != folder():
        return
    lock = open(lock_of(jar), "w")  # noqa: SIM115 - the lock is held until the process ends
    # Exclusive only for the moments in which a jar is compiled or removed.
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.utime(lock.name)
    _in_use[jar] = lock


def prune(now: float | None = None) -> list[Path]:
    """Remove all but the newest few jars of each Spark line, and all but the newest few archives; say what was removed.

    A jar that a process uses stays, and so does what was used in the last 24 hours. A JVM that uses an archive has it mapped, and
    one that finds none starts without.

    Parameters
    ----------
    now : float, optional
        Seconds since the epoch; None: the time.

    Returns
    -------
    list of pathlib.Path
        What was removed.
    """
    oldest = (time.time() if now is None else now) - _RECENT_SECONDS
    jars: dict[str, list[Path]] = {}
    for jar in folder().glob("raydp-ml-spark-*.jar"):
        jars.setdefault(jar.name.rpartition("-")[0], []).append(jar)
    removed = [jar for line in jars.values() for jar in _old(line, _KEPT_JARS, oldest) if _remove_jar(jar)]
    # What belongs to no jar any more, and else the newest.
    archives = list(folder().glob("raydp-ml-spark-*.jsa"))
    orphans = [path for path in archives if not (folder() / f"{path.stem.rpartition('-')[0]}.jar").exists()]
    old = _old((path for path in archives if path not in orphans), _KEPT_ARCHIVES, oldest)
    megabytes = 0.0
    for path in [*orphans, *old]:
        megabytes += path.stat().st_size / 1e6
        path.unlink()
        removed.append(path)
    if removed:
        names = ", ".join(sorted(path.name for path in removed))
        print(f"raydp-ml: removed from {folder()}: {names} ({megabytes:.0f} MB of class archives)", file=sys.stderr)
    return removed


def _used(path: Path) -> float:
    lock = lock_of(path)
    return (lock if path.suffix == ".jar" and lock.exists() else path).stat().st_mtime


def _old(paths: Iterable[Path], kept: int, oldest: float) -> list[Path]:
    return [path for path in sorted(paths, key=_used, reverse=True)[kept:] if _used(path) < oldest]


def _remove_jar(jar: Path) -> bool:
    """Remove it with its lock, unless a process uses it."""
    with open(lock_of(jar), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        jar.unlink()
        lock_of(jar).unlink()
        return True
