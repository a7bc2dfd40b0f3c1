"""A search on two CPUs that executors hold: steps of the pipeline fit in Spark while trials train on the CPUs that they lend."""

import json
import shutil
import sys
import tempfile
import threading

import numpy as np
import pandas as pd
import ray
from pyspark.ml.feature import QuantileDiscretizer

import raydp_ml
from raydp_ml import GridSearch, SparkRayPipeline, XGBEstimator, feature
from raydp_ml.search.run import SearchRun

SPLITS = [2, 3, 4, 5]
DEPTHS = [1, 2]


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    events, lock = [], threading.Lock()

    def told(kind):
        with lock:
            events.append((kind, ray.available_resources().get("CPU", 0)))

    fit, advanced = QuantileDiscretizer._fit, SearchRun.advanced

    def fit_in_spark(self, df):
        told("spark begins")
        model = fit(self, df)
        told("spark ends")
        return model

    def trial_advanced(self, candidate, outcome):
        told("trial")
        advanced(self, candidate, outcome)

    QuantileDiscretizer._fit, SearchRun.advanced = fit_in_spark, trial_advanced
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("turns", 2, 1, "512m", configs=quiet)
        rows = np.random.default_rng(0).normal(size=(400, 2))
        frame = spark.createDataFrame(pd.DataFrame(rows, columns=["a", "b"]).assign(y=(rows[:, 0] > 0).astype(int)))
        cut = feature.QuantileDiscretizer(inputCol="a", outputCol="part", numBuckets=2)
        model = XGBEstimator(
            task="classification", label_column="y", feature_columns=["part", "b"], num_boost_round=3, verbose=False
        )
        grid = {"cut__numBuckets": SPLITS, "model__max_depth": DEPTHS}
        search = GridSearch(SparkRayPipeline([("cut", cut), ("model", model)]), grid, cv=2, refit=False)
        search.fit(frame)
        kinds = [kind for kind, _ in events]
        fits = [place for place, kind in enumerate(kinds) if kind == "spark begins"]
        trials = [place for place, kind in enumerate(kinds) if kind == "trial"]
        result = {
            "spark_fits": len(fits),
            "trial_fits": len(trials),
            # Changes from Spark's fits to trials' fits, in the order in which they came.
            "turns": sum(one != two for one, two in zip(_sides(kinds), _sides(kinds)[1:], strict=False)),
            "first_trial_before_last_spark_fit": trials[0] < fits[-1],
            "scores": int(np.isfinite(search.cv_results_["mean_test_score"]).sum()),
        }
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(result))


def _sides(kinds):
    return ["trial" if kind == "trial" else "spark" for kind in kinds if kind != "spark ends"]


if __name__ == "__main__":
    sys.exit(main())
