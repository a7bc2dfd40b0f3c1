"""Executors that fit on no node make the cluster grow, and CPUs that they want back do not; when they are gone it shrinks, and
blocks converted before stay readable.

Ray's own AutoscalingCluster would end every Ray cluster of this machine at its start, and its configuration file is not in Ray's
wheel, so the head is started here, with the same fake provider of nodes.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# `ray start` wants a token since Ray 2.59; this one is for this cluster alone, and Ray reads it when it is imported.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = os.urandom(32).hex()

import ray
import ray.data
from ray.experimental.internal_kv import _internal_kv_get
from ray.util import placement_group

import raydp_ml
from raydp_ml.cluster.nodes import alive_nodes, autoscaler

EMPTY = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
)
CONFIG = {
    "cluster_name": "fake", "max_workers": 3, "head_node_type": "ray.head.default",
    # All nodes have this machine's address.
    "provider": {
        "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
    },
    "upscaling_speed": 1.0, "idle_timeout_minutes": 0.1, "auth": {}, "docker": {}, "file_mounts": {},
    "worker_start_ray_commands": [], "cluster_synced_files": [], "file_mounts_sync_continuously": False,
    "rsync_exclude": [], "rsync_filter": [], **{key: [] for key in EMPTY},
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {
            "resources": {"CPU": 1, "object_store_memory": 100 << 20}, "node_config": {}, "min_workers": 0, "max_workers": 3,
        },
    },
}  # fmt: skip


def until(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        pause.wait(0.5)


def start_head(folder):
    config = Path(folder) / "autoscaler.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    provider = CONFIG["provider"] | {"gcs_address": f"{ray.util.get_node_ip_address()}:{port}", "launch_multiple": True}
    config.write_text(json.dumps(CONFIG | {"provider": provider}))
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--autoscaling-config={config}",
        "--num-cpus=0", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false", "--object-store-memory=100000000",
    ]  # fmt: skip
    environment = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    log = open(Path(folder) / "head.log", "w")  # noqa: SIM115 - open as long as the head
    head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    return head, port


def connected(port):
    try:
        ray.init(address=f"127.0.0.1:{port}", log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError):
        return False
    return True


def reports():
    """When the autoscaler has last looked at what is wanted."""
    return json.loads(_internal_kv_get("__autoscaling_status"))["time"]


def want_back(spark, folder):
    """How many nodes there are when executors have had tasks for many looks of the autoscaler, and others hold their CPUs."""
    until(lambda: ray.available_resources().get("CPU", 0) == 2, "idle executors do not lend")
    others = placement_group([{"CPU": 1.0}] * 2)
    if not others.wait(20):
        raise TimeoutError("nobody gets the CPUs that executors lend")

    def task(number):
        (Path(folder) / f"runs-{number}").touch()
        deadline = time.monotonic() + 120
        while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return 1

    with ThreadPoolExecutor() as threads:
        job = threads.submit(spark.sparkContext.parallelize(range(2), 2).map(task).sum)
        until(lambda: len(list(Path(folder).glob("runs-*"))) == 2, "Spark's tasks wait for CPUs")
        for _ in range(8):
            last = reports()
            until(lambda last=last: reports() > last, "the autoscaler looks no more")
        nodes = len(alive_nodes())
        (Path(folder) / "go").touch()
        tasks = job.result(60)
    ray.util.remove_placement_group(others)
    return {"nodes": nodes, "tasks": tasks}


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    head, port = start_head(folder)
    told = {}
    try:
        until(lambda: connected(port), "the head does not answer")
        until(lambda: autoscaler() is not None, "the autoscaler has not reported")
        told["nodes_before"] = len(alive_nodes())
        settings = {
            "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR",
            # The fake provider has no memory to offer.
            "spark.ray.raydp_spark_executor.actor.resource.memory": "0",
            "spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.executorIdleTimeout": "20s",
            "spark.dynamicAllocation.maxExecutors": "2",
        }  # fmt: skip
        spark = raydp_ml.init_spark("growing", 2, 1, "512m", configs=settings)
        until(lambda: len(raydp_ml.spark_info()["executors"]) == 2, "the second executor has not come")
        told["nodes_with_executors"] = len(alive_nodes())
        told["wanted_back"] = want_back(spark, folder)
        dataset = raydp_ml.from_spark(spark.range(0, 100_000, 1, 4).selectExpr("id", "id * 2.0D as x"))
        told["count"] = dataset.count()
        until(lambda: not raydp_ml.spark_info()["executors"], "the idle executors have not gone")
        # Time for the autoscaler to take what it wants: nodes that hold blocks stay, the executors are no reason to.
        with contextlib.suppress(TimeoutError):
            until(lambda: len(alive_nodes()) == told["nodes_before"], "the cluster has not shrunk", 30)
        told["nodes_with_blocks"] = len(alive_nodes())
        told["sum"] = sum(float(sum(table["x"].to_pylist())) for table in ray.get(dataset.to_arrow_refs()))
        del dataset
        raydp_ml.stop_spark()
        until(lambda: len(alive_nodes()) == told["nodes_before"], "the cluster has not shrunk")
        told["nodes_after"] = len(alive_nodes())
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        # With it its group: Ray's processes here, and the raylets of the nodes that came and went.
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
