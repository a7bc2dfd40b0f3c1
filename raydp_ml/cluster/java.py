"""Where is Java, does it fit this Spark, and how is it told to start? For the compiler, the driver and the executors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from raydp_ml.errors import MissingDependencyError

_OLDEST = 17
# Spark lines below 4.1 call Security Manager methods that Java 24 removed (JEP 486), and die at start on it.
_NEWEST_BEFORE_SPARK_4_1 = 23
# HotSpot's optimising compiler takes code that ran ten times as often as by default (Java 17 to 25; OpenJ9 ignores the names). So
# it leaves alone what only a start needs, which was 40 % of the CPU time of drivers and executors until the end of the first job;
# what is hot gets there a fraction of a second later. Options of a user's own come after these, and win.
COMPILE_WHAT_IS_HOT = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)


@lru_cache(maxsize=8)
def java_build(java: str) -> str:
    """What a Java executable says of its version and build."""
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    return (told.stderr + told.stdout).strip()


def java_version(java: str) -> int:
    """Feature version of a Java executable (17 for ``17.0.15``).

    Parameters
    ----------
    java : str
        Path of the executable.

    Returns
    -------
    int
        The feature version.

    Raises
    ------
    MissingDependencyError
        When the executable does not say its version.
    """
    told = java_build(java)
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    if match is None:
        raise MissingDependencyError(f"{java} -version did not name a version, it said: {told[:200]!r}")
    return int(match.group(1))


def find_java(spark_version: str | None = None) -> str:
    """Find the Java runtime that Spark shall run on: JAVA_HOME wins, then PATH.

    Parameters
    ----------
    spark_version : str, optional
        Version of Spark, ``"4.3.0"``; checks that it runs on this Java.

    Returns
    -------
    str
        Path of the ``java`` executable.

    Raises
    ------
    MissingDependencyError
        When there is no Java, or one that this Spark does not run on.

    Examples
    --------
    >>> find_java("4.3.0").endswith("java")
    True
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        java: str | None = str(Path(home) / "bin" / "java")
        origin = f"JAVA_HOME={home}"
        if not os.access(str(java), os.X_OK):
            raise MissingDependencyError(f"{origin} has no bin/java; point it at a Java 17 or 21 runtime, or unset it")
    else:
        java = shutil.which("java")
        origin = "PATH"
    if java is None:
        raise MissingDependencyError("Spark needs Java: install a Java 17 or 21 runtime, or set JAVA_HOME to one")
    version = java_version(java)
    newest = None
    if spark_version is not None and tuple(int(part) for part in spark_version.split(".")[:2]) < (4, 1):
        newest = _NEWEST_BEFORE_SPARK_4_1
    if version < _OLDEST or (newest is not None and version > newest):
        spark = f"Spark {spark_version}" if spark_version else "Spark"
        raise MissingDependencyError(
            f"{spark} does not run on Java {version} (found through {origin}); install Java 17 or 21"
        )
    return java
