"""Every kind of frame, in and out, and input that cannot be used. Training stays in this process."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raydp_ml import InvalidTypeError, InvalidValueError, RaydpMLError, XGBEstimator
from raydp_ml.frames import require_frame

FEATURES = list("abcd")
FRAMES = ["pandas", "arrow", "ray", "spark", "pandas-on-spark"]


def trees(**kwargs) -> XGBEstimator:
    settings = {"task": "classification", "num_boost_round": 8, "max_depth": 3, "num_workers": 0, "verbose": False}
    return XGBEstimator(**{**settings, "label_column": "label", **kwargs})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """The frame that all kinds are made of, with a column that is no feature."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 4)).astype(np.float32)
    frame = pd.DataFrame(X, columns=FEATURES)
    frame["label"] = np.where(X[:, 0] * X[:, 1] + X[:, 2] > 0, "yes", "no")
    frame["note"] = [f"row {place}" for place in range(300)]
    return frame


@pytest.fixture(scope="module")
def kinds(rows, spark):
    """The same rows as each kind of frame."""
    import pyspark.pandas as ps
    import ray.data

    spark_frame = spark.createDataFrame(rows).cache()
    return {
        "pandas": rows,
        "arrow": pa.Table.from_pandas(rows, preserve_index=False),
        "ray": ray.data.from_pandas([rows[:100], rows[100:]]),
        "spark": spark_frame,
        "pandas-on-spark": ps.DataFrame(spark_frame),
    }


def table_of(frame) -> pd.DataFrame:
    """Any frame as pandas, in the order of its notes."""
    if isinstance(frame, pa.Table):
        frame = frame.to_pandas()
    elif hasattr(frame, "toPandas"):
        frame = frame.toPandas()
    elif not isinstance(frame, pd.DataFrame):
        frame = frame.to_pandas()
    return frame.sort_values("note", key=lambda notes: notes.str[4:].astype(int)).reset_index(drop=True)


@pytest.fixture(scope="module")
def expected(rows):
    est = trees().fit(rows)
    return est, est.predict(rows), est.predict_proba(rows)


@pytest.mark.parametrize("kind", FRAMES)
def test_all_kinds_train_the_same_model(kinds, rows, expected, kind):
    est = trees().fit(kinds[kind])
    assert np.array_equal(est.predict_proba(rows), expected[2])
    assert est.feature_names_in_.tolist() == FEATURES and est.n_features_in_ == 4
    assert est.score(kinds[kind]) == expected[0].score(rows)
    assert est.evaluate(kinds[kind]) == pytest.approx(expected[0].evaluate(rows), abs=1e-9)


@pytest.mark.parametrize("kind", FRAMES[1:])
def test_predictions_come_in_the_kind_of_the_input_with_all_columns(kinds, expected, kind):
    est, labels, probabilities = expected
    frame = kinds[kind]
    predicted = est.predict(frame)
    assert type(predicted) is type(frame) or kind == "ray"
    table = table_of(predicted)
    assert list(table.columns) == [*FEATURES, "label", "note", "prediction"]
    assert table["prediction"].tolist() == labels.tolist()
    table = table_of(est.predict_proba(frame))
    assert list(table.columns)[-1] == "probability"
    assert np.array_equal(np.stack(table["probability"]), probabilities)


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_are_left_out_in_the_kind_of_the_input(kinds, kind):
    narrow = require_frame(kinds[kind]).drop(["a", "label"])
    assert type(require_frame(narrow)) is type(require_frame(kinds[kind]))
    assert list(table_of(narrow).columns) == ["b", "c", "d", "note"]


def test_rows_of_distributed_frames_have_no_positions(kinds):
    for kind in ("ray", "spark", "pandas-on-spark"):
        with pytest.raises(InvalidTypeError, match="cannot be taken by their position"):
            require_frame(kinds[kind]).take([0])


def test_arrays_and_frames_agree(rows, expected):
    est = trees(label_column=None).fit(rows[FEATURES].to_numpy(), rows["label"].to_numpy())
    assert np.array_equal(est.predict_proba(rows[FEATURES].to_numpy()), expected[2])
    assert not hasattr(est, "feature_names_in_")
    assert np.array_equal(expected[0].predict(rows[FEATURES].to_numpy()), expected[1])
    assert est.predict(pa.Table.from_pandas(rows[FEATURES]))["prediction"].to_pylist() == expected[1].tolist()


def test_spark_predictions_are_lazy_and_run_in_executors(spark, expected):
    est = expected[0]
    started = time.monotonic()
    # A frame that cannot be computed: a prediction that computed anything would fail here.
    broken = spark.range(10).selectExpr(
        "raise_error('computed') AS trap", *(f"cast(id AS double) AS {name}" for name in FEATURES)
    )
    predicted = est.predict(broken)
    assert time.monotonic() - started < 30
    assert predicted.columns == ["trap", *FEATURES, "prediction"]
    assert predicted.schema["prediction"].dataType.simpleString() == "string"
    assert est.predict_proba(broken).schema["probability"].dataType.simpleString() == "array<double>"
    # Other columns do not travel to Python, so this one is never computed.
    assert predicted.select("prediction").count() == 10
    plan = predicted.select("a", "prediction")._jdf.queryExecution().executedPlan().toString()
    assert "ArrowEvalPython" in plan and "trap" not in plan


def test_dataset_predictions_are_lazy(kinds, expected):
    predicted = expected[0].predict(kinds["ray"].map_batches(_trap))
    with pytest.raises(Exception, match="computed"):
        predicted.take_all()


def _trap(batch):
    raise RuntimeError("computed")


def test_vectors_expand_and_hide_the_columns_they_were_made_of(spark, kinds, rows, expected):
    from pyspark.ml.feature import VectorAssembler

    assembled = VectorAssembler(inputCols=FEATURES, outputCol="features").transform(kinds["spark"])
    est = trees().fit(assembled)
    assert est.feature_names_in_.tolist() == FEATURES and est.n_features_in_ == 4
    assert np.array_equal(est.predict_proba(rows[FEATURES].to_numpy()), expected[2])
    assert table_of(est.predict(assembled))["prediction"].tolist() == expected[1].tolist()
    half = VectorAssembler(inputCols=["a", "b"], outputCol="features").transform(kinds["spark"])
    with pytest.raises(InvalidValueError, match="'features' has the type vector and length 2"):
        est.predict(half)


def test_a_pipelines_vector_is_the_only_feature(spark, kinds):
    from pyspark.sql import functions as F

    frame = kinds["spark"].withColumn("v", F.array("a", "b").cast("array<double>"))
    est = trees()
    assert est.fit_features(frame, vector_column="v").n_features_in_ == 2 and est.feature_names_in_.tolist() == [
        "v_0",
        "v_1",
    ]
    ragged = frame.withColumn("v", F.when(F.col("a") > 1, F.array("a")).otherwise(F.array("a", "b")))
    with pytest.raises(Exception, match=r"'v' holds a vector of length \d where \d is expected"):
        est.fit_features(ragged, vector_column="v")


def test_null_policies_in_spark(spark, rows):
    from pyspark.sql import functions as F

    frame = spark.createDataFrame(rows).withColumn("a", F.when(F.col("note") != "row 7", F.col("a")))
    whole = trees().fit(rows)
    with pytest.raises(InvalidValueError, match="1 of 300 rows"):
        trees().fit(frame)
    with pytest.raises(Exception, match="null or NaN feature"):
        whole.predict(frame).collect()
    whole.set_params(null_features="skip")
    skipped = whole.predict(frame)
    assert skipped.count() == 299 and skipped.where("note = 'row 7'").count() == 0
    est = trees(null_features="null").fit(frame)
    table = table_of(est.predict(frame))
    assert len(table) == 300 and table["prediction"].notna().all()


def test_awkward_column_names(spark, rows):
    names = {"a": "a.b", "b": "with space", "c": "c`d", "label": "the.label"}
    renamed = rows.rename(columns=names)
    est = trees(label_column="the.label").fit(renamed)
    frame = spark.createDataFrame(renamed)
    again = trees(label_column="the.label").fit(frame)
    assert np.array_equal(est.predict_proba(renamed), again.predict_proba(renamed))
    assert table_of(again.predict(frame))["prediction"].tolist() == est.predict(renamed).tolist()


@pytest.mark.parametrize(
    ("sql_type", "values"),
    [("int", [0, 1]), ("double", [0.0, 1.0]), ("boolean", [False, True]), ("string", ["0", "1"])],
)
def test_labels_keep_their_type(spark, kinds, sql_type, values):
    frame = kinds["spark"].selectExpr(*FEATURES, "note", f"cast(int(label = 'yes') AS {sql_type}) AS label")
    est = trees().fit(frame)
    predicted = est.predict(frame)
    assert est.classes_.tolist() == values
    assert predicted.schema["prediction"].dataType == frame.schema["label"].dataType
    assert set(table_of(predicted)["prediction"]) == set(values)


def test_validation_in_another_kind_of_frame(kinds, rows):
    est = trees(validation=rows[:100]).fit(kinds["spark"])
    assert est.history_[-1]["valid_logloss"] == pytest.approx(est.evaluate(rows[:100])["log_loss"], abs=1e-6)
    with pytest.raises(InvalidValueError, match="validation: the pandas frame has no column 'd'"):
        trees(validation=rows.drop(columns="d")).fit(kinds["spark"])
    with pytest.raises(InvalidValueError, match=r"not among the classes \['no', 'yes'\]: \['perhaps'\]"):
        trees(validation=rows.assign(label="perhaps")).fit(kinds["spark"])


def test_several_labels_are_predicted_as_arrays(kinds):
    frame = kinds["spark"].selectExpr(*FEATURES, "note", "a + b AS first", "a - b AS second")
    est = trees(task="regression", label_column=["first", "second"], feature_columns=FEATURES).fit(frame)
    predicted = est.predict(frame)
    assert predicted.schema["prediction"].dataType.simpleString() == "array<double>"
    table = table_of(predicted)
    assert np.array_equal(np.stack(table["prediction"]), est.predict(table[FEATURES].to_numpy()))
    assert est.score(frame) > 0.7


def test_older_spark_uses_a_pandas_udf(kinds, expected, monkeypatch):
    monkeypatch.delattr("pyspark.sql.functions.arrow_udf")
    est, labels, probabilities = expected
    assert table_of(est.predict(kinds["spark"]))["prediction"].tolist() == labels.tolist()
    assert np.array_equal(np.stack(table_of(est.predict_proba(kinds["spark"]))["probability"]), probabilities)


def test_fit_on_spark_with_its_arguments(spark, kinds, expected, rows, tmp_path):
    est = trees().fit_on_spark(kinds["spark"], kinds["spark"].limit(50))
    assert np.array_equal(est.predict_proba(rows), expected[2]) and "valid_logloss" in est.history_[0]
    files = trees().fit_on_spark(kinds["spark"], fs_directory=str(tmp_path / "rows"), compression="zstd")
    assert list((tmp_path / "rows" / "train").glob("*.zstd.parquet"))
    assert files.score(rows) == pytest.approx(expected[0].score(rows), abs=0.03)
    with pytest.raises(InvalidTypeError, match="fit_on_spark takes Spark frames"):
        trees().fit_on_spark(rows)


# -- input that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMES)
def test_bad_input_is_said_within_seconds(kinds, kind, rows):
    frame = kinds[kind]
    for make, error, message in [
        (lambda: trees(label_column="lable").fit(frame), InvalidValueError, "did you mean 'label'"),
        (lambda: trees(label_column=None).fit(frame), InvalidValueError, "label_column is not given"),
        (lambda: trees(feature_columns=["a", "note"]).fit(frame), InvalidTypeError, "'note' has the type"),
        (lambda: trees(feature_columns=["a", "zz"]).fit(frame), InvalidValueError, "no column 'zz'"),
        (lambda: trees(weight_column="note").fit(frame), InvalidTypeError, "weight column 'note'"),
        (lambda: trees(label_column="note", task="regression").fit(frame), InvalidTypeError, "not numeric"),
        (lambda: trees(validation="note").fit(frame), InvalidTypeError, "validation column 'note'"),
        (lambda: trees().predict(frame), RaydpMLError, "not fitted yet"),
    ]:
        started = time.monotonic()
        with pytest.raises(error, match=message):
            make()
        assert time.monotonic() - started < 30


def test_missing_columns_at_predict(kinds, expected):
    for kind in FRAMES:
        frame = kinds[kind]
        without = frame.drop(columns="d") if kind.startswith("pandas") else None
        without = frame.drop_columns(["d"]) if kind == "arrow" else without
        without = frame.drop("d") if kind == "spark" else without
        without = frame.drop_columns(["d"]).materialize() if kind == "ray" else without
        with pytest.raises(InvalidValueError, match="no column 'd'"):
            expected[0].predict(without)
    # Only its reader knows the columns of a lazy Dataset.
    lazy = expected[0].predict(kinds["ray"].drop_columns(["d"]))
    with pytest.raises(Exception, match="the Ray Dataset has no column 'd'"):
        lazy.take(1)
    with pytest.raises(InvalidValueError, match="X has 3 features, but XGBEstimator was fitted with 4"):
        expected[0].predict(np.zeros((2, 3)))


def test_null_labels_and_empty_frames(spark, kinds, rows):
    import ray.data

    nulls = rows.copy()
    nulls.loc[5, "label"] = None
    spark_nulls = kinds["spark"].selectExpr(*FEATURES, "note", "nullif(label, 'no') AS label")
    count = int((rows["label"] == "no").sum())
    with pytest.raises(InvalidValueError, match=f"'label' is null or NaN in {count} of 300 rows"):
        trees().fit(spark_nulls)
    for frame in (nulls, pa.Table.from_pandas(nulls), ray.data.from_pandas(nulls)):
        with pytest.raises(InvalidValueError, match="'label' is null or NaN in 1 of 300 rows"):
            trees().fit(frame)
    empty = rows[:0]
    for frame in (
        empty,
        pa.Table.from_pandas(empty),
        ray.data.from_arrow(pa.Table.from_pandas(empty)),
        kinds["spark"].where("false"),
    ):
        with pytest.raises(InvalidValueError, match="is empty"):
            trees().fit(frame)


def test_one_class_and_infinite_features(rows):
    with pytest.raises(InvalidValueError, match=r"one class only, \['yes'\]"):
        trees().fit(rows[rows["label"] == "yes"])
    endless = rows.assign(a=rows["a"].where(rows["a"] < 1, np.inf))
    with pytest.raises(InvalidValueError, match="infinite feature"):
        trees().fit(endless)


def test_labels_given_in_two_ways(kinds, rows):
    for X in (rows[FEATURES], rows[[*FEATURES, "label"]]):
        est = trees().fit(X, rows["label"])
        assert est.feature_names_in_.tolist() == FEATURES and est.score(X, rows["label"]) > 0.8
    with pytest.raises(InvalidValueError, match="could not convert string to float: 'row 0'"):
        trees().fit(rows.drop(columns="label"), rows["label"])  # scikit-learn's rules: all columns are features
    with pytest.raises(InvalidTypeError, match="y was given with a Spark DataFrame"):
        trees().fit(kinds["spark"], rows["label"])
    with pytest.raises(InvalidTypeError, match="name weight_column"):
        trees().fit(kinds["ray"], None, np.ones(300))
    with pytest.raises(InvalidValueError, match="without named columns"):
        trees(feature_columns=["a"]).fit(rows[FEATURES].to_numpy(), rows["label"])
