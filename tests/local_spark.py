"""A Spark session in this process alone, for tests that need no Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyspark.sql

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.memory": "512m",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    "spark.log.level": "ERROR",
    # Hundreds of queries over a few rows: compiling them would take nearly all of the time.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


@contextmanager
def local_session() -> Iterator[pyspark.sql.SparkSession]:
    """A local session of one core, whose JVM ends with the block."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from raydp_ml.cluster.spark_seam import drop_idle_driver

    builder = SparkSession.builder.master("local[1]").appName("tests")
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
    drop_idle_driver()
    assert SparkContext._gateway is None
