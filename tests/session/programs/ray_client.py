"""A driver that is a Ray Client, given the address of the client server."""

import json
import sys
import time

import numpy as np
import ray

import raydp_ml

ray.init(sys.argv[1], log_to_driver=False)
began = time.monotonic()
spark = raydp_ml.init_spark("client", 1, 1, "512m", configs={"spark.ui.enabled": "false"})
frame = spark.range(0, 1000, 1, 2).selectExpr("id", "id * 2.0D AS x", "id % 2 AS label")
dataset = raydp_ml.from_spark(frame)


@ray.remote
def total(rows: ray.data.Dataset) -> float:
    return float(rows.sum("x"))


def refused(call) -> str:
    start = time.monotonic()
    try:
        call()
    except raydp_ml.InvalidValueError as error:
        return str(error) if time.monotonic() - start < 5 else f"late: {error}"
    return "nothing was raised"


estimator = raydp_ml.XGBEstimator(
    objective="binary:logistic", num_boost_round=2, feature_columns=["x"], label_column="label", verbose=False
)
arrays = raydp_ml.XGBEstimator(objective="binary:logistic", num_boost_round=2, num_workers=0, verbose=False)
rows = np.arange(20, dtype=float).reshape(-1, 1)
told = {
    "seconds": time.monotonic() - began,
    "sum": spark.range(100).selectExpr("sum(id)").head()[0],
    "python": spark.sparkContext.parallelize([1, 2, 3], 2).map(lambda number: number * number).sum(),
    "count": dataset.count(),
    "columns": dataset.schema().names,
    "in_task": ray.get(total.remote(dataset)),
    "executors": len(raydp_ml.spark_info()["executors"]),
    "fit_on_arrays": len(arrays.fit(rows, (rows[:, 0] > 9).astype(int)).predict(rows)),
    "refused": {
        "to_spark": refused(lambda: raydp_ml.to_spark(dataset)),
        "read_spark": refused(lambda: raydp_ml.read_spark(frame)),
        "iter_batches": refused(lambda: dataset.iter_batches()),
        "take": refused(lambda: dataset.take(1)),
        "fit": refused(lambda: estimator.fit(frame)),
        "search": refused(lambda: raydp_ml.GridSearch(estimator, {"max_depth": [1, 2]}, cv=2).fit(frame)),
    },
}
raydp_ml.stop_spark()
second = raydp_ml.init_spark("client again", 1, 1, "512m", configs={"spark.ui.enabled": "false"})
told["again"] = second.range(10).count()
print("RESULT " + json.dumps(told), flush=True)
time.sleep(600)
