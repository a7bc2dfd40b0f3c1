"""A stream into Ray: every micro-batch becomes a Dataset, and nothing is left of those that are over."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

import raydp_ml
from raydp_ml.exchange import context as contexts
from tests.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = 50


def stored() -> int:
    reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    return reply.store_stats.object_store_bytes_used


def staged() -> list[Path]:
    return list(Path("/dev/shm", raydp_ml.spark_info()["app_id"]).glob("*/staging/*"))


def driver_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_micro_batches_leave_store_staging_and_driver_as_they_were(
    spark: SparkSession, tmp_path: Path
) -> None:
    before = stored()
    sums: list[int] = []
    grown: list[int] = []
    last: list[object] = []

    def into_ray(batch: DataFrame, number: int) -> None:
        # A block of more than 100 KB, which lies in the store and not beside its reference.
        dataset = raydp_ml.from_spark(batch.selectExpr("value", "repeat('x', 4000) AS filler"))
        if number % 20 == 0:
            sums.append(dataset.sum("value"))
            grown.append(driver_bytes())
        last[:] = [dataset]

    stream = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", ROWS).option("numPartitions", 2).load()
    writer = stream.writeStream.foreachBatch(into_ray).option("checkpointLocation", str(tmp_path / "checkpoint"))
    query = writer.start()
    try:
        until(
            lambda: len(sums) == 11 or query.exception() is not None, 800, lambda: f"{len(sums)} sums: {query.status}"
        )
        assert query.exception() is None
    finally:
        query.stop()
    # The source counts from 0 on, ROWS in each batch.
    assert sums == [sum(range(n * ROWS, (n + 1) * ROWS)) for n in range(0, 201, 20)]
    assert staged() == []
    context = contexts.of_session(spark)
    assert context is not None
    exports = context.exports

    def held() -> list[str]:
        # Datasets that were read are in cycles, which Python breaks when it comes to it; the next conversion sees what is unused.
        gc.collect()
        raydp_ml.from_spark(spark.range(1))
        return sorted(exports)

    until(lambda: len(held()) <= 3, 30, held)
    # What is loaded at the first use is not growth.
    assert grown[-1] - grown[2] < 20 << 20
    assert threading.active_count() < 60
    last.clear()
    raydp_ml.from_spark(spark.range(1))

    def back() -> bool:
        gc.collect()
        return stored() <= before + (1 << 20)

    until(back, 60, lambda: f"{stored()} bytes are stored, {before} were before")


@pytest.mark.slow
def test_files_go_through_a_stateful_stream_into_files_and_a_table(spark: SparkSession, tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.mkdir()
    rows = spark.readStream.schema("key string, amount long").json(str(source))
    sums = rows.groupBy("key").sum("amount")

    def run(number: int) -> None:
        """What one run of both streams sees: the file that is new."""
        lines = [f'{{"key": "{key}", "amount": {number}}}\n' for key in "aab"]
        (source / f"{number}.json").write_text("".join(lines))
        files = rows.writeStream.format("parquet").option("path", str(sink))
        table = sums.writeStream.format("memory").queryName("totals").outputMode("complete")
        for name, writer in (("files", files), ("table", table)):
            where = str(tmp_path / name)
            query = writer.option("checkpointLocation", where).trigger(availableNow=True).start()
            assert query.awaitTermination(120) and query.exception() is None

    run(1)
    run(10)
    assert {tuple(row) for row in spark.table("totals").collect()} == {("a", 22), ("b", 11)}
    dataset = raydp_ml.from_spark(spark.read.parquet(str(sink)))
    assert (dataset.count(), dataset.sum("amount")) == (6, 33)
