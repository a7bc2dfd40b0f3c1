"""TorchEstimator on Spark frames: the examples, several labels and columns by name, from Spark to the model and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import ray.data
import text_topics
import torch
import wide_and_deep
from sklearn.metrics import get_scorer
from torch import nn

from raydp_ml import TorchEstimator
from raydp_ml.frames.registry import open_frame
from raydp_ml.search.scoring import Collected

# Workers have them as when they run as programs: by value, because they are no modules on their path.
cloudpickle.register_pickle_by_value(wide_and_deep)
cloudpickle.register_pickle_by_value(text_topics)

if TYPE_CHECKING:
    import pyspark.sql


def test_hashed_ids_reach_the_model_from_spark(spark: pyspark.sql.SparkSession) -> None:
    df = wide_and_deep.clicks(spark, rows=20_000).cache()
    rows = df.toPandas()
    assert rows["user"].max() > 2**24 and rows["user"].nunique() == 400
    assert (
        rows["user"].astype(np.float32).astype(np.int64) != rows["user"]
    ).mean() > 0.3  # what a float32 matrix would hold
    est = wide_and_deep.train(df, num_epochs=3, verbose=False)
    assert est.history_[-1]["valid_roc_auc"] > 0.85
    few = rows.head(50)  # a limit of Spark's gives other rows each time
    np.testing.assert_allclose(
        [row[0] for row in est.predict_proba(spark.createDataFrame(few).coalesce(1)).select("probability").collect()],
        est.predict_proba(few),
        atol=1e-6,
    )


def test_words_reach_the_model_as_sparse_tensors(spark: pyspark.sql.SparkSession) -> None:
    pipe = text_topics.train(spark.createDataFrame(text_topics.messages(1200), ["text", "team"]), verbose=False)
    assert pipe.steps_[-1][1].history_[-1]["valid_accuracy"] > 0.85
    others = text_topics.messages(200, seed=1)
    found = pipe.predict(spark.createDataFrame(others, ["text", "team"])).select("team", "prediction").collect()
    assert np.mean([row["team"] == row["prediction"] for row in found]) > 0.85


class Both(nn.Module):
    """Two labels of a number and of ids that are integers."""

    def __init__(self) -> None:
        super().__init__()
        self.of_item, self.of_size = nn.Embedding(10, 2), nn.Linear(1, 2)

    def forward(self, size: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        assert item.dtype == torch.int64 and size.dtype == torch.float32
        return self.of_item(item % 10) + self.of_size(size[:, None])


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=800), "item": 2**40 + rng.integers(0, 10, 800)})
    frame["big"] = frame["size"] > 0.2
    frame["odd"] = frame["item"] % 2
    return frame


def test_several_labels_and_columns_by_name_on_every_kind_of_frame(
    spark: pyspark.sql.SparkSession, rows: pd.DataFrame
) -> None:
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["Both"]))
    settings: dict[str, Any] = {
        "loss": "BCEWithLogitsLoss", "label_column": ["big", "odd"], "lr": 0.1, "num_epochs": 8, "random_state": 0,
        "verbose": False, "feature_columns": ["size", "item"], "threads": 1,
    }  # fmt: skip
    here = TorchEstimator(Both, **settings).fit(rows)
    expected = here.predict_proba(rows)
    df = spark.createDataFrame(rows).coalesce(1)
    for frame in (df, ray.data.from_pandas(rows)):
        est = TorchEstimator(Both, **settings).fit(frame)
        assert est.evaluate(frame) == pytest.approx(est.evaluate(rows), abs=1e-6)
        assert est.score(frame) == pytest.approx(est.score(rows)) and est.score(rows) > 0.85
        np.testing.assert_allclose(est.predict_proba(rows), expected, atol=1e-4)
    predicted = est.predict(df)
    assert dict(predicted.dtypes)["prediction"] == "array<bigint>"
    assert [row["prediction"] for row in predicted.collect()] == est.predict(rows).tolist()
    probabilities = [row["probability"] for row in est.predict_proba(df).collect()]
    np.testing.assert_allclose(probabilities, est.predict_proba(rows), atol=1e-6)
    # Searches score a frame so, with scikit-learn's scorers.
    collected = Collected(est, open_frame(df))
    for name in ("f1_macro", "roc_auc", "accuracy"):
        score = get_scorer(name)(collected, df, collected.labels)
        assert score == pytest.approx(est.evaluate(rows)[name], abs=1e-6)
    # What a function predicts is a column, too.
    code = TorchEstimator(Both, **{**settings, "model_output": torch.sigmoid, "task": "custom"}).fit(df)
    found = np.array([row["prediction"] for row in code.predict(df).collect()])
    np.testing.assert_allclose(found, expected, atol=1e-4)
