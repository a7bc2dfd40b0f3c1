"""Spark DataFrames to Ray Datasets and back."""

from raydp_ml.exchange.inbound import to_spark
from raydp_ml.exchange.outbound import from_spark, from_spark_recoverable, release_spark_recoverable
from raydp_ml.exchange.streaming import read_spark

__all__ = ["from_spark", "from_spark_recoverable", "read_spark", "release_spark_recoverable", "to_spark"]
