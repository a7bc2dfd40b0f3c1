"""The private parts of PySpark that a session needs, in one place.

Seen in PySpark 3.5.9 and 4.3.0; tests/session/test_seams.py watches them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from raydp_ml.errors import RaydpMLError


def launch_driver(settings: Mapping[str, str], environment: Mapping[str, str]) -> Any:
    """Start the driver JVM.

    Parameters
    ----------
    settings : mapping
        Configuration that the JVM needs at its start. It is visible on a command line, so it may hold no secret.
    environment : mapping
        Environment variables for the JVM alone.

    Returns
    -------
    py4j gateway
        Becomes the one that PySpark uses in this process.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    conf = SparkConf(loadDefaults=False)
    for key, value in settings.items():
        conf.set(key, value)
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        gateway = launch_gateway(conf)
    except Exception as error:
        raise RaydpMLError(f"the Spark driver JVM did not start; what it said is above: {error}") from error
    finally:
        for name, before in saved.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
    SparkContext._gateway = gateway
    SparkContext._jvm = gateway.jvm
    return gateway


def drop_idle_driver() -> None:
    """End a driver JVM that an earlier, stopped session left in this process: it has neither our jar nor our settings."""
    from pyspark import SparkContext

    if SparkContext._gateway is not None and SparkContext._active_spark_context is None:
        end_driver(SparkContext._gateway)


def active_context() -> Any | None:
    """The SparkContext that runs in this process, whoever started it."""
    from pyspark import SparkContext

    return SparkContext._active_spark_context


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


def driver_alive(gateway: Any) -> bool:
    """Whether the driver JVM runs."""
    process = getattr(gateway, "proc", None)
    return process is None or process.poll() is None
