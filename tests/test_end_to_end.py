"""The whole way in one program, on whichever Spark is installed: Spark, Ray, training, prediction, files, and the end."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import raydp_ml
from raydp_ml import SparkRayPipeline, TorchEstimator, XGBEstimator
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark35

ROWS = 3000


@pytest.fixture(scope="module")
def loans(spark: SparkSession) -> DataFrame:
    """Loans with a category, nulls, and whether they were paid late: a matter of category, income and some noise."""
    numbers = np.random.default_rng(7)
    grade = numbers.choice(["A", "B", "C"], ROWS, p=[0.5, 0.3, 0.2])
    income = numbers.gamma(4.0, 12.0, ROWS)
    months = numbers.integers(6, 61, ROWS)
    chance = pd.Series(grade).map({"A": -2.0, "B": 0.0, "C": 2.0}).to_numpy() - (income - 48) / 10 + (months - 30) / 20
    late = np.where(numbers.random(ROWS) < 1 / (1 + np.exp(-chance)), "late", "paid")
    rows = pd.DataFrame({"number": np.arange(ROWS), "grade": grade, "income": income, "months": months, "paid": late})
    return spark.createDataFrame(rows).repartition(4, "number").cache()


@pytest.fixture(scope="module")
def halves(loans: DataFrame) -> tuple[DataFrame, DataFrame]:
    return loans.where("number % 4 != 0"), loans.where("number % 4 = 0")


def prepare() -> list[tuple[str, Any]]:
    from pyspark.ml.feature import OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler

    return [
        ("rate", "SELECT *, 100 * months / income AS rate FROM __THIS__"),
        ("index", StringIndexer(inputCol="grade", outputCol="grade_index", handleInvalid="keep")),
        ("hot", OneHotEncoder(inputCols=["grade_index"], outputCols=["grade_hot"])),
        ("join", VectorAssembler(inputCols=["grade_hot", "income", "months", "rate"], outputCol="joined")),
        ("scale", StandardScaler(inputCol="joined", outputCol="scaled", withMean=True)),
    ]


@pytest.fixture(scope="module")
def fitted(halves: tuple[DataFrame, DataFrame]) -> SparkRayPipeline:
    model = XGBEstimator(
        objective="binary:logistic", label_column="paid", num_boost_round=30, max_depth=3, random_state=1, verbose=False
    )
    return SparkRayPipeline([*prepare(), ("model", model)]).fit(halves[0])


def accuracy(frame: DataFrame) -> float:
    return frame.selectExpr("avg(cast(prediction = paid AS double)) AS share").collect()[0]["share"]


def test_tasks_run_in_both_executors(spark: SparkSession) -> None:
    def where(_: Iterator[Any]) -> Iterator[str]:
        import os

        yield os.environ["RAYDP_ML_STAGING"]

    folders = set(spark.sparkContext.parallelize(range(40), 40).mapPartitions(where).collect())
    assert {Path(folder).parent.name for folder in folders} == set(raydp_ml.spark_info()["executors"])
    assert len(folders) == 2


def test_python_and_pandas_udfs(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    @F.udf("string")
    def spell(n: int) -> str:
        return "odd" if n % 2 else "even"

    @F.pandas_udf("double")
    def half(n: pd.Series) -> pd.Series:
        return n / 2

    frame = spark.range(0, 100, numPartitions=4).select(spell("id").alias("kind"), half("id").alias("half"))
    sums = {row["kind"]: row["total"] for row in frame.groupBy("kind").agg(F.sum("half").alias("total")).collect()}
    assert sums == {"even": sum(range(0, 100, 2)) / 2, "odd": sum(range(1, 100, 2)) / 2}


def test_values_cross_to_ray_and_back(spark: SparkSession) -> None:
    schema = (
        "flag boolean, n bigint, x double, word string, raw binary, day date, at timestamp, price decimal(9, 2), "
        "many array<float>, rec struct<a: int, b: string>, table map<string, double>"
    )
    full = (
        True, 2**62, math.pi, "Ärger", b"\x00\xff", dt.date(1955, 11, 5), dt.datetime(2015, 10, 21, 16, 29, 0, 7),
        decimal.Decimal("1234567.89"), [1.5, None], (7, None), {"x": 0.5, "y": None},
    )  # fmt: skip
    frame = spark.createDataFrame([full, (None,) * len(full)], schema).coalesce(1)
    back = raydp_ml.to_spark(raydp_ml.from_spark(frame))
    assert back.schema.simpleString() == frame.schema.simpleString()
    assert [tuple(row) for row in back.collect()] == [tuple(row) for row in frame.collect()]


def test_the_pipeline_learns_what_plain_xgboost_learns(
    fitted: SparkRayPipeline, halves: tuple[DataFrame, DataFrame]
) -> None:
    import xgboost

    train, test = halves
    assert fitted.vector_column_ == "scaled"
    scored = fitted.predict_proba(fitted.predict(test).select(*test.columns, "prediction"))
    assert set(test.columns) < set(scored.columns)
    rows = scored.select("number", "prediction", "probability").orderBy("number").toPandas()
    assert len(rows) == ROWS // 4

    def matrix(frame: DataFrame) -> tuple[np.ndarray, np.ndarray]:
        rows = fitted.transform(frame).select("number", "scaled", "paid").orderBy("number").collect()
        X = np.array([row["scaled"].toArray() for row in rows], dtype=np.float32)
        return X, np.array([row["paid"] == "paid" for row in rows], dtype=float)

    (X, y), (X_test, y_test) = matrix(train), matrix(test)
    settings = {"objective": "binary:logistic", "max_depth": 3}
    alone = xgboost.train(settings, xgboost.QuantileDMatrix(X, label=y), 30).inplace_predict(X_test)
    chance = np.array([list(value) for value in rows["probability"]])
    # The rows come in another order, which moves a quantile a little here and there.
    assert np.abs(chance[:, 1] - alone).mean() < 0.01
    assert fitted.classes_.tolist() == ["late", "paid"]
    assert np.array_equal(rows["prediction"], np.where(chance[:, 1] > 0.5, "paid", "late"))
    share = float(np.mean((alone > 0.5) == y_test))
    assert share > 0.8
    assert fitted.score(test) == pytest.approx(share, abs=0.02)
    assert accuracy(fitted.predict(test)) == pytest.approx(fitted.score(test))


def test_a_saved_pipeline_predicts_the_same(
    fitted: SparkRayPipeline, halves: tuple[DataFrame, DataFrame], tmp_path: Path
) -> None:
    path = str(tmp_path / "pipeline")
    fitted.save(path)
    loaded = raydp_ml.load(path, trusted=["sql"])

    def chances(pipeline: SparkRayPipeline) -> list[list[float]]:
        frame = pipeline.predict_proba(halves[1]).select("number", "probability").orderBy("number")
        return [list(row["probability"]) for row in frame.collect()]

    assert chances(loaded) == chances(fitted)


def test_torch_on_the_same_steps(halves: tuple[DataFrame, DataFrame]) -> None:
    import torch

    model = TorchEstimator(
        torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)),
        loss="BCEWithLogitsLoss",
        lr=0.02,
        batch_size=128,
        num_epochs=8,
        label_column="paid",
        num_workers=2,
        random_state=0,
        verbose=False,
    )
    pipeline = SparkRayPipeline([*prepare(), ("model", model)]).fit(halves[0])
    assert pipeline.score(halves[1]) > 0.8
    assert accuracy(pipeline.predict(halves[1])) == pytest.approx(pipeline.score(halves[1]))


def test_stop_ends_executors_and_gives_back_what_they_held(spark: SparkSession) -> None:

    info = raydp_ml.spark_info()
    frame = spark.range(10)
    raydp_ml.stop_spark()
    pids = [executor["pid"] for executor in info["executors"].values()]
    assert len(pids) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20, "the executors ended")
    until_free(4)
    with pytest.raises(raydp_ml.SessionStoppedError):
        raydp_ml.from_spark(frame)
