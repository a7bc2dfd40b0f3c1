"""What driver and executor JVMs write, and where: nothing on the console at a start, and Log4j files of the user's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from raydp_ml.errors import InvalidValueError

__all__ = ["ExpectedLines", "copy_output", "driver_log4j", "executor_log4j", "log4j_option"]

# RayDP's names.
_DRIVER_FILE = "spark.log4j.config.file.name"
_EXECUTOR_FILE = "spark.ray.log4j.config.file.name"

# As Spark's own default, but with warnings only, and without those that every start of PySpark from PyPI gives.
_QUIET = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console

appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex

# Spark says on the console when it changes the level for a shell, which a Python program is to it. With one level it changes none.
logger.shell.name = org.apache.spark.api.python.PythonGatewayServer
logger.shell.level = warn

# Native libraries of Hadoop and for linear algebra are in no package that pip installs.
logger.hadoop.name = org.apache.hadoop.util.NativeCodeLoader
logger.hadoop.level = error
logger.blas.name = dev.ludovic.netlib
logger.blas.level = error

# As Spark has it: errors of Hive's metastore that are none.
logger.metastore.name = org.apache.hadoop.hive.metastore.RetryingHMSHandler
logger.metastore.level = fatal
logger.functions.name = org.apache.hadoop.hive.ql.exec.FunctionRegistry
logger.functions.level = error

# Executors that go while Spark stops.
logger.dispatcher.name = org.apache.spark.rpc.netty.Dispatcher
logger.dispatcher.level = error
"""
_CONFIGURATIONS = ("log4j2.properties", "log4j2.xml", "log4j2.yaml", "log4j2.yml", "log4j2.json")
# How lines begin that no logger writes and no option keeps back (Java 17 to 25, Spark 4.3): the one of the JVM, because Spark asks
# for the module that makes linear algebra fast, and those of native code that looks for libraries which are seldom there.
_EXPECTED = (
    b"WARNING: Using incubator modules: jdk.incubator.vector",
    b"netlib-blas: JNI_OnLoad:",
    b"netlib-lapack: JNI_OnLoad:",
    b"netlib-arpack: JNI_OnLoad:",
)
# What stands before the first byte of a line: the end of another, or Spark's progress bar (ConsoleProgressBar).
_BEFORE = (b"\n", b"\r", b"]")


class ExpectedLines:
    """Takes out of a stream of bytes the lines that everybody gets; all other bytes go on as soon as they come.

    Such a line may also begin behind Spark's progress bar, which ends in a bracket or goes back to the start of its line.

    Examples
    --------
    >>> lines = ExpectedLines()
    >>> lines.pass_on(b"WARNING: Using incub"), lines.pass_on(b"ator modules: jdk.incubator.vector\\n[Stage 0:>")
    (b'', b'[Stage 0:>')
    """

    def __init__(self) -> None:
        self._held = b""
        self._at_start = True

    def pass_on(self, chunk: bytes) -> bytes:
        """What is left of the bytes that have come."""
        rest, passed = self._held + chunk, b""
        self._held = b""
        while rest:
            if self._at_start and any(rest.startswith(line[: len(rest)]) for line in _EXPECTED):
                _, newline, others = rest.partition(b"\n")
                if not newline:
                    self._held = rest
                    break
                rest = others
                continue
            # The first byte cannot begin such a line, and the next one that can stands behind one of these.
            end = min((at for mark in _BEFORE if (at := rest.find(mark)) >= 0), default=len(rest) - 1) + 1
            self._at_start = rest[end - 1 : end] in _BEFORE
            passed += rest[:end]
            rest = rest[end:]
        return passed

    def end(self) -> bytes:
        """What was held back for the rest of its line."""
        return b"" if self._held.startswith(_EXPECTED) else self._held


def driver_log4j(settings: Mapping[str, str], spark: Path, folder: Path) -> list[str]:
    """The JVM option that names the driver's Log4j configuration.

    Parameters
    ----------
    settings : mapping
        Spark's settings; ``spark.log4j.config.file.name`` wins.
    spark : pathlib.Path
        Folder of the Spark.
    folder : pathlib.Path
        A private folder for the default configuration.

    Returns
    -------
    list of str
        None where the user has a configuration in another place: SPARK_CONF_DIR, or a JVM option.

    Raises
    ------
    InvalidValueError
        When the named file does not exist.
    """
    if _DRIVER_FILE in settings:
        _read(settings[_DRIVER_FILE], _DRIVER_FILE)
        return [log4j_option(Path(settings[_DRIVER_FILE]).absolute())]
    conf = Path(os.environ.get("SPARK_CONF_DIR") or spark / "conf")
    options = settings.get("spark.driver.extraJavaOptions", "") + os.environ.get("SPARK_SUBMIT_OPTS", "")
    if "log4j" in options or any((conf / name).is_file() for name in _CONFIGURATIONS):
        return []
    default = folder / "log4j2.properties"
    default.write_text(_QUIET)
    return [log4j_option(default)]


def executor_log4j(settings: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Name and content of the executors' Log4j configuration; None when it is Spark's own.

    Parameters
    ----------
    settings : mapping
        Spark's settings, ``spark.ray.log4j.config.file.name`` among them.
    """
    path = settings.get(_EXECUTOR_FILE)
    return None if path is None else (Path(path).name, _read(path, _EXECUTOR_FILE))


def _read(path: str, setting: str) -> bytes:
    """Content of a Log4j configuration on the driver's machine.

    Raises
    ------
    InvalidValueError
        When it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidValueError(f"{setting}={path!r} cannot be read: {error}") from error


def log4j_option(path: Path) -> str:
    """The JVM option that names a Log4j configuration."""
    return f"-Dlog4j2.configurationFile={path.as_uri()}"


def copy_output(stream: IO[bytes]) -> threading.Thread:
    """Copy what a driver JVM writes to this process's standard error stream, in a thread, without the lines that everybody gets.

    Parameters
    ----------
    stream : binary file
        This process's end of the pipe.

    Returns
    -------
    threading.Thread
        Ends when the JVM does.
    """

    def copy() -> None:
        lines = ExpectedLines()
        while chunk := os.read(stream.fileno(), 1 << 16):
            os.write(2, lines.pass_on(chunk))
        os.write(2, lines.end())
        stream.close()

    thread = threading.Thread(target=copy, name="raydp-ml-driver-output", daemon=True)
    thread.start()
    return thread
