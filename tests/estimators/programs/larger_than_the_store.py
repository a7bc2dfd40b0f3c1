"""A network and trees learn from rows five times the object store, and from rows to validate on; what the processes grow by."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import ray
import ray.data
import torch

import raydp_ml

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "candidates"))
from training import highest_memory

STORE, ROWS, WIDTH = 80_000_000, 1_000_000, 100  # of 400 bytes each


def rows(spark, count):
    import pyspark.sql.functions as F

    numbers = F.transform(
        F.sequence(F.lit(1), F.lit(WIDTH)), lambda n: (F.hash("id", n) / float(1 << 31)).cast("float")
    )
    wide = spark.range(0, count, 1, 16).select(numbers.alias("x"))
    return wide.select("x", (F.col("x")[0] + F.col("x")[1] > 0).cast("long").alias("y"))


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _temp_dir=folder,
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {}
    try:
        spark = raydp_ml.init_spark("larger", 1, 1, "512m", configs={"spark.ui.showConsoleProgress": "false"})
        frame, few = rows(spark, ROWS), rows(spark, 5000)
        about = {"label_column": "y", "validation": 0.1, "streaming": True, "verbose": False, "random_state": 0}
        net = raydp_ml.TorchEstimator(
            torch.nn.Linear(WIDTH, 2), loss="cross_entropy", num_epochs=2, batch_size=512, lr=0.01, **about
        )
        trees = raydp_ml.XGBEstimator(
            task="classification", num_boost_round=3, max_depth=3, external_memory=True, max_bin=16, **about
        )
        for name, estimator in {"torch": net, "xgb": trees}.items():
            peaks = {}
            estimator.fit(few)
            with highest_memory(peaks, "before"):
                estimator.fit(few)
            with highest_memory(peaks, "after"):
                estimator.fit(frame)
            told[name] = {side: peaks[side, "after"] - peaks[side, "before"] for side in ("driver", "worker")}
            told[name]["score"] = float(estimator.score(few))
            told[name]["valid"] = [
                next(v for k, v in epoch.items() if k.startswith("valid_")) for epoch in estimator.history_
            ]
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
