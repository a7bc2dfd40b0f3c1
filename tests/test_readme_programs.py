"""The programs that RayDP publishes, in our own words and values, through ``import raydp`` alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray

import raydp

if TYPE_CHECKING:
    import pyspark.sql

# Ray counts 6 GiB here, whatever the machine: one executor of 4 GB and its overhead fits, two do not.
WORD_COUNT = """
import json
import sys
import tempfile
import warnings

import ray
import raydp

if __name__ == "__main__":
    ray.init(num_cpus=4, _memory=6 << 30, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        spark = raydp.init_spark(
            app_name="word count", num_executors=2, executor_cores=2, executor_memory="4GB", configs=json.loads(sys.argv[2])
        )
    line = "to be or not to be that is the question"
    words = spark.createDataFrame([(word,) for word in line.split()], ["word"])
    counted = {row["word"]: row["count"] for row in words.groupBy("word").count().collect()}
    raydp.stop_spark()
    print(json.dumps({"counted": counted, "warned": [str(w.message) for w in caught]}))
    ray.shutdown()
"""


def plane(spark: pyspark.sql.SparkSession) -> pyspark.sql.DataFrame:
    """1000 points of a plane over the unit square."""
    points = spark.range(0, 1000, numPartitions=2).selectExpr("rand(1) AS x", "rand(2) AS y")
    return points.selectExpr("x", "y", "3 * x - 2 * y + 1 AS z")


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for Ray: paths of its sockets may not exceed 107 bytes, which pytest's folders do."""
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_word_count_with_executors_that_do_not_all_fit(tmp_path: Path, short_folder: str) -> None:
    program = tmp_path / "word_count.py"
    program.write_text(WORD_COUNT)
    settings = json.dumps({"spark.sql.shuffle.partitions": "4"})
    done = subprocess.run(
        [sys.executable, str(program), short_folder, settings], capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["counted"] == {"to": 2, "be": 2, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1}
    assert any("1 of 2 executors run" in message and "memory" in message for message in told["warned"])


@pytest.fixture(scope="class")
def session(ray_cluster: None) -> Iterator[pyspark.sql.SparkSession]:
    yield raydp.init_spark(
        app_name="RayDP programs",
        num_executors=1,
        executor_cores=1,
        executor_memory="500M",
        fault_tolerance_mode=True,
        configs={"spark.sql.shuffle.partitions": "4"},
    )
    raydp.stop_spark()


class TestConversionsAndEstimators:
    """The programs that share one session, which the last of them stops."""

    def test_frames_become_datasets_and_datasets_frames(self, session: pyspark.sql.SparkSession) -> None:
        squares = session.range(0, 900).selectExpr("id", "id * id AS square")
        ds = ray.data.from_spark(squares)
        assert ds.count() == 900
        assert ds.sum("square") == sum(i * i for i in range(900))
        assert ray.data.from_spark(squares, parallelism=3).num_blocks() == 3

        rows = ray.data.from_items([{"id": i, "name": f"row {i}"} for i in range(50)], override_num_blocks=4)
        frame = rows.to_spark(session)
        assert frame.schema.simpleString() == "struct<id:bigint,name:string>"
        assert [tuple(row) for row in frame.where("id >= 48").orderBy("id").collect()] == [
            (48, "row 48"),
            (49, "row 49"),
        ]
        joined = frame.join(squares, "id").selectExpr("sum(square) AS total").collect()
        assert joined[0]["total"] == sum(i * i for i in range(50))

    def test_xgboost_estimator(self, session: pyspark.sql.SparkSession) -> None:
        import numpy as np
        import xgboost

        from raydp.xgboost import XGBoostEstimator

        train_df, test_df = raydp.utils.random_split(plane(session), [0.8, 0.2], 3)
        estimator = XGBoostEstimator(
            xgboost_params={"objective": "reg:squarederror", "eta": 0.5, "max_depth": 5, "eval_metric": ["rmse"]},
            label_column="z",
            num_workers=1,
            resources_per_worker={"CPU": 1},
        )
        estimator.fit_on_spark(train_df, test_df)
        booster = estimator.get_model()
        assert isinstance(booster, xgboost.Booster)
        assert booster.num_boosted_rounds() == 10
        assert booster.feature_names == ["x", "y"]
        test = test_df.toPandas()
        predicted = booster.predict(xgboost.DMatrix(test[["x", "y"]]))
        assert np.sqrt(np.mean((predicted - test["z"]) ** 2)) < 0.2 * np.std(test["z"])

    def test_torch_estimator_with_an_optimizer_of_its_model(self, session: pyspark.sql.SparkSession) -> None:
        import torch

        from raydp.torch import TorchEstimator

        train_df, test_df = raydp.utils.random_split(plane(session), [0.8, 0.2], 3)
        model = torch.nn.Sequential(torch.nn.Linear(2, 1))
        before = model[0].weight.detach().clone()
        estimator = TorchEstimator(
            num_workers=1,
            model=model,
            optimizer=torch.optim.Adam(model.parameters(), lr=0.05),
            loss=torch.nn.MSELoss(),
            lr_scheduler_creator=lambda optimizer, config: torch.optim.lr_scheduler.StepLR(optimizer, 400, 0.5),
            feature_columns=["x", "y"],
            feature_types=torch.float,
            label_column="z",
            label_type=torch.float,
            batch_size=20,
            num_epochs=20,
            metrics_name=["MeanAbsoluteError"],
            use_bf16=False,
        )
        estimator.fit_on_spark(train_df, test_df)
        fitted = estimator.get_model()
        assert fitted[0].weight[0].tolist() == pytest.approx([3.0, -2.0], abs=0.05)
        assert fitted[0].bias.item() == pytest.approx(1.0, abs=0.05)
        assert torch.equal(model[0].weight, before)
        history = estimator.estimator.history_
        assert len(history) == 20
        assert history[-1]["valid_MeanAbsoluteError"] < 0.05 < history[0]["valid_MeanAbsoluteError"]

    def test_tf_estimator_with_an_input_per_column(self, session: pyspark.sql.SparkSession) -> None:
        keras = pytest.importorskip("keras")
        import numpy as np

        from raydp.tf import TFEstimator

        train_df, test_df = raydp.utils.random_split(plane(session), [0.8, 0.2], 3)
        inputs = [keras.Input(shape=(1,)), keras.Input(shape=(1,))]
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.concatenate(inputs)))
        estimator = TFEstimator(
            num_workers=1,
            model=model,
            optimizer=keras.optimizers.Adam(learning_rate=0.05),
            loss=keras.losses.MeanSquaredError(),
            metrics=["mae"],
            feature_columns=["x", "y"],
            label_columns="z",
            batch_size=20,
            num_epochs=20,
        )
        estimator.fit_on_spark(train_df, test_df)
        slopes, intercept = estimator.get_model().get_weights()
        np.testing.assert_allclose(slopes[:, 0], [3.0, -2.0], atol=0.05)
        np.testing.assert_allclose(intercept, [1.0], atol=0.05)

    def test_recoverable_conversion_and_data_after_spark(self, session: pyspark.sql.SparkSession) -> None:
        df = session.range(0, 100_000, numPartitions=4).selectExpr("id", "id % 7 AS weekday")
        recoverable = raydp.spark.from_spark_recoverable(df)
        plain = ray.data.from_spark(df.where("weekday = 3"))
        raydp.stop_spark(cleanup_data=False)
        assert recoverable.count() == 100_000
        assert recoverable.sum("id") == sum(range(100_000))
        assert plain.sum("id") == sum(range(3, 100_000, 7))
