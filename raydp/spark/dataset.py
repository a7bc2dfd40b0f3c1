"""Spark DataFrames to Ray Datasets and back, with the argument order of Ray Data and RayDP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydp_ml.exchange import from_spark
from raydp_ml.exchange import from_spark_recoverable as _from_spark_recoverable
from raydp_ml.exchange import release_spark_recoverable as _release_spark_recoverable
from raydp_ml.exchange.inbound import frame_over_blocks

if TYPE_CHECKING:
    import pyarrow
    import pyspark
    import pyspark.sql
    import ray
    import ray.data

__all__ = [
    "PartitionObjectsOwner",
    "from_spark_recoverable",
    "get_raydp_master_owner",
    "ray_dataset_to_spark_dataframe",
    "read_spark_parquet",
    "release_spark_recoverable",
    "spark_dataframe_to_ray_dataset",
]


@dataclass(frozen=True)
class PartitionObjectsOwner:
    """Who keeps the blocks of a conversion; accepted for RayDP's programs, as here it is always the application's owner actor."""

    actor_name: str
    set_reference_as_state: Callable[..., Any]


def get_raydp_master_owner(spark: pyspark.sql.SparkSession | None = None) -> PartitionObjectsOwner:
    """The owner of the blocks of a session, in the form that RayDP's programs pass on.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession, optional
        The session; None: the active one.

    Returns
    -------
    PartitionObjectsOwner
        Changes nothing: blocks outlive ``stop_spark(cleanup_data=False)`` with or without it.
    """
    from pyspark.sql import SparkSession

    from raydp_ml.errors import SessionStoppedError

    spark = spark or SparkSession.getActiveSession()
    if spark is None:
        raise SessionStoppedError("there is no running Spark session; start one with raydp.init_spark")
    return PartitionObjectsOwner(spark.sparkContext.applicationId, lambda *_: None)


def spark_dataframe_to_ray_dataset(
    df: pyspark.sql.DataFrame, parallelism: int | None = None, owner: PartitionObjectsOwner | None = None
) -> ray.data.MaterializedDataset:
    """Convert a Spark DataFrame to a Ray Dataset; ``ray.data.from_spark`` calls this.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of ``raydp.init_spark``.
    parallelism : int, optional
        Number of partitions to convert. None and -1: as they are.
    owner : PartitionObjectsOwner, optional
        Accepted for RayDP's programs.

    Returns
    -------
    ray.data.MaterializedDataset
        See :func:`raydp_ml.from_spark`.
    """
    return from_spark(df, _known(parallelism))


def from_spark_recoverable(
    df: pyspark.sql.DataFrame,
    storage_level: pyspark.StorageLevel | None = None,
    parallelism: int | None = None,
) -> ray.data.MaterializedDataset:
    """Persist a Spark DataFrame and convert it, so that a lost block is read from Spark's cache.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of ``raydp.init_spark``.
    storage_level : pyspark.StorageLevel, optional
        Where Spark keeps the rows; None: memory and disk.
    parallelism : int, optional
        Number of partitions to convert. None and -1: as they are.

    Returns
    -------
    ray.data.MaterializedDataset
        Give it, or the frame, to :func:`release_spark_recoverable` to let Spark's copy go.
    """
    return _from_spark_recoverable(df, storage_level, _known(parallelism))


def release_spark_recoverable(df: pyspark.sql.DataFrame | ray.data.Dataset) -> None:
    """Let the rows go that Spark keeps for :func:`from_spark_recoverable`. The Dataset's blocks stay.

    Parameters
    ----------
    df : pyspark.sql.DataFrame or ray.data.Dataset
        The frame that was converted, as in RayDP, or the Dataset it became.
    """
    from raydp_ml.frames.registry import open_frame
    from raydp_ml.frames.spark import SparkFrame

    frame = open_frame(df)
    if isinstance(frame, SparkFrame):
        frame.frame.unpersist()
    else:
        _release_spark_recoverable(df)


def ray_dataset_to_spark_dataframe(
    spark: pyspark.sql.SparkSession,
    arrow_schema: pyarrow.Schema,
    blocks: Sequence[ray.ObjectRef],
    locations: Sequence[bytes] | None = None,
) -> pyspark.sql.DataFrame:
    """A Spark DataFrame over the blocks of a Ray Dataset; ``Dataset.to_spark`` calls this.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        A session of ``raydp.init_spark``.
    arrow_schema : pyarrow.Schema
        Schema of the blocks.
    blocks : sequence of ObjectRef
        The blocks.
    locations : sequence, optional
        Accepted for RayDP's programs: Ray is asked where the blocks are.

    Returns
    -------
    pyspark.sql.DataFrame
        One partition per block.
    """
    return frame_over_blocks(spark, arrow_schema, blocks)


def read_spark_parquet(path: str) -> ray.data.Dataset:
    """Read the folder that ``df.write.parquet`` wrote, without Spark's marker files.

    Parameters
    ----------
    path : str
        The folder, or any URI that Ray Data reads.
    """
    import ray.data

    return ray.data.read_parquet(path, file_extensions=["parquet"])


def _known(parallelism: int | None) -> int | None:
    """Ray Data says -1 for "as it is"."""
    return None if parallelism == -1 else parallelism
