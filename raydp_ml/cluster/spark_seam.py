"""The private parts of PySpark that a session needs, in one place.

Seen in PySpark 3.5.9 and 4.3.0; tests/session/test_seams.py watches them.
"""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from raydp_ml.cluster.console import copy_output
from raydp_ml.cluster.jar import spark_home
from raydp_ml.errors import RaydpMLError


@dataclass(frozen=True)
class DriverProcess:
    """A driver JVM that is starting, and the file in which it will say how to reach it."""

    process: subprocess.Popen[bytes]
    told: Path
    output: threading.Thread


def spawn_driver(properties: Path, environment: Mapping[str, str], folder: Path) -> DriverProcess:
    """Start the driver JVM, and return while it starts.

    PySpark's launch_gateway would start it with a ``preexec_fn``, for which Python has to fork this process, Ray's gRPC threads and
    all: replies of Ray's control store did not arrive any more afterwards (Ray 2.60, when the fork came after a Ray Train run).
    Without one, Python starts it through vfork.

    Parameters
    ----------
    properties : pathlib.Path
        File with the configuration; it may hold secrets, which a command line may not.
    environment : mapping
        Environment variables for the JVM alone.
    folder : pathlib.Path
        A private folder for what it will say.

    Returns
    -------
    DriverProcess
        For :func:`connect_driver`.
    """
    command = [str(spark_home().path / "bin" / "spark-submit"), "--properties-file", str(properties)]
    command += shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell"))
    told = folder / "gateway"
    variables = {"SPARK_CONNECT_MODE": "0", "_PYSPARK_DRIVER_CONN_INFO_PATH": str(told)}
    # A session of its own: Ctrl-C in the terminal is for this process, which ends the JVM in order.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment, **variables},
        start_new_session=True,
    )
    if process.stderr is None:
        raise RaydpMLError("the driver JVM has no pipe")
    return DriverProcess(process, told, copy_output(process.stderr))


def connect_driver(driver: DriverProcess) -> Any:
    """Wait until the driver JVM can be talked to.

    Parameters
    ----------
    driver : DriverProcess
        What :func:`spawn_driver` returned.

    Returns
    -------
    py4j gateway
        Becomes the one that PySpark uses in this process.

    Raises
    ------
    RaydpMLError
        When the JVM ended instead.
    """
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    try:
        while not driver.told.is_file():
            if driver.process.poll() is not None:
                driver.output.join()
                raise RaydpMLError(
                    f"the Spark driver JVM ended with code {driver.process.returncode} while it started; what it said is above"
                )
            time.sleep(0.02)
        port, secret = _read_gateway(driver.told.read_bytes())
    except BaseException:
        driver.process.kill()
        driver.process.wait()
        raise
    finally:
        # It holds a secret.
        driver.told.unlink(missing_ok=True)
    with _environment(PYSPARK_GATEWAY_PORT=str(port), PYSPARK_GATEWAY_SECRET=secret):
        gateway = launch_gateway()
    gateway.proc = driver.process
    SparkContext._gateway = gateway
    SparkContext._jvm = gateway.jvm
    return gateway


def _read_gateway(told: bytes) -> tuple[int, str]:
    """Port and secret as PythonGatewayServer.scala writes them: two big-endian integers, port and length, and the secret."""
    port, length = struct.unpack(">ii", told[:8])
    return port, told[8 : 8 + length].decode()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, before in saved.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


def drop_idle_driver() -> None:
    """End a driver JVM that an earlier, stopped session left in this process: it has neither our jar nor our settings."""
    from pyspark import SparkContext

    if SparkContext._gateway is not None and SparkContext._active_spark_context is None:
        end_driver(SparkContext._gateway)


def active_context() -> Any | None:
    """The SparkContext that runs in this process, whoever started it."""
    from pyspark import SparkContext

    return SparkContext._active_spark_context


@dataclass(frozen=True)
class ExecutorTasks:
    """What Spark's own status store knows of an executor."""

    cores: int
    active_tasks: int
    completed_tasks: int
    failed_tasks: int
    memory_used: int
    memory_max: int


def executor_tasks(context: Any) -> dict[str, ExecutorTasks]:
    """Tasks and storage memory (bytes) of the executors that are registered, by id."""
    executors = context._jsc.sc().statusStore().executorList(True)
    found = {}
    for number in range(executors.size()):
        one = executors.apply(number)
        found[one.id()] = ExecutorTasks(
            one.totalCores(),
            one.activeTasks(),
            one.completedTasks(),
            one.failedTasks(),
            one.memoryUsed(),
            one.maxMemory(),
        )
    return found


def runs_in(context: Any, gateway: Any) -> bool:
    """Whether a SparkContext is in the JVM that a gateway leads to."""
    return context._gateway is gateway and context._jsc is not None


def session_in(gateway: Any) -> Any | None:
    """The session of the SparkContext that runs in the JVM that a gateway leads to; None when there is none."""
    from pyspark.sql import SparkSession

    context = active_context()
    if context is None or not runs_in(context, gateway):
        return None
    return SparkSession.builder.getOrCreate()


def end_driver(gateway: Any, seconds: float = 10.0) -> None:
    """End the driver JVM and forget it, so that the next session can start another."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    process = getattr(gateway, "proc", None)
    if process is not None and process.poll() is None:
        # PySpark's gateway ends when its standard input does.
        process.stdin.close()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    gateway.shutdown()
    if SparkContext._gateway is gateway:
        SparkContext._gateway = None
        SparkContext._jvm = None
    context = SparkContext._active_spark_context
    if context is not None and context._gateway is None:
        # The JVM died under a running context.
        context._jsc = None
        SparkContext._active_spark_context = None
    if SparkContext._active_spark_context is None:
        SparkSession._instantiatedSession = None
        SparkSession._activeSession = None


def leave_driver(gateway: Any, refuse: Callable[..., NoReturn]) -> None:
    """In a forked process: forget the driver JVM, which belongs to the other process and shall not notice this one.

    Parameters
    ----------
    gateway : py4j gateway
        The other process's.
    refuse : callable
        Called in place of any command that this process would send, with frames that it still has for example.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    client = gateway._gateway_client
    client.send_command = refuse
    for connection in list(client.deque):
        # py4j shuts a connection down when it collects it, and both processes have the same one. Its stream stays as it is: a
        # thread that the fork did not copy may hold its lock.
        os.close(connection.socket.detach())
    if gateway.proc is not None:
        # The JVM ends when its standard input does, and the other process shall not need this one to end for that.
        gateway.proc.stdin.close()
    SparkContext._gateway = None
    SparkContext._jvm = None
    SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None
    SparkSession._activeSession = None


def driver_alive(gateway: Any) -> bool:
    """Whether the driver JVM runs."""
    process = getattr(gateway, "proc", None)
    return process is None or process.poll() is None
