"""GridSearch on Spark frames: fitted and crossed once, and equal to a loop by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

import raydp_ml.exchange
from raydp_ml import GridSearch, SparkRayPipeline
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.candidates import PrefixTable
from tests.people import make_model

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often a StringIndexer was fitted and a frame crossed."""
    from pyspark.ml.feature import StringIndexer

    seen = {"fitted": 0, "crossed": 0}
    fit, cross = StringIndexer._fit, raydp_ml.exchange.from_spark

    def counted_fit(self: Any, df: Any) -> Any:
        seen["fitted"] += 1
        return fit(self, df)

    def counted_cross(*args: Any, **kwargs: Any) -> Any:
        seen["crossed"] += 1
        return cross(*args, **kwargs)

    monkeypatch.setattr(StringIndexer, "_fit", counted_fit)
    monkeypatch.setattr(raydp_ml.exchange, "from_spark", counted_cross)
    yield seen


def indexed_pipeline() -> SparkRayPipeline:
    from pyspark.ml.feature import StringIndexer, VectorAssembler

    index = StringIndexer(inputCol="city", outputCol="city_index")
    vec = VectorAssembler(inputCols=["city_index", "age", "pay"], outputCol="features")
    return SparkRayPipeline([("index", index), ("vec", vec), ("model", make_model())])


def test_each_prefix_and_fold_is_fitted_and_crossed_once_and_scores_are_those_by_hand(
    spark: SparkSession, people_df: DataFrame, people: pd.DataFrame, counts: dict[str, int]
) -> None:
    orders = ["frequencyDesc", "alphabetDesc"]
    grid = {"index__stringOrderType": orders, "model__max_depth": [1, 4], "model__eta": [0.3]}
    search = GridSearch(indexed_pipeline(), grid, cv=2, scoring="roc_auc", refit=False).fit(people_df)
    assert counts == {"fitted": 4, "crossed": 4}  # 2 orders x 2 folds, for 4 candidates
    expected = []
    for params in search.cv_results_["params"]:
        pipe = clone(indexed_pipeline()).set_params(**params)
        for train, test in StratifiedKFold(2).split(people, people["label"]):
            pipe.fit(spark.createDataFrame(people.iloc[train]).coalesce(1))
            probability = pipe.predict_proba(people.iloc[test])[:, 1]
            expected.append(roc_auc_score(people["label"].iloc[test], probability))
        if params["index__stringOrderType"] == orders[1]:
            break  # one candidate of the second prefix will do
    found = np.column_stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(2)])
    position = {tuple(params.values()): number for number, params in enumerate(search.cv_results_["params"])}
    assert len(position) == 4
    np.testing.assert_allclose(found.ravel()[: len(expected)], expected, atol=1e-9)
    assert search.best_params_ == search.cv_results_["params"][int(found.mean(axis=1).argmax())]


def test_steps_that_learn_nothing_cross_once_for_all_folds_and_candidates(
    people_df: DataFrame, people: pd.DataFrame, counts: dict[str, int]
) -> None:
    from pyspark.ml.feature import VectorAssembler

    vec = VectorAssembler(inputCols=["age", "pay"], outputCol="features")
    pipe = SparkRayPipeline([("vec", vec), ("model", make_model())])
    cv = KFold(3, shuffle=True, random_state=2)
    search = GridSearch(pipe, {"model__max_depth": [1, 3]}, cv=cv, scoring=["roc_auc", "accuracy"], refit="roc_auc")
    search.fit(people_df)
    assert counts["crossed"] == 2  # one for the folds and one for the refit
    features = people[["age", "pay"]].to_numpy()
    best = make_model(**{name.removeprefix("model__"): value for name, value in search.best_params_.items()})
    for fold, (train, test) in enumerate(cv.split(features)):
        fitted = clone(best).fit(features[train], people["label"].to_numpy()[train])
        expected = roc_auc_score(people["label"].iloc[test], fitted.predict_proba(features[test])[:, 1])
        assert search.cv_results_[f"split{fold}_test_roc_auc"][search.best_index_] == pytest.approx(expected, abs=1e-9)
    predicted = [row.prediction for row in search.predict(people_df).select("prediction").collect()]
    assert predicted == clone(best).fit(features, people["label"]).predict(features).tolist()
    probability = search.predict_proba(people)[:, 1]
    assert search.score(people_df) == pytest.approx(roc_auc_score(people["label"], probability))
    assert search.transform(people_df).columns[-1] == "features"


def test_an_estimator_alone_a_column_of_folds_and_failing_steps(
    people_df: DataFrame, people: pd.DataFrame, counts: dict[str, int]
) -> None:
    import pyspark.sql.functions as F
    from pyspark.ml.feature import VectorAssembler

    rows = people_df.withColumn("part", F.when(F.col("city") == "Oslo", "one").otherwise("two"))
    alone = make_model(feature_columns=["age", "pay"])
    search = GridSearch(alone, {"max_depth": [2]}, cv="part", refit=False).fit(rows)
    assert counts["crossed"] == 1
    oslo = (people["city"] == "Oslo").to_numpy()
    train, test = people[~oslo], people[oslo]
    expected = clone(alone).fit(train).score(test)
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected)

    pipe = SparkRayPipeline([("vec", VectorAssembler(inputCols=["age"], outputCol="v")), ("model", make_model())])
    search = GridSearch(pipe, {"vec__inputCols": [["age"], ["salary"]]}, cv="part", refit=False)
    with pytest.warns(FitFailedWarning, match=r"2 of 4 fits failed(?s:.*)salary"):
        search.fit(rows)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_bad_input(people_df: DataFrame, people: pd.DataFrame) -> None:
    pipe = indexed_pipeline()
    for grid, message in (
        ({"vec__nope": [1]}, "no parameter 'nope'"),
        ({"nope": [1]}, "'nope' is not a parameter"),
        ({"model__label_column": ["label"]}, "cannot be compared"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            GridSearch(pipe, grid).fit(people_df)
    with pytest.raises(InvalidValueError, match="no column 'absent'"):
        GridSearch(clone(pipe).set_params(model__label_column="absent"), {"model__eta": [1]}).fit(people_df)
    rows = [("a", 1.0, 1.0, 1), ("a", 1.0, 1.0, None), ("b", 2.0, 1.0, 0)]
    with_null = people_df.sparkSession.createDataFrame(rows, "city string, age double, pay double, label int")
    with pytest.raises(InvalidValueError, match="null or NaN in 1 of 3 rows"):
        GridSearch(pipe, {"model__eta": [1]}, cv=2).fit(with_null)
    with pytest.raises(InvalidTypeError, match="nothing to score"):
        GridSearch(SparkRayPipeline(pipe.steps[:-1]), {"vec__outputCol": ["v"]}).fit(people_df)
    with pytest.raises(InvalidTypeError, match="set label_column"):
        GridSearch(make_model(), {"eta": [1]}).fit(people_df, people["label"])


def test_candidates_are_grouped_by_what_decides_their_folds() -> None:
    from raydp_ml.feature import VectorAssembler

    class Source:
        """Counts the prefixes that it gets."""

        def __init__(self) -> None:
            self.built: list[Any] = []

        def add(self, build: Any) -> int:
            self.built.append(build)
            return len(self.built) - 1

    vec = VectorAssembler(inputCols=["age"], outputCol="v")
    pipe = SparkRayPipeline([("vec", vec), ("model", make_model())])
    source: Any = Source()
    table = PrefixTable(pipe, source)
    other = make_model(max_depth=5)
    candidates: list[dict[str, Any]] = [
        {"model__eta": 0.1},
        {"model__eta": 0.2, "vec__inputCols": ["pay"]},
        {"model": other},  # reads the same columns
        {"vec__inputCols": ["pay"], "model": other, "model__eta": 0.3},
        {"model__weight_column": "pay"},
    ]
    assert [table.number(params) for params in candidates] == [0, 1, 0, 1, 2]
    steps, estimator = source.built[1]()
    assert steps[0][1].get_params()["inputCols"] == ["pay"]
    assert estimator.get_params()["eta"] == 0.2
    assert vec.get_params()["inputCols"] == ["age"]
