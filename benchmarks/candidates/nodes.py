"""From and to Spark on several Ray nodes of this machine: an executor and a staging folder on each, the driver on another node."""

import atexit
import gc
import os
import shutil
import tempfile
import time

# ray.cluster_utils.Cluster writes its address to the default folder of Ray, whatever folder it was given.
FOLDER = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
os.makedirs(f"{FOLDER}/ray")
os.environ["RAY_TMPDIR"] = FOLDER
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

from answering import serve  # noqa: E402
from exchange_frames import frame_of, query_of  # noqa: E402
from meter import Meter, store_used  # noqa: E402

STATE = {}
METER = Meter()


def start(nodes):
    import ray
    import ray.data
    from ray.cluster_utils import Cluster

    import raydp_ml

    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "temp_dir": FOLDER}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for i in range(nodes):
        staging = {"RAYDP_ML_STAGING_DIR": f"{FOLDER}/s{i}"}
        cluster.add_node(num_cpus=1, object_store_memory=(4 << 30) // nodes, env_vars=staging)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.memory.fraction": "0.8"}
    STATE["spark"] = raydp_ml.init_spark("bench", nodes, 1, f"{6144 // nodes}m", configs=settings)
    STATE["cluster"] = cluster
    atexit.register(end)


def end():
    import ray

    import raydp_ml

    raydp_ml.stop_spark()
    ray.shutdown()
    STATE["cluster"].shutdown()


def hold(rows):
    STATE["frame"] = frame_of(STATE["spark"], "rows", rows, 20).persist()
    STATE["frame"].count()
    STATE["level"] = store_used()


def release(wait=20):
    """Drop the Dataset and what was made of it, and wait for the stores."""
    STATE.pop("dataset", None)
    gc.collect()
    STATE["spark"].range(1).count()
    STATE["spark"]._jvm.System.gc()
    end = time.monotonic() + wait
    while store_used() > STATE["level"] and time.monotonic() < end:
        time.sleep(0.5)


def from_spark():
    import raydp_ml

    STATE["dataset"] = raydp_ml.from_spark(STATE["frame"])


def to_spark_sum():
    STATE["dataset"].to_spark(STATE["spark"]).selectExpr(*query_of("rows")).first()


def measured(work):
    return lambda: METER.measure(work)


handlers = {work.__name__: measured(work) for work in (from_spark, to_spark_sum)}
handlers |= {step.__name__: step for step in (start, hold, release)}
serve(handlers)
