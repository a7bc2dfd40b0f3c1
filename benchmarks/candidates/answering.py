"""The candidates' side of the harness, and the peer's start; runs in every environment, so it imports nothing of ours."""

import json
import os
import sys
import tempfile

# Spark 3.5 opens these packages itself for its own JVMs, but not for the Ray Java workers that RayDP's master and executors run in.
OPENED = " ".join(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.math", "java.net", "java.nio", "java.util",
        "java.text", "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action",
        "sun.util.calendar",
    )
)  # fmt: skip


def serve(handlers):
    """Answer requests until the input closes."""
    for line in sys.stdin:
        request = json.loads(line)
        print("ANSWER " + json.dumps(handlers[request.pop("run")](**request)), flush=True)


def start_ray(cpus=4, object_store=None):
    """A Ray cluster of this process, in a folder of its own."""
    import ray

    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=object_store,
        _temp_dir=tempfile.mkdtemp(prefix="rdb_", dir="/tmp"),
    )
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False


def peer_settings():
    """What RayDP needs to run on Java 17, and to find PySpark in its executors' Python workers."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    return {
        "spark.ray.raydp_spark_master.actor.resource.CPU": 0,
        "spark.executor.extraJavaOptions": OPENED,
        "spark.driver.extraJavaOptions": OPENED,
        "spark.ray.raydp_app_master.extraJavaOptions": OPENED,
        "spark.ui.enabled": "false",
    }
