"""What people see of a session: nothing at its start, a table of what runs, names in Ray, logs, and the event log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

import raydp_ml
from raydp_ml.cluster.console import ExpectedLines
from raydp_ml.cluster.jvm import ChildJvm
from tests.waiting import until

if TYPE_CHECKING:
    import pyspark.sql

PROGRAM = Path(__file__).parent / "programs" / "quiet.py"
LOG4J = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = OWN %c{1}: %m%n
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The program's output, and the folder of its event log."""
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "events").mkdir()
    (folder / "log4j2.properties").write_text(LOG4J)
    with tempfile.TemporaryDirectory(prefix="rdp_", dir="/tmp", ignore_cleanup_errors=True) as ray:
        environment = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), str(folder / "events"), str(folder / "log4j2.properties")],
            env=environment | {"RAY_TMPDIR": ray},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    return done, folder / "events"


def test_a_start_prints_nothing_but_lines_of_ours_and_the_executors_log_is_the_users(
    quiet: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, _ = quiet
    assert done.returncode == 0, done.stdout + done.stderr
    # Lines of ours say on a slow machine what is waited for.
    assert [line for line in done.stderr.splitlines() if not line.startswith("[init_spark] ")] == []
    (line,) = done.stdout.splitlines()
    found = json.loads(line.removeprefix("RESULT "))
    assert (found["count"], found["name"], found["folder"]) == (100, f"{found['app']}-executor-0.log", "logs")
    assert found["level"] == "WARN"
    assert "OWN CoarseGrainedExecutorBackend: Successfully registered with driver" in found["log"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_that_everybody_gets_are_taken_out_wherever_they_are_cut(size: int) -> None:
    output = (
        b"WARNING: Using incubator modules: jdk.incubator.vector\n"
        b"\r[Stage 0:> (0 + 1) / 2]netlib-blas: JNI_OnLoad: behind the progress bar\n"
        b"\r                        \rnetlib-lapack: JNI_OnLoad: where it was\n"
        b"warning: netlib-blas: JNI_OnLoad: in a line of others\n"
        b"WARNING: something else\n\n"
        b"netlib-blas: JNI_OnLoad: dlopen(libblas.so.3) failed\n"
        b"no end netlib"
    )
    lines = ExpectedLines()
    passed = b"".join(lines.pass_on(output[i : i + size]) for i in range(0, len(output), size)) + lines.end()
    assert passed == (
        b"\r[Stage 0:> (0 + 1) / 2]"
        b"\r                        \r"
        b"warning: netlib-blas: JNI_OnLoad: in a line of others\n"
        b"WARNING: something else\n\n"
        b"no end netlib"
    )


@pytest.mark.slow
def test_the_history_server_shows_the_application(
    quiet: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    from raydp_ml.cluster.jar import spark_home

    _, events = quiet
    settings = {"spark.history.fs.logDirectory": str(events), "spark.history.ui.port": "0"}
    properties = tmp_path / "history.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    log = tmp_path / "history.log"
    command = [str(spark_home().path / "bin" / "spark-class"), "org.apache.spark.deploy.history.HistoryServer"]
    with open(log, "wb") as output:
        server = subprocess.Popen([*command, "--properties-file", str(properties)], stdout=output, stderr=output)
    try:
        bound = re.compile(r"Bound HistoryServer to .*:(\d+)|started at http://\S*:(\d+)")
        until(lambda: bound.search(log.read_text()), 60, log.read_text)
        match = bound.search(log.read_text())
        assert match is not None
        url = f"http://127.0.0.1:{match.group(1) or match.group(2)}/api/v1/applications"
        shown: list[dict] = []

        def ask() -> bool:
            with contextlib.suppress(OSError):  # It is slow to answer at first.
                shown[:] = json.loads(urlopen(url, timeout=10).read())
            return bool(shown)

        until(ask, 60, log.read_text)
        assert [(one["name"], one["attempts"][0]["completed"]) for one in shown] == [("quiet", True)]
    finally:
        server.terminate()
        server.wait(30)


def test_output_that_is_repeated_is_whole_in_the_log_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = ChildJvm("program")
    command = ["sh", "-c", "echo one; echo two >&2; printf three"]
    program.start(command, os.environ, tmp_path, tmp_path / "log", repeats=True)
    assert (program.wait(), program.log_tail()) == (0, "one\ntwo\nthree")
    assert capsys.readouterr().out == "one\ntwo\nthree"


REPEATS = """
import ray, sys, raydp_ml
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
settings = {"spark.ui.enabled": "false", "spark.ray.executor.logToDriver": sys.argv[1]}
try:
    spark = raydp_ml.init_spark("shows", 1, 1, "512m", configs=settings)
    print("RESULT", raydp_ml.spark_info()["app_id"], flush=True)
    sys.stdin.read()
except raydp_ml.InvalidValueError as error:
    print("RESULT", error)
finally:
    raydp_ml.stop_spark()
"""


@pytest.mark.slow
def test_executors_logs_are_printed_on_the_driver_on_request() -> None:
    with tempfile.TemporaryDirectory(prefix="rdp_", dir="/tmp", ignore_cleanup_errors=True) as ray:
        environment = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
        environment["RAY_TMPDIR"] = ray
        command = [sys.executable, "-c", REPEATS]
        wrong = subprocess.run(
            [*command, "perhaps"], env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert "RESULT spark.ray.executor.logToDriver='perhaps' must be true or false" in wrong.stdout, wrong.stderr
        driver = subprocess.Popen(
            [*command, "true"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            text = ""
            for line in driver.stdout or ():
                text += line
                if "RESULT" in text and "Successfully registered with driver" in text:
                    break
            found = re.search("RESULT (.+)", text)
            assert found is not None, text
            # Ray puts colours around what is in brackets.
            name = re.escape(f"shows ({found.group(1)}) executor 0")
            assert re.search(
                rf"\({name} pid=\d+\).* INFO CoarseGrainedExecutorBackend: Successfully registered", text
            ), text
            driver.communicate("", timeout=60)
            assert driver.returncode == 0
        finally:
            driver.kill()
            driver.communicate()


def test_spark_info_is_a_dict_and_a_table(spark: pyspark.sql.SparkSession) -> None:
    import ray

    assert spark.range(0, 40, 1, 4).count() == 40
    until(lambda: sum(one["completed_tasks"] for one in raydp_ml.spark_info()["executors"].values()) >= 4, 20, "tasks")
    info = raydp_ml.spark_info()
    assert json.loads(json.dumps(info)) == info
    executors = info["executors"]
    assert sorted(executors) == ["0", "1"]
    assert [(one["state"], one["cores"], one["failed_tasks"]) for one in executors.values()] == [("running", 1, 0)] * 2
    assert all(one["memory_max"] > 100 << 20 for one in executors.values())
    assert info["ui"].startswith("http://")
    title, headings, *rows = repr(info).splitlines()
    assert title == f"raydp_ml-tests, {info['app_id']}, Spark {spark.version}, {info['ui']}"
    assert headings.split()[:4] == ["executor", "node", "pid", "state"]
    assert [row.split()[0] for row in rows] == ["0", "1"]
    for row, one in zip(rows, executors.values(), strict=True):
        assert one["log"] in row and str(one["pid"]) in row and "running" in row
    page = info._repr_html_()
    assert page.count("<tr>") == 3 and f'<a href="{info["ui"]}">' in page
    names = {f"raydp_ml-tests ({info['app_id']}) executor {number}" for number in "01"}
    assert names <= set(ray.util.list_named_actors())


def test_a_log4j_file_that_is_not_there_is_an_error_at_once() -> None:
    raydp_ml.stop_spark()
    for key in ("spark.log4j.config.file.name", "spark.ray.log4j.config.file.name"):
        with pytest.raises(raydp_ml.InvalidValueError, match=rf"{key}='/no/such\.xml' cannot be read"):
            raydp_ml.init_spark("wrong", 1, 1, "512m", configs={key: "/no/such.xml"})
