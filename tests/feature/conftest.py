"""A Spark session in this process alone: descriptions know nothing of Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pyspark.sql


@pytest.fixture(scope="module")
def spark() -> Iterator[pyspark.sql.SparkSession]:
    """A local session of one core, whose JVM ends with the module."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from raydp_ml.cluster.spark_seam import drop_idle_driver

    builder = SparkSession.builder.master("local[1]").appName("feature-tests")
    for key, value in {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "512m",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
        "spark.log.level": "ERROR",
    }.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
    drop_idle_driver()
    assert SparkContext._gateway is None
