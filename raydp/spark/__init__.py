"""Conversions between Spark DataFrames and Ray Datasets, as Ray Data and RayDP programs call them."""

from raydp.spark.dataset import (
    PartitionObjectsOwner,
    from_spark_recoverable,
    get_raydp_master_owner,
    ray_dataset_to_spark_dataframe,
    release_spark_recoverable,
    spark_dataframe_to_ray_dataset,
)
from raydp.spark.interfaces import SparkEstimatorInterface

__all__ = [
    "PartitionObjectsOwner",
    "SparkEstimatorInterface",
    "from_spark_recoverable",
    "get_raydp_master_owner",
    "ray_dataset_to_spark_dataframe",
    "release_spark_recoverable",
    "spark_dataframe_to_ray_dataset",
]
