"""raydp-submit: programs of Python and Scala, here and as Ray jobs; what they exit with, and that nothing outlives them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raydp_ml.cli.options import parse, ray_address_of, settings_of
from raydp_ml.errors import InvalidValueError
from tests.started_ray import StartedRay, started_ray
from tests.waiting import until

PROGRAMS = Path(__file__).parent / "programs"
SMALL = ["--num-executors", "1", "--executor-memory", "512m", "--conf", "spark.ui.enabled=false"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[StartedRay]:
    with started_ray(4) as started:
        yield started


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Scala application, compiled with the compiler inside pyspark."""
    from raydp_ml.cluster.jar import compile_jar, spark_home

    jar = tmp_path_factory.mktemp("jar") / "counting.jar"
    compile_jar(spark_home(), jar, {"Counting.scala": (PROGRAMS / "Counting.scala").read_bytes()})
    return jar


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "raydp_ml.cli.submit", *(str(argument) for argument in arguments)]


def result_in(output: str) -> dict:
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


def submit(cluster: StartedRay, folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**cluster.environment, **variables}
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_python_program_of_sparks_own_names(cluster: StartedRay, tmp_path: Path) -> None:
    (tmp_path / "shipped.py").write_text("def twice(number):\n    return 2 * number\n")
    (tmp_path / "spark-defaults.conf").write_text("spark.master yarn\nspark.from.file  s3cret\nspark.from.flag file\n")
    (tmp_path / "ray.conf").write_text(json.dumps({"ray": {"run-mode": "CLUSTER", "address": cluster.address}}))
    done = submit(
        cluster, tmp_path, "--ray-conf", "ray.conf", *SMALL, "--py-files", "shipped.py", "--conf", "spark.from.flag=flag",
        "--name", "submitted", PROGRAMS / "builder.py", "--num-executors", "7", SPARK_CONF_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert result_in(done.stdout) == {
        "arguments": ["--num-executors", "7"],
        "name": "from the code",
        "partitions": "3",
        "settings": {"spark.from.flag": "flag", "spark.from.file": "s3cret", "spark.ui.enabled": "false"},
        "secret": [],
        "sum": 4950,
        "twice": [2, 4],
        "rows": [{"id": number} for number in range(10)],
        "executors": 1,
        "again": True,
    }


def test_a_scala_application_ends_with_its_own_exit_code(cluster: StartedRay, counting: Path, tmp_path: Path) -> None:
    arguments = ["--ray-address", cluster.address, *SMALL, "--class", "Counting", counting, 1000, 5]
    done = submit(cluster, tmp_path, *arguments)
    assert done.returncode == 5, done.stdout + done.stderr
    found = result_in(done.stdout)
    assert (found["sum"], found["executors"], found["name"]) == (499500, 1, "Counting")
    assert found["id"].startswith("raydp-ml-")


@contextmanager
def submitted(cluster: StartedRay, folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """A program that goes on after it has printed its result."""
    running = subprocess.Popen(
        command(*arguments), cwd=folder, env=cluster.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = next((line for line in running.stdout or () if line.startswith("RESULT ")), None)
        assert line is not None, running.stderr.read() if running.stderr else ""
        yield running, result_in(line)
    finally:
        running.kill()
        running.communicate()


def left_of(application: str) -> list[str]:
    told = [file for file in Path("/proc").glob("[0-9]*/cmdline") if application in _text(file)]
    files = [path for base in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")) for path in Path(base).glob(application)]
    return [str(path) for path in told + files]


def ends_by(number: signal.Signals, running: subprocess.Popen[str], application: str) -> None:
    assert left_of(application)
    running.send_signal(number)
    assert running.wait(60) == 128 + number
    until(lambda: not left_of(application), 10, lambda: left_of(application))


@pytest.mark.slow
def test_a_signal_ends_the_application_and_all_its_parts(cluster: StartedRay, counting: Path, tmp_path: Path) -> None:
    arguments = ["--ray-address", cluster.address, *SMALL, "--class", "Counting", counting, 10, "wait"]
    with submitted(cluster, tmp_path, *arguments) as (running, found):
        ends_by(signal.SIGTERM, running, found["id"])


IVY = """<ivysettings><settings defaultResolver="local"/><resolvers>
<ibiblio name="local" m2compatible="true" root="{root}"/></resolvers></ivysettings>
"""
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>counting</artifactId><version>1.0</version></project>
"""


@pytest.mark.slow
def test_what_is_shipped_arrives_and_an_interrupt_ends_the_program(
    cluster: StartedRay, counting: Path, tmp_path: Path
) -> None:
    for archive, member in (("archive.zip", "inside.txt"), ("note.jar", "note.txt")):
        with zipfile.ZipFile(tmp_path / archive, "w") as out:
            out.writestr(member, "in the archive")
    (tmp_path / "file.txt").write_text("a file")
    repository = tmp_path / "maven" / "org" / "example" / "counting" / "1.0"
    repository.mkdir(parents=True)
    shutil.copy(counting, repository / "counting-1.0.jar")
    (repository / "counting-1.0.pom").write_text(POM)
    (tmp_path / "ivy.xml").write_text(IVY.format(root=(tmp_path / "maven").as_uri()))
    (tmp_path / "own.conf").write_text("spark.from.file  file\nspark.from.flag file\n")
    arguments = [
        "--ray-address", cluster.address, *SMALL, "--executor-cores", "2", "--driver-memory", "700m",
        "--properties-file", "own.conf", "--conf", "spark.from.flag=flag", "--conf", f"spark.jars.ivy={tmp_path}/ivy",
        "--archives", "archive.zip#unpacked", "--files", "file.txt", "--jars", "note.jar",
        "--packages", "org.example:counting:1.0", "--conf", f"spark.jars.ivySettings={tmp_path}/ivy.xml",
        PROGRAMS / "shipped_to.py", "spark.from.file", "spark.from.flag",
    ]  # fmt: skip
    with submitted(cluster, tmp_path, *arguments) as (running, found):
        application = found.pop("id")
        assert found == {
            "files": ["in the archive", "a file"],
            "packages": ["0", "2", "4"],
            "jars": True,
            "settings": ["file", "flag"],
            "heap": 700,
            "slots": 2,
        }
        ends_by(signal.SIGINT, running, application)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


@pytest.mark.slow
def test_a_python_program_as_a_ray_job_with_the_submitted_sizes(cluster: StartedRay, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("shipped")
    done = submit(
        cluster, tmp_path, "--deploy-mode", "cluster", "--ray-address", cluster.jobs, *SMALL, "--files", "data.txt",
        PROGRAMS / "session.py", "one", "two words",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "RuntimeError: the program's own error" in done.stdout
    assert "raydp_ml/cli" not in done.stdout.partition("Traceback")[2]
    found = result_in(done.stdout)
    application = found.pop("id")
    assert found == {
        "arguments": ["one", "two words"],
        "name": "from the code",
        "executors": 1,
        "memory": "512m",
        "same": True,
        "rows": [0, 1, 2],
        "data": "shipped",
        "job": True,
    }
    # The executor's log is found by the application's id, and shown because it is the only one.
    logs = [sys.executable, "-m", "ray.scripts.scripts", "logs", "cluster", "--address", cluster.address]
    shown = subprocess.run(
        [*logs, f"{application}-executor-*.log"],
        env=cluster.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Successfully registered with driver" in shown.stdout, shown.stdout + shown.stderr


def test_options_become_settings_and_conf_does_not_win_over_them(tmp_path: Path) -> None:
    given = parse(
        ["--conf", "spark.executor.cores=1", "--executor-cores", "3", "--jars", "a.jar,b.jar", __file__, "--conf"]
    )
    assert given.settings == {"spark.executor.cores": "3", "spark.jars": "a.jar,b.jar"}
    assert given.arguments == ("--conf",)
    assert (given.deploy_mode, given.ray_address, given.main_class) == ("client", None, None)
    first = {
        "raydp.executor.extraClassPath": "first.jar",
        "spark.executor.extraClassPath": "second.jar",
        "spark.x": "file",
    }
    assert settings_of(given, first) == {
        "spark.executor.cores": "3",
        "spark.jars": "a.jar,b.jar",
        "spark.executor.extraClassPath": "first.jar:second.jar",
        "spark.x": "file",
    }
    assert parse(["--master", "ray://head:10001", __file__]).ray_address == "ray://head:10001"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--master", "yarn", __file__], r"--master='yarn' is no Ray cluster.*spark-submit"),
        (["no_such_program.py"], r"no_such_program\.py does not exist"),
        (["--class", "Main", __file__], r"--class=Main is for jars"),
        (["--conf", "spark.x", __file__], r"--conf='spark\.x' must be KEY=VALUE"),
        (["program.R"], r"program\.R is an R program"),
        (["program"], r"neither a \.py file nor a \.jar"),
        (["--driver-cores", "1", __file__], r"--driver-cores is for --deploy-mode cluster"),
        (["--conf", "spark.master=yarn", __file__], r"--conf spark\.master=yarn does nothing here; use --master"),
        (["--ray-conf", "missing.conf", __file__], r"--ray-conf='missing\.conf' cannot be read"),
    ],
)
def test_what_cannot_be_run_is_told_at_once(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse(arguments)


def test_a_command_line_that_is_wrong_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        command("--master", "local[2]", __file__), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.startswith("raydp-submit: --master='local[2]' is no Ray cluster") and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('{"ray": {"run-mode": "CLUSTER", "address": "10.0.0.1:6379"}}', "10.0.0.1:6379"),
        ('ray.run-mode = "CLUSTER"\nray.address = "10.0.0.1:6379"  # the head\n', "10.0.0.1:6379"),
        ('{"ray": {"run-mode": "CLUSTER"}}', None),
    ],
)
def test_files_of_raydp_name_the_cluster(text: str, address: str | None, tmp_path: Path) -> None:
    (tmp_path / "ray.conf").write_text(text)
    assert ray_address_of(str(tmp_path / "ray.conf")) == address


def test_the_job_client_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from raydp_ml.cli.job import run_as_job
    from raydp_ml.errors import MissingDependencyError

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "raydp-ml\[jobs\]"'):
        run_as_job(parse(["--deploy-mode", "cluster", __file__]))
