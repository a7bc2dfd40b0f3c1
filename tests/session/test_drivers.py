"""Where a driver may be: in a Ray actor, in a thread, beside another of the same name; and not beside a plain SparkSession or in
a process that was forked from another driver.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray

import raydp_ml
from tests.waiting import until

ARGUMENTS = ("same name", 1, 1, "512m")
QUIET = {"spark.ui.enabled": "false"}


def there_and_back() -> dict[str, Any]:
    spark = raydp_ml.init_spark(*ARGUMENTS, configs=QUIET)
    dataset = raydp_ml.from_spark(spark.range(10))
    (executor,) = raydp_ml.spark_info()["executors"].values()
    return {
        "app": spark.sparkContext.applicationId,
        "pid": executor["pid"],
        "sum": dataset.sum("id"),
        "rows": raydp_ml.to_spark(dataset).count(),
    }


@pytest.mark.slow
def test_applications_of_one_name_in_an_actor_a_thread_and_a_task(ray_cluster: None) -> None:
    # Defined here, so that they travel by value.
    class Driver:
        def run(self) -> dict[str, Any]:
            return there_and_back()

    def session_of_a_task() -> dict[str, Any]:
        try:
            return there_and_back()
        finally:
            raydp_ml.stop_spark()

    actor = ray.remote(Driver).options(num_cpus=0).remote()
    try:
        in_actor = actor.run.remote()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(there_and_back).result()
        second = ray.get(in_actor, timeout=240)
        assert first["app"] != second["app"]
        assert [(one["sum"], one["rows"]) for one in (first, second)] == [(45, 10)] * 2
        third = ray.get(ray.remote(num_cpus=0)(session_of_a_task).remote(), timeout=240)
        assert (third["sum"], third["rows"]) == (45, 10) and third["app"] not in (first["app"], second["app"])
        # The thread is over, and the session goes on in this one.
        assert raydp_ml.init_spark(*ARGUMENTS, configs=QUIET).range(5).count() == 5
        ray.kill(actor)
        gone = [Path(f"/proc/{one['pid']}") for one in (second, third)]
        until(lambda: not any(path.exists() for path in gone), 20, "executors of the task and of the killed actor")
        assert Path(f"/proc/{first['pid']}").exists()
    finally:
        ray.kill(actor)
        raydp_ml.stop_spark()


PLAIN = """
from pyspark.sql import SparkSession
import raydp_ml
SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
try:
    raydp_ml.init_spark()
except raydp_ml.InvalidValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_plain_session_in_the_process_is_an_error_that_says_how_its_frames_are_converted() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.startswith("a SparkContext with master 'local[1]' already runs in this process"), done.stderr
    assert "raydp_ml.from_spark makes Ray Datasets of its frames" in done.stdout and "spark.stop()" in done.stdout


@pytest.mark.slow
def test_a_forked_process_neither_uses_nor_ends_the_session(run_program: Callable[[Path], dict]) -> None:
    told = run_program(Path(__file__).parent / "programs" / "forks.py")
    child = told["child"]
    try:
        assert told["before"] == 10
        refused = told["refused"]
        assert refused.pop("info") == {}
        for name, error in {"with_ray": told["with_ray"], **refused}.items():
            which = "Ray runs" if name == "with_ray" else "a Spark session runs"
            assert error.startswith("SessionStoppedError: this process ("), (name, error)
            assert f"was forked from one in which {which}" in error and 'get_context("spawn")' in error, (name, error)
        assert (told["exit_code"], told["count"], told["rows"], told["same"]) == (3, 1000, 1000, True)

        def left() -> list[object]:
            folders = [
                path for base in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")) for path in Path(base).glob(told["app"])
            ]
            return [pid for pid in told["pids"] if Path(f"/proc/{pid}").exists()] + folders

        # The driver was killed; a child that lives on holds nothing of it.
        assert Path(f"/proc/{child}").exists()
        until(lambda: not left(), 20, left)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
