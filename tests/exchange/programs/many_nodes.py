"""An executor and a staging folder on each of some Ray nodes, the driver on another one: where rows lie and what they pass."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import ray
import ray.data
from ray._private.state import available_resources_per_node, total_resources_per_node
from ray.cluster_utils import Cluster

import raydp_ml
from raydp_ml.exchange.ray_seam import blocks_of

ROWS = 400_000
STORE = "object_store_memory"


@ray.remote(num_cpus=0)
def makers(table):
    return table["made"].unique().to_pylist()


def passed(pids):
    """Bytes that processes have read and written: files, pipes and sockets."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/io").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))


def store_used(node):
    return total_resources_per_node()[node][STORE] - available_resources_per_node()[node].get(STORE, 0)


def main():
    nodes = int(sys.argv[1])
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": 100 << 20,
            "include_dashboard": False,
            "temp_dir": folder,
        },
    )
    home = {}
    for i in range(nodes):
        staging = os.path.join(folder, f"s{i}")
        node = cluster.add_node(num_cpus=1, object_store_memory=200 << 20, env_vars={"RAYDP_ML_STAGING_DIR": staging})
        home[staging] = node.node_id
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    here = ray.get_runtime_context().get_node_id()
    told = {"rows": ROWS, "home": list(home.values()), "driver_bytes": {}}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("nodes", nodes, 1, "512m", configs=quiet)

        def frame(rows):
            where = "java_method('java.lang.System', 'getenv', 'RAYDP_ML_STAGING') as made"
            return spark.range(0, rows, 1, 4 * nodes).selectExpr("id", "id * 2.5D as x", where)

        # What is loaded at the first use is not counted.
        sums = "count(1)", "sum(x)", "count(distinct made)"
        raydp_ml.to_spark(raydp_ml.from_spark(frame(1000))).selectExpr(*sums).first()
        processes = [os.getpid(), spark._jvm.java.lang.ProcessHandle.current().pid()]
        used, before = store_used(here), passed(processes)
        dataset = raydp_ml.from_spark(frame(ROWS))
        told["driver_bytes"]["from_spark"] = passed(processes) - before
        told["bytes"] = dataset.size_bytes()
        refs = [ref for bundle in dataset.iter_internal_ref_bundles() for ref, _ in blocks_of(bundle)]
        locations = ray.experimental.get_object_locations(refs)
        told["blocks"] = [locations[ref]["node_ids"] for ref in refs]
        before = passed(processes)
        told["back"] = list(map(float, raydp_ml.to_spark(dataset).selectExpr(*sums).first()))
        told["driver_bytes"]["to_spark"] = passed(processes) - before
        told["driver_store"] = store_used(here) - used
        staged = [made for (made,) in ray.get([makers.remote(ref) for ref in refs])]
        told["made_on"] = [next(node for path, node in home.items() if made.startswith(path + "/")) for made in staged]
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
