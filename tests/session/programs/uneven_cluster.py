"""The whole way on five nodes of different sizes that lack our jar: features, fit, search, predictions, files, rows and back."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import ray.data
from ray.cluster_utils import Cluster

import raydp_ml
from raydp_ml.feature import StringIndexer, VectorAssembler

GIB = 1 << 30
# The driver's node has no CPUs, and an executor of 512 MB and its overhead does not fit into the memory of "narrow".
SIZES = {
    "narrow": {"num_cpus": 2, "memory": GIB // 2},
    "one": {"num_cpus": 1, "memory": GIB},
    "two": {"num_cpus": 2, "memory": 2 * GIB},
    "four": {"num_cpus": 4, "memory": 4 * GIB},
}
QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}


def loans() -> pd.DataFrame:
    numbers = np.random.default_rng(3)
    grade, income = numbers.choice(["A", "B", "C"], 2000), numbers.gamma(4.0, 12.0, 2000)
    late = (pd.Series(grade).map({"A": -2.0, "B": 0.0, "C": 2.0}) - (income - 48) / 10 > 0).astype(int)
    return pd.DataFrame({"grade": grade, "income": income, "late": late})


def pipeline() -> raydp_ml.SparkRayPipeline:
    model = raydp_ml.XGBEstimator(
        objective="binary:logistic",
        label_column="late",
        num_boost_round=10,
        num_workers=2,
        random_state=1,
        verbose=False,
    )
    index = StringIndexer(inputCol="grade", outputCol="grade_index")
    vector = VectorAssembler(inputCols=["grade_index", "income"], outputCol="features")
    return raydp_ml.SparkRayPipeline([("index", index), ("vector", vector), ("model", model)])


def whole_way(spark, folder: Path) -> dict:
    frame = spark.createDataFrame(loans()).repartition(6).cache()
    fitted = pipeline().fit(frame)
    path = str(folder / "saved")
    fitted.save(path)
    again = raydp_ml.load(path)
    search = raydp_ml.GridSearch(pipeline(), {"model__max_depth": [1, 3], "model__num_workers": [1]}, cv=0.25).fit(
        frame
    )
    back = raydp_ml.to_spark(raydp_ml.from_spark(frame))
    return {
        "score": fitted.score(frame),
        "again": again.score(frame),
        "best": search.best_params_["model__max_depth"],
        "scores": [float(score) for score in search.cv_results_["mean_test_score"]],
        "predicted": fitted.predict(frame).where("prediction in (0, 1)").count(),
        "rows": [back.count(), back.agg({"late": "sum"}).first()[0]],
        "late": int(loans()["late"].sum()),
    }


def main() -> dict:
    folder = Path(tempfile.mkdtemp(prefix="rdp_", dir="/tmp"))
    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "temp_dir": str(folder)}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    names = {}
    for name, size in SIZES.items():
        own = {"XDG_CACHE_HOME": str(folder / name / "cache"), "RAYDP_ML_STAGING_DIR": str(folder / name / "staging")}
        names[cluster.add_node(object_store_memory=200 << 20, env_vars=own, **size).node_id] = name
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        spark = raydp_ml.init_spark("uneven", 3, 1, "512m", placement_group_strategy="SPREAD", configs=QUIET)
        executors = raydp_ml.spark_info()["executors"].values()
        told = {"nodes": sorted(names[one["node_id"]] for one in executors), "jars": {}}
        for one in executors:
            words = Path(f"/proc/{one['pid']}/cmdline").read_text().split("\0")
            first = Path(words[words.index("-cp") + 1].split(os.pathsep)[0])
            told["jars"][names[one["node_id"]]] = str(first.relative_to(folder).parent)
        told |= whole_way(spark, folder)
    finally:
        raydp_ml.stop_spark()
        left = [str(path) for name in SIZES for path in (folder / name / "staging").glob("*")]
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    return told | {"left": left}


if __name__ == "__main__":
    print("RESULT " + json.dumps(main()))
