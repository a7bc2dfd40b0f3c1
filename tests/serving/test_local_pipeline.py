"""LocalPipeline: a fitted pipeline gives the same without Spark, on every kind of rows, saved and loaded in a fresh process."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.exceptions import NotFittedError

import raydp_ml
from raydp_ml import LocalPipeline, SparkRayPipeline
from raydp_ml import feature as rf
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.serving.columns import LocalFrame, arrow_of
from tests.people import halve_pay, make_model, spark
from tests.resealed import reseal
from tests.serving.frames import same, spark_values, to_local, values_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["spark"]

NAN = float("nan")
SCHEMA = "city string, age double, floor int, pay double, member boolean, note string, label string"


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(5)
    words = ["quick", "brown", "fox", "dog", "lazy", "the"]
    rows = []
    for _ in range(120):
        age, pay, city = float(rng.normal(40, 10)), float(rng.normal(3, 1)), str(rng.choice(["Oslo", "Rome", "Lima"]))
        late = "yes" if (age - 40) / 10 + (city == "Rome") - pay / 3 + rng.normal(0, 0.3) > 0 else "no"
        note = " ".join(rng.choice(words, rng.integers(1, 6)))
        rows.append((city, age, int(rng.integers(0, 4)), pay, bool(rng.integers(0, 2)), note, late))
    return spark.createDataFrame(rows, SCHEMA).coalesce(2).cache()


@pytest.fixture(scope="module")
def new(spark: SparkSession) -> DataFrame:
    """Rows with nulls, not-a-numbers, categories that were never seen, and no labels that were."""
    rows = [
        ("Oslo", 39.5, 3, 2.5, True, "the quick  brown fox", "yes"),
        ("Rome", NAN, None, 1.0, None, "a lazy dog", None),
        (None, None, 1, 3.25, True, "", "no"),
        ("Lyon", 51.0, 0, 0.25, False, "fox fox ÉTÉ", "maybe"),
        ("Lima", -1000.0, 2, 1e6, True, "dog", "no"),
    ]
    return spark.createDataFrame(rows, SCHEMA).coalesce(1).cache()


def numbers_and_categories() -> list[tuple[str, Any]]:
    keep: dict[str, Any] = {"handleInvalid": "keep"}
    ends = [-math.inf, 20.0, 40.0, math.inf]
    return [
        ("index", rf.StringIndexer(inputCol="city", outputCol="city_index", **keep)),
        ("hot", rf.OneHotEncoder(inputCols=["city_index"], outputCols=["city_hot"], **keep)),
        ("fill", rf.Imputer(inputCols=["age", "floor"], outputCols=["age_full", "floor_full"])),
        ("bucket", rf.Bucketizer(splits=ends, inputCol="age", outputCol="age_bucket", **keep)),
        ("quantile", rf.QuantileDiscretizer(numBuckets=3, inputCol="pay", outputCol="pay_bucket", **keep)),
        ("numbers", rf.VectorAssembler(inputCols=["age_full", "pay", "floor_full"], outputCol="numbers")),
        ("scale", rf.StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True)),
        ("range", rf.MinMaxScaler(inputCol="numbers", outputCol="ranged")),
        ("turn", rf.PCA(k=2, inputCol="scaled", outputCol="turned")),
        ("vector_index", rf.VectorIndexer(maxCategories=5, inputCol="numbers", outputCol="indexed", **keep)),
        ("cross", rf.Interaction(inputCols=["floor_full", "city_hot"], outputCol="crossed")),
        ("all", rf.VectorAssembler(inputCols=["turned", "ranged", "city_hot", "crossed"], outputCol="all")),
        ("target", rf.StringIndexer(inputCol="label", outputCol="target", **keep)),
        (
            "select",
            rf.UnivariateFeatureSelector(featuresCol="all", outputCol="x", labelCol="target").set_params(
                featureType="continuous", labelType="categorical", selectionMode="numTopFeatures", selectionThreshold=6
            ),
        ),
    ]


def text() -> list[tuple[str, Any]]:
    return [
        ("split", rf.Tokenizer(inputCol="note", outputCol="words")),
        ("hash", rf.HashingTF(inputCol="words", outputCol="hashed", numFeatures=2000)),
        ("weigh", rf.IDF(inputCol="hashed", outputCol="weighed")),
        ("count", rf.CountVectorizer(inputCol="words", outputCol="counted")),
        ("mean", rf.Word2Vec(inputCol="words", outputCol="mean", vectorSize=3, minCount=1, seed=1)),
        ("all", rf.VectorAssembler(inputCols=["weighed", "counted", "mean"], outputCol="x")),
    ]


def formulas() -> list[tuple[str, Any]]:
    formula = rf.RFormula(formula="label ~ city + pay", featuresCol="by_formula", labelCol="y", handleInvalid="skip")
    return [
        ("formula", formula),
        ("hash", rf.FeatureHasher(inputCols=["city", "floor", "member"], outputCol="hashed", numFeatures=64)),
        ("all", rf.VectorAssembler(inputCols=["by_formula", "hashed"], outputCol="x")),
    ]


@pytest.fixture(scope="module")
def fitted(train: DataFrame) -> SparkRayPipeline:
    model = make_model(label_column="label", feature_columns="x")
    return SparkRayPipeline([*numbers_and_categories(), ("model", model)]).fit(train)


@pytest.fixture(scope="module")
def local(fitted: SparkRayPipeline) -> LocalPipeline:
    return fitted.to_local()


# ---- the same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [numbers_and_categories, text, formulas])
def test_columns_are_those_of_spark(steps: Any, train: DataFrame, new: DataFrame) -> None:
    pipe = SparkRayPipeline(steps()).fit(train)
    local = pipe.to_local()
    for rows in (train, new):
        theirs = pipe.transform(rows).cache()
        ours = local.transform(arrow(rows))
        assert sorted(ours.column_names) == sorted(theirs.columns)
        frame = LocalFrame.from_arrow(ours)
        for name in theirs.columns:
            assert same(values_of(frame, name), spark_values(theirs, name)), name


def test_predictions_are_those_of_spark(
    fitted: SparkRayPipeline, local: LocalPipeline, train: DataFrame, new: DataFrame
) -> None:
    assert local.classes_.tolist() == ["no", "yes"]
    assert local.inputs == ("city", "age", "floor", "pay")
    for rows in (train, new):
        expected = [row.prediction for row in fitted.predict(rows).select("prediction").collect()]
        likely = [row.probability for row in fitted.predict_proba(rows).select("probability").collect()]
        assert len(set(expected)) == 2
        table, frame = arrow(rows), rows.toPandas()
        assert local.predict(table)["prediction"].to_pylist() == expected
        assert local.predict(table).column_names == [*table.column_names, "prediction"]
        assert local.predict(frame).tolist() == expected
        assert local.predict([row.asDict() for row in rows.collect()]) == expected
        np.testing.assert_allclose(local.predict_proba(frame), likely, rtol=1e-6)
        np.testing.assert_allclose(local.predict_proba(table)["probability"].to_pylist(), likely, rtol=1e-6)
    # What no step needs for a prediction may be missing, the label too; a batch and no rows at all are rows.
    batch = arrow(new).select(local.inputs).to_batches()[0]
    assert local.predict(batch).column("prediction").to_pylist() == expected
    assert local.predict([]) == [] and local.predict(new.toPandas().iloc[:0]).tolist() == []


def test_one_row_at_a_time_is_the_same_as_all(local: LocalPipeline, new: DataFrame) -> None:
    """Types come from the training rows where a single row, with its nulls, does not tell them."""
    rows = [row.asDict() for row in new.collect()]
    together = local.predict_proba(rows)
    assert [local.predict_proba([row])[0] for row in rows] == together
    frame = new.toPandas()
    np.testing.assert_array_equal(
        np.vstack([local.predict_proba(frame.iloc[[at]]) for at in range(len(frame))]), together
    )


def test_sparse_vectors_come_in_and_go_through(spark: SparkSession, train: DataFrame) -> None:
    """A column of Spark's sparse vectors, wide enough that all rows at once would not be one matrix."""
    hashing = rf.HashingTF(inputCol="words", outputCol="hashed")
    words = SparkRayPipeline([text()[0], ("hash", hashing)]).fit(train)
    prepared = words.transform(train).select("hashed", "label").limit(70)
    prepared = spark.createDataFrame(prepared.collect(), prepared.schema).coalesce(1).cache()
    steps = [("weigh", rf.IDF(inputCol="hashed", outputCol="x")), ("model", make_model(num_boost_round=2))]
    pipe = SparkRayPipeline(steps).fit(prepared)
    expected = [row.probability for row in pipe.predict_proba(prepared).select("probability").collect()]
    ours = pipe.to_local().predict_proba(arrow(prepared))["probability"].to_pylist()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert len({tuple(row) for row in expected}) > 1


def arrow(df: DataFrame) -> pa.Table:
    frame = to_local(df)
    return pa.table({name: arrow_of(frame.column(name)) for name in df.columns})


def test_transformed_rows_are_of_the_kind_that_was_given(train: DataFrame, new: DataFrame) -> None:
    steps = [*numbers_and_categories()[:2], ("words", rf.Tokenizer(inputCol="note", outputCol="words"))]
    pipe = SparkRayPipeline(steps).fit(train)
    local = pipe.to_local()
    frame = new.toPandas().set_index(pd.Index([7, 3, 9, 1, 2])).drop(columns="label")
    made = local.transform(frame)
    assert list(made.columns) == [*frame.columns, "city_index", "city_hot", "words"] and list(made.index) == [
        7,
        3,
        9,
        1,
        2,
    ]
    theirs = pipe.transform(new)
    assert made["city_index"].tolist() == spark_values(theirs, "city_index")
    assert [list(words) for words in made["words"]] == spark_values(theirs, "words")
    rows = local.transform([{**row.asDict(), "other": object} for row in new.collect()])
    assert [row["city_index"] for row in rows] == spark_values(theirs, "city_index")
    assert rows[0]["other"] is object and rows[1]["words"] == ["a", "lazy", "dog"]


def test_skipped_rows(train: DataFrame, new: DataFrame) -> None:
    index = rf.StringIndexer(inputCol="city", outputCol="city_index", handleInvalid="skip")
    model = make_model(label_column="label", feature_columns=["pay"])
    local = SparkRayPipeline([("index", index), ("model", model)]).fit(train).to_local()
    # Nobody reads the column that the step makes, and it still decides which rows there are.
    assert local.predict(arrow(new))["pay"].to_pylist() == [2.5, 1.0, 1e6]
    for rows in (new.toPandas(), [row.asDict() for row in new.collect()]):
        with pytest.raises(InvalidValueError, match=r"2 of 5 rows are skipped.*give a pyarrow Table"):
            local.predict(rows)


# ---- steps that stay in Spark ------------------------------------------------------------------------------------------


def halve_arrow(table: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return table.append_column("half", pc.divide(table["pay"], 2.0))


def test_steps_that_work_in_spark_only_are_named(train: DataFrame) -> None:
    steps = [
        ("older", "SELECT *, age + 1 AS age1 FROM __THIS__"),
        ("halve", halve_pay),
        ("vec", rf.VectorAssembler(inputCols=["half", "pay"], outputCol="x")),
        ("model", make_model(label_column="label")),
    ]
    pipe = SparkRayPipeline(steps).fit(train)
    with pytest.raises(InvalidTypeError, match=r"'older' is SQL.*dialect.*'halve' is a function.*functions="):
        pipe.to_local()
    with pytest.raises(InvalidTypeError, match=r"'older' is SQL") as caught:
        pipe.to_local(functions={"halve": halve_arrow})
    assert "'halve'" not in str(caught.value)
    with pytest.raises(InvalidValueError, match=r"'vec', which is no step that is a function; those are 'halve'"):
        pipe.to_local(functions={"halve": halve_arrow, "vec": halve_arrow})
    statement = SparkRayPipeline([("sql", rf.SQLTransformer(statement="SELECT * FROM __THIS__"))]).fit(train)
    with pytest.raises(InvalidTypeError, match=r"step 'sql': SQLTransformer works in Spark only"):
        statement.to_local()
    with pytest.raises(InvalidValueError, match="without the first step"):
        pipe[1:].to_local(functions={"halve": halve_arrow})
    with pytest.raises(NotFittedError):
        SparkRayPipeline(steps).to_local()


def test_functions_are_taken_when_they_are_named(train: DataFrame, new: DataFrame, tmp_path: Path) -> None:
    steps = [
        ("halve", halve_pay),
        ("vec", rf.VectorAssembler(inputCols=["half", "pay"], outputCol="x")),
        ("model", make_model(label_column="label")),
    ]
    pipe = SparkRayPipeline(steps).fit(train)
    expected = [row.prediction for row in pipe.predict(new).select("prediction").collect()]
    local = pipe.to_local(functions={"halve": halve_arrow})
    assert local.predict(arrow(new))["prediction"].to_pylist() == expected
    local.save(tmp_path / "local")
    with pytest.raises(InvalidValueError, match=r"step 'halve'.*halve_arrow.*trusted="):
        raydp_ml.load(tmp_path / "local")
    trusted = raydp_ml.load(tmp_path / "local", trusted=[halve_arrow])
    given = raydp_ml.load(tmp_path / "local", params={"halve": halve_arrow})
    for loaded in (trusted, given):
        assert loaded.predict(new.toPandas()).tolist() == expected
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda table: table.to_pandas(), InvalidTypeError, "step 'halve': the function must return a pyarrow.Table"),
        (lambda table: table.slice(1), InvalidValueError, "a row for each row, it made 4 of 5"),
        (lambda table: table, InvalidValueError, "'half' is not among"),
    ]
    for function, error, message in bad:
        with pytest.raises(error, match=message):
            pipe.to_local(functions={"halve": function}).predict(arrow(new))


# ---- bad rows ----------------------------------------------------------------------------------------------------------


def test_bad_rows(local: LocalPipeline, new: DataFrame) -> None:
    good = new.collect()[0].asDict()
    lacking = {name: value for name, value in good.items() if name != "pay"}
    bad: list[tuple[Any, type[Exception], str]] = [
        (good, InvalidTypeError, "list with a dict for each row.*put a single row into a list"),
        (np.zeros((2, 2)), InvalidTypeError, r"takes a pandas frame.*got numpy\.ndarray"),
        ([lacking], InvalidValueError, "no column 'pay'"),
        ([good, lacking], InvalidValueError, "row 1 has no 'pay', which other rows have"),
        ([{**good, "pay": "much"}], InvalidTypeError, "'pay' must hold double, as the pipeline was fitted on"),
        ([{**good, "floor": 1.5}], InvalidTypeError, "'floor' must hold int32"),
        (new.toPandas().astype({"pay": str}), InvalidTypeError, "'pay' must have numbers"),
    ]
    for rows, error, message in bad:
        with pytest.raises(error, match=message):
            local.predict(rows)
    regression = LocalPipeline()
    with pytest.raises(InvalidTypeError, match="no prediction: the last step is no estimator"):
        regression.predict([good])
    assert regression.transform([good]) == [good]


# ---- saved, and elsewhere ----------------------------------------------------------------------------------------------

FRESH = """
    import json, sys
    import pyarrow.parquet as pq
    import raydp_ml

    local = raydp_ml.load(sys.argv[1])
    table = pq.read_table(sys.argv[2])
    rows = local.predict_proba(table.to_pylist())
    assert local.predict_proba(table)["probability"].to_pylist() == rows
    local.transform(table)
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(json.dumps({"rows": rows, "loaded": sorted(loaded & {"pyspark", "py4j", "ray", "torch", "tensorflow"})}))
"""


def test_a_saved_one_predicts_in_a_process_without_spark_and_ray(
    local: LocalPipeline, new: DataFrame, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    local.save(tmp_path / "local")
    pq.write_table(arrow(new), tmp_path / "new.parquet")
    command = [sys.executable, "-c", textwrap.dedent(FRESH), str(tmp_path / "local"), str(tmp_path / "new.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["loaded"] == []
    assert answer["rows"] == local.predict_proba(arrow(new))["probability"].to_pylist()
    assert json.loads((tmp_path / "local" / "metadata.json").read_text())["class"] == "raydp_ml.LocalPipeline"
    again = pickle.loads(pickle.dumps(LocalPipeline.load(tmp_path / "local")))
    assert again.predict_proba(arrow(new))["probability"].to_pylist() == answer["rows"]


def test_files_that_were_changed_run_no_code(local: LocalPipeline, tmp_path: Path) -> None:
    local.save(tmp_path / "local")
    steps = json.loads((tmp_path / "local" / "steps.json").read_text())
    steps[0]["stage"]["stage"] = "os.system"
    (tmp_path / "local" / "steps.json").write_text(json.dumps(steps))
    reseal(tmp_path / "local")
    with pytest.raises(InvalidValueError, match="no stage as it was written"):
        raydp_ml.load(tmp_path / "local")
    local.save(tmp_path / "local", overwrite=True)
    metadata = json.loads((tmp_path / "local" / "metadata.json").read_text())
    metadata["state"]["final"]["notes"]["fitted"] = "Popen"
    (tmp_path / "local" / "metadata.json").write_text(json.dumps(metadata))
    reseal(tmp_path / "local")
    with pytest.raises(InvalidValueError, match="'Popen', which is none of ours"):
        raydp_ml.load(tmp_path / "local")


def test_a_loaded_pipeline_has_a_local_form(fitted: SparkRayPipeline, new: DataFrame, tmp_path: Path) -> None:
    fitted.save(tmp_path / "pipe")
    again = raydp_ml.load(tmp_path / "pipe").to_local()
    expected = fitted.to_local().predict_proba(arrow(new))["probability"]
    assert again.predict_proba(arrow(new))["probability"].equals(expected)


def test_networks(train: DataFrame, tmp_path: Path) -> None:
    import torch

    from raydp_ml import TorchEstimator

    estimator = TorchEstimator(
        torch.nn.Sequential(torch.nn.Linear(2, 1)),
        loss=torch.nn.MSELoss(),
        label_column="floor",
        num_epochs=1,
        num_workers=0,
    )
    assembler = rf.VectorAssembler(inputCols=["age", "pay"], outputCol="x")
    pipe = SparkRayPipeline([("vec", assembler), ("model", estimator)]).fit(train)
    pipe.to_local().save(tmp_path / "local")
    local = raydp_ml.load(tmp_path / "local")
    expected = [row.prediction for row in pipe.predict(train).select("prediction").collect()]
    np.testing.assert_allclose(local.predict(train.toPandas()), expected, rtol=1e-6)
    with pytest.raises(InvalidTypeError, match="no probability: the estimator is no classifier"):
        local.predict_proba(train.toPandas())


# ---- the example -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def late(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import serving

    path = tmp_path_factory.mktemp("example") / "late"
    serving.train(serving.flights(300), num_workers=0, verbose=False).to_local().save(path)
    return path


REQUESTS = [{"origin": "EWR", "hour": 21}, {"origin": "LGA", "hour": 6}, {"origin": "BOS", "hour": 14}]


def test_the_example_answers_requests(late: Path) -> None:
    import serving

    answer = json.loads(json.dumps(serving.make_service(late)(REQUESTS)))["probability"]
    assert answer[0] > 0.7 and answer[1] < 0.3 and 0 < answer[2] < 1


@pytest.mark.slow
def test_the_example_in_ray_serve(late: Path) -> None:
    pytest.importorskip("fastapi", reason="Ray Serve is not installed")
    import serving
    from ray import serve

    expected = serving.make_service(late)(REQUESTS)["probability"]
    try:
        handle = serve.run(serving.make_deployment(late), name="late", route_prefix=None)
        answers = [handle.probability.remote(row) for row in REQUESTS]
        assert [answer.result(timeout_s=60) for answer in answers] == expected
    finally:
        serve.shutdown()
