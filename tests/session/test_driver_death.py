"""kill -9 of the driver: no JVM, no actor and no staged file is left after ten seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray.util import placement_group_table

from tests.waiting import until

PROGRAM = """
import json, sys, ray, raydp_ml
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
spark = raydp_ml.init_spark("orphan", 2, 1, "512m", 
    # Reservations that last, so that the driver leaves some.
    configs={"spark.ui.enabled": "false", "spark.ray.executor.lendAfter": "1h"})
kept = raydp_ml.from_spark(spark.range(0, 200000, 1, 4))
from raydp_ml import session
info = raydp_ml.spark_info()
pids = [e["pid"] for e in info["executors"].values()] + [session._session.gateway.proc.pid]
print("READY " + json.dumps({"app": info["app_id"], "pids": pids}), flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_driver(ray_cluster: None) -> None:
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = None
        for line in driver.stdout or ():
            if line.startswith("READY "):
                told = json.loads(line.removeprefix("READY "))
                break
        if told is None:
            pytest.fail(f"the driver did not start: {driver.stderr.read()[-3000:] if driver.stderr else ''}")
        assert all(Path(f"/proc/{pid}").exists() for pid in told["pids"])
        assert [group["state"] for group in placement_group_table().values()].count("CREATED") == 2
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()

        def left() -> list[object]:
            found: list[object] = [pid for pid in told["pids"] if Path(f"/proc/{pid}").exists()]
            found += [
                p for base in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")) for p in Path(base).glob(told["app"])
            ]
            groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
            return found + groups + ([] if ray.available_resources().get("CPU", 0) == 4 else ["CPUs are held"])

        until(lambda: not left(), 10, left)
    finally:
        driver.kill()
        driver.wait()
        for pipe in (driver.stdin, driver.stdout, driver.stderr):
            if pipe:
                pipe.close()
