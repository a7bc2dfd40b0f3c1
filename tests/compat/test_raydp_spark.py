"""raydp.spark and raydp.utils on a running session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import raydp_ml
from raydp import utils
from raydp.spark import dataset as conversions

if TYPE_CHECKING:
    import pyspark.sql


def test_parallelism_minus_one_leaves_the_partitions_alone(spark: pyspark.sql.SparkSession) -> None:
    df = spark.range(0, 60, numPartitions=3)
    assert conversions.spark_dataframe_to_ray_dataset(df, -1).count() == 60
    assert conversions.spark_dataframe_to_ray_dataset(df, 5).num_blocks() == 5


def test_an_owner_is_accepted(spark: pyspark.sql.SparkSession) -> None:
    owner = conversions.get_raydp_master_owner(spark)
    assert owner.actor_name == spark.sparkContext.applicationId
    ds = conversions.spark_dataframe_to_ray_dataset(spark.range(7), owner=owner)
    assert sorted(row["id"] for row in ds.take_all()) == list(range(7))


def test_recoverable_conversion_persists_until_released_by_its_frame(spark: pyspark.sql.SparkSession) -> None:
    from pyspark import StorageLevel

    df = spark.range(0, 40, numPartitions=2).selectExpr("id", "id * 2 AS twice")
    ds = conversions.from_spark_recoverable(df, storage_level=StorageLevel.DISK_ONLY, parallelism=-1)
    assert df.storageLevel == StorageLevel.DISK_ONLY
    conversions.release_spark_recoverable(df)
    assert not df.is_cached
    assert sum(row["twice"] for row in ds.take_all()) == 2 * sum(range(40))


def test_recoverable_conversion_is_released_by_its_dataset(spark: pyspark.sql.SparkSession) -> None:
    df = spark.range(0, 8)
    ds = conversions.from_spark_recoverable(df)
    assert df.storageLevel.useMemory
    conversions.release_spark_recoverable(ds)
    assert not df.storageLevel.useMemory


def test_blocks_become_a_frame(spark: pyspark.sql.SparkSession) -> None:
    import pyarrow as pa
    import ray

    tables = [pa.table({"k": [1, 2], "word": ["a", None]}), pa.table({"k": [3], "word": ["c"]})]
    refs = [ray.put(table) for table in tables]
    df = conversions.ray_dataset_to_spark_dataframe(spark, tables[0].schema, refs, None)
    assert [tuple(row) for row in df.orderBy("k").collect()] == [(1, "a"), (2, None), (3, "c")]


def test_read_spark_parquet_reads_what_spark_wrote(spark: pyspark.sql.SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    spark.range(0, 30, numPartitions=2).write.parquet(path)
    assert conversions.read_spark_parquet(path).sum("id") == sum(range(30))


def test_random_split_keeps_every_row_and_repeats_with_its_seed(spark: pyspark.sql.SparkSession) -> None:
    df = spark.range(0, 1000)
    first, second = utils.random_split(df, [0.7, 0.3], 11)
    ids = [{row["id"] for row in part.collect()} for part in (first, second)]
    assert ids[0].isdisjoint(ids[1])
    assert ids[0] | ids[1] == set(range(1000))
    assert 600 < len(ids[0]) < 800
    assert {row["id"] for row in utils.random_split(df, [0.7, 0.3], 11)[0].collect()} == ids[0]


def test_pandas_on_spark_frames_are_split_and_converted(spark: pyspark.sql.SparkSession) -> None:
    ps = pytest.importorskip("pyspark.pandas")
    frame = ps.DataFrame({"x": range(50)})
    plain, was_spark = utils.convert_to_spark(frame)
    assert not was_spark
    assert plain.columns == ["x"]
    assert utils.convert_to_spark(plain) == (plain, True)
    parts = utils.random_split(frame, [0.5, 0.5], 3)
    assert all(isinstance(part, ps.DataFrame) for part in parts)
    assert sorted(value for part in parts for value in part["x"].to_numpy()) == list(range(50))


def test_the_actor_of_a_session_is_found_by_raydps_name(spark: pyspark.sql.SparkSession) -> None:
    import ray

    from raydp.spark.ray_cluster_master import RAYDP_SPARK_MASTER_SUFFIX

    assert RAYDP_SPARK_MASTER_SUFFIX == "_SPARK_MASTER"
    owner = ray.get_actor(spark.sparkContext.appName + RAYDP_SPARK_MASTER_SUFFIX)
    before = set(ray.get(owner.leases.remote()))
    frame = raydp_ml.to_spark(ray.data.range(3))
    assert frame.count() == 3
    assert len(set(ray.get(owner.leases.remote())) - before) == 1  # it is the one that holds blocks for Spark
