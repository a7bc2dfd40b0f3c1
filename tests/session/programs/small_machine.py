"""The default session on machines of two CPUs and of one, and then work in Ray that needs CPUs and says nothing of them."""

import json
import shutil
import sys
import tempfile
import time
import warnings

import ray
import ray.data
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util import placement_group_table

import raydp_ml


def train():
    ray.train.report({"rank": ray.train.get_context().get_world_rank()})
    return ray.train.get_context().get_world_size()


def on(cpus):
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder,
        object_store_memory=200 << 20,
    )  # fmt: skip
    told = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on one CPU the second executor comes later
            spark = raydp_ml.init_spark(configs={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"})
        rows = raydp_ml.from_spark(spark.range(1000).selectExpr("id", "id * 2.0D as x"))
        began = time.monotonic()
        told["task"] = ray.get(ray.remote(lambda: 7).remote())
        told["seconds"] = time.monotonic() - began
        told["data"] = rows.map_batches(lambda batch: {"y": batch["x"] + 1}).sum("y")
        workers = ScalingConfig(num_workers=cpus)
        told["train"] = (
            TorchTrainer(train, scaling_config=workers, run_config=RunConfig(storage_path=folder)).fit().return_value
        )
        told["spark"] = spark.range(100).count()
        raydp_ml.stop_spark()
        told["groups"] = sum(group["state"] != "REMOVED" for group in placement_group_table().values())
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    return told


if __name__ == "__main__":
    ray.data.DataContext.get_current().enable_progress_bars = False
    print("RESULT " + json.dumps({str(cpus): on(cpus) for cpus in (2, 1)}))
    sys.exit()
