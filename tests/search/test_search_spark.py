"""GridSearch on Spark frames: fitted and crossed once, and equal to a loop by hand."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

import raydp_ml.exchange
from raydp_ml import GridSearch, SparkRayPipeline, TorchEstimator
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.pipeline import CollectedEstimator
from raydp_ml.search.broker import FoldService
from raydp_ml.search.candidates import PrefixTable
from tests.people import make_model
from tests.waiting import until

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
    return seen


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


def test_steps_before_the_searched_one_are_fitted_once_in_each_fold(
    people_df: DataFrame, people: pd.DataFrame, counts: dict[str, int]
) -> None:
    from raydp_ml.feature import Bucketizer, StringIndexer, VectorAssembler

    pipe = SparkRayPipeline(
        [
            ("index", StringIndexer(inputCol="city", outputCol="city_index")),
            ("cut", Bucketizer(inputCol="age", outputCol="old", splits=[0.0, 30.0, 200.0])),
            ("vec", VectorAssembler(inputCols=["city_index", "old", "pay"], outputCol="features")),
            ("model", make_model()),
        ]
    )
    cuts = [[0.0, age, 200.0] for age in (25.0, 35.0, 45.0)]
    cv = StratifiedKFold(2)
    search = GridSearch(pipe, {"cut__splits": cuts}, cv=cv, scoring="roc_auc", refit=False).fit(people_df)
    assert counts == {"fitted": 2, "crossed": 6}  # 3 cuts x 2 folds cross
    for number, cut in enumerate(cuts):
        for fold, (train, test) in enumerate(cv.split(people, people["label"])):
            # As Spark numbers cities: the most frequent one first, by name where they are equally frequent.
            frequent = people["city"].iloc[train].value_counts().reset_index()
            ordered = frequent.sort_values(["count", "city"], ascending=[False, True])["city"].tolist()
            X = np.column_stack([people["city"].map(ordered.index), people["age"] >= cut[1], people["pay"]])
            fitted = make_model().fit(X[train], people["label"].to_numpy()[train])
            expected = roc_auc_score(people["label"].iloc[test], fitted.predict_proba(X[test])[:, 1])
            assert search.cv_results_[f"split{fold}_test_score"][number] == pytest.approx(expected, abs=1e-6)


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


def test_estimators_are_replaced_behind_the_same_steps(people_df: DataFrame, counts: dict[str, int]) -> None:
    import torch

    from raydp_ml import TorchEstimator

    network = TorchEstimator(
        torch.nn.Linear(3, 1), loss="bce_with_logits", num_epochs=1, label_column="label", random_state=0, num_workers=1
    )
    grid: list[dict[str, Any]] = [
        {"model": [make_model(), network], "index__stringOrderType": ["frequencyDesc", "alphabetDesc"]},
        {"model": [network], "model__lr": [0.1], "index__stringOrderType": ["alphabetDesc"]},
    ]
    search = GridSearch(indexed_pipeline(), grid, cv=2, scoring="roc_auc", refit=False, return_train_score=True)
    search.fit(people_df)
    assert counts == {"fitted": 4, "crossed": 4}  # 2 orders x 2 folds, for 5 candidates of 3 estimators
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.cv_results_["mean_train_score"][0] > search.cv_results_["mean_test_score"][0]
    trees, nets = search.cv_results_["mean_test_score"][[0, 2]], search.cv_results_["mean_test_score"][[1, 3]]
    assert (trees > nets).all()  # one epoch of a linear model has learnt nothing yet


@pytest.mark.parametrize("kind", ["Spark DataFrame", "pipeline", "Ray Dataset"])
def test_folds_of_groups_and_weights_are_those_of_scikit_learn(
    people_df: DataFrame, people: pd.DataFrame, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyspark.sql.functions as F
    from pyspark.ml.feature import VectorAssembler

    from raydp_ml.search.folds import pipeline as pipeline_folds

    said = F.when(F.col("label") == 1, "yes").otherwise("no")
    rows: Any = people_df.withColumn("said", said).withColumn("w", F.col("age") / 40).drop("label")
    given: dict[str, Any] = {"label_column": "said", "weight_column": "w"}
    collected: list[list[str]] = []
    collect = pipeline_folds.collect

    def watched(df: Any) -> Any:
        collected.append(df.columns)
        return collect(df)

    monkeypatch.setattr(pipeline_folds, "collect", watched)
    if kind == "pipeline":
        vec = VectorAssembler(inputCols=["age", "pay"], outputCol="features")
        searched: Any = SparkRayPipeline([("vec", vec), ("model", make_model(**given))])
        grid = {"model__max_depth": [1, 3]}
    else:
        searched, grid = make_model(feature_columns=["age", "pay"], **given), {"max_depth": [1, 3]}
        rows = raydp_ml.exchange.from_spark(rows) if kind == "Ray Dataset" else rows
    cv = StratifiedGroupKFold(3)
    search = GridSearch(searched, grid, cv=cv, scoring="roc_auc", refit=False).fit(rows, groups="city")
    X, y = people[["age", "pay"]].to_numpy(np.float32), np.where(people["label"] == 1, "yes", "no")
    weight = people["age"].to_numpy(np.float32) / 40
    for fold, (train, test) in enumerate(cv.split(X, y, people["city"])):
        fitted = make_model(label_column=None, max_depth=3).fit(X[train], y[train], sample_weight=weight[train])
        expected = roc_auc_score(y[test] == "yes", fitted.predict_proba(X[test])[:, 1], sample_weight=weight[test])
        assert search.cv_results_[f"split{fold}_test_score"][1] == pytest.approx(expected, abs=1e-6)
    if kind == "pipeline":
        assert collected == [["__raydp_ml_id__", "said", "city"]]


def test_prefixes_that_nobody_waits_for_are_released(spark: SparkSession) -> None:
    import ray

    released: list[int] = []
    made: list[tuple[int, int]] = []
    with FoldService(2, lambda *key: made.append(key) or key, released.append, lambda: None) as service:
        for candidate, prefix in enumerate([0, 0, 1]):
            service.expect(candidate, prefix)
        keys = [(0, 0), (1, 0), (0, 0), (0, 1), (1, 1)]
        assert ray.get([service.broker.get.remote(key) for key in keys]) == keys
        assert sorted(made) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        service.finished(0)
        service.finished(2)
        until(lambda: released == [1], 30, "the second prefix is released")  # the first has a candidate that may ask
        service.finished(1)
        until(lambda: released == [1, 0], 30, "the first prefix is released")


def test_the_next_two_folds_are_made_before_trials_ask_for_them(spark: SparkSession) -> None:
    import ray

    made: list[tuple[int, int]] = []
    stopped = threading.Event()

    def make(*key: int) -> Any:
        made.append(key)  # type: ignore[arg-type]
        if key == (1, 1):
            stopped.wait(60)  # still being made when the search is through
        return key

    with FoldService(3, make, lambda prefix: None, stopped.set) as service:
        for candidate, prefix in enumerate([0, 1]):
            service.expect(candidate, prefix)
        assert ray.get(service.broker.get.remote((0, 0))) == (0, 0)
        until(lambda: len(made) == 3, 30, "two more are made")
        assert sorted(made) == [(0, 0), (0, 1), (0, 2)]
        assert ray.get(service.broker.get.remote((0, 2))) == (0, 2)
        until(lambda: len(made) == 5, 30, "those of the next prefix follow")
        assert sorted(made) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
        assert ray.get(service.broker.get.remote((1, 0))) == (1, 0)
    assert stopped.is_set()


def test_the_source_lets_go_of_a_released_prefix(people_df: DataFrame) -> None:
    from raydp_ml.pipeline.steps import NamedStep
    from raydp_ml.search.folds.pipeline import PipelineSource
    from raydp_ml.search.folds.splits import split_rows

    source = PipelineSource(people_df, ("label",), (), as_codes=True)
    try:
        y = source.columns["y"]
        source.prepare(split_rows(2, y, None, source.columns.get, classifies=True, random_state=None))
        steps: list[NamedStep] = [*indexed_pipeline().split_steps()[0]]
        number = source.add(lambda: (steps, make_model()))
        fold = source.make(number, 0)
        train, test = fold.read().train.X, fold.read().test.X
        assert (len(train), len(test)) == (90, 90)
        assert source.make(number, 0) is fold
        alive = weakref.ref(fold)
        source.release(number)
        del fold
        gc.collect()
        assert alive() is None
    finally:
        source.close()


def test_pipelines_that_end_in_scikit_learn_score_as_it_does(people_df: DataFrame) -> None:
    from pyspark.ml.feature import VectorAssembler

    pipe = SparkRayPipeline([*indexed_pipeline().steps[:-1], ("model", LogisticRegression(max_iter=2000))])
    trees = CollectedEstimator(DecisionTreeClassifier(random_state=0), label_column="label")
    grid = [
        {"model__C": [0.01, 10.0]},
        {"model": [trees], "model__estimator__max_depth": [1, 3]},
        {"model": [make_model()], "model__num_boost_round": [3]},
        {
            "vec": [VectorAssembler(inputCols=["pay"], outputCol="features")],
            "model__C": [1.0],
        },  # a stage of Spark's own
    ]
    search = GridSearch(pipe, grid, cv=3, scoring="roc_auc").fit(people_df)
    table = pipe[:-1].fit(people_df).transform(people_df).select("features", "label").toPandas()
    X = np.stack([vector.toArray() for vector in table["features"]]).astype(np.float32)
    y = table["label"].to_numpy()
    expected = [
        np.mean(cross_val_score(model, X, y, cv=3, scoring="roc_auc"))
        for model in (
            LogisticRegression(max_iter=2000, C=0.01),
            LogisticRegression(max_iter=2000, C=10.0),
            DecisionTreeClassifier(random_state=0, max_depth=1),
            DecisionTreeClassifier(random_state=0, max_depth=3),
        )
    ]
    pay = LogisticRegression(max_iter=2000, C=1.0)
    expected_last = np.mean(cross_val_score(pay, X[:, 2:], y, cv=3, scoring="roc_auc"))
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose([*scores[:4], scores[5]], [*expected, expected_last], atol=1e-6)
    assert isinstance(search.best_estimator_, SparkRayPipeline)
    own = GridSearch(pipe, {"model__C": [0.01]}, cv=3).fit(people_df)  # by the estimator's own score
    accuracy = np.mean(cross_val_score(LogisticRegression(max_iter=2000, C=0.01), X, y, cv=3))
    np.testing.assert_allclose(own.best_score_, accuracy, atol=1e-9)
    predicted = own.predict(people_df).select("prediction").toPandas()["prediction"]
    refitted = LogisticRegression(max_iter=2000, C=0.01).fit(X, y)
    np.testing.assert_array_equal(predicted, refitted.predict(X))


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
    with pytest.raises(InvalidTypeError, match="sample_weight cannot be given with a Spark DataFrame"):
        GridSearch(pipe, {"model__eta": [1]}).fit(people_df, sample_weight=people["age"])
    with pytest.raises(InvalidTypeError, match="LogisticRegression cannot be searched on a Spark DataFrame"):
        GridSearch(LogisticRegression(), {"C": [1]}).fit(people_df)
    from pyspark.ml.classification import LogisticRegression as OfSpark

    with pytest.raises(InvalidValueError, match=r"param_grid holds 'model' that trains in Spark.*CrossValidator"):
        GridSearch(pipe, {"model": [OfSpark()]}).fit(people_df)
    with pytest.raises(InvalidTypeError, match=r"a LogisticRegression, trains in Spark.*CrossValidator"):
        GridSearch(SparkRayPipeline([*pipe.steps[:-1], ("model", OfSpark())]), {"model__regParam": [0.1]}).fit(
            people_df
        )


class CountedSource:
    """Counts the prefixes that it gets."""

    def __init__(self) -> None:
        self.built: list[Any] = []

    def add(self, build: Any) -> int:
        self.built.append(build)
        return len(self.built) - 1


def test_candidates_are_grouped_by_what_decides_their_folds() -> None:
    from raydp_ml.feature import VectorAssembler

    vec = VectorAssembler(inputCols=["age"], outputCol="v")
    pipe = SparkRayPipeline([("vec", vec), ("model", make_model())])
    source: Any = CountedSource()
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


class OfAge(torch.nn.Module):
    """Takes one column by its name."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.last = torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        return self.last(age.to(torch.float32)[:, None])


class OfPay(OfAge):
    """Takes another one."""

    def forward(self, x: torch.Tensor, pay: torch.Tensor) -> torch.Tensor:
        return self.last(pay.to(torch.float32)[:, None])


def of_rows(n_features: int) -> torch.nn.Module:
    return torch.nn.Linear(n_features, 1)


def test_candidates_whose_models_take_other_columns_by_name_share_no_fold() -> None:
    pipe = SparkRayPipeline([("model", TorchEstimator(torch.nn.Linear(2, 1), loss="mse"))])
    table = PrefixTable(pipe, cast(Any, CountedSource()))
    models = [
        torch.nn.Linear(2, 1),
        torch.nn.Sequential(torch.nn.Linear(2, 1)),
        of_rows,
        OfAge,
        OfAge(),
        OfPay,
        OfPay(),
    ]
    assert [table.number({"model__model": model}) for model in models] == [0, 0, 0, 1, 1, 2, 2]
    assert table.number({"model__model": OfAge, "model__model_params": {"width": 1}}) == 1
    assert table.number({"model": TorchEstimator(OfPay, loss="mse")}) == 2


def test_a_grid_of_models_that_take_other_columns_by_name(people_df: DataFrame, people: pd.DataFrame) -> None:
    model = TorchEstimator(
        OfAge, loss="BCEWithLogitsLoss", num_epochs=3, lr=0.05, num_workers=0, feature_columns=["age", "pay"],
        label_column="label", random_state=0, verbose=False,
    )  # fmt: skip
    pipe = SparkRayPipeline([("older", "SELECT *, age + 1 AS age1 FROM __THIS__"), ("model", model)])
    cv = KFold(2, shuffle=True, random_state=1)
    search = GridSearch(pipe, {"model__model": [OfAge, OfPay]}, cv=cv, refit=False).fit(people_df)
    for number, kind in enumerate((OfAge, OfPay)):
        expected = [
            clone(model).set_params(model=kind).fit(people.iloc[train]).score(people.iloc[test])
            for train, test in cv.split(people)
        ]
        found = [search.cv_results_[f"split{fold}_test_score"][number] for fold in range(2)]
        assert found == pytest.approx(expected)


@pytest.mark.slow
def test_steps_that_fit_in_spark_and_trials_take_turns_on_cpus_that_executors_hold(
    run_program: Callable[[Path], dict],
) -> None:
    told = run_program(Path(__file__).parent / "programs" / "turns.py")
    turns = told.pop("turns")
    assert told == {"spark_fits": 8, "trial_fits": 16, "first_trial_before_last_spark_fit": True, "scores": 8}
    assert turns >= 4  # neither waits until the other is through


def test_two_prefixes_are_made_at_the_same_time(people_df: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    cross, both = raydp_ml.exchange.from_spark, threading.Barrier(2)
    calls = itertools.count()

    def crosses_with_another(*args: Any, **kwargs: Any) -> Any:
        if next(calls) < 2:
            both.wait(60)  # raises unless the other one crosses meanwhile
        return cross(*args, **kwargs)

    monkeypatch.setattr(raydp_ml.exchange, "from_spark", crosses_with_another)
    grid = {"index__stringOrderType": ["frequencyDesc", "alphabetDesc"]}
    search = GridSearch(indexed_pipeline(), grid, cv=2, refit=False, error_score="raise").fit(people_df)
    assert next(calls) == 4 and np.isfinite(search.cv_results_["mean_test_score"]).all()
