"""Start, stop and start again in one process, and what a stopped session leaves: nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

import raydp_ml
from tests.waiting import until, until_free

QUIET = {"spark.ui.enabled": "false"}


def staged(app: str) -> list[Path]:
    return [path for base in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")) for path in Path(base).glob(app)]


def wait_until_gone(pids: set[int], app: str) -> None:
    def left() -> list[object]:
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()] + list(staged(app))

    until(lambda: not left(), 10, left)


def until_freed(ref: ray.ObjectRef) -> None:
    """Reading the block must become an error; Ray needs a moment to notice that its owner ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            ray.get(ref, timeout=20)
        except ray.exceptions.OwnerDiedError:
            return
    pytest.fail("the block is still there")


@pytest.fixture(autouse=True)
def _stopped(ray_cluster: None) -> Any:
    yield
    raydp_ml.stop_spark()


def test_stop_frees_everything_and_a_second_session_works() -> None:
    with raydp_ml.init_spark("first", 1, 1, "512m", configs=QUIET) as spark:
        info = raydp_ml.spark_info()
        frame = spark.range(0, 100_000, 1, 2).selectExpr("id", "id * 2.0D as x")
        freed = raydp_ml.from_spark(frame)
        kept_rows = freed.count()
    assert kept_rows == 100_000
    raydp_ml.stop_spark()
    wait_until_gone({e["pid"] for e in info["executors"].values()}, info["app_id"])
    until_freed(freed.to_arrow_refs()[0])
    with pytest.raises(raydp_ml.SessionStoppedError, match="start one with init_spark"):
        raydp_ml.from_spark(frame)
    assert raydp_ml.spark_info() == {}

    # The same process again; this time the blocks stay.
    spark = raydp_ml.init_spark("second", 1, 1, "512m", configs=QUIET)
    kept = raydp_ml.from_spark(spark.range(0, 100_000, 1, 2).selectExpr("id", "id * 2.0D as x"))
    raydp_ml.stop_spark(cleanup_data=False)
    tables = ray.get(kept.to_arrow_refs())
    assert sum(table.num_rows for table in tables) == 100_000
    assert sum(sum(table["x"].to_pylist()) for table in tables) == 100_000 * 99_999
    until_free(4)


def test_a_session_is_over_when_its_ray_is_and_the_same_arguments_make_another(
    run_program: Callable[[Path], dict],
) -> None:
    told = run_program(Path(__file__).parent / "programs" / "ray_shutdown.py")
    assert told["same"]
    assert (told["info"], told["hosts"]) == ({}, [])
    assert told["job"] != "nothing was raised"
    assert told["seconds"] < 60
    assert told["ray_stays_down"]
    assert told["from_spark"].startswith("SessionStoppedError: ")
    assert told["another"]
    assert (told["count"], told["rows"]) == (10, 10)
    assert told["third"]
    assert told["cpus"] == 2


def test_ten_terabytes_are_refused_at_once_with_a_table() -> None:
    began = time.monotonic()
    with pytest.raises(raydp_ml.ResourceTimeoutError, match=r"(?s)no node.*could ever hold.*largest node.*memory"):
        raydp_ml.init_spark("huge", 1, 1, "10t", configs=QUIET)
    assert time.monotonic() - began < 10
    assert raydp_ml.spark_info() == {}


def test_executors_that_do_not_fit_are_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"(?s)1 of 2 executors run, 1 wait for resources.*CPU +3 +6 +1 +4"):
        spark = raydp_ml.init_spark("crowded", 2, 3, "512m", configs=QUIET)
    assert len(raydp_ml.spark_info()["executors"]) == 1
    assert spark.range(10).count() == 10
    # The first one lends its CPUs when it has no tasks, and then the other has room.
    until(lambda: len(raydp_ml.spark_info()["executors"]) == 2, 60, raydp_ml.spark_info)


def test_a_placement_group_that_cannot_be_placed_is_an_error_that_shows_it() -> None:
    from ray.util import placement_group_table

    told = r"(?s)was not placed within 2 s.*CPU +1 +2 +4 +4.*placement group: pending, STRICT_SPREAD, 2 bundles\nno autoscaler"
    short = {"spark.ray.resource.timeout": "2s", **QUIET}
    with pytest.raises(raydp_ml.ResourceTimeoutError, match=told):
        raydp_ml.init_spark("spread", 2, 1, "512m", placement_group_strategy="STRICT_SPREAD", configs=short)
    until(lambda: {g["state"] for g in placement_group_table().values()} <= {"REMOVED"}, 10, placement_group_table)


def test_executors_that_die_at_start_fail_with_their_log_and_leave_nothing() -> None:
    bad = {
        "spark.executor.extraJavaOptions": "-javaagent:no_such_agent.jar",
        "spark.ray.executor.maxStartFailures": "2",
        **QUIET,
    }
    before = set(staged("raydp-ml-*"))
    with pytest.raises(raydp_ml.ExecutorStartError, match=r"(?s)2 executors in a row.*no_such_agent"):
        raydp_ml.init_spark("dying", 1, 1, "512m", configs=bad)
    until(lambda: set(staged("raydp-ml-*")) <= before, 10, lambda: staged("raydp-ml-*"))


def test_what_spark_says_of_a_wrong_setting_is_the_error() -> None:
    with pytest.raises(raydp_ml.RaydpMLError, match=r"Spark did not start.*spark\.task\.cpus"):
        raydp_ml.init_spark("wrong", 1, 1, "512m", configs={"spark.task.cpus": "many", **QUIET})


def test_a_dead_driver_jvm_is_an_error_and_a_new_session_works() -> None:
    from raydp_ml import session

    spark = raydp_ml.init_spark("dies", 1, 1, "512m", configs=QUIET)
    info = raydp_ml.spark_info()
    frame = spark.range(10)
    assert Path(spark.sparkContext._temp_dir).parent.parent == Path(tempfile.gettempdir(), info["app_id"], "driver")
    process = session._session.gateway.proc
    process.kill()
    process.wait()
    with pytest.raises(raydp_ml.SessionStoppedError, match="driver JVM ended"):
        raydp_ml.from_spark(frame)
    wait_until_gone({e["pid"] for e in info["executors"].values()}, info["app_id"])
    options = {f"spark.{who}.extraJavaOptions": "-XX:Tier4InvocationThreshold=7000" for who in ("driver", "executor")}
    spark = raydp_ml.init_spark("lives", 1, 1, "512m", configs=QUIET | options)
    assert spark.range(10).count() == 10
    # Of the same process's second JVM: it compiles later than by default, but what the user says of it holds.
    (executor,) = raydp_ml.spark_info()["executors"].values()
    for pid in (session._session.gateway.proc.pid, executor["pid"]):
        told = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        values = dict(option.split("=") for option in told if option.startswith("-XX:Tier4"))
        assert values["-XX:Tier4InvocationThreshold"] == "7000"
        assert values["-XX:Tier4BackEdgeThreshold"] == "400000"
    bean = spark._jvm.java.lang.Class.forName("com.sun.management.HotSpotDiagnosticMXBean")
    jvm = spark._jvm.java.lang.management.ManagementFactory.getPlatformMXBean(bean)
    assert jvm.getVMOption("Tier4InvocationThreshold").getValue() == "7000"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["SPREAD", "STRICT_PACK"])
def test_placement_groups_go_with_the_session(strategy: str) -> None:
    from ray.util import placement_group_table

    raydp_ml.init_spark("grouped", 2, 1, "512m", placement_group_strategy=strategy, configs=QUIET)
    made = [g for g in placement_group_table().values() if g["strategy"] == strategy and len(g["bundles"]) == 2]
    # It has said where the executors go; they have places of their own there, so that they can lend their CPUs.
    assert {g["state"] for g in made} == {"REMOVED"}
    until_free(4)
    raydp_ml.stop_spark()
    assert {g["state"] for g in placement_group_table().values()} == {"REMOVED"}

    held = {"spark.ray.executor.lendCpus": "false", **QUIET}
    raydp_ml.init_spark("held", 2, 1, "512m", placement_group_strategy=strategy, configs=held)
    created = [g for g in placement_group_table().values() if g["state"] == "CREATED"]
    assert [(g["strategy"], len(g["bundles"])) for g in created] == [(strategy, 2)]
    assert not any(executor["lends_cpus"] for executor in raydp_ml.spark_info()["executors"].values())
    raydp_ml.stop_spark()
    assert not [g for g in placement_group_table().values() if g["state"] == "CREATED"]
