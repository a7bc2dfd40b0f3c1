"""A node drains: its executor hands over its cached blocks, one on another node takes its place, and jobs go on."""

import json
import shutil
import sys
import tempfile
import threading
import time

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

import raydp_ml


def until(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        pause.wait(0.2)


def nodes_of_executors():
    return {info["node_id"] for info in raydp_ml.spark_info()["executors"].values()}


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    going = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    told = {}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("draining", 1, 1, "512m", configs=quiet)
        frame = spark.range(0, 100_000, 1, 4).selectExpr("id", "uuid() as u").persist()
        before = frame.selectExpr("bit_xor(xxhash64(u))").first()[0]
        staying = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        ray._raylet.GcsClient(address=cluster.address).drain_node(
            going.node_id, autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), "a test", 0
        )
        until(lambda: nodes_of_executors() == {staying.node_id}, "the executor has not moved")
        # uuid() would give other values if the cached blocks had not moved with it.
        told["same"] = frame.selectExpr("bit_xor(xxhash64(u))").first()[0] == before
        told["count"] = frame.count()
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
