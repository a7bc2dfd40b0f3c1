"""Typed columns keep their type from the frame to the model: ids beyond 2**24 stay apart, and float64 is not rounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xgboost

import raydp_ml
from raydp_ml import InvalidValueError, TorchEstimator, XGBEstimator

IDS = 2**24 + np.arange(60)
FINE = 1 + np.arange(60) * 2.0**-40
FRAME = pd.DataFrame(
    {"x": np.linspace(0, 1, 60, dtype="float32"), "key": IDS, "fine": FINE, "y": np.arange(60.0), "held": IDS % 3 == 0}
)
COLUMNS = ["x", "key", "fine"]


class Exact(torch.nn.Module):
    """Gives what the label is when its columns arrive as they are; the weight stays 1 because the loss is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Any, key: Any, fine: Any) -> Any:
        assert (x.dtype, key.dtype, fine.dtype) == (torch.float32, torch.int64, torch.float64)
        places = (key - 2**24).double() + (fine - 1) * 2.0**40
        return self.weight * places / 2 + 0 * x[:, 0]


def net(model: Any = Exact, **settings: Any) -> TorchEstimator:
    given = {"feature_types": {"key": torch.long, "fine": "float64"}, "feature_columns": COLUMNS, **settings}
    given = {"label_column": "y", "loss": "MSELoss", "num_epochs": 2, "verbose": False, **given}
    return TorchEstimator(model, **given)


def column(predicted: Any, kind: str) -> np.ndarray:
    if isinstance(predicted, np.ndarray):
        return predicted
    if kind == "Ray Dataset":
        predicted = predicted.to_pandas()
    elif kind == "Spark":
        predicted = predicted.toPandas()
    elif kind == "pandas-on-Spark":
        predicted = predicted.to_pandas()
    return (
        predicted.sort_values("key")["prediction"].to_numpy() if kind != "Arrow" else predicted["prediction"].to_numpy()
    )


@pytest.fixture(scope="module")
def frames(spark: Any) -> dict[str, Any]:
    """The same rows as every kind of frame."""
    import ray.data

    in_spark = spark.createDataFrame(FRAME.astype({"x": "float32"})).repartition(2)
    return {
        "pandas": FRAME,
        "Arrow": pa.Table.from_pandas(FRAME),
        "Ray Dataset": ray.data.from_pandas(FRAME),
        "Spark": in_spark,
        "pandas-on-Spark": in_spark.pandas_api(),
    }


KINDS = ["pandas", "Arrow", "Ray Dataset", "Spark", "pandas-on-Spark"]


def test_ids_and_doubles_reach_torch_from_every_kind_of_frame(frames: dict[str, Any], tmp_path: Path) -> None:
    for fitted_on in ("pandas", "Arrow", "Ray Dataset", "Spark"):
        est = net(validation="held").fit(frames[fitted_on])
        assert [(entry["train_loss"], entry["valid_loss"]) for entry in est.history_] == [(0, 0)] * 2, fitted_on
    for kind in KINDS:
        np.testing.assert_array_equal(column(est.predict(frames[kind]), kind), FRAME["y"], err_msg=kind)
    est.save(tmp_path / "saved")
    loaded = raydp_ml.load(tmp_path / "saved", trusted=[Exact])
    np.testing.assert_array_equal(loaded.predict(FRAME), FRAME["y"])
    np.testing.assert_array_equal(loaded.predict(FRAME[COLUMNS].assign(key=IDS.astype("int32"))), FRAME["y"])


def test_workers_and_trials_get_typed_rows(frames: dict[str, Any]) -> None:
    est = net(num_workers=2, validation=FRAME).fit(frames["Spark"])
    assert [(entry["train_loss"], entry["valid_loss"]) for entry in est.history_] == [(0, 0)] * 2
    search = raydp_ml.GridSearch(net(), {"num_epochs": [1, 2]}, cv=2, scoring="neg_mean_squared_error", verbose=0)
    np.testing.assert_array_equal(search.fit(frames["Spark"]).cv_results_["mean_test_score"], [0, 0])


def test_pipelines_without_spark_get_typed_rows(frames: dict[str, Any], tmp_path: Path) -> None:
    pipe = raydp_ml.SparkRayPipeline(
        [("big", raydp_ml.feature.Binarizer(inputCol="y", outputCol="big")), ("model", net())]
    )
    local = pipe.fit(frames["Spark"]).to_local()
    np.testing.assert_array_equal(local.predict(FRAME), FRAME["y"])
    local.save(tmp_path / "local")
    loaded = raydp_ml.load(tmp_path / "local", model=Exact)
    np.testing.assert_array_equal(loaded.predict(FRAME), FRAME["y"])


def test_arrays_and_frames_without_names_too() -> None:
    class Whole(Exact):
        def forward(self, x: Any) -> Any:
            assert x.dtype == torch.int64
            return self.weight * (x[:, 0] - 2**24)

    by_type = {"feature_types": torch.long, "feature_columns": None, "label_column": None}
    matrix = np.column_stack([IDS, IDS])
    est = net(Whole, validation=(matrix[:9], FRAME["y"][:9]), **by_type).fit(matrix, FRAME["y"])
    assert [(entry["train_loss"], entry["valid_loss"]) for entry in est.history_] == [(0, 0)] * 2
    np.testing.assert_array_equal(est.predict(matrix), FRAME["y"])
    np.testing.assert_array_equal(est.predict(pa.table({"a": IDS, "b": IDS}))["prediction"], FRAME["y"])
    plain = net(feature_columns=None, label_column=None).fit(FRAME[COLUMNS], FRAME["y"])
    assert plain.history_[-1]["train_loss"] == 0
    np.testing.assert_array_equal(plain.predict(FRAME[COLUMNS]), FRAME["y"])


def test_a_missing_id_is_a_null_feature(frames: dict[str, Any], spark: Any) -> None:
    holes = FRAME.astype({"key": "Int64"})
    holes.loc[[3, 5], "key"] = None
    kept = ~FRAME.index.isin([3, 5])
    in_spark = spark.createDataFrame(pa.Table.from_pandas(holes))
    for frame in (holes, pa.Table.from_pandas(holes), in_spark):
        with pytest.raises(InvalidValueError, match="2 of 60 rows of the training data have a null"):
            net().fit(frame)
        est = net(null_features="null").fit(frame)
        assert est.history_[-1]["train_loss"] == 0
    predicted = est.predict(holes)
    assert np.isnan(predicted[~kept]).all()
    np.testing.assert_array_equal(predicted[kept], FRAME["y"][kept])
    assert est.predict(in_spark).where("prediction is null").count() == 2
    assert est.set_params(null_features="skip").predict(in_spark).count() == 58
    # A column of floating-point numbers that the model takes as integers: NaN is a null, and what no integer holds is an error.
    fractions = FRAME.assign(key=FRAME["key"].where(kept).astype(float))
    assert np.isnan(est.set_params(null_features="null").predict(fractions)).sum() == 2
    assert est.predict(spark.createDataFrame(fractions)).where("prediction is null").count() == 2
    with pytest.raises(InvalidValueError, match=r"column 'key' .* integers of 64 bits, which cannot hold 1e\+300"):
        est.predict(FRAME.assign(key=1e300))
    with pytest.raises(Exception, match=r"column 'key' .* integers of 64 bits, which cannot hold 1\.0E300"):
        est.predict(spark.createDataFrame(FRAME.assign(key=1e300))).collect()


def test_vectors_of_ids_and_text_that_is_no_number(spark: Any) -> None:
    class Pairs(Exact):
        def forward(self, pair: Any) -> Any:
            assert pair.dtype == torch.int64
            return self.weight * (pair[:, 1] - pair[:, 0] + 2**24)

    rows = pa.table({"pair": [[2**40 + 1, 2**40 + 1 - 2**24 + n] for n in range(20)], "y": np.arange(20.0)})
    for frame in (rows, spark.createDataFrame(rows)):
        est = net(Pairs, feature_types={"pair": torch.long}, feature_columns=["pair"]).fit(frame)
        assert est.history_[-1]["train_loss"] == 0
        np.testing.assert_array_equal(est.predict(rows)["prediction"].to_numpy(), np.arange(20.0))


@pytest.mark.parametrize("kind", KINDS)
def test_xgboost_gets_what_it_takes_from_pandas_itself(frames: dict[str, Any], kind: str) -> None:
    params = {"objective": "reg:squarederror", "max_depth": 6, "min_child_weight": 0, "eta": 1.0, "base_score": 0.0}
    plain = xgboost.train(params, xgboost.QuantileDMatrix(FRAME[COLUMNS], FRAME["y"]), 3)
    by_arrow = xgboost.train(params, xgboost.QuantileDMatrix(pa.Table.from_pandas(FRAME[COLUMNS]), FRAME["y"]), 3)
    expected = plain.inplace_predict(FRAME[COLUMNS]).astype(np.float64)
    np.testing.assert_array_equal(by_arrow.inplace_predict(FRAME[COLUMNS]), expected)
    est = XGBEstimator(label_column="y", feature_columns=COLUMNS, num_boost_round=3, verbose=False, **params)
    predicted = column(est.fit(frames[kind]).predict(frames[kind]), kind)
    if kind in ("Spark", "pandas-on-Spark"):  # rows of other places were summed up in another order
        np.testing.assert_allclose(np.sort(predicted), np.sort(expected), rtol=1e-6)
    else:
        np.testing.assert_array_equal(predicted, expected)


def _keras_model(dtypes: dict[str, str]) -> Callable[[], Any]:
    def make() -> Any:
        import keras

        inputs = {name: keras.Input((1,), dtype=dtype, name=name) for name, dtype in dtypes.items()}
        whole = keras.ops.cast(inputs["key"] - 2**24, "float64") + (inputs["fine"] - 1) * 2.0**40
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="float64")
        return keras.Model(inputs, dense(whole / 2 + 0 * keras.ops.cast(inputs["x"], "float64")))

    return make


@pytest.mark.parametrize("made", [True, False])
def test_inputs_of_keras_models_have_their_types(frames: dict[str, Any], tmp_path: Path, made: bool) -> None:
    pytest.importorskip("tensorflow")
    make = _keras_model({"x": "float32", "key": "int64", "fine": "float64"})
    given = {"feature_columns": COLUMNS, "label_column": "y", "num_epochs": 2, "verbose": False}
    est = raydp_ml.TFEstimator(make() if made else make, loss="mse", merge_feature_columns=False, **given)
    for fitted_on in ("pandas", "Spark"):
        est.fit(frames[fitted_on])
        assert [entry["train_loss"] for entry in est.history_] == [0, 0], fitted_on
    for kind in KINDS if made else ["pandas"]:
        np.testing.assert_array_equal(column(est.predict(frames[kind]), kind), FRAME["y"], err_msg=kind)
    if made:
        est.save(tmp_path / "saved")
        np.testing.assert_array_equal(raydp_ml.load(tmp_path / "saved").predict(FRAME), FRAME["y"])


def test_a_keras_model_of_one_integer_input() -> None:
    keras = pytest.importorskip("keras")
    x = keras.Input((2,), dtype="int64")
    out = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(keras.ops.cast(x[:, :1] - 2**24, "float32"))
    est = raydp_ml.TFEstimator(keras.Model(x, out), loss="mse", num_epochs=1, verbose=False)
    matrix = np.column_stack([IDS, IDS])
    assert est.fit(matrix, FRAME["y"]).history_[-1]["train_loss"] == 0
    np.testing.assert_array_equal(est.predict(matrix), FRAME["y"])
