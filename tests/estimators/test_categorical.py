"""enable_categorical: categories of every kind of frame train as xgboost trains on pandas, and predictions find them by value."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from sklearn.base import clone

import raydp_ml
from raydp_ml import GridSearch, InvalidTypeError, InvalidValueError, SparkRayPipeline, XGBEstimator
from raydp_ml import feature as rf
from raydp_ml.estimators import streamed

RNG = np.random.default_rng(5)
ROWS = 600
CITIES = [f"city {letter}" for letter in "abcdefghijkl"]
FRAME = pd.DataFrame(
    {
        "city": pd.Categorical.from_codes(RNG.integers(0, 12, ROWS), CITIES),
        "x": RNG.normal(size=ROWS).astype("float32"),
        "size": pd.Categorical(RNG.choice([10, 20, 30], ROWS), [10, 20, 30]),
    }
)
FRAME["y"] = FRAME["city"].cat.codes * 5 % 12 + FRAME["x"] + FRAME["size"].astype(float) % 4
FRAME["row"] = np.arange(ROWS)
FRAME.loc[7, "city"] = None
COLUMNS = ["city", "x", "size"]
PARAMS = {"max_depth": 4, "max_cat_to_onehot": 3, "max_cat_threshold": 5, "base_score": 0.0, "seed": 1}
# The same rows, with dictionaries in another order and one more category.
TURNED = FRAME.assign(
    city=FRAME["city"].cat.set_categories(["never seen", *CITIES[::-1]]),
    size=FRAME["size"].cat.reorder_categories([30, 10, 20]),
)


def plain_booster(frame: pd.DataFrame) -> xgboost.Booster:
    rows = xgboost.QuantileDMatrix(frame[COLUMNS], frame["y"], enable_categorical=True)
    return xgboost.train(PARAMS, rows, 8)


BOOSTER = plain_booster(FRAME)
EXPECTED = BOOSTER.inplace_predict(FRAME[COLUMNS]).astype(float)


def trees(**settings: Any) -> XGBEstimator:
    given = {"label_column": "y", "feature_columns": COLUMNS, "num_boost_round": 8, "num_workers": 0, **PARAMS}
    given |= {"task": "regression", "enable_categorical": True, "null_features": "null", "verbose": False}
    return XGBEstimator(**{**given, **settings})


def column(predicted: Any) -> np.ndarray:
    if isinstance(predicted, np.ndarray):
        return predicted
    predicted = predicted.toPandas() if hasattr(predicted, "toPandas") else predicted.to_pandas()
    return predicted.sort_values("row")["prediction"].to_numpy()


@pytest.fixture(scope="module")
def in_spark(spark: Any) -> Callable[[pd.DataFrame], Any]:
    """Makes a Spark frame of cities that are codes with nominal attributes, as StringIndexer makes them, and of plain sizes."""

    def make(rows: pd.DataFrame) -> Any:
        codes = rows["city"].cat.codes.astype(float)
        named = rows.assign(
            city=codes.where(codes >= 0), name=rows["city"].astype(object), size=rows["size"].astype(int)
        )
        attributes = {"type": "nominal", "vals": list(rows["city"].cat.categories), "name": "city"}
        frame = spark.createDataFrame(pa.Table.from_pandas(named)).coalesce(1)
        return frame.withMetadata("city", {"ml_attr": attributes})

    return make


def as_frames(rows: pd.DataFrame, in_spark: Callable[[pd.DataFrame], Any]) -> dict[str, Any]:
    """Rows as every kind of frame."""
    import ray.data

    parts = [pa.Table.from_pandas(part, preserve_index=False) for part in (rows[:200], rows[200:])]
    coded = in_spark(rows)
    on_spark = coded.drop("city").pandas_api()
    on_spark["city"] = on_spark["name"].astype(pd.CategoricalDtype(rows["city"].cat.categories))
    return {
        "pandas": rows,
        "Arrow": pa.concat_tables(parts),
        "Ray Dataset": ray.data.from_arrow(parts),
        "Spark": coded,
        "pandas-on-Spark": on_spark,
        "text in Spark": coded.drop("city").withColumnRenamed("name", "city"),
        "text in pandas": rows.astype({"city": object, "size": float}),
    }


def test_every_kind_of_frame_trains_and_predicts_by_value(in_spark: Callable[[pd.DataFrame], Any]) -> None:
    frames, turned = as_frames(FRAME, in_spark), as_frames(TURNED, in_spark)
    in_numbers = FRAME.astype({"size": float})
    for kind in ("pandas", "Arrow", "Ray Dataset", "Spark", "pandas-on-Spark"):
        est = trees().fit(frames[kind])
        numbers = kind.endswith("Spark")  # sizes are categories only where the frame says it
        assert est.get_booster().feature_types == ["c", "q", "q" if numbers else "c"], kind
        plain = plain_booster(in_numbers).inplace_predict(in_numbers[COLUMNS]) if numbers else EXPECTED
        np.testing.assert_array_equal(column(est.predict(frames[kind])), plain.astype(float), err_msg=kind)
        np.testing.assert_array_equal(column(est.predict(turned[kind])), plain.astype(float), err_msg=kind)
    est = trees().fit(FRAME)
    assert est.get_booster().feature_names == COLUMNS
    for kind, frame in [*frames.items(), *turned.items()]:
        np.testing.assert_array_equal(column(est.predict(frame)), EXPECTED, err_msg=kind)


def test_what_training_had_not_is_missing_everywhere(in_spark: Callable[[pd.DataFrame], Any]) -> None:
    est = trees().fit(FRAME)
    unseen = FRAME.assign(city=FRAME["city"].cat.add_categories(["new"]).where(FRAME["row"] % 9 > 0, "new"))
    missing = FRAME.assign(city=FRAME["city"].where(FRAME["row"] % 9 > 0))
    expected = BOOSTER.inplace_predict(missing[COLUMNS]).astype(float)
    assert np.any(expected != EXPECTED)
    lacking = int(missing["city"].isna().sum())
    strict = trees(null_features="error").fit(FRAME.drop(index=7))
    for kind, frame in as_frames(unseen, in_spark).items():
        np.testing.assert_array_equal(column(est.predict(frame)), expected, err_msg=kind)
        if kind in ("Arrow", "Ray Dataset", "Spark", "text in Spark"):
            skipped = est.set_params(null_features="skip").predict(frame)
            assert len(column(skipped)) == ROWS - lacking, kind
            est.set_params(null_features="null")
        if kind in ("pandas", "Arrow", "Ray Dataset", "Spark"):
            with pytest.raises(Exception, match="rows have a null or NaN feature, or a category that training had not"):
                column(strict.predict(frame))
    beside = np.column_stack([FRAME["city"].cat.codes + 0.5, FRAME["x"], FRAME["size"].astype(int)])
    with pytest.raises(InvalidValueError, match="600 of 600 rows have a null or NaN feature, or a category"):
        strict.predict(beside)
    with pytest.raises(InvalidTypeError, match=r"column 'size' has the type .*string.* the categories 10, 20, 30"):
        est.predict(FRAME.astype({"size": str}))
    with pytest.raises(InvalidTypeError, match=r"column 'size' has the type string.* the categories 10, 20, 30"):
        est.predict(in_spark(FRAME).selectExpr("city", "x", "string(size) AS size"))


def indexed_pipeline() -> SparkRayPipeline:
    """Cities by name, as codes in a vector, to an estimator."""
    about = {"stringOrderType": "alphabetAsc", "handleInvalid": "keep"}
    return SparkRayPipeline(
        [
            ("index", rf.StringIndexer(inputCol="name", outputCol="code", **about)),
            ("vector", rf.VectorAssembler(inputCols=["x", "code"], outputCol="v")),
            ("model", trees(feature_columns=None)),
        ]
    )


def test_pipelines_of_spark_stages(in_spark: Callable[[pd.DataFrame], Any], tmp_path: Path) -> None:
    names = in_spark(FRAME.drop(index=7)).drop("city", "size")
    pipe = indexed_pipeline().fit(names)
    booster = pipe.named_steps["model"].get_booster()
    assert (booster.feature_names, booster.feature_types) == (["x", "code"], ["q", "c"])
    rows = FRAME.drop(index=7).rename(columns={"city": "code"})
    rows["code"] = rows["code"].cat.set_categories([*CITIES, "__unknown"])
    data = xgboost.QuantileDMatrix(rows[["x", "code"]], rows["y"], enable_categorical=True)
    expected = xgboost.train(PARAMS, data, 8).inplace_predict(rows[["x", "code"]])
    np.testing.assert_array_equal(column(pipe.predict(names)), expected.astype(float))
    pipe.save(tmp_path / "pipe")
    local = pipe.to_local()
    local.save(tmp_path / "local")
    given = FRAME.drop(index=7)[["name", "x"]] if "name" in FRAME else rows.assign(name=rows["code"].astype(object))
    for other in (raydp_ml.load(tmp_path / "pipe"), pickle.loads(pickle.dumps(pipe)), clone(pipe).fit(names)):
        np.testing.assert_array_equal(column(other.predict(names)), expected.astype(float))
    for other in (local, raydp_ml.load(tmp_path / "local")):
        np.testing.assert_array_equal(other.predict(given[["name", "x"]]), expected.astype(float))
    two = clone(pipe).set_params(model__num_workers=2, model__validation=0.2).fit(names)
    assert two.named_steps["model"].get_booster().feature_types == ["q", "c"]
    assert two.score(names) == pytest.approx(pipe.score(names), abs=0.03)


@pytest.mark.slow
def test_folds_of_a_search_cross_as_codes(in_spark: Callable[[pd.DataFrame], Any]) -> None:
    names = in_spark(FRAME.drop(index=7)).drop("city", "size")
    about = {"cv": 2, "scoring": "r2", "refit": False, "verbose": 0}
    search = GridSearch(indexed_pipeline(), {"model__max_depth": [2, 4]}, **about).fit(names)
    assert search.cv_results_["mean_test_score"].min() > 0.6


def test_saved_continued_and_as_xgboosts_own(tmp_path: Path) -> None:
    est = trees(feature_columns=None, label_column=None).fit(FRAME[COLUMNS], FRAME["y"])
    assert est.feature_names_in_.tolist() == COLUMNS
    np.testing.assert_array_equal(est.predict(TURNED[COLUMNS]), EXPECTED)
    codes = np.column_stack([FRAME["city"].cat.codes, FRAME["x"], FRAME["size"].astype(int)])
    np.testing.assert_array_equal(est.predict(codes), EXPECTED)  # text by its codes, numbers by their values
    np.testing.assert_array_equal(est.predict(pa.Table.from_pandas(TURNED))["prediction"].to_numpy(), EXPECTED)
    est.save(tmp_path / "saved")
    for other in (raydp_ml.load(tmp_path / "saved"), pickle.loads(pickle.dumps(est))):
        np.testing.assert_array_equal(other.predict(TURNED[COLUMNS]), EXPECTED)
        assert other.get_booster().feature_types == ["c", "q", "c"]
    np.testing.assert_allclose(est.predict_contributions(TURNED[COLUMNS]).sum(axis=1), EXPECTED, atol=1e-4)
    positions = np.column_stack([FRAME["city"].cat.codes.replace(-1, np.nan), FRAME["x"], FRAME["size"].cat.codes])
    np.testing.assert_array_equal(est.to_sklearn().predict(positions), EXPECTED.astype("float32"))
    # Going on with dictionaries in another order is going on with the same rows.
    one, other = (clone(est).set_params(warm_start=True).fit(FRAME[COLUMNS], FRAME["y"]) for _ in range(2))
    again, turned = one.fit(FRAME[COLUMNS], FRAME["y"]), other.fit(TURNED[COLUMNS], FRAME["y"])
    assert turned.get_booster().num_boosted_rounds() == 16
    np.testing.assert_array_equal(turned.predict(FRAME[COLUMNS]), again.predict(FRAME[COLUMNS]))


def test_streamed_categories_grow_the_trees_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 100 * 20)  # several buffers of 100 rows
    monkeypatch.setattr(streamed, "CHUNKS", 4)
    rows, turned = (each.assign(x=each["x"].round(1)) for each in (FRAME, TURNED))  # no more values than bins
    memory = trees(validation=0.25, random_state=1).fit(rows)
    for about in ({"streaming": True}, {"external_memory": True}):
        est = trees(validation=0.25, random_state=1, **about).fit(rows)
        assert [entry["valid_rmse"] for entry in est.history_] == [entry["valid_rmse"] for entry in memory.history_]
        np.testing.assert_array_equal(est.predict(turned), memory.predict(rows))
        assert est.get_booster().feature_types == ["c", "q", "c"]
    one, other = (trees(external_memory=each).fit(rows).partial_fit(rows[:200]) for each in (False, True))
    np.testing.assert_array_equal(one.predict(rows), other.predict(turned))


def test_what_cannot_be_categories_is_said() -> None:
    with pytest.raises(InvalidTypeError, match=r"'city' has the type category, .*with enable_categorical=True"):
        trees(enable_categorical=False).fit(FRAME)
    cut = FRAME.assign(size=pd.cut(FRAME["x"], 3))
    with pytest.raises(
        InvalidTypeError, match=r"categories of column 'size' are of the type Interval.*rename_categories"
    ):
        trees().fit(cut)
    with pytest.raises(InvalidValueError, match=r"city, size hold categories.*sparse=False"):
        trees(sparse=True).fit(FRAME)
    with pytest.raises(InvalidValueError, match=r"xgboost refuses to train: .*categorical"):
        trees(booster="gblinear").fit(FRAME)
    began = trees(warm_start=True).fit(FRAME.astype({"city": object, "size": int}).assign(city=1.0))
    with pytest.raises(InvalidValueError, match=r"cannot go on with categories in \['city', 'size'\]"):
        began.fit(FRAME)
