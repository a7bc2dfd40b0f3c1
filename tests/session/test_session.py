"""One Spark session inside Ray: work on its executors, their accounting, losses, and wrong arguments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import ray

import raydp_ml
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def executor_pids() -> set[int]:
    return {info["pid"] for info in raydp_ml.spark_info()["executors"].values()}


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_word_count(spark: SparkSession) -> None:
    text = spark.sparkContext.parallelize(["to be or", "not to be"], 2)
    counts = text.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
    assert dict(counts.collect()) == {"to": 2, "be": 2, "or": 1, "not": 1}


def test_sql_join(spark: SparkSession) -> None:
    spark.range(1000).createOrReplaceTempView("a")
    spark.range(500, 1500).createOrReplaceTempView("b")
    assert spark.sql("select count(*), sum(a.id) from a join b on a.id = b.id").first()[:] == (
        500,
        sum(range(500, 1000)),
    )


def test_python_and_pandas_udfs_run_below_the_executors(spark: SparkSession) -> None:
    from pyspark.sql.functions import pandas_udf, udf

    @udf("array<long>")
    def parents(_: int) -> list[int]:
        return list(ancestors(os.getpid()))

    seen = [set(row[0]) for row in spark.range(0, 8, 1, 4).select(parents("id")).distinct().collect()]
    assert seen and all(line & executor_pids() for line in seen)

    @pandas_udf("double")
    def half(values: pd.Series) -> pd.Series:
        return values / 2

    assert spark.range(10).select(half("id").alias("h")).selectExpr("sum(h)").first()[0] == 22.5


def test_executors_count_their_memory_in_ray_and_lend_their_cpus_when_idle(spark: SparkSession) -> None:
    until_free(4)
    assert all(executor["lends_cpus"] for executor in raydp_ml.spark_info()["executors"].values())
    free = ray.available_resources()
    total = ray.cluster_resources()["memory"]
    assert total - free["memory"] == 2 * (512 + 384) << 20


def test_the_same_arguments_give_the_same_session_and_others_an_error(spark: SparkSession) -> None:
    assert raydp_ml.init_spark("raydp_ml-tests", 2, 1, "512m") is spark
    assert raydp_ml.init_spark("raydp_ml-tests", 2, 1, 512 << 20) is spark
    with pytest.raises(raydp_ml.InvalidValueError, match=r"runs with other arguments; call stop_spark\(\)"):
        raydp_ml.init_spark("raydp_ml-tests", 1, 1, "512m")


def test_secrets_are_on_no_command_line(spark: SparkSession) -> None:
    secret = spark.sparkContext.getConf().get("spark.authenticate.secret")
    assert spark.sparkContext.getConf().get("spark.authenticate") == "true" and len(secret) >= 32
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert any(b"CoarseGrainedExecutorBackend" in line for line in lines)
    assert not any(secret.encode() in line for line in lines)
    logs = [Path(info["log"]).read_text() for info in raydp_ml.spark_info()["executors"].values()]
    assert not any(secret in log for log in logs)


def test_the_control_port_is_closed_once_spark_is_connected(spark: SparkSession) -> None:
    from raydp_ml import session

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", session._session.master.port), timeout=5)


def test_py4j_keeps_what_a_forked_process_lets_go_of(spark: SparkSession) -> None:
    moved = "py4j's client moved: see leave_driver in raydp_ml/cluster/spark_seam.py"
    client = spark._jvm._gateway_client
    assert spark.sparkContext._gateway._gateway_client is client and callable(client.send_command), moved
    assert spark.range(1).count() == 1
    assert client.deque and all(each.socket.fileno() >= 0 for each in client.deque), moved


def test_the_block_socket_answers_only_with_the_token(spark: SparkSession) -> None:
    app = raydp_ml.spark_info()["app_id"]
    (path, *_) = Path(os.environ.get("TMPDIR", "/tmp"), app).glob("*/s")
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.parent.parent.stat().st_mode & 0o077 == 0
    for request in (b"\n", b'{"token": "guess", "lease": "x", "blocks": [0], "columns": []}\n', b"no json\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(request)
            assert client.recv(100) == b""


def test_the_block_socket_is_closed_to_other_users(spark: SparkSession) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can try as another user")
    (path, *_) = Path(os.environ.get("TMPDIR", "/tmp"), raydp_ml.spark_info()["app_id"]).glob("*/s")
    nobody = 65534
    attempt = f"import os, socket; os.setuid({nobody}); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    tried = subprocess.run([sys.executable, "-I", "-S", "-c", attempt], capture_output=True, text=True, check=False)
    assert "PermissionError" in tried.stderr


def test_a_killed_executor_is_replaced_and_the_job_is_right(spark: SparkSession, tmp_path: Path) -> None:
    before = executor_pids()
    victim = sorted(before)[0]
    mark = str(tmp_path / "killed")

    def slow_sum(numbers: Iterator[int]) -> Iterator[int]:
        # The first task that runs below the victim kills it, in the middle of the job.
        if victim in set(ancestors(os.getpid())) and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(victim, signal.SIGKILL)
        yield sum(numbers)

    assert sum(spark.sparkContext.parallelize(range(1000), 8).mapPartitions(slow_sum).collect()) == sum(range(1000))
    assert os.path.exists(mark)
    until(lambda: len(executor_pids() - {victim}) == 2, 60, "a second executor runs again")
    assert victim not in executor_pids()
    assert spark.range(100).count() == 100


def test_an_executor_without_heap_is_replaced_and_the_job_is_right(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.sql.functions import udf

    mark = tmp_path / "tried"
    before = executor_pids()

    def length(row: int) -> int:
        # The first attempt asks the JVM for more than its heap.
        if mark.exists():
            return 10
        mark.touch()
        return 2_000_000_000

    spark.udf.register("wanted_length", udf(length, "int").asNondeterministic())
    frame = spark.range(0, 3, 1, 1).selectExpr("wanted_length(id) AS n").selectExpr("length(repeat('x', n)) AS made")
    assert [row.made for row in frame.collect()] == [10, 10, 10]
    until(lambda: len(executor_pids()) == 2 and executor_pids() != before, 60, executor_pids)


def test_a_killed_host_actor_is_replaced(spark: SparkSession) -> None:
    from raydp_ml import session

    before = executor_pids()
    actor = session._session.master.host_actors()[0]
    ray.kill(actor)
    until(lambda: len(executor_pids()) == 2 and executor_pids() != before, 60, executor_pids)
    assert spark.range(1000).selectExpr("sum(id)").first()[0] == 499_500


WRONG = [
    ({"num_executors": 0}, raydp_ml.InvalidValueError, "num_executors=0 must be at least 1"),
    ({"num_executors": 1.5}, raydp_ml.InvalidTypeError, r"num_executors=1\.5 must be a whole number"),
    ({"executor_cores": -1}, raydp_ml.InvalidValueError, "executor_cores=-1"),
    ({"executor_memory": "lots"}, raydp_ml.InvalidValueError, "executor_memory='lots'"),
    ({"app_name": ""}, raydp_ml.InvalidTypeError, "app_name=''"),
    (
        {"placement_group_strategy": "NEAR"},
        raydp_ml.InvalidValueError,
        "placement_group_strategy='NEAR' must be one of PACK",
    ),
    ({"placement_group_bundle_indexes": [0]}, raydp_ml.InvalidValueError, "needs placement_group"),
    ({"configs": ["a"]}, raydp_ml.InvalidTypeError, "configs must be a dict"),
    ({"fault_tolerance_mode": "yes"}, raydp_ml.InvalidTypeError, "fault_tolerance_mode='yes'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments(spark: SparkSession, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        raydp_ml.init_spark(**arguments)
    assert raydp_ml.spark_info()["app_name"] == "raydp_ml-tests"
