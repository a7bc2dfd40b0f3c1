"""XGBEstimator on Spark frames and Ray Datasets: all its outputs, computed when they are read, and ranking on two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, ndcg_score

import raydp_ml
from raydp_ml import SparkRayPipeline, XGBEstimator
from raydp_ml import feature as rf

if TYPE_CHECKING:
    import pyspark.sql

RNG = np.random.default_rng(8)
X = RNG.normal(size=(1200, 3)).astype(np.float32)
SIGNAL = 2 * X[:, 0] + X[:, 1] * X[:, 2] + RNG.normal(size=1200)
ROWS = pd.DataFrame(X, columns=list("abc")).assign(
    grade=np.digitize(SIGNAL, [-2.0, 0.0, 2.0]),
    start=np.float32(X[:, 2]),
    query=[f"q{number:02d}" for number in RNG.integers(0, 60, 1200)],
    note="a string that nobody reads",
)


@pytest.fixture(scope="module")
def spark(ray_cluster: None) -> Iterator[pyspark.sql.SparkSession]:
    session = raydp_ml.init_spark("xgb-frames-tests", 1, 1, "512m", configs={"spark.sql.shuffle.partitions": 2})
    yield session
    raydp_ml.stop_spark()


@pytest.fixture(scope="module")
def df(spark: pyspark.sql.SparkSession) -> pyspark.sql.DataFrame:
    return spark.createDataFrame(ROWS).repartition(3).cache()


def trees(**settings: object) -> XGBEstimator:
    given = {"label_column": "grade", "feature_columns": ["a", "b", "c"], "max_depth": 3, "num_workers": 0}
    return XGBEstimator(**{"num_boost_round": 8, "random_state": 1, "verbose": False, **given, **settings})


def test_every_output_is_a_column_of_every_kind_of_frame(df: pyspark.sql.DataFrame) -> None:
    import pyspark.sql.functions as F
    import ray.data

    est = trees(task="classification").fit(ROWS)
    names = {
        "predict_margin": "m",
        "apply": "leaf",
        "predict_contributions": "shap",
        "predict_proba": "p",
        "predict": "label",
    }
    est.set_params(margin_column="m", leaf_column="leaf", contribution_column="shap", probability_column="p")
    est.set_params(prediction_column="label")
    expected = {method: getattr(est, method)(ROWS) for method in names}
    jobs = df.sparkSession.sparkContext.statusTracker()
    df.sparkSession.sparkContext.setJobGroup("outputs", "counted")
    frame, dataset = df, ray.data.from_pandas([ROWS[:500], ROWS[500:]])
    for method in names:
        frame, dataset = getattr(est, method)(frame), getattr(est, method)(dataset)
    assert not jobs.getJobIdsForGroup("outputs")
    assert frame.columns == [*ROWS.columns, *names.values()]
    assert [field.dataType.simpleString() for field in frame.schema][-5:] == [
        "array<double>", "array<int>", "array<array<double>>", "array<double>", "bigint",
    ]  # fmt: skip
    keys = {tuple(key): place for place, key in enumerate(ROWS[["a", "b", "c"]].to_numpy())}
    for rows in (frame.toPandas(), dataset.to_pandas()):
        order = [keys[tuple(key)] for key in rows[["a", "b", "c"]].to_numpy()]
        for method, name in names.items():
            found = np.array([np.array(value.tolist() if hasattr(value, "tolist") else value) for value in rows[name]])
            if found.dtype == object:  # lists of lists
                found = np.array([np.stack([np.asarray(each) for each in value]) for value in rows[name]])
            np.testing.assert_allclose(found, expected[method][order], rtol=1e-6, atol=1e-6, err_msg=method)
    # In SQL as well: a row's contributions sum to its margin.
    sums = F.transform("shap", lambda each: F.aggregate(each, F.lit(0.0), lambda total, item: total + item))
    wrong = frame.select(F.arrays_zip(sums.alias("s"), F.col("m").alias("m")).alias("z")).where(
        F.exists("z", lambda pair: F.abs(pair["s"] - pair["m"]) > 1e-4)
    )
    assert wrong.count() == 0


def test_base_margins_of_a_spark_frame(df: pyspark.sql.DataFrame) -> None:
    est = trees(task="regression", base_margin_column="start").fit(ROWS)
    here = est.predict(ROWS)
    rows = est.predict_contributions(est.predict(df)).toPandas()
    keys = {tuple(key): place for place, key in enumerate(ROWS[["a", "b", "c"]].to_numpy())}
    order = [keys[tuple(key)] for key in rows[["a", "b", "c"]].to_numpy()]
    np.testing.assert_allclose(rows["prediction"], here[order], rtol=1e-6)
    np.testing.assert_allclose(np.stack(rows["prediction_contributions"]).sum(axis=1), here[order], atol=1e-4)
    assert est.score(df) == pytest.approx(est.score(ROWS), rel=1e-6)
    # The steps of a pipeline leave the column where it is.
    vector = rf.VectorAssembler(inputCols=["a", "b", "c"], outputCol="x")
    last = trees(task="regression", base_margin_column="start", feature_columns=None, num_workers=None)
    pipe = SparkRayPipeline([("vector", vector), ("model", last)]).fit(df)
    assert pipe.score(df) == pytest.approx(est.score(ROWS), abs=0.01)
    rows = pipe.predict(df).toPandas()
    order = [keys[tuple(key)] for key in rows[["a", "b", "c"]].to_numpy()]
    np.testing.assert_allclose(rows["prediction"], pipe.to_local().predict(ROWS)[order], rtol=1e-5)


def test_functions_as_metrics_are_of_all_workers_rows(df: pyspark.sql.DataFrame) -> None:
    est = trees(
        task="classification", num_workers=2, validation=0.25, num_boost_round=40, eta=0.6, early_stopping_rounds=4,
        eval_metric=["mlogloss", accuracy_score],
    ).fit(df)  # fmt: skip
    # Both workers stop in one round, which they can only where they see one value: that of all 300 rows that validate.
    hits = np.array([entry["valid_accuracy_score"] for entry in est.history_]) * 300
    np.testing.assert_allclose(hits, hits.round(), atol=1e-3)
    assert est.best_iteration_ == int(np.argmax(hits)) and len(hits) == min(est.best_iteration_ + 5, 40)


def test_ranking_on_two_workers_is_as_good_as_on_one(df: pyspark.sql.DataFrame) -> None:
    def quality(est: XGBEstimator) -> float:
        scored = ROWS.assign(score=est.predict(ROWS))
        groups = scored.groupby("query")
        return float(np.mean([ndcg_score([each["grade"]], [each["score"]]) for _, each in groups]))

    about = {
        "task": "ranking",
        "qid_column": "query",
        "num_boost_round": 20,
        "validation": 0.2,
        "eval_metric": "ndcg@5",
    }
    one = trees(**about).fit(ROWS)
    two = trees(**{**about, "num_workers": 2}).fit(df)
    assert quality(one) > 0.93
    assert quality(two) == pytest.approx(quality(one), abs=0.015)
    assert two.history_[-1]["valid_ndcg@5"] == pytest.approx(one.history_[-1]["valid_ndcg@5"], abs=0.08)
    with pytest.warns(UserWarning, match="has 1 queries, fewer than num_workers=2: training on 1 workers"):
        trees(**{**about, "num_workers": 2, "validation": None, "num_boost_round": 1}).fit(df.where("query = 'q07'"))
