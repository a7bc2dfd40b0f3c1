"""Fits that say nothing of CPUs beside executors that reserve all: default pipelines on two and on one, RayDP's program on four."""

import json
import shutil
import tempfile
import warnings

import numpy as np
import pandas as pd
import ray
import ray.data
import torch

import raydp_ml
from raydp_ml.feature import VectorAssembler

QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}


def rows():
    x = np.random.default_rng(0).normal(size=(400, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "late": (x[:, 0] + x[:, 1] > 0).astype(int)})


def pipeline():
    steps = [
        ("vec", VectorAssembler(inputCols=["a", "b"], outputCol="features")),
        ("model", raydp_ml.XGBEstimator(task="classification", label_column="late", num_boost_round=5, verbose=False)),
    ]
    with raydp_ml.SparkRayPipeline(steps, spark={"configs": QUIET}) as pipe:
        score = pipe.fit(rows()).score(rows())
    return [score, raydp_ml.spark_info()]


def published_program():
    """Two executors of two cores and a trainer of two workers, as RayDP's README has them."""
    import raydp
    from raydp.torch import TorchEstimator

    spark = raydp.init_spark("torch", num_executors=2, executor_cores=2, executor_memory="512M", configs=QUIET)
    torch.manual_seed(0)
    estimator = TorchEstimator(
        num_workers=2,
        model=torch.nn.Linear(2, 1),
        optimizer=torch.optim.Adam,
        loss=torch.nn.MSELoss(),
        feature_columns=["a", "b"],
        label_column="late",
        batch_size=64,
        num_epochs=2,
    )
    estimator.fit_on_spark(spark.createDataFrame(rows()).withColumn("late", raydp_column("late")))
    weight = estimator.get_model().weight
    raydp.stop_spark()
    return list(weight.shape)


def raydp_column(name):
    from pyspark.sql.functions import col

    return col(name).cast("float")


def on(cpus, work):
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder,
        object_store_memory=200 << 20,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on one CPU the second executor comes later
            return work()
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    ray.data.DataContext.get_current().enable_progress_bars = False
    found = {"two": on(2, pipeline), "one": on(1, pipeline), "published": on(4, published_program)}
    print("RESULT " + json.dumps(found))
