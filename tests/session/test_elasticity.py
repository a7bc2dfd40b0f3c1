"""Executors come when Spark has work for them, go when it has none, and have what a stage asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

import raydp_ml
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def elastic(ray_cluster: None) -> Iterator[SparkSession]:
    """A session that has one executor when it is idle, and no upper limit of its own."""
    configs = {
        "spark.ui.enabled": "false",
        "spark.dynamicAllocation.enabled": True,
        "spark.dynamicAllocation.minExecutors": 1,
        "spark.dynamicAllocation.executorIdleTimeout": "3s",
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
    }
    yield raydp_ml.init_spark("elastic", 1, 1, "512m", configs=configs)
    raydp_ml.stop_spark()


def executors() -> set[str]:
    return set(raydp_ml.spark_info()["executors"])


def together(folder: Path, count: int) -> Any:
    """A task that ends when ``count`` tasks run at the same time, which takes as many one-core executors."""

    def run(numbers: Iterator[int]) -> Iterator[int]:
        mine = sum(numbers)
        (folder / f"task-{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while len(list(folder.glob("task-*"))) < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the other tasks do not run")
            time.sleep(0.05)
        yield mine

    return run


def test_executors_come_with_work_and_go_without(elastic: SparkSession, tmp_path: Path) -> None:
    assert len(executors()) == 1
    numbers = elastic.sparkContext.parallelize(range(300), 3)
    assert sum(numbers.mapPartitions(together(tmp_path, 3)).collect()) == sum(range(300))
    assert len(executors()) == 3
    until(lambda: len(executors()) == 1, 60, executors)
    until_free(4)
    assert elastic.range(100).count() == 100


def test_a_stage_gets_executors_of_its_profile(elastic: SparkSession, tmp_path: Path) -> None:
    from pyspark import TaskContext
    from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

    wanted = ExecutorResourceRequests().cores(1).memory("512m").resource("special", 1)
    per_task = TaskResourceRequests().cpus(1).resource("special", 1)
    profile = ResourceProfileBuilder().require(wanted).require(per_task).build
    go = tmp_path / "go"

    def where(numbers: Iterator[int]) -> Iterator[tuple[list[str], int]]:
        deadline = time.monotonic() + 120
        while not go.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield TaskContext.get().resources()["special"].addresses, sum(numbers)

    numbers = elastic.sparkContext.parallelize(range(10), 1).withResources(profile).mapPartitions(where)
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(numbers.collect)
        try:
            until(lambda: ray.available_resources().get("special", 0) == 1, 60, ray.available_resources)
        finally:
            go.touch()
        assert told.result(60) == [(["0"], 45)]
