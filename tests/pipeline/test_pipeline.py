"""SparkRayPipeline: parameters into steps, values against the steps done by hand, pickles, files and bad input."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError

import raydp_ml
from raydp_ml import SparkRayPipeline
from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError, SessionStoppedError
from raydp_ml.persistence.trust import Trust
from raydp_ml.pipeline import stage_files
from tests.people import halve_pay, make_model
from tests.resealed import reseal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Steps = list[tuple[str, Any]]


@pytest.fixture(scope="module")
def by_hand(people_df: DataFrame) -> np.ndarray:
    """Probabilities from the same steps, done one by one."""
    from pyspark.ml.feature import StringIndexer, VectorAssembler

    frame = people_df.selectExpr("*", "age + 1 AS age1", "pay / 2 AS half")
    frame = StringIndexer(inputCol="city", outputCol="city_index").fit(frame).transform(frame)
    frame = VectorAssembler(inputCols=["city_index", "age1", "half"], outputCol="v").transform(frame)
    model = make_model(feature_columns="v").fit(frame)
    return np.array([row.probability for row in model.predict_proba(frame).select("probability").collect()])


@pytest.fixture(scope="module")
def fitted(people_df: DataFrame) -> SparkRayPipeline:
    from pyspark.ml.feature import StringIndexer, VectorAssembler

    steps = [
        ("older", "SELECT *, age + 1 AS age1 FROM __THIS__"),
        ("halve", halve_pay),
        ("index", StringIndexer(inputCol="city", outputCol="city_index")),
        ("vec", VectorAssembler(inputCols=["city_index", "age1", "half"], outputCol="features")),
        ("model", make_model()),
    ]
    return SparkRayPipeline(steps).fit(people_df)


# ---- values ------------------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_steps_by_hand(
    fitted: SparkRayPipeline, people_df: DataFrame, people: pd.DataFrame, by_hand: np.ndarray
) -> None:
    frame = fitted.predict(people_df)
    assert set(people_df.columns) < set(frame.columns)
    assert [row.prediction for row in frame.select("prediction").collect()] == by_hand.argmax(axis=1).tolist()
    rows = fitted.predict_proba(people_df).select("probability").collect()
    np.testing.assert_allclose([row.probability for row in rows], by_hand, rtol=1e-6)
    accuracy = (by_hand.argmax(axis=1) == people["label"]).mean()
    assert fitted.score(people_df) == pytest.approx(accuracy)
    assert fitted.evaluate(people_df)["accuracy"] == pytest.approx(accuracy)
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.vector_column_ == "features"
    assert fitted["model"].feature_names_in_.tolist() == ["city_index", "age1", "half"]


def test_transform_gives_the_columns_of_all_steps_but_the_last(fitted: SparkRayPipeline, people_df: DataFrame) -> None:
    row = fitted.transform(people_df).first()
    assert row.features.toArray().tolist() == pytest.approx([row.city_index, row.age + 1, row.pay / 2])
    assert not hasattr(row, "prediction")


def test_a_pandas_frame_gives_an_array_in_its_order(
    fitted: SparkRayPipeline, people: pd.DataFrame, by_hand: np.ndarray
) -> None:
    shuffled = people.sample(frac=1, random_state=1)
    expected = by_hand[shuffled.index]
    np.testing.assert_allclose(fitted.predict_proba(shuffled), expected, rtol=1e-6)
    assert fitted.predict(shuffled.drop(columns="label")).tolist() == expected.argmax(axis=1).tolist()
    accuracy = (expected.argmax(axis=1) == shuffled["label"]).mean()
    assert fitted.score(shuffled.drop(columns="label"), shuffled["label"]) == pytest.approx(accuracy)


def test_other_kinds_of_input(
    fitted: SparkRayPipeline, people: pd.DataFrame, by_hand: np.ndarray, tmp_path: Path
) -> None:
    import pyarrow as pa

    expected = by_hand.argmax(axis=1).tolist()
    assert fitted.predict(pa.Table.from_pandas(people))["prediction"].to_pylist() == expected
    people.to_csv(tmp_path / "people.csv", index=False)
    people.to_parquet(tmp_path / "people.parquet")
    for name in ("people.csv", "people.parquet"):
        assert [row.prediction for row in fitted.predict(tmp_path / name).select("prediction").collect()] == expected
    with pytest.raises(InvalidValueError, match=r"there is no file or directory .*nothing\.csv"):
        fitted.predict(tmp_path / "nothing.csv")
    with pytest.raises(InvalidTypeError, match="X must be a Spark"):
        fitted.predict(people.to_numpy())


def test_rows_that_a_step_drops_are_told_for_pandas(people: pd.DataFrame, people_df: DataFrame) -> None:
    steps: Steps = [
        ("young", "SELECT * FROM __THIS__ WHERE age < 40"),
        ("model", make_model(feature_columns=["age", "pay"])),
    ]
    pipe = SparkRayPipeline(steps).fit(people_df)
    assert pipe.predict(people_df).count() == (people["age"] < 40).sum()
    with pytest.raises(InvalidValueError, match="rows dropped or repeated"):
        pipe.predict(people)
    pipe.steps_[0] = ("young", "SELECT age, pay FROM __THIS__")
    with pytest.raises(InvalidValueError, match=r"SELECT \*"):
        pipe.predict(people)


def test_without_an_estimator_it_transforms_only(people_df: DataFrame) -> None:
    from pyspark.ml.feature import StringIndexer

    pipe = SparkRayPipeline([("index", StringIndexer(inputCol="city", outputCol="n")), ("nothing", "passthrough")])
    most = pipe.fit(people_df).transform(people_df).where("n = 0").select("city").distinct().collect()
    assert [row.city for row in most] == ["Oslo"]
    with pytest.raises(AttributeError, match="predict"):
        pipe.predict(people_df)


def test_fit_leaves_the_given_steps_alone(make_steps: Callable[[], Steps], people_df: DataFrame) -> None:
    steps = make_steps()
    pipe = SparkRayPipeline(steps).fit(people_df)
    assert pipe.steps is steps
    assert not steps[-1][1].__sklearn_is_fitted__()
    assert not steps[-1][1].__sklearn_is_fitted__()
    assert type(pipe.named_steps["index"]).__name__ == "StringIndexerModel"
    assert type(steps[2][1]).__name__ == "StringIndexer"
    assert pipe["vec"] is not steps[3][1]


def test_slices_are_pipelines_of_the_same_steps(
    fitted: SparkRayPipeline, people_df: DataFrame, by_hand: np.ndarray
) -> None:
    features = fitted[:-1]
    assert list(features) == ["older", "halve", "index", "vec"]
    assert features["index"] is fitted["index"]
    assert features.vector_column_ == "features"
    assert not hasattr(features, "predict")
    assert features.transform(people_df).columns == fitted.transform(people_df).columns
    rest = fitted[2:]
    assert (len(rest), rest.vector_column_) == (3, None)
    rows = rest.predict_proba(fitted[:2].transform(people_df)).select("probability").collect()
    np.testing.assert_allclose([row.probability for row in rows], by_hand, rtol=1e-6)
    assert fitted[-1] is fitted["model"]
    with pytest.raises(InvalidValueError, match="its step must be 1, got -1"):
        fitted[::-1]
    unfitted = SparkRayPipeline(fitted.steps, spark={"num_executors": 2})[1:3]
    assert not hasattr(unfitted, "steps_")
    assert unfitted.spark == {"num_executors": 2}
    assert "vec" not in unfitted


# ---- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_reach_spark_stages_and_the_estimator(spark: SparkSession, make_steps: Callable[[], Steps]) -> None:
    pipe = SparkRayPipeline(make_steps())
    params = pipe.get_params()
    assert params["vec__outputCol"] == "features"
    assert params["vec__inputCols"] == ["city_index", "age1", "half"]
    assert params["index__handleInvalid"] == "error"
    assert params["model__max_depth"] == 3
    assert params["index"] is pipe.steps[2][1]
    pipe.set_params(vec__outputCol="other", index__handleInvalid="keep", model__max_depth=5, halve="passthrough")
    assert pipe.steps[3][1].getOutputCol() == "other"
    assert pipe.steps[2][1].getHandleInvalid() == "keep"
    assert pipe.steps[4][1].max_depth == 5
    assert pipe.steps[1] == ("halve", "passthrough")
    pipe.set_params(vec__inputCols=None)
    assert pipe.get_params()["vec__inputCols"] is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"nope": 1}, "'nope' is not a parameter of this pipeline.*'vec'"),
        ({"vec__nope": 1}, "VectorAssembler, has no parameter 'nope'; it has handleInvalid"),
        ({"older__limit": 1}, "sql step and has no parameters"),
        ({"vec__outputCol": 3}, "vec__outputCol=3"),
        ({"older": "SELECT 1"}, "__THIS__"),
        ({"vec": 5}, "a step must be"),
    ],
)
def test_bad_parameters(
    spark: SparkSession, make_steps: Callable[[], Steps], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(RaydpMLError, match=message):
        SparkRayPipeline(make_steps()).set_params(**params)


def test_clones_share_nothing(fitted: SparkRayPipeline) -> None:
    copy = clone(fitted)
    assert not hasattr(copy, "steps_")
    copy.set_params(vec__outputCol="changed", model__max_depth=9)
    assert fitted.get_params()["vec__outputCol"] == "features"
    assert fitted.get_params()["model__max_depth"] == 3
    assert is_classifier(copy)
    assert len(copy) == 5


def test_the_diagram_names_the_steps(fitted: SparkRayPipeline) -> None:
    html = fitted._repr_html_()
    for text in ("older: SQL", "halve: halve_pay()", "VectorAssembler", "StringIndexer", "XGBEstimator"):
        assert text in html


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ([], InvalidValueError, "steps is empty"),
        ("steps", InvalidTypeError, "list of"),
        ([("one",)], InvalidTypeError, "pair"),
        ([(1, "SELECT * FROM __THIS__")], InvalidTypeError, "must be a string"),
        ([("a__b", "SELECT * FROM __THIS__")], InvalidValueError, "'a__b' holds '__'"),
        ([("a", "passthrough"), ("a", "passthrough")], InvalidValueError, "two steps are named 'a'"),
        ([("spark", "passthrough")], InvalidValueError, "parameter of the pipeline"),
        ([("a", "SELECT 1")], InvalidValueError, "__THIS__"),
        ([("a", 3)], InvalidTypeError, "a step must be"),
        ([("a", SparkRayPipeline)], InvalidTypeError, "got the class SparkRayPipeline"),
        ([("a", make_model()), ("b", "passthrough")], InvalidTypeError, "must be the last step"),
        ([("a", lambda df: 3)], InvalidTypeError, "'a' must return a Spark DataFrame, it returned int"),
    ],
)
def test_bad_steps(people_df: DataFrame, steps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SparkRayPipeline(steps).fit(people_df)


def test_use_before_fit(people_df: DataFrame, make_steps: Callable[[], Steps]) -> None:
    pipe = SparkRayPipeline(make_steps())
    for method in (pipe.predict, pipe.predict_proba, pipe.score, pipe.transform):
        with pytest.raises(NotFittedError, match="not fitted"):
            method(people_df)


def test_y_goes_with_pandas_only(people_df: DataFrame, people: pd.DataFrame) -> None:
    with pytest.raises(InvalidTypeError, match="set label_column"):
        SparkRayPipeline([("model", make_model())]).fit(people_df, people["label"])


# ---- pickles and files -------------------------------------------------------------------------------------------------


def test_joblib(fitted: SparkRayPipeline, people: pd.DataFrame, by_hand: np.ndarray, tmp_path: Path) -> None:
    joblib.dump(fitted, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_allclose(loaded.predict_proba(people), by_hand, rtol=1e-6)
    assert loaded.get_params()["vec__inputCols"] == ["city_index", "age1", "half"]
    assert not loaded.steps[-1][1].__sklearn_is_fitted__()


def test_a_pickle_with_stages_needs_a_session(
    spark: SparkSession, make_steps: Callable[[], Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    content = pickle.dumps(SparkRayPipeline(make_steps()))
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    with pytest.raises(SessionStoppedError, match="init_spark"):
        pickle.loads(content)


def test_spark_arguments_start_a_session(
    people: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    started: list[dict[str, Any]] = []

    def init_spark(**given: Any) -> SparkSession:
        started.append(given)
        return spark

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    monkeypatch.setattr("raydp_ml.session.init_spark", init_spark)
    pipe = SparkRayPipeline([("all", "passthrough")], spark={"num_executors": 3})
    frame = pipe.spark_frame(people)
    assert started == [{"num_executors": 3}]
    assert frame.columns == list(people.columns)
    with pytest.raises(SessionStoppedError, match="init_spark"):
        SparkRayPipeline([("all", "passthrough")]).spark_frame(people)


FRESH = """
    import json, sys
    import pandas as pd
    from pyspark.sql import SparkSession
    import raydp_ml

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    pipe = raydp_ml.load(sys.argv[1], trusted=["sql", "tests.people.halve_pay"])
    people = pd.read_json(sys.argv[2])
    told = {"out": pipe.get_params()["vec__outputCol"], "depth": pipe["model"].max_depth}
    json.dump({"proba": pipe.predict_proba(people).tolist(), **told}, open(sys.argv[3], "w"))
    spark.stop()
"""


def test_a_fresh_process_predicts_the_same(
    fitted: SparkRayPipeline, people: pd.DataFrame, by_hand: np.ndarray, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "pipe")
    metadata = list((tmp_path / "pipe" / "stages" / "02_index" / "metadata").glob("part-*"))
    assert json.loads(metadata[0].read_text())["class"] == "org.apache.spark.ml.feature.StringIndexerModel"
    people.to_json(tmp_path / "people.json")
    arguments = [str(tmp_path / name) for name in ("pipe", "people.json", "answer.json")]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH), *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    np.testing.assert_allclose(answer["proba"], by_hand, rtol=1e-6)
    assert (answer["out"], answer["depth"]) == ("features", 3)


def test_load_wants_trust_for_sql_and_functions(fitted: SparkRayPipeline, tmp_path: Path, people: pd.DataFrame) -> None:
    fitted.save(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"'older'.*trusted=\[\"sql\"\]"):
        raydp_ml.load(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"function 'tests\.people\.halve_pay'.*params=\{'halve'"):
        raydp_ml.load(tmp_path / "pipe", trusted=["sql"])
    loaded = SparkRayPipeline.load(tmp_path / "pipe", params={
        "older": "SELECT *, age + 1 AS age1 FROM __THIS__",
        "halve": lambda df: df.withColumn("half", df["pay"] / 2),
        "model__callbacks": [],
    })  # fmt: skip
    np.testing.assert_array_equal(loaded.predict(people), fitted.predict(people))
    assert loaded["model"].callbacks == []


def test_a_lambda_is_given_back(spark: SparkSession, tmp_path: Path) -> None:
    SparkRayPipeline([("cut", lambda df: df.limit(1))]).save(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"'cut'.*could not be written.*params=\{'cut': function\}"):
        raydp_ml.load(tmp_path / "pipe", trusted=["tests"])
    loaded = raydp_ml.load(tmp_path / "pipe", params={"cut": lambda df: df.limit(2)})
    assert loaded.fit(spark.range(5)).transform(spark.range(5)).count() == 2


def test_classes_inside_stage_files_are_checked(fitted: SparkRayPipeline, tmp_path: Path) -> None:
    fitted.save(tmp_path / "pipe")
    trusted = ["sql", halve_pay]
    part = next((tmp_path / "pipe" / "stages" / "02_index" / "metadata").glob("part-*"))
    told = part.read_text()
    part.write_text(told.replace("org.apache.spark.ml.feature.StringIndexerModel", "com.example.Evil"))
    reseal(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"com\.example\.Evil"):
        raydp_ml.load(tmp_path / "pipe", trusted=trusted)
    part.write_text("{")
    reseal(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"'.*02_index' of the saved directory is damaged"):
        raydp_ml.load(tmp_path / "pipe", trusted=trusted)
    part.unlink()
    reseal(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match="no metadata"):
        raydp_ml.load(tmp_path / "pipe", trusted=trusted)


def test_sql_inside_a_spark_stage_wants_trust_too(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.ml.feature import SQLTransformer

    steps = [("sql", SQLTransformer(statement="SELECT id + 1 AS more FROM __THIS__"))]
    SparkRayPipeline(steps).fit(spark.range(3)).save(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match=r"SQLTransformer.*trusted=\[\"sql\"\]"):
        raydp_ml.load(tmp_path / "pipe")
    loaded = raydp_ml.load(tmp_path / "pipe", trusted=["sql"])
    assert [row.more for row in loaded.transform(spark.range(3)).collect()] == [1, 2, 3]


# ---- files of executors on other nodes -----------------------------------------------------------------------------------


def test_files_that_other_nodes_wrote_are_gathered(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m" / "metadata").mkdir(parents=True)
    (tmp_path / "m" / "metadata" / "_SUCCESS").write_bytes(b"")
    elsewhere = {"m/metadata/_temporary/0/task_202601_m_000000/part-00000": b"{}", "m/metadata/_temporary/0/x": b""}
    monkeypatch.setattr("raydp_ml.cluster.executor_files.read_files", lambda actors, path: elsewhere)
    files = stage_files.gather_directory(spark, str(tmp_path))
    assert files == {"m/metadata/_SUCCESS": b"", "m/metadata/part-00000": b"{}"}
    monkeypatch.setattr("raydp_ml.cluster.executor_files.read_files", lambda actors, path: {})
    with pytest.raises(RaydpMLError, match="m/metadata on nodes that this process cannot read"):
        stage_files.gather_directory(spark, str(tmp_path))


def test_stages_survive_nodes_without_a_common_disk(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.ml.feature import Bucketizer

    spread: dict[str, Any] = {}

    def take_away(actors: Any, path: str) -> dict[str, bytes]:
        """What the executors wrote is on their nodes only: the driver's node keeps the marks of success."""
        found = {}
        for file in Path(path).rglob("*"):
            if file.is_file() and file.name != "_SUCCESS":
                relative = file.relative_to(path)
                found[str(relative.parent / "_temporary/0/task_1" / file.name)] = file.read_bytes()
                file.unlink()
        return found

    monkeypatch.setattr("raydp_ml.cluster.executor_files.read_files", take_away)
    monkeypatch.setattr("raydp_ml.cluster.executor_files.write_files", lambda actors, path, files: spread.update(files))
    stage = Bucketizer(splits=[0.0, 1.0, 2.0], inputCol="a", outputCol="b")
    files = stage_files.write_stages(spark, {"00_cut": stage})
    name = "pyspark.ml.feature.Bucketizer"
    back = stage_files.read_stages({"00_cut": (name, files["00_cut"])}, Trust())["00_cut"]
    assert back.getSplits() == [0.0, 1.0, 2.0]
    assert any(path.startswith("00_cut/metadata/part-") for path in spread)
