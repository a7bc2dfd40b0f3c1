"""Fixtures that test folders share: one small Ray cluster for the whole run, one Spark session per module on top."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.shared_session import end_what_was_left, leave, pytest_collection_modifyitems, pytest_runtest_setup

if TYPE_CHECKING:
    import pyspark.sql

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_setup"]  # hooks

# Ray Train polls its workers every two seconds otherwise, and each report waits for the next poll.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
# Ray's tqdm replaces print, and functions that refer to it fail to pickle.
os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
# Ray starts its workers with a niceness of 15, and then they starve beside anything else that runs on the machine.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

# The environment of Spark 3.5 has no TensorFlow, and these files import it at once.
collect_ignore_glob = [] if find_spec("tensorflow") else ["estimators/test_tf*.py", "estimators/test_weights.py"]


@pytest.fixture(scope="session")
def ray_cluster(pytestconfig: pytest.Config) -> Iterator[None]:
    """A Ray cluster of four logical CPUs, in a folder of its own so that others on this machine are left alone."""
    import ray

    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")  # short: the sockets' paths may not exceed 107 bytes
    ray.init(
        num_cpus=4,
        resources={"special": 2},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    yield
    end_what_was_left(pytestconfig)
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def spark(ray_cluster: None, request: pytest.FixtureRequest) -> Iterator[pyspark.sql.SparkSession]:
    """A Spark session of two one-core executors inside the Ray cluster; the same for all modules of a folder that use it."""
    import raydp_ml

    session = raydp_ml.init_spark("raydp_ml-tests", 2, 1, "512m")
    yield session
    leave(session, request)


@pytest.fixture(scope="session")
def run_program() -> Callable[..., dict]:
    """Runs a program that needs a Ray cluster of its own, and returns what it printed after RESULT."""

    def run(program: Path, *arguments: str, python: str = sys.executable) -> dict:
        # ray.cluster_utils.Cluster writes its address to the default folder of Ray, whatever temp_dir it was given, and
        # fails where no other Ray has made that folder. Here it is the program's own.
        with tempfile.TemporaryDirectory(prefix="rdp_", dir="/tmp", ignore_cleanup_errors=True) as folder:
            (Path(folder) / "ray").mkdir()
            done = subprocess.run(
                [python, str(program), *arguments],
                env={**os.environ, "RAY_TMPDIR": folder},
                capture_output=True,
                text=True,
                timeout=540,
                check=False,
            )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            pytest.fail(f"{program.name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return json.loads(lines[0].removeprefix("RESULT "))

    return run
