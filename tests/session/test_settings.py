"""Sizes, durations and the registry of settings."""

from __future__ import annotations

import warnings

import pytest

from raydp_ml.cluster import settings
from raydp_ml.cluster.placement import ExecutorRequest, ExecutorSize
from raydp_ml.errors import InvalidTypeError, InvalidValueError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * GIB),
        ("4 GB", 4 * GIB),
        ("4g", 4 * GIB),
        ("4GiB", 4 * GIB),
        ("0.5g", GIB // 2),
        (GIB, GIB),
        ("1024", 1024),
    ],
)
def test_memory(text: str | int, size: int) -> None:
    assert settings.parse_memory(text, "executor_memory") == size


@pytest.mark.parametrize("text", ["", "g", "4x", "-1g", "0", "1e3g"])
def test_wrong_memory_names_the_argument_and_the_value(text: str) -> None:
    with pytest.raises(InvalidValueError, match=f"executor_memory='{text}'"):
        settings.parse_memory(text, "executor_memory")


def test_wrong_memory_type() -> None:
    with pytest.raises(InvalidTypeError, match="executor_memory=None"):
        settings.parse_memory(None, "executor_memory")  # type: ignore[arg-type]


def test_numbers_without_unit_are_mib_where_spark_says_so() -> None:
    assert ExecutorSize.of(
        {"spark.executor.memory": "2048", "spark.executor.memoryOverhead": "100"}, {}
    ) == ExecutorSize(1, 2048, 100)


def test_size_adds_overhead_off_heap_and_python_memory() -> None:
    told = {
        "spark.executor.memory": "10g",
        "spark.executor.cores": "3",
        "spark.memory.offHeap.enabled": "true",
        "spark.memory.offHeap.size": "1g",
        "spark.executor.pyspark.memory": "512m",
    }
    assert ExecutorSize.of(told, {}) == ExecutorSize(3, 10240, 1024 + 1024 + 512)
    # A resource profile wins over the configuration.
    assert ExecutorSize.of(
        told, {"cores": 1, "memory": 1000, "memoryOverhead": 50, "offHeap": 0, "pyspark.memory": 1}
    ) == (ExecutorSize(1, 1000, 50 + 1024 + 1))


@pytest.mark.parametrize(
    ("told", "bundle"),
    [
        ({}, {"CPU": 2, "memory": 1408 << 20}),
        ({"spark.ray.raydp_spark_executor.actor.resource.cpu": "0.5"}, {"CPU": 0.5, "memory": 1408 << 20}),
        ({"spark.ray.actor.resource.cpu": "0.25"}, {"CPU": 0.25, "memory": 1408 << 20}),
        (
            {f"spark.ray.raydp_spark_executor.actor.resource.{name}": value for name, value in [("memory", "1g"), ("spot", "2")]},
            {"CPU": 2, "memory": GIB, "spot": 2},
        ),
    ],
)  # fmt: skip
def test_request(told: dict[str, str], bundle: dict[str, float]) -> None:
    request = ExecutorRequest.of(ExecutorSize(2, 1024, 384), told, heap_only=False)
    assert request.bundle() == bundle
    assert request.nodes_that_fit([bundle, {"CPU": 100}]) == 1


def test_unknown_keys_warn_with_the_nearest_one() -> None:
    with pytest.warns(UserWarning, match=r"spark\.ray\.resource\.timeot.*did you mean spark\.ray\.resource\.timeout"):
        settings.warn_unknown({"spark.ray.resource.timeot": "1"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings.warn_unknown({"spark.ray.raydp_spark_executor.actor.resource.spot": "1", "spark.sql.x": "1"})


def test_wrong_numbers_name_the_key() -> None:
    with pytest.raises(InvalidValueError, match=r"spark\.ray\.actor\.resource\.cpu='many'"):
        settings.executor_resources({"spark.ray.actor.resource.cpu": "many"})
    with pytest.raises(InvalidValueError, match=r"spark\.ray\.resource\.timeout='soon'"):
        settings.read({"spark.ray.resource.timeout": "soon"}, "spark.ray.resource.timeout")
