"""What a fit reads and how often, weights, going on, names of features; predictions on streams, in SQL and from files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F
from sklearn import linear_model
from sklearn.base import clone

import raydp_ml
from raydp_ml import SparkRayPipeline
from raydp_ml import feature as rf
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.feature import ml as rm
from tests.people import make_model
from tests.resumed import Interrupted, StopRoundAt

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def before() -> list[tuple[str, Any]]:
    return [
        ("fill", rf.Imputer(inputCols=["pay"], outputCols=["pay_full"])),
        ("index", rf.StringIndexer(inputCol="city", outputCol="city_index", handleInvalid="keep")),
        ("hot", rf.OneHotEncoder(inputCols=["city_index"], outputCols=["city_hot"])),
        ("vec", rf.VectorAssembler(inputCols=["city_hot", "age", "pay_full"], outputCol="x")),
    ]


@pytest.fixture(scope="module")
def fitted(people_df: DataFrame) -> SparkRayPipeline:
    return SparkRayPipeline([*before(), ("model", make_model())]).fit(people_df)


def predictions(pipe: SparkRayPipeline, df: DataFrame) -> list[float]:
    return [row.prediction for row in pipe.predict(df).select("prediction").collect()]


# ---- reads and jobs ----------------------------------------------------------------------------------------------------


@contextmanager
def jobs_of(spark: SparkSession) -> Iterator[list[int]]:
    """The jobs that Spark runs in this thread within the block."""
    group, jobs = uuid.uuid4().hex, []  # type: ignore[var-annotated]
    spark.sparkContext.setJobGroup(group, "counted")
    try:
        yield jobs
    finally:
        jobs += spark.sparkContext.statusTracker().getJobIdsForGroup(group)
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)


def test_the_source_is_read_once_and_then_let_go(spark: SparkSession, people: pd.DataFrame) -> None:
    read = spark.sparkContext.accumulator(0)

    def count(age: float) -> float:
        read.add(1)
        return age

    counted = F.udf(count, "double").asNondeterministic()
    source = spark.createDataFrame(people).repartition(2).withColumn("age", counted("age"))
    pipe = SparkRayPipeline([*before(), ("model", make_model())]).fit(source)
    assert read.value == len(people)
    assert not source.storageLevel.useMemory
    # What the user has persisted stays so, and what one step reads is not persisted.
    kept = source.persist()
    SparkRayPipeline([*before(), ("model", make_model())]).fit(kept)
    assert kept.storageLevel.useMemory
    kept.unpersist()
    with pytest.raises(InvalidValueError, match="no column 'nothing'"):
        SparkRayPipeline([*before(), ("model", make_model(label_column="nothing"))]).fit(source)
    assert not source.storageLevel.useMemory and pipe.__sklearn_is_fitted__()


def test_jobs_are_as_few_as_the_stages_need(
    spark: SparkSession, people_df: DataFrame, fitted: SparkRayPipeline
) -> None:
    by_hand = people_df
    with jobs_of(spark) as needed:
        for _, stage in before()[:-1]:
            by_hand = stage.to_spark().fit(by_hand).transform(by_hand)
    with jobs_of(spark) as ours:
        pipe = SparkRayPipeline(before()).fit(people_df)
    assert len(ours) == len(needed) > 0
    with jobs_of(spark) as none:
        pipe.transform(people_df)
        fitted.predict(people_df)
        fitted.get_feature_names_out()
        fitted.predict_proba(people_df)
    assert none == []


def test_a_prediction_reads_only_the_columns_that_it_needs(
    fitted: SparkRayPipeline, people_df: DataFrame, tmp_path: Path
) -> None:
    wide = people_df.selectExpr("*", "age AS unused_1", "city AS unused_2")
    wide.write.parquet(f"file://{tmp_path}/wide")
    predicted = fitted.predict(f"{tmp_path}/wide").select("prediction")
    plan = predicted._jdf.queryExecution().executedPlan().toString()
    assert "ReadSchema: struct<city:string,age:double,pay:double>" in plan
    # A prediction that nobody reads is not computed.
    assert "ArrowEval" not in fitted.predict(people_df).select("city")._jdf.queryExecution().executedPlan().toString()


# ---- fit ---------------------------------------------------------------------------------------------------------------


def test_fit_transform_and_names_of_features(
    fitted: SparkRayPipeline, people_df: DataFrame, people: pd.DataFrame
) -> None:
    pipe = SparkRayPipeline([*before(), ("model", make_model())])
    frame = pipe.fit_transform(people)
    assert list(frame.columns) == [*people.columns, "pay_full", "city_index", "city_hot", "x"]
    assert frame["pay_full"].tolist() == people["pay"].tolist()
    names = ["city_hot_Oslo", "city_hot_Rome", "city_hot_Lima", "age", "pay_full"]
    assert fitted.get_feature_names_out().tolist() == names
    assert fitted[:-1].get_feature_names_out().tolist() == [*people.columns, "pay_full", "city_index", "city_hot", "x"]
    scaled = [
        *before(),
        ("scale", rf.StandardScaler(inputCol="x", outputCol="z")),
        ("model", rm.LogisticRegression(maxIter=1)),
    ]
    assert SparkRayPipeline(scaled).fit(people_df).get_feature_names_out().tolist() == [f"z_{at}" for at in range(5)]
    plain = SparkRayPipeline([("model", make_model(feature_columns=["pay", "age"]))]).fit(people_df)
    assert plain.get_feature_names_out().tolist() == ["pay", "age"]
    with pytest.raises(InvalidValueError, match="without the first step"):
        fitted[1:].get_feature_names_out()


def test_steps_learn_nothing_from_rows_to_validate_on(people: pd.DataFrame, people_df: DataFrame) -> None:
    """The mean that fills gaps is that of the training rows, however the others are named."""
    train, held_out = people.iloc[:140], people.iloc[140:].assign(pay=1000.0)
    marked = pd.concat([train.assign(held=False), held_out.assign(held=True)])
    steps = before()
    by_column = SparkRayPipeline([*steps, ("model", make_model(validation="held"))]).fit(marked)
    given = SparkRayPipeline([*steps, ("model", make_model())])
    given.set_params(model__validation=held_out)
    by_frame = given.fit(train)
    for pipe in (by_column, by_frame):
        assert pipe["fill"].surrogateDF.first().pay == pytest.approx(train["pay"].mean())
        assert "valid_logloss" in pipe["model"].history_[-1]
        assert pipe["model"].validation is not None
        names = {"city_hot_Oslo", "city_hot_Rome", "city_hot_Lima", "age", "pay_full"}
        assert set(pipe["model"].feature_names_in_) == names
    extreme = people_df.withColumn("pay", F.when(F.col("pay") > 3.5, 1000.0).otherwise(F.col("pay")))
    by_part = SparkRayPipeline([*steps, ("model", make_model(validation=0.5))]).fit(extreme)
    whole = extreme.select(F.mean("pay")).first()[0]
    assert by_part["fill"].surrogateDF.first().pay != pytest.approx(whole)


def test_sample_weights(people: pd.DataFrame, people_df: DataFrame) -> None:
    twice = np.where(people["city"] == "Rome", 2.0, 1.0)
    repeated = pd.concat([people, people[people["city"] == "Rome"]], ignore_index=True)
    for last in (
        linear_model.LogisticRegression(),
        rm.LogisticRegression(maxIter=50, regParam=0.1, standardization=False),
        make_model(),
    ):
        # Steps that the weights must not reach: what they learn is the same from both.
        steps = [("vec", rf.VectorAssembler(inputCols=["age", "pay"], outputCol="x")), ("model", last)]
        weighted = SparkRayPipeline(steps).fit(people, sample_weight=twice)
        routed = SparkRayPipeline(steps).fit(people, model__sample_weight=twice)
        more = SparkRayPipeline(steps).fit(repeated)
        plain = SparkRayPipeline(steps).fit(people)
        expected = more.predict_proba(people)
        np.testing.assert_allclose(weighted.predict_proba(people), expected, atol=2e-3)
        np.testing.assert_array_equal(routed.predict_proba(people), weighted.predict_proba(people))
        assert np.abs(plain.predict_proba(people) - expected).max() > 5e-3
        assert weighted.score(people) > 0.5 and "__raydp_ml_weight__" not in weighted.input_schema_.names
        assert [row.prediction for row in weighted.predict(people_df).select("prediction").collect()]
    bad: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (people_df, {"sample_weight": twice}, InvalidTypeError, "goes with pandas frames.*set weight_column"),
        (
            people,
            {"sample_weight": twice[:3]},
            InvalidValueError,
            r"one number for each of 180 rows, it has the shape \(3,\)",
        ),
        (
            people,
            {"vec__sample_weight": twice},
            InvalidTypeError,
            "'vec__sample_weight'; it takes sample_weight, also as 'model__",
        ),
        (people, {"sample_weight": twice, "model__sample_weight": twice}, InvalidValueError, "are the same; give one"),
    ]
    for X, given, error, message in bad:
        with pytest.raises(error, match=message):
            SparkRayPipeline(steps).fit(X, **given)
    with pytest.raises(InvalidTypeError, match="when the last step is an estimator"):
        SparkRayPipeline(steps[:-1]).fit(people, sample_weight=twice)


def test_a_second_fit_trains_on(people_df: DataFrame, tmp_path: Path) -> None:
    import torch

    def network(**params: Any) -> raydp_ml.TorchEstimator:
        fixed = {
            "optimizer": "sgd",
            "lr": 1e-4,
            "num_epochs": 2,
            "batch_size": 1000,
            "random_state": 0,
            "verbose": False,
        }
        loss = torch.nn.MSELoss()
        return raydp_ml.TorchEstimator(
            torch.nn.Linear(5, 1), loss=loss, label_column="label", num_workers=0, **{**fixed, **params}
        )

    def weights(estimator: Any) -> np.ndarray:
        return np.concatenate([value.detach().numpy().ravel() for value in estimator.get_model().parameters()])

    model = network(warm_start=True)
    pipe = SparkRayPipeline([*before(), ("model", model)]).fit(people_df)
    first, stages = weights(pipe["model"]).copy(), dict(pipe.steps_[:-1])
    by_hand = clone(model).fit_features(pipe.transform(people_df), vector_column="x")
    np.testing.assert_allclose(first, weights(by_hand), rtol=1e-5)
    pipe.save(tmp_path / "pipe")
    rome = people_df.where("city = 'Rome'")
    pipe.fit(rome)
    # By hand: the estimator going on, with what the first stages make of the second rows.
    by_hand.fit_features(pipe.transform(rome), vector_column="x")
    np.testing.assert_allclose(weights(pipe["model"]), weights(by_hand), rtol=1e-5)
    assert np.abs(weights(pipe["model"]) - first).max() > 1e-4
    assert dict(pipe.steps_[:-1]) == stages
    # Parameters of the estimator that were changed count.
    assert len(pipe.set_params(model__num_epochs=1).fit(rome)["model"].history_) == 1
    loaded = raydp_ml.load(tmp_path / "pipe").fit(rome)
    np.testing.assert_allclose(weights(loaded["model"]), weights(by_hand), rtol=1e-4)
    pipe.set_params(index__handleInvalid="error")
    with pytest.raises(
        InvalidValueError, match=r"feature steps were changed since it was fitted: 'index'; set warm_start=False"
    ):
        pipe.fit(rome)
    again = pipe.set_params(model__warm_start=False, index__handleInvalid="keep", model__num_epochs=2)
    np.testing.assert_allclose(weights(again.fit(people_df)["model"]), first, rtol=1e-5)


def test_an_interrupted_fit_goes_on(people_df: DataFrame, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def trees(folder: str, stop: int, **settings: Any) -> raydp_ml.XGBEstimator:
        about = {"task": "regression", "label_column": "label", "num_workers": 0, "num_boost_round": 8, "max_depth": 2}
        about |= {"checkpoint_every": 2, "storage_path": str(tmp_path / folder), "validation": 0.25, "verbose": False}
        return raydp_ml.XGBEstimator(callbacks=[StopRoundAt(log, stop)], random_state=0, **{**about, **settings})

    steps = before()
    whole = SparkRayPipeline([*steps, ("model", trees("whole", 0))]).fit(people_df, resume=True)
    log.unlink()
    with pytest.raises(Interrupted):
        SparkRayPipeline([*steps, ("model", trees("kept", 5))]).fit(people_df)
    pipe = SparkRayPipeline([*steps, ("model", trees("kept", 0))]).fit(people_df, resume=True)
    assert log.read_text().split() == [*"12345", *"5678"]
    assert predictions(pipe, people_df) == predictions(whole, people_df)
    with pytest.raises(InvalidValueError, match=r"differs in max_depth \(2 there, 3 now\)"):
        pipe.set_params(model__max_depth=3).fit(people_df, resume=True)
    with pytest.raises(InvalidValueError, match="differs in training rows"):
        pipe.set_params(model__max_depth=2).fit(people_df.where("age > 30"), resume=True)

    def never(df: DataFrame) -> DataFrame:
        raise AssertionError("the feature steps were fitted")

    for last, message in [
        ([("model", trees("kept", 0, storage_path=None, checkpoint_every=None))], "resume=True needs storage_path"),
        ([("model", linear_model.LinearRegression())], "only an estimator of raydp_ml"),
        ([("model", rm.LinearRegression(labelCol="label"))], "only an estimator of raydp_ml"),
        ([], "this pipeline has no estimator"),
    ]:
        with pytest.raises(InvalidValueError, match=message):
            SparkRayPipeline([("never", never), *last]).fit(people_df, resume=True)


# ---- streams, SQL and files --------------------------------------------------------------------------------------------


def test_predictions_on_a_stream(
    spark: SparkSession, fitted: SparkRayPipeline, people_df: DataFrame, tmp_path: Path
) -> None:
    people_df.repartition(3).write.parquet(f"file://{tmp_path}/rows")
    stream = (
        spark.readStream.schema(people_df.schema).option("maxFilesPerTrigger", 1).parquet(f"file://{tmp_path}/rows")
    )
    expected = sorted(map(tuple, fitted.predict(people_df).select("age", "prediction").collect()))
    predicted = fitted.predict(stream)
    assert predicted.isStreaming
    query = predicted.select("age", "prediction").writeStream.format("memory").queryName("predicted")
    query.trigger(availableNow=True).start().awaitTermination(120)
    assert sorted(map(tuple, spark.table("predicted").collect())) == expected
    batches: list[list[Any]] = []

    def take(batch: DataFrame, number: int) -> None:
        batches.append(fitted.predict(batch).select("age", "prediction").collect())

    stream.writeStream.foreachBatch(take).trigger(availableNow=True).start().awaitTermination(120)
    assert len(batches) > 1 and sorted(tuple(row) for batch in batches for row in batch) == expected


def test_a_function_of_sql(spark: SparkSession, fitted: SparkRayPipeline, people_df: DataFrame) -> None:
    assert fitted.register("late") == ("city", "age", "pay")
    assert fitted.register("odds", output="probability") == ("city", "age", "pay")
    people_df.createOrReplaceTempView("people")
    rows = spark.sql("SELECT late(city, age, pay) AS late, odds(city, age, pay)[1] AS odds FROM people").collect()
    assert [row.late for row in rows] == predictions(fitted, people_df)
    likely = [row.probability[1] for row in fitted.predict_proba(people_df).select("probability").collect()]
    np.testing.assert_allclose([row.odds for row in rows], likely, rtol=1e-6)
    # Nulls, unseen categories and literals come as in any frame.
    assert spark.sql("SELECT late('Lyon', 31.0D, NULL) AS late").first().late in (0, 1)
    with pytest.raises(InvalidTypeError, match="'all' is SQL"):
        SparkRayPipeline([("all", "SELECT * FROM __THIS__"), *before(), ("model", make_model())]).fit(
            people_df
        ).register("no")


def test_paths(spark: SparkSession, fitted: SparkRayPipeline, people_df: DataFrame, tmp_path: Path) -> None:
    expected = sorted(predictions(fitted, people_df))
    people_df.write.partitionBy("city").json(f"file://{tmp_path}/json")
    people_df.write.orc(f"file://{tmp_path}/orc")
    halves = people_df.randomSplit([0.5, 0.5], seed=1)
    for number, half in enumerate(halves):
        half.toPandas().to_csv(tmp_path / f"half_{number}.csv", index=False)
    files = [tmp_path / "half_0.csv", str(tmp_path / "half_1.csv")]
    for X in (
        tmp_path / "json",
        str(tmp_path / "orc"),
        files,
        str(tmp_path / "half_*.csv"),
        [str(tmp_path / "orc/*.orc")],
    ):
        assert sorted(row.prediction for row in fitted.predict(X).select("prediction").collect()) == expected, X
    one = fitted.predict(tmp_path / "half_0.csv")
    assert one.count() == halves[0].count()
    with pytest.raises(InvalidValueError, match=r"of one format; .*half_0.csv is csv, .*orc is orc"):
        fitted.predict([tmp_path / "half_0.csv", tmp_path / "orc"])
    with pytest.raises(InvalidValueError, match=r"there is no file or directory .*other_\*\.csv"):
        fitted.predict(str(tmp_path / "other_*.csv"))
    with pytest.raises(InvalidTypeError, match="only pipelines read paths"):
        make_model().fit([str(tmp_path / "orc")])
    (tmp_path / "lake" / "_delta_log").mkdir(
        parents=True
    )  # Delta's jars are not at hand here: what is said without them
    with pytest.raises(InvalidValueError, match=r"lake is delta, .* give the session the jars of Delta Lake"):
        fitted.predict(tmp_path / "lake")


# ---- what is given -----------------------------------------------------------------------------------------------------


def test_nothing_that_a_pipeline_is_given_is_changed(spark: SparkSession, people: pd.DataFrame) -> None:
    stages = before()
    est = make_model(params={"eta": 0.2})
    steps = [("halve", "SELECT *, pay / 2 AS half FROM __THIS__"), *stages, ("model", est)]
    rows, options = people.copy(), {"num_executors": 1}
    copies = ([*steps], [clone(stage) for _, stage in stages], est.get_params(), dict(options))
    pipe = SparkRayPipeline(steps, spark=options).fit(rows)
    pipe.predict(rows)
    pipe.score(rows)
    clone(pipe).set_params(vec__outputCol="z", model__max_depth=1)
    assert (steps, [stage for _, stage in stages], est.get_params(), options) == copies
    assert not hasattr(est, "history_")
    pd.testing.assert_frame_equal(rows, people)
