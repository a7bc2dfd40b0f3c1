"""What a program ships reaches executors, their Python workers, tasks, training workers and trials; Hive's tables last."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import ray


@pytest.mark.slow
def test_everything_shipped_arrives(run_program: Callable[[Path], dict]) -> None:
    told = run_program(Path(__file__).parent / "programs" / "dependencies.py")
    of_ray = {"modules": "in_py_modules", "work": "in_working_dir", "variable": "yes"}
    assert told["task"] == of_ray
    assert told["spark"] == of_ray | {"py_file": "in_py_file", "archive": "in_archive", "file": "in_file"}
    assert told["jar"] == [1, 2, 3]
    assert told["package"] == [0, 2, 4]
    # After the jar of ours.
    assert told["class_path"] == ["/first.jar", "/second.jar", "/third.jar"]
    assert told["driver_class_path"] == ["/driver-first.jar", "/driver-second.jar"]
    assert (told["fit"], told["trial"]) == (7.0, True)
    # What was not shipped says how it is.
    for error in told["not_shipped"].values():
        assert "No module named 'not_shipped'" in error
        assert (
            "The nodes do not have the module 'not_shipped'. Ship your own modules with ray.init(runtime_env=" in error
        )
    # Another session finds the table in the metastore.
    assert told["table"] == [[number, number**2] for number in range(5)]


WHEEL = {
    "in_a_wheel.py": "VALUE = 7\n",
    "in_a_wheel-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: in-a-wheel\nVersion: 1.0\n",
    "in_a_wheel-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


@pytest.mark.slow
def test_packages_of_the_runtime_environment_are_where_the_work_is(
    run_program: Callable[..., dict], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "in_a_wheel-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in WHEEL.items():
            wheel.writestr(name, content)
        record = "".join(f"{name},,\n" for name in [*WHEEL, "in_a_wheel-1.0.dist-info/RECORD"])
        wheel.writestr("in_a_wheel-1.0.dist-info/RECORD", record)
    # Ray copies the driver's environment for its workers: a small one, in which that of the tests is seen.
    small = tmp_path / "environment"
    venv.create(small, symlinks=True)
    packages = next(small.glob("lib/python3*/site-packages"))
    (packages / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    told = run_program(
        Path(__file__).parent / "programs" / "pip_environment.py", str(tmp_path), python=str(small / "bin" / "python")
    )
    assert told == {"driver": False, "task": 7, "spark": 7, "fit": 7.0, "predictions": 200}


# The variable holds for the job's workers, as if it were another node, and not for this driver.
NO_JAVA = """
import sys, ray, raydp_ml
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": {"JAVA_HOME": "/no/java"}})
try:
    raydp_ml.init_spark("javaless", 1, 1, "512m", configs={"spark.ray.executor.maxStartFailures": "1"})
except raydp_ml.ExecutorStartError as error:
    print(error)
"""


@pytest.mark.slow
def test_java_that_a_node_lacks_is_told_with_the_node(ray_cluster: None) -> None:
    context = ray.get_runtime_context()
    command = [sys.executable, "-c", NO_JAVA, context.gcs_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert "JAVA_HOME=/no/java has no bin/java; point it at a Java 17 or 21 runtime" in done.stdout, done.stderr
    assert f"on the node {ray.util.get_node_ip_address()} (Ray's id {context.get_node_id()})" in done.stdout
