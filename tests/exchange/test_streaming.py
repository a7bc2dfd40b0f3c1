"""read_spark: Spark computes what is consumed, when it is consumed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

import raydp_ml
from raydp_ml.exchange import context as contexts
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def marked(spark: SparkSession, folder: Path, partitions: int) -> DataFrame:
    """A frame of 100 rows a partition; a partition that is computed leaves a file."""

    def mark(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        (folder / os.urandom(8).hex()).touch()
        yield from frames

    return spark.range(0, 100 * partitions, 1, partitions).mapInPandas(mark, "id long")


def count(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_nothing_is_computed_before_it_is_read_and_each_epoch_reads_again(spark: SparkSession, tmp_path: Path) -> None:
    dataset = raydp_ml.read_spark(marked(spark, tmp_path, 4))
    assert dataset.schema().names == ["id"]
    assert count(tmp_path) == 0
    for epoch in (1, 2):
        rows = np.concatenate([batch["id"] for batch in dataset.iter_batches(batch_size=64)])
        assert sorted(rows) == list(range(400))
        assert count(tmp_path) == 4 * epoch


def test_a_consumer_that_stops_leaves_partitions_uncomputed(spark: SparkSession, tmp_path: Path) -> None:
    dataset = raydp_ml.read_spark(marked(spark, tmp_path, 60))
    assert len(dataset.take(50)) == 50
    assert 1 <= count(tmp_path) < 40


def test_a_persisted_frame_is_computed_once(spark: SparkSession, tmp_path: Path) -> None:
    frame = marked(spark, tmp_path, 3).persist()
    dataset = raydp_ml.read_spark(frame)
    assert dataset.sum("id") == dataset.sum("id") == sum(range(300))
    assert count(tmp_path) == 3
    frame.unpersist()


def test_shuffles_vectors_and_empty_partitions(spark: SparkSession) -> None:
    from pyspark.ml.feature import VectorAssembler

    frame = spark.range(0, 50, 1, 5).selectExpr("id", "id % 3 as k", "id * 0.5D as x").where("id < 10")
    vectors = VectorAssembler(inputCols=["id", "x"], outputCol="v").transform(frame).select("id", "v")
    dataset = raydp_ml.read_spark(vectors)
    assert dataset.schema().base_schema.field("v").type == pa.fixed_shape_tensor(pa.float64(), [2])
    rows = sorted(dataset.take_all(), key=lambda row: row["id"])
    assert [list(row["v"]) for row in rows] == [[i, i * 0.5] for i in range(10)]
    sums = raydp_ml.read_spark(frame.groupBy("k").sum("x")).take_all()
    assert {row["k"]: row["sum(x)"] for row in sums} == {0: 9.0, 1: 6.0, 2: 7.5}


def test_a_derived_dataset_keeps_the_export_and_the_last_one_lets_it_go(spark: SparkSession) -> None:
    context = contexts.of_session(spark)
    raydp_ml.from_spark(spark.range(1))
    before = set(context.exports)
    dataset = raydp_ml.read_spark(spark.range(0, 10, 1, 2)).map_batches(lambda batch: {"twice": batch["id"] * 2})
    (export,) = set(context.exports) - before
    raydp_ml.from_spark(spark.range(1))
    assert export in context.exports
    assert dataset.sum("twice") == 90
    del dataset

    def let_go() -> bool:
        gc.collect()
        contexts.forget_unused(context)
        return export not in context.exports

    until(let_go, 30, "the export is still held")


def test_estimators_train_on_it(spark: SparkSession) -> None:
    frame = spark.range(0, 400, 1, 4).selectExpr("id / 400D as x", "id / 200D + 1 as y")
    model = raydp_ml.XGBEstimator(
        task="regression", label_column="y", feature_columns=["x"], num_workers=0, num_boost_round=30, verbose=False
    )
    model.fit(raydp_ml.read_spark(frame))
    told = model.predict(pd.DataFrame({"x": [0.25, 0.75]}))
    np.testing.assert_allclose(told, [1.5, 2.5], atol=0.05)


def test_no_cpu_slot_is_needed(spark: SparkSession) -> None:
    until_free(4)
    group = placement_group([{"CPU": 1}] * 4)
    try:
        ray.get(group.ready(), timeout=60)
        until_free(0)
        batches = raydp_ml.read_spark(spark.range(0, 1000, 1, 6)).iter_batches(batch_size=None)
        assert sum(batch["id"].sum() for batch in batches) == sum(range(1000))
    finally:
        remove_placement_group(group)


def test_bad_input(spark: SparkSession) -> None:
    with pytest.raises(raydp_ml.InvalidTypeError, match="is needed"):
        raydp_ml.read_spark([1, 2])
    with pytest.raises(raydp_ml.InvalidValueError, match=r"vector_sizes names the columns \['v'\]"):
        raydp_ml.read_spark(spark.range(3), vector_sizes={"v": 2})
