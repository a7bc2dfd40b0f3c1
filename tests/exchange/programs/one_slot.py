"""One executor slot, held by a task that reads a lost block, while that block has to be computed in the same slot: no deadlock."""

import json
import shutil
import sys
import tempfile

import ray
import ray.data
from ray.cluster_utils import Cluster

import raydp_ml

ROWS = 400_000
FAST_LOSS = {"health_check_failure_threshold": 5, "health_check_period_ms": 1000, "health_check_timeout_ms": 3000}


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    head = {"num_cpus": 0, "object_store_memory": 200 << 20, "include_dashboard": False, "_system_config": FAST_LOSS}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": folder})
    worker = cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("one-slot", 1, 1, "512m", configs=quiet)
        frame = spark.range(0, ROWS, 1, 4).selectExpr("id", "id * 2.5D as x", "string(id) as s")
        dataset = raydp_ml.from_spark(frame)
        told["blocks"] = dataset.num_blocks()
        back = raydp_ml.to_spark(dataset)
        cluster.remove_node(worker, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
        told["sum"] = back.selectExpr("sum(x)").first()[0]
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
