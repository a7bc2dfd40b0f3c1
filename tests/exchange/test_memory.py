"""What moving data leaves behind: nothing in the object store, nothing staged, no lease, and a driver as small as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

import raydp_ml
from raydp_ml.exchange import context as contexts
from tests.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = 6_250_000  # 100 MB
SUM = 0.5 * ROWS * (ROWS - 1) / 2


def stored() -> int:
    """Bytes of the objects in the object store."""
    return get_memory_info_reply(
        get_state_from_address(ray.get_runtime_context().gcs_address)
    ).store_stats.object_store_bytes_used


def driver_bytes() -> int:
    """Memory of this process that is neither shared nor a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def staging_folders() -> list[Path]:
    return list(Path("/dev/shm", raydp_ml.spark_info()["app_id"]).glob("*/staging"))


def there_and_back(spark: SparkSession) -> float:
    """100 MB into the object store and back; nothing is kept."""
    dataset = raydp_ml.from_spark(spark.range(0, ROWS, 1, 2).selectExpr("id", "id * 0.5D AS x"))
    return raydp_ml.to_spark(dataset).selectExpr("sum(x)").first()[0]


@dataclass(frozen=True)
class Moved:
    """What some rounds gave, and what was before them."""

    sums: set[float]
    stored_before: int
    driver_grew: int

    @classmethod
    def of(cls, spark: SparkSession, rounds: int) -> Moved:
        stored_before = stored()
        # Whatever Ray and Spark load at their first use is not growth.
        sums = {there_and_back(spark)}
        driver = driver_bytes()
        sums |= {there_and_back(spark) for _ in range(rounds)}
        return cls(sums, stored_before, driver_bytes() - driver)

    def check_store(self, spark: SparkSession) -> None:
        def back() -> bool:
            collect_everywhere(spark)
            return stored() <= self.stored_before

        until(back, 60, lambda: f"{stored()} bytes are stored, {self.stored_before} were before")


@pytest.fixture(scope="module")
def moved(spark: SparkSession) -> Moved:
    """1 GB in each direction."""
    return Moved.of(spark, 10)


def collect_everywhere(spark: SparkSession) -> None:
    # A job: Spark drops its references to the query before.
    spark.range(1).count()
    gc.collect()
    spark._jvm.System.gc()


def test_the_object_store_is_back_at_its_level(spark: SparkSession, moved: Moved) -> None:
    assert moved.sums == {SUM}
    moved.check_store(spark)


def test_no_lease_and_no_file_is_left(spark: SparkSession, moved: Moved) -> None:
    owner = contexts.of_session(spark).owner

    def none_left() -> bool:
        collect_everywhere(spark)
        return ray.get(owner.leases.remote()) == []

    until(none_left, 60, lambda: ray.get(owner.leases.remote()))
    assert len(staging_folders()) == 2
    assert [path for folder in staging_folders() for path in folder.iterdir()] == []


def test_the_driver_did_not_grow_with_the_data(moved: Moved) -> None:
    assert moved.driver_grew < 100 << 20


@pytest.mark.slow
def test_fifty_rounds_leave_no_more_than_ten(spark: SparkSession) -> None:
    """5 GB in each direction."""
    moved = Moved.of(spark, 50)
    assert moved.sums == {SUM}
    moved.check_store(spark)
    assert moved.driver_grew < 200 << 20


@pytest.fixture
def full_staging(spark: SparkSession) -> Iterator[list[Path]]:
    """More than an executor may have staged, as if imports did not come after; a sparse file takes no memory."""
    fillers = [folder / "filler.arrow" for folder in staging_folders()]
    for filler in fillers:
        with filler.open("wb") as file:
            file.truncate(3 << 29)
    yield fillers
    for filler in fillers:
        filler.unlink(missing_ok=True)


def test_executors_wait_while_too_much_is_staged_and_then_go_on(spark: SparkSession, full_staging: list[Path]) -> None:
    frame = spark.range(0, ROWS, 1, 6).selectExpr("id", "id * 0.5D AS x")
    with ThreadPoolExecutor(1) as pool:
        conversion = pool.submit(raydp_ml.from_spark, frame)
        running = spark.sparkContext.statusTracker().getActiveStageIds
        until(running, 30, "the job did not start")
        with pytest.raises(TimeoutError):
            conversion.result(timeout=2)
        assert [path for folder in staging_folders() for path in folder.glob("export*")] == []
        for filler in full_staging:
            filler.unlink()
        assert conversion.result(timeout=60).sum("x") == SUM
