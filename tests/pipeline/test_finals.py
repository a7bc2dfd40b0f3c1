"""Last steps that Spark ML or scikit-learn trains: their predictions are those of the libraries, under our names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import classification, regression
from pyspark.ml import feature as sf
from sklearn import linear_model
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import LinearSVC

import raydp_ml
from raydp_ml import GridSearch, SparkRayPipeline
from raydp_ml import feature as rf
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.feature import ml as rm
from raydp_ml.pipeline import CollectedEstimator

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def before() -> list[tuple[str, Any]]:
    """A pipeline in the pipeline, and an assembler."""
    hot = [
        rf.StringIndexer(inputCol="city", outputCol="city_index", handleInvalid="keep"),
        rf.OneHotEncoder(inputCols=["city_index"], outputCols=["city_hot"]),
    ]
    return [
        ("hot", rm.Pipeline(stages=hot)),
        ("vec", rf.VectorAssembler(inputCols=["city_hot", "age", "pay"], outputCol="x")),
    ]


@pytest.fixture(scope="module")
def features(people_df: DataFrame) -> DataFrame:
    """The same steps by hand."""
    indexed = sf.StringIndexer(inputCol="city", outputCol="city_index", handleInvalid="keep").fit(people_df)
    frame = indexed.transform(people_df)
    frame = sf.OneHotEncoder(inputCols=["city_index"], outputCols=["city_hot"]).fit(frame).transform(frame)
    return sf.VectorAssembler(inputCols=["city_hot", "age", "pay"], outputCol="x").transform(frame).cache()


def column(frame: DataFrame, name: str) -> list[Any]:
    return [row[0] for row in frame.select(name).collect()]


# ---- predictors of Spark ML --------------------------------------------------------------------------------------------


def test_a_classifier_of_spark(people_df: DataFrame, people: pd.DataFrame, features: DataFrame, tmp_path: Path) -> None:
    by_hand = classification.LogisticRegression(maxIter=5, featuresCol="x").fit(features).transform(features).cache()
    likely = np.array([row.toArray() for row in column(by_hand, "probability")])
    labels = column(by_hand, "prediction")
    given = SparkRayPipeline([*before(), ("model", rm.LogisticRegression(maxIter=5))])
    pipe = clone(given).fit(people_df)
    assert type(pipe["model"]).__name__ == "LogisticRegressionModel" and is_classifier(pipe) and is_classifier(given)
    predicted = pipe.predict(people_df)
    assert predicted.columns == [*people_df.columns, "city_index", "city_hot", "x", "prediction"]
    assert column(predicted, "prediction") == labels
    np.testing.assert_allclose(column(pipe.predict_proba(people_df), "probability"), likely, rtol=1e-9)
    assert pipe.transform(people_df).columns == predicted.columns[:-1]
    np.testing.assert_allclose(pipe.predict_proba(people), likely, rtol=1e-9)
    accuracy = (np.array(labels) == people["label"]).mean()
    assert pipe.score(people_df) == pytest.approx(accuracy)
    assert pipe.evaluate(people_df)["accuracy"] == pytest.approx(accuracy) and pipe.evaluate(people_df)["roc_auc"] > 0.5
    assert pipe.classes_.tolist() == [0.0, 1.0]
    local = pipe.to_local()
    np.testing.assert_allclose(local.predict_proba(people), likely, rtol=1e-9)
    assert local.predict(people).tolist() == labels and local.classes_.tolist() == [0.0, 1.0]
    pipe.save(tmp_path / "pipe")
    local.save(tmp_path / "local")
    again = raydp_ml.load(tmp_path / "pipe")
    assert column(again.predict(people_df), "prediction") == labels
    assert again.get_params()["model__maxIter"] == 5
    np.testing.assert_allclose(raydp_ml.load(tmp_path / "local").predict_proba(people), likely, rtol=1e-9)
    with pytest.raises(InvalidTypeError, match="trains in Spark"):
        GridSearch(given, {"model__maxIter": [1, 2]}).fit(people_df)


def test_a_regressor_of_spark_and_one_that_is_not_the_last(people_df: DataFrame, features: DataFrame) -> None:
    weighted = regression.LinearRegression(featuresCol="x", labelCol="age", predictionCol="guess", weightCol="pay")
    heavy, rows = features.where("pay > 0"), people_df.where("pay > 0")
    by_hand = weighted.fit(heavy).transform(heavy)
    pipe = SparkRayPipeline([*before(), ("model", weighted)]).fit(rows)
    np.testing.assert_allclose(column(pipe.predict(rows), "guess"), column(by_hand, "guess"), rtol=1e-9)
    assert is_regressor(pipe) and not hasattr(pipe, "predict_proba")
    np.testing.assert_allclose(pipe.to_local().predict(rows.toPandas()), column(by_hand, "guess"), rtol=1e-9)
    # In front of other steps it makes columns, as every stage does.
    both = SparkRayPipeline(
        [*before(), ("guess", weighted), ("on", rf.Binarizer(inputCol="guess", outputCol="old", threshold=40.0))]
    )
    assert {"guess", "old"} < set(both.fit(rows).transform(rows).columns)
    assert both[:-1].predict(rows).columns[-1] == "guess"


def test_bad_predictors_of_spark(people_df: DataFrame) -> None:
    with pytest.raises(InvalidValueError, match=r"LogisticRegression reads labelCol='late'.*its columns: city, age"):
        SparkRayPipeline([*before(), ("model", rm.LogisticRegression(labelCol="late"))]).fit(people_df)
    forest = SparkRayPipeline([*before(), ("model", rm.RandomForestClassifier(numTrees=2, seed=1))]).fit(people_df)
    with pytest.raises(InvalidTypeError, match="step 'model': RandomForestClassificationModel works in Spark only"):
        forest.to_local()


# ---- estimators of scikit-learn ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays(features: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    X = np.array([row.x.toArray() for row in features.select("x").collect()], dtype=np.float32)
    return X, np.array(column(features, "label"))


def test_a_classifier_of_scikit_learn(
    people_df: DataFrame, people: pd.DataFrame, arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    X, y = arrays
    by_hand = linear_model.LogisticRegression(C=0.3).fit(X, y)
    given = SparkRayPipeline([*before(), ("model", linear_model.LogisticRegression())]).set_params(model__C=0.3)
    pipe = given.fit(people_df)
    np.testing.assert_allclose(pipe["model"].estimator_.coef_, by_hand.coef_, rtol=1e-6)
    predicted = pipe.predict(people_df)
    assert predicted.columns[-1] == "prediction" and set(people_df.columns) < set(predicted.columns)
    assert column(predicted, "prediction") == by_hand.predict(X).tolist()
    np.testing.assert_allclose(
        column(pipe.predict_proba(people_df), "probability"), by_hand.predict_proba(X), rtol=1e-5
    )
    np.testing.assert_allclose(pipe.predict_proba(people), by_hand.predict_proba(X), rtol=1e-5)
    assert pipe.score(people_df) == pytest.approx(by_hand.score(X, y))
    assert pipe.evaluate(people_df)["accuracy"] == pytest.approx(by_hand.score(X, y))
    assert pipe.classes_.tolist() == [0, 1] and is_classifier(pipe)
    local = pickle.loads(pickle.dumps(pipe.to_local()))
    np.testing.assert_allclose(local.predict_proba(people), by_hand.predict_proba(X), rtol=1e-5)
    assert not hasattr(given.steps[-1][1], "coef_")
    pipe.save(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"trusted=\['sklearn"):
        raydp_ml.load(tmp_path / "pipe")
    again = raydp_ml.load(tmp_path / "pipe", trusted=["sklearn"])
    np.testing.assert_allclose(again.predict_proba(people), by_hand.predict_proba(X), rtol=1e-5)
    assert type(again.steps[-1][1]).__name__ == "LogisticRegression"
    with pytest.raises(InvalidTypeError, match="cannot be saved in a directory that runs no code"):
        pipe.to_local().save(tmp_path / "local")


def test_labels_that_are_not_the_most_likely_and_no_probabilities(
    people_df: DataFrame, arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    X, y = arrays
    named = CollectedEstimator(LinearSVC(random_state=0), prediction_column="late", feature_columns=["x"])
    pipe = SparkRayPipeline([*before(), ("model", named)]).fit(people_df)
    assert column(pipe.predict(people_df), "late") == LinearSVC(random_state=0).fit(X, y).predict(X).tolist()
    assert not hasattr(pipe, "predict_proba") and set(pipe.evaluate(people_df)) == {"accuracy"}
    forest = SparkRayPipeline([*before(), ("model", RandomForestClassifier(n_estimators=2))]).fit(people_df)
    with pytest.raises(InvalidTypeError, match=r"fitted RandomForestClassifier cannot be saved.*pickle"):
        forest.save(tmp_path / "forest")


def test_weights_nulls_and_a_regressor(people_df: DataFrame, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    X, _ = arrays
    age = np.array(column(people_df, "age"))
    weight = np.abs(np.array(column(people_df, "pay")))
    ridge = CollectedEstimator(linear_model.Ridge(), label_column="age", weight_column="w", feature_columns="x")
    rows = people_df.selectExpr("*", "cast(abs(pay) as float) AS w")
    pipe = SparkRayPipeline([*before(), ("model", ridge)]).fit(rows)
    by_hand = linear_model.Ridge().fit(X, age, sample_weight=weight.astype(np.float32))
    np.testing.assert_allclose(column(pipe.predict(rows), "prediction"), by_hand.predict(X), rtol=1e-4)
    assert is_regressor(pipe) and pipe.score(rows) == pytest.approx(by_hand.score(X, age, weight), rel=1e-4)
    holes = people_df.selectExpr("IF(age < 35, NULL, age) AS age", "pay", "label")
    boosted = SparkRayPipeline([("model", HistGradientBoostingClassifier(max_iter=3))]).fit(holes)
    assert len(set(column(boosted.predict(holes), "prediction"))) == 2
    with pytest.raises(InvalidValueError, match=r"of 180 rows have a null or NaN feature.*LogisticRegression"):
        SparkRayPipeline([("model", linear_model.LogisticRegression())]).fit(holes)


def test_what_is_too_large_is_refused_before_it_is_collected(people_df: DataFrame) -> None:
    small = CollectedEstimator(linear_model.LogisticRegression(), max_bytes=1000)
    message = r"180 rows with 5 numbers each take 3,600 bytes, more than max_bytes=1,000.*max_bytes="
    with pytest.raises(InvalidValueError, match=message):
        SparkRayPipeline([*before(), ("model", small)]).fit(people_df)
    with pytest.raises(InvalidValueError, match="label_column: the Spark DataFrame has no column 'label'"):
        SparkRayPipeline([*before(), ("model", linear_model.LogisticRegression())]).fit(people_df.drop("label"))
