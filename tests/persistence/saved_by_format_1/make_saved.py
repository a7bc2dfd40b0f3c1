"""How the directories beside this file were made, by the code of format version 1.

They are never made again: they hold that what users saved then still loads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import torch
from pyspark.ml.feature import StringIndexer, VectorAssembler

import raydp_ml
from raydp_ml import SparkRayPipeline, TFEstimator, TorchEstimator, XGBEstimator


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(rng.normal(size=(60, 3)).round(3), columns=["a", "b", "c"])
    frame["city"] = rng.choice(["Lima", "Oslo", "Rome"], 60)
    frame["label"] = np.where(frame["a"] + frame["b"] * frame["c"] > 0, "yes", "no")
    frame["amount"] = frame["a"] * 2 - frame["c"]
    return frame


def main(target: Path) -> None:
    frame = rows()
    frame.to_csv(target / "rows.csv", index=False)
    X, expected = frame[["a", "b", "c"]], {}
    quiet = {"verbose": False, "random_state": 0, "num_workers": 0}
    named = {"feature_columns": ["a", "b", "c"], "label_column": "label"}

    models = {
        "xgb_classifier": XGBEstimator(
            objective="binary:logistic", num_boost_round=5, max_depth=3, params={"eta": 0.4}, **named, **quiet
        ),
        "xgb_regressor": XGBEstimator(task="regression", num_boost_round=5, reg_lambda=2.0, **quiet),
        "xgb_ranker": XGBEstimator(
            objective="rank:ndcg",
            qid_column="qid",
            num_boost_round=3,
            feature_columns=["a", "b", "c"],
            label_column="grade",
            **quiet,
        ),
        "torch_classifier": TorchEstimator(
            torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)),
            loss="CrossEntropyLoss",
            lr=0.05,
            num_epochs=3,
            batch_size=16,
            **named,
            **quiet,
        ),
        "torch_regressor": TorchEstimator(
            torch.nn.Linear(3, 1), loss=torch.nn.MSELoss(), optimizer=torch.optim.SGD, lr=0.05, num_epochs=2, **quiet
        ),
        "tf_classifier": TFEstimator(
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1, "sigmoid")]),
            loss="binary_crossentropy",
            lr=0.05,
            num_epochs=2,
            batch_size=16,
            **named,
            **quiet,
        ),
        "xgb_unfitted": XGBEstimator(objective="reg:squarederror", max_depth=2, feature_columns=["a"], **quiet),
    }
    for name, model in models.items():
        if name == "xgb_ranker":
            ranked = frame.assign(qid=np.arange(60) // 10, grade=(frame["amount"] > 0).astype(int))
            model.fit(ranked)
            expected[name] = model.predict(ranked).tolist()
        elif name.endswith("regressor"):
            model.fit(X.to_numpy(), frame["amount"].to_numpy())
            expected[name] = model.predict(X.to_numpy()).tolist()
        elif name.endswith("classifier"):
            model.fit(frame)
            expected[name] = model.predict_proba(frame).tolist()
        model.save(target / name)

    spark = raydp_ml.init_spark("saved", 1, 1, "512m")
    whole = SparkRayPipeline(
        [
            ("sum", "SELECT *, a + b AS ab FROM __THIS__"),
            ("index", StringIndexer(inputCol="city", outputCol="city_index", handleInvalid="keep")),
            ("vector", VectorAssembler(inputCols=["city_index", "ab", "c"], outputCol="features")),
            ("nothing", "passthrough"),
            (
                "model",
                XGBEstimator(
                    objective="binary:logistic", num_boost_round=5, max_depth=3, label_column="label", **quiet
                ),
            ),
        ],
        spark={"num_executors": 1},
    )
    df = spark.createDataFrame(frame).coalesce(1)
    whole.fit(df)
    expected["pipeline"] = [row[0] for row in whole.predict_proba(df).select("probability").collect()]
    whole.save(target / "pipeline")
    SparkRayPipeline(whole.steps).save(target / "pipeline_unfitted")
    steps = SparkRayPipeline(whole.steps[:3]).fit(df)
    expected["pipeline_without_estimator"] = [
        row[0].tolist() if hasattr(row[0], "tolist") else row[0].toArray().tolist()
        for row in steps.transform(df).select("features").collect()
    ]
    steps.save(target / "pipeline_without_estimator")
    raydp_ml.stop_spark()
    (target / "expected.json").write_text(json.dumps(expected, indent=0))


if __name__ == "__main__":
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir="/tmp/rdp_fx")
    main(Path(sys.argv[1]))
    ray.shutdown()
