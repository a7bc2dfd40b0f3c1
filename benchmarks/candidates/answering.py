"""The candidates' side of the harness, and the peer's start; runs in every environment, so it imports nothing of ours."""

import atexit
import json
import os
import shutil
import sys
import tempfile
import traceback

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
    """Answer requests until the input closes. What fails answers with the first line of its error."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("run")](**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"fails": f"{type(error).__name__}: {first_line(error)}"}
        print("ANSWER " + json.dumps(answer), flush=True)


def first_line(error):
    """What went wrong, without the stack that Spark and Ray put into their messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Py4J and Ray put the cause at the end or behind their own words.
    causes = [line for line in lines if ": " in line and ("Exception" in line or "Error" in line)]
    return (causes or lines or [""])[0][:200]


def start_ray(cpus=4, object_store=None):
    """A Ray cluster of this process, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
    # Before Ray is imported: what is registered first runs last, when Ray has ended.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    import ray

    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=object_store,
        _temp_dir=folder,
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
        "spark.ui.showConsoleProgress": "false",
    }
