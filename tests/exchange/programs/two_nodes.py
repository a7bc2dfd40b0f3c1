"""Two Ray nodes, an executor and a staging folder on each: rows cross between them, and blocks of a killed node are rebuilt."""

import json
import os
import shutil
import sys
import tempfile

import pyarrow.compute as pc
import ray
import ray.data
from ray.cluster_utils import Cluster

import raydp_ml
from raydp_ml.exchange.ray_seam import blocks_of

ROWS, PARTITIONS = 800_000, 8
# A killed node is noticed within seconds; on a loaded machine a shorter period takes living nodes for dead.
FAST_LOSS = {"health_check_failure_threshold": 5, "health_check_period_ms": 1000, "health_check_timeout_ms": 3000}


def refs_of(dataset):
    return [ref for bundle in dataset.iter_internal_ref_bundles() for ref, _ in blocks_of(bundle)]


def totals(refs):
    tables = ray.get(refs, timeout=120)
    return sum(t.num_rows for t in tables), sum(pc.sum(t["x"]).as_py() for t in tables)


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    staging = [os.path.join(folder, name) for name in ("s0", "s1", "s2")]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1, "object_store_memory": 400 << 20, "include_dashboard": False, "_system_config": FAST_LOSS,
            "temp_dir": folder, "env_vars": {"RAYDP_ML_STAGING_DIR": staging[0]},
        },
    )  # fmt: skip
    second = cluster.add_node(num_cpus=1, object_store_memory=400 << 20, env_vars={"RAYDP_ML_STAGING_DIR": staging[1]})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("two-nodes", 2, 1, "512m", configs=quiet)
        executors = raydp_ml.spark_info()["executors"]
        told["executor_nodes"] = len({info["node_id"] for info in executors.values()})
        told["staging_used"] = [bool(os.path.isdir(path) and os.listdir(path)) for path in staging[:2]]
        frame = spark.range(0, ROWS, 1, PARTITIONS).selectExpr("id", "id * 2.5D as x", "concat('s', id % 7) as s")
        dataset = raydp_ml.from_spark(frame)
        refs = refs_of(dataset)
        told["block_nodes"] = len(
            {n for loc in ray.experimental.get_object_locations(refs).values() for n in loc["node_ids"]}
        )
        # Every row back into Spark, although a block may lie on the other node.
        back = raydp_ml.to_spark(raydp_ml.from_spark(frame))
        told["back"] = list(map(float, back.selectExpr("count(1)", "sum(x)", "count(distinct s)").first()))

        # A file of one node read by a task on the other: a small partition on each node makes one shared block.
        small = spark.range(0, 1000, 1, 2).selectExpr("id", "id * 2.5D as x")
        shared = refs_of(raydp_ml.from_spark(small))
        told["shared"] = [len(shared), *totals(shared)]

        lost = on_node(refs, second.node_id)
        told["lost"] = len(lost)
        cluster.remove_node(second, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=400 << 20, env_vars={"RAYDP_ML_STAGING_DIR": staging[2]})
        told["after"] = totals(refs)
        told["spark_after"] = spark.range(1000).count()
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


def on_node(refs, node_id):
    return [ref for ref in refs if ray.experimental.get_object_locations([ref])[ref]["node_ids"] == [node_id]]


if __name__ == "__main__":
    sys.exit(main())
