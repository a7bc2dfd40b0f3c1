"""The daemon of an executor's Python workers (``spark.python.daemon.module``): Spark's own, except for predictions.

Spark starts one daemon for each environment that UDFs ask for, and forks its workers from it. A UDF of ours asks for one with the
variable :data:`PREDICTS`, which names what the model imports. That daemon is forked from the zygote of the node
(:mod:`raydp_ml.cluster.prediction_zygote`), which has it imported already; where there is none, it imports before it forks. UDFs
of the user have no such variable, and their daemon is ``pyspark.daemon``, with nothing imported.

It uses of Spark what pyspark.daemon has had from 3.5 to 4.3: ``manager()``, which takes its orders from the standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "MODULE",
    "PREDICTS",
    "SOCKET",
    "ForkDaemon",
    "import_modules",
    "main",
    "say_how_modules_are_shipped",
    "write_module",
]

# The module that Spark is told of: it lies in a folder of the executor.
MODULE = "raydp_ml_python_daemon"

# Modules that the model of a UDF imports, with commas between them.
PREDICTS = "RAYDP_ML_PREDICTS"
# Where the zygote of the executor's node listens.
SOCKET = "RAYDP_ML_PREDICTION_ZYGOTE"


@dataclass(frozen=True)
class ForkDaemon:
    """Ask the zygote for a daemon in place of this process; with it come its standard input, output and errors."""

    modules: tuple[str, ...]
    executable: str
    arguments: tuple[str, ...]
    path: tuple[str, ...]
    folder: str
    environment: dict[str, str]


_SOURCE = """try:
    from raydp_ml.cluster.python_daemon import main
except ImportError:  # the Python of the workers is one of the user's own, without this package
    from pyspark.daemon import manager as main
main()
"""


def write_module(folder: Path) -> None:
    """Write the module that Spark is told of into a folder, which is to be on the path of the workers' Python."""
    (folder / f"{MODULE}.py").write_text(_SOURCE)


def say_how_modules_are_shipped() -> None:
    """Have errors of this process's Python workers say how a module that they lack is shipped.

    Spark's workers write them with ``pyspark.util.handle_worker_exception``, which pyspark.worker takes when it is imported. Seen
    in 4.0 to 4.3; 3.5 has no such function, and its errors say only which module is missing.
    """
    import pyspark.util
    from pyspark import __version__

    from raydp_ml.errors import how_to_ship

    if __version__ < "4":
        return
    write = pyspark.util.handle_worker_exception

    def write_with_note(error: BaseException, *arguments: Any, **options: Any) -> None:
        if isinstance(error, ModuleNotFoundError):
            error.add_note(how_to_ship(error))
        write(error, *arguments, **options)

    pyspark.util.handle_worker_exception = write_with_note  # type: ignore[assignment]


def main() -> None:
    """What the executor's JVM starts, with the name of the module of Spark's workers as the argument."""
    wanted = os.environ.get(PREDICTS)
    say_how_modules_are_shipped()
    if wanted is not None:
        modules = tuple(name for name in wanted.split(",") if name)
        if _stands_in_for_a_fork(modules):
            return
        import_modules(modules)
    from pyspark.daemon import manager

    manager()


def import_modules(modules: tuple[str, ...]) -> None:
    """Import what every prediction needs, and what this model does; the worker itself says what cannot be imported."""
    for module in (
        "numpy",
        "pyarrow",
        "pyspark.worker",
        "pyspark.sql.pandas.serializers",
        *modules,
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def _stands_in_for_a_fork(modules: tuple[str, ...]) -> bool:
    """Have the zygote fork the daemon, and live as long as it does; False where no zygote can."""
    from raydp_ml.cluster.zygotes import receive, send

    path = os.environ.get(SOCKET)
    if path is None:
        return False
    connection = socket.socket(socket.AF_UNIX)
    request = ForkDaemon(modules, sys.executable, tuple(sys.argv), tuple(sys.path), os.getcwd(), dict(os.environ))
    try:
        connection.connect(path)
        send(connection, request, (0, 1, 2))
        pid, _ = receive(connection)
    except (OSError, EOFError):
        return False
    if pid is None:
        return False
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    # The JVM ends the daemon by closing the pipe; this process must not hold its other ends.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    while connection.recv(1):  # the daemon and its workers hold the other end, and send nothing
        pass
    return True
