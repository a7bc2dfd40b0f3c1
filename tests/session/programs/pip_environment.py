"""A package that Ray's runtime_env installs on the cluster (`pip`), and not for this driver: given the folder of its wheel."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import ray

import raydp_ml


def value(*_: object) -> int:
    import in_a_wheel

    return in_a_wheel.VALUE


def from_the_wheel(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return float(value())


def main(wheels: str) -> dict[str, object]:
    options = ["--no-index", "--no-deps", "--find-links", wheels, "--disable-pip-version-check"]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"pip": {"packages": ["in-a-wheel==1.0"], "pip_install_options": options}},
    )
    spark = raydp_ml.init_spark("pip", 1, 1, "512m", configs={"spark.ui.enabled": "false"})
    frame = spark.range(0, 200, 1, 2).selectExpr("cast(id AS double) AS x", "cast(id % 7 AS double) AS y")
    est = raydp_ml.XGBEstimator(
        task="regression", label_column="y", num_boost_round=2, eval_metric=[from_the_wheel], verbose=False
    )
    return {
        "driver": importlib.util.find_spec("in_a_wheel") is not None,
        "task": ray.get(ray.remote(value).remote()),
        "spark": spark.sparkContext.parallelize([0], 1).map(value).first(),
        "fit": est.fit(frame).history_[-1]["train_from_the_wheel"],
        "predictions": est.predict(frame).count(),
    }


if __name__ == "__main__":
    try:
        result = main(sys.argv[1])
        print("RESULT " + json.dumps(result))
    finally:
        raydp_ml.stop_spark()
