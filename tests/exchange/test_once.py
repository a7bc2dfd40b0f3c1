"""A frame is computed once on its way to Ray, and no more of it than is wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import ray
import ray.data

import raydp_ml
from tests.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark35


@pytest.fixture
def marked(spark: SparkSession, tmp_path: Path) -> Callable[..., DataFrame]:
    """A frame of some rows in each partition; a partition that is computed leaves a file."""

    def frame(rows: int, partitions: int) -> DataFrame:
        def mark(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            (tmp_path / os.urandom(8).hex()).touch()
            yield from frames

        return spark.range(0, rows * partitions, 1, partitions).mapInPandas(mark, "id long")

    return frame


def count(folder: Path) -> int:
    return len(list(folder.iterdir()))


@pytest.mark.parametrize("parallelism", [2, 5, 9])
def test_another_number_of_partitions_runs_no_shuffle_twice(
    marked: Callable[..., DataFrame], tmp_path: Path, spark: SparkSession, parallelism: int
) -> None:
    counted = marked(100, 4).selectExpr("id % 10 as k").repartition(5, "k").groupBy("k").count()
    dataset = raydp_ml.from_spark(counted, parallelism)
    assert count(tmp_path) == 4
    assert dataset.num_blocks() <= parallelism
    assert sorted(row["k"] for row in dataset.take_all()) == list(range(10))
    assert dataset.sum("count") == 400


def test_more_and_fewer_partitions(spark: SparkSession) -> None:
    frame = spark.range(0, 1000, 1, 4)
    for given in (frame, frame.persist()):
        for parallelism in (1, 3, 4, 7):
            dataset = raydp_ml.from_spark(given, parallelism)
            assert dataset.num_blocks() == parallelism
            assert sorted(row["id"] for row in dataset.take_all()) == list(range(1000))
    frame.unpersist()


def test_fewer_partitions_keep_the_order_of_the_rows(spark: SparkSession) -> None:
    numbers = spark.range(0, 4000, 1, 16).selectExpr("3999 - id as id")
    held = numbers.selectExpr("id", "string(id) as t").persist()
    assert held.count() == 4000  # where its partitions lie is known from now on
    for given in (numbers, held):
        dataset = raydp_ml.from_spark(given, parallelism=3)
        assert dataset.num_blocks() == 3
        assert [row["id"] for row in dataset.take_all()] == list(range(3999, -1, -1))
    held.unpersist()


def test_a_limit_computes_a_few_partitions(marked: Callable[..., DataFrame], tmp_path: Path) -> None:
    frame = marked(100, 40)
    dataset = raydp_ml.from_spark(frame.limit(50))
    assert [row["id"] for row in dataset.take_all()] == list(range(50))
    assert count(tmp_path) == 1
    # One partition, and then four.
    dataset = raydp_ml.from_spark(frame.limit(250))
    assert [row["id"] for row in dataset.take_all()] == list(range(250))
    assert sum(ray.get(ref).nbytes for ref in dataset.to_arrow_refs()) < 250 * 8 + 250
    assert count(tmp_path) == 1 + 5


def test_limits_of_all_sizes(spark: SparkSession, marked: Callable[..., DataFrame], tmp_path: Path) -> None:
    frame = spark.range(0, 1000, 1, 8)
    for rows in (0, 1, 125, 126, 999, 1000, 5000):
        dataset = raydp_ml.from_spark(frame.limit(rows))
        assert [row["id"] for row in dataset.take_all()] == list(range(min(rows, 1000)))
        assert dataset.schema().names == ["id"]
    assert raydp_ml.from_spark(frame.limit(200), parallelism=2).count() == 200
    assert raydp_ml.from_spark(frame.offset(997).limit(5)).count() == 3
    assert raydp_ml.read_spark(frame.limit(200)).count() == 200
    counted = marked(10, 3).groupBy("id").count().limit(4)
    assert raydp_ml.from_spark(counted).count() == 4
    assert count(tmp_path) == 3


def test_conversions_in_two_threads_leave_each_other_alone(spark: SparkSession, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def waits(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            (tmp_path / f"at-{frame['id'].min()}").touch()
            while frame["id"].min() >= 100 and not go.exists():
                time.sleep(0.01)  # in an executor's worker, until the other conversion is through
            yield frame

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(raydp_ml.from_spark, spark.range(0, 200, 1, 2).mapInPandas(waits, "id long"))
        until(lambda: len(list(tmp_path.glob("at-*"))) == 2, 60, "both partitions of the slow frame to be computed")
        for _ in range(3):
            assert raydp_ml.from_spark(spark.range(10)).count() == 10
        go.touch()
        assert sorted(row["id"] for row in slow.result(60).take_all()) == list(range(200))
