"""The external shuffle service: executors go, and what they shuffled stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import raydp_ml
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark import RDD
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def served(ray_cluster: None) -> Iterator[SparkSession]:
    """A session whose executor goes when it is idle, and counts half a CPU."""
    configs = {
        "spark.ui.enabled": "false",
        "spark.shuffle.service.enabled": True,
        "spark.dynamicAllocation.enabled": True,
        "spark.dynamicAllocation.executorIdleTimeout": "2s",
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.maxExecutors": 1,
        "spark.ray.raydp_spark_executor.actor.resource.cpu": 0.5,
    }
    yield raydp_ml.init_spark("served", 1, 1, "512m", configs=configs)
    raydp_ml.stop_spark()


def executors() -> dict[str, dict]:
    return raydp_ml.spark_info()["executors"]


def service_pids(app: str) -> list[int]:
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if b"ExternalShuffleService" in line and f"{app}/shuffle-service".encode() in environment:
            pids.append(int(process.name))
    return pids


def counted_sums(spark: SparkSession, folder: Path) -> RDD[tuple[int, int]]:
    """Sums by remainder, after a shuffle whose four map tasks each leave a file every time that they run."""

    def mark(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
        (folder / os.urandom(8).hex()).touch()
        return ((number % 7, number) for number in numbers)

    return spark.sparkContext.parallelize(range(1000), 4).mapPartitions(mark).reduceByKey(add, 3)


SUMS = {remainder: sum(range(remainder, 1000, 7)) for remainder in range(7)}


def test_shuffle_files_outlive_the_executors(served: SparkSession, tmp_path: Path) -> None:
    until(executors, 60, "an executor")
    until_free(4 - 0.5 * len(executors()))
    sums = counted_sums(served, tmp_path)
    assert dict(sums.collect()) == SUMS
    assert len(list(tmp_path.iterdir())) == 4
    until(lambda: not executors(), 60, executors)
    assert dict(sums.collect()) == SUMS
    assert len(list(tmp_path.iterdir())) == 4  # read from the service, not computed again


def test_executors_end_with_the_service_and_others_take_their_place(served: SparkSession, tmp_path: Path) -> None:
    sums = counted_sums(served, tmp_path)
    assert dict(sums.collect()) == SUMS
    (service,) = service_pids(raydp_ml.spark_info()["app_id"])
    os.kill(service, signal.SIGKILL)
    assert dict(sums.collect()) == SUMS
    assert service_pids(raydp_ml.spark_info()["app_id"]) != [service]


def test_nothing_of_the_service_is_left_after_the_session(served: SparkSession) -> None:
    app = raydp_ml.spark_info()["app_id"]
    served.range(100).repartition(3).count()
    assert service_pids(app)
    raydp_ml.stop_spark()
    until(lambda: not service_pids(app), 10, lambda: service_pids(app))
    folder = Path(os.environ.get("TMPDIR", "/tmp"), app)
    until(lambda: not folder.exists(), 10, lambda: list(folder.rglob("*")))
