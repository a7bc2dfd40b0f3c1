"""The actor that owns blocks dies, as on a machine without memory: the session goes on, and what is lost says so."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

import raydp_ml
from raydp_ml.errors import BlockLostError
from raydp_ml.exchange import context as contexts
from raydp_ml.exchange import owner
from tests.waiting import until

if TYPE_CHECKING:
    import pyspark.sql

QUIET = {"spark.ui.enabled": "false"}


@pytest.fixture(scope="module")
def spark(ray_cluster: None) -> Iterator[pyspark.sql.SparkSession]:
    yield raydp_ml.init_spark("owner", 1, 2, "512m", configs=QUIET)
    raydp_ml.stop_spark()


def owner_pid(spark: pyspark.sql.SparkSession) -> int:
    context = contexts.of_session(spark)
    assert context is not None
    return int(ray.get(context.owner.__ray_call__.remote(lambda self: os.getpid()), timeout=60))


def kill_owner(spark: pyspark.sql.SparkSession) -> None:
    pid = owner_pid(spark)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the end of the owner")


def rows(start: int, spark: pyspark.sql.SparkSession) -> pyspark.sql.DataFrame:
    # More than 100 KB, because Ray keeps smaller blocks with their reference.
    return spark.range(start, start + 40_000, 1, 2).selectExpr("id", "id * 2.0D AS x", "id * 3.0D AS y")


def total(ds: ray.data.Dataset) -> Any:
    return sum(sum(table["id"].to_pylist()) for table in ray.get(ds.to_arrow_refs()))


def test_conversions_go_on_with_another_owner(
    spark: pyspark.sql.SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    before = raydp_ml.from_spark(rows(0, spark))
    lazy = raydp_ml.read_spark(rows(7, spark))
    lent = raydp_ml.to_spark(ray.data.range(1000), spark)
    assert lent.count() == 1000
    with caplog.at_level(logging.WARNING, "raydp_ml"):
        kill_owner(spark)
        until(lambda: "was started again" in caplog.text, 60, "a warning")
    for _ in range(2):
        assert total(raydp_ml.from_spark(rows(5, spark))) == 40_000 * 5 + 40_000 * 39_999 // 2
    assert total(lazy.materialize()) == 40_000 * 7 + 40_000 * 39_999 // 2
    assert raydp_ml.to_spark(ray.data.range(1000), spark).count() == 1000
    with pytest.raises(ray.exceptions.OwnerDiedError):
        ray.get(before.to_arrow_refs(), timeout=60)
    with pytest.raises(Exception, match=r"no longer lent to Spark: .* call to_spark again"):
        lent.selectExpr("sum(id)").collect()


def test_a_conversion_outlives_its_owner(spark: pyspark.sql.SparkSession, tmp_path: Path) -> None:
    go, begun = str(tmp_path / "go"), tmp_path / "begun"

    def wait(batches: Any) -> Any:
        import threading

        for batch in batches:
            if batch["id"].min() > 0:  # the second partition waits, when the first one has its block
                begun.touch()
                while not os.path.exists(go):
                    threading.Event().wait(0.05)
            yield batch

    frame = rows(0, spark)
    with ThreadPoolExecutor(1) as pool:
        converting = pool.submit(raydp_ml.from_spark, frame.mapInPandas(wait, frame.schema))
        until(begun.exists, 60, "the second partition")
        try:
            kill_owner(spark)
        finally:
            Path(go).touch()
        assert total(converting.result(120)) == 40_000 * 39_999 // 2


def test_an_owner_that_is_ended_for_good_ends_the_session(spark: pyspark.sql.SparkSession) -> None:
    context = contexts.of_session(spark)
    assert context is not None
    frame = spark.range(3)
    ray.kill(context.owner)
    with pytest.raises(raydp_ml.SessionStoppedError, match=r"owns the blocks of the session was ended.*init_spark"):
        raydp_ml.from_spark(frame)
    again = raydp_ml.init_spark("owner", 1, 2, "512m", configs=QUIET)
    assert again is not spark
    assert raydp_ml.from_spark(again.range(3)).count() == 3


def test_an_owner_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_SERVED_SECONDS", 0.1)
    with pytest.raises(BlockLostError, match="partition 3 was lost, and no driver is there"):
        asyncio.run(owner.BlockOwner().recompute("export", 3, None))
