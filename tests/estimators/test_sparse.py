"""The sparse layout: vectors and scipy matrices reach the model as what is set in them, however a row was stored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xgboost
from scipy import sparse

import raydp_ml
from raydp_ml import InvalidValueError, TFEstimator, TorchEstimator, XGBEstimator
from raydp_ml.exchange.sparse import from_csr, sparse_field
from raydp_ml.frames import sparse as layout

WIDTH = 5000
RNG = np.random.default_rng(5)
ROWS = sparse.random(400, WIDTH, density=0.01, format="csr", random_state=5, dtype=np.float32)
ROWS = sparse.hstack([sparse.csr_matrix(RNG.integers(0, 3, (400, 3)).astype(np.float32)), ROWS[:, 3:]], format="csr")
PRICE = np.asarray(ROWS[:, :3].sum(axis=1)).ravel() + RNG.normal(0, 0.1, 400)
PARAMS = {"objective": "reg:squarederror", "max_depth": 4, "eta": 0.5}


def trees(**settings: Any) -> XGBEstimator:
    return XGBEstimator(**{"num_boost_round": 8, "verbose": False, **PARAMS, **settings})


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """What xgboost itself predicts when it is given the compressed rows."""
    booster = xgboost.train(PARAMS, xgboost.QuantileDMatrix(ROWS, PRICE), 8)
    return booster.inplace_predict(ROWS).astype(np.float64)


@pytest.fixture(scope="module")
def frames(spark: Any) -> dict[str, Any]:
    """The same rows as every kind of frame; in Spark and pandas half of them are dense vectors."""
    from pyspark.ml.linalg import Vectors, VectorUDT
    from pyspark.sql.types import DoubleType, IntegerType, StructField, StructType

    def vector(number: int) -> Any:
        row = ROWS[number]
        return Vectors.dense(row.toarray()[0]) if number % 2 else Vectors.sparse(WIDTH, row.indices, row.data)

    fields = [StructField("row", IntegerType()), StructField("v", VectorUDT()), StructField("price", DoubleType())]
    values = [(number, vector(number), float(PRICE[number])) for number in range(400)]
    in_spark = spark.createDataFrame(values, StructType(fields)).coalesce(1)
    column = from_csr(ROWS)
    table = pa.Table.from_arrays(
        [pa.array(np.arange(400)), column, pa.array(PRICE)],
        schema=pa.schema([("row", pa.int64()), sparse_field("v"), ("price", pa.float64())]),
    )
    return {
        "Spark": in_spark,
        "pandas-on-Spark": in_spark.pandas_api(),
        "pandas": pd.DataFrame(values, columns=["row", "v", "price"]),
        "Arrow": table,
        "Ray Dataset": raydp_ml.from_spark(in_spark, vectors="sparse"),
    }


def column(predicted: Any) -> np.ndarray:
    """Predictions in the order of the rows."""
    if isinstance(predicted, np.ndarray):
        return predicted
    if isinstance(predicted, pa.Table):
        return predicted["prediction"].to_numpy()
    to_pandas = {"DataFrame": "toPandas"} if type(predicted).__module__.startswith("pyspark.sql") else {}
    local = getattr(predicted, to_pandas.get(type(predicted).__name__, "to_pandas"))()
    return local.sort_values("row")["prediction"].to_numpy()


def test_scipy_matrices_train_what_xgboost_makes_of_them(plain: np.ndarray, tmp_path: Path) -> None:
    before = ROWS.copy()
    est = trees().fit(ROWS, PRICE)
    for given in (ROWS, ROWS.tocsc(), sparse.coo_array(ROWS), ROWS.toarray()):
        np.testing.assert_array_equal(est.predict(given), plain)
    explicit = ROWS.copy()
    explicit.data[::7] = 0  # set, and 0: the same as not set
    plainly = explicit.copy()
    plainly.eliminate_zeros()
    np.testing.assert_array_equal(est.predict(explicit), est.predict(plainly))
    assert explicit.nnz == ROWS.nnz and (before != ROWS).nnz == 0
    est.save(tmp_path / "saved")
    np.testing.assert_array_equal(raydp_ml.load(tmp_path / "saved").predict(ROWS.toarray()), plain)
    # The columns of wide rows are one feature, not an object for each.
    wide = sparse.csr_matrix((ROWS.data, ROWS.indices, ROWS.indptr), shape=(400, 2**18))
    hashed = trees().fit(wide, PRICE)
    assert [feature.width for feature in hashed.serving_form()[1]] == [2**18]
    np.testing.assert_array_equal(hashed.predict(wide), plain)
    assert hashed.set_params(warm_start=True).fit(wide, PRICE).score(wide, PRICE) > est.score(ROWS, PRICE)
    with pytest.raises(InvalidValueError, match=r"X has 5000 features, but XGBEstimator .*262144"):
        hashed.predict(ROWS)
    two = trees(validation=0.25, null_features="null").fit(ROWS, PRICE)
    assert two.history_[-1]["valid_rmse"] < 0.6 * np.std(PRICE)


def test_every_kind_of_frame_gives_the_same_predictions(frames: dict[str, Any], plain: np.ndarray) -> None:
    for fitted_on, frame in frames.items():
        est = trees(label_column="price", feature_columns=["v"]).fit(frame)
        for kind in frames if fitted_on == "Spark" else [fitted_on]:
            np.testing.assert_array_equal(column(est.predict(frames[kind])), plain, err_msg=f"{fitted_on}, {kind}")
    # An array of all numbers, and a missing vector.
    assert est.score(frames["pandas"]) > 0.9
    nulls = frames["Spark"].selectExpr("row", "if(row = 7, null, v) AS v", "price")
    with pytest.raises(InvalidValueError, match="1 of 400 rows of the training data have a null"):
        trees(label_column="price", feature_columns=["v"]).fit(nulls)
    skipping = trees(label_column="price", feature_columns=["v"], null_features="skip").fit(nulls)
    assert skipping.predict(nulls).count() == 399


def test_how_vectors_are_stored_says_nothing(spark: Any) -> None:
    """A VectorAssembler stores some rows dense, others sparse; numbers beside a vector are features like any other."""
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.linalg import Vectors

    small = ROWS[:200, :40]
    values = [
        (int(n), Vectors.sparse(40, row.indices, row.data), float(n % 3), float(PRICE[n]))
        for n, row in enumerate(small)
    ]
    raw = spark.createDataFrame(values, ["row", "v", "x", "price"]).coalesce(1)
    mixed = VectorAssembler(inputCols=["x", "v"], outputCol="all").transform(raw)
    whole = sparse.hstack([np.arange(200)[:, None] % 3, small], format="csr")
    booster = xgboost.train(PARAMS, xgboost.QuantileDMatrix(whole, PRICE[:200]), 8)
    for columns in (["all"], ["x", "v"]):
        est = trees(label_column="price", feature_columns=columns, sparse=True).fit(mixed)
        np.testing.assert_array_equal(column(est.predict(mixed)), booster.inplace_predict(whole))
    dense = trees(label_column="price", feature_columns=["all"]).fit(mixed)  # 41 numbers: dense, and 0 a value
    as_values = xgboost.train(PARAMS, xgboost.QuantileDMatrix(whole.toarray(), PRICE[:200]), 8)
    # The names that Spark ML's metadata has for the numbers in a vector are those of xgboost's importances and of constraints.
    assert dense.model_.feature_names[:3] == ["x", "v_0", "v_1"]
    assert set(dense.model_.get_score()) <= {"x", *(f"v_{n}" for n in range(40))}
    rising = trees(label_column="price", feature_columns=["all"], monotone_constraints={"v_1": -1}).fit(mixed)
    assert not np.array_equal(column(rising.predict(mixed)), column(dense.predict(mixed)))
    np.testing.assert_array_equal(column(dense.predict(mixed)), as_values.inplace_predict(whole.toarray()))


def test_a_thousand_documents_of_hashed_words_train_in_seconds(spark: Any) -> None:
    from raydp_ml.feature import HashingTF, Tokenizer

    words = np.array([f"word{number}" for number in range(800)])
    texts = [" ".join(RNG.choice(words, 30)) for _ in range(3000)]
    frame = spark.createDataFrame(
        [(text, float("word7 " in text or "word8 " in text)) for text in texts], ["text", "label"]
    )
    steps = [
        ("words", Tokenizer(inputCol="text", outputCol="words")),
        ("tf", HashingTF(inputCol="words", outputCol="tf")),
    ]
    pipe = raydp_ml.SparkRayPipeline(
        [
            *steps,
            ("model", XGBEstimator(label_column="label", task="classification", num_boost_round=10, verbose=False)),
        ]
    )
    started = time.monotonic()
    pipe.fit(frame)
    assert pipe.score(frame) > 0.97
    assert time.monotonic() - started < 240  # dense it would be 3 GB: minutes, or the end of the worker
    some = pipe.predict(frame).limit(50).toPandas()
    np.testing.assert_array_equal(pipe.to_local().predict(some[["text"]]), some["prediction"])
    search = raydp_ml.GridSearch(pipe, {"model__max_depth": [2, 6]}, cv=2, verbose=0).fit(frame)
    assert search.best_score_ > 0.9


def test_what_does_not_fit_as_dense_is_refused_with_the_bytes(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.ml.linalg import Vectors

    huge = spark.range(10).withColumnRenamed("id", "price").toPandas()
    rows = [(float(price), Vectors.sparse(2**30, [1], [1.0])) for price in huge["price"]]
    frame = spark.createDataFrame(rows, ["price", "v"])
    with pytest.raises(
        InvalidValueError, match=r"10 rows of 1,073,741,824 features are 42,949,672,960 bytes as a dense"
    ):
        trees(label_column="price", feature_columns=["v"], sparse=False).fit(frame)
    with pytest.raises(
        InvalidValueError, match=r"10 rows of 1,073,741,824 features are 42,949,672,960 bytes as a dense"
    ):
        trees(sparse=False).fit(sparse.csr_matrix((10, 2**30), dtype=np.float32), np.arange(10))
    monkeypatch.setattr(layout, "available_memory", lambda: 10**12)
    assert trees(sparse=False).fit(ROWS, PRICE).predict(ROWS).shape == (400,)
    with pytest.raises(InvalidValueError, match="sparse='yes' must be 'auto', True or False"):
        trees(sparse="yes").fit(ROWS, PRICE)


def network(model: Any, **settings: Any) -> TorchEstimator:
    given = {"lr": 0.01, "num_epochs": 3, "batch_size": 64, "random_state": 0, "validation": 0.2, "verbose": False}
    return TorchEstimator(model, loss="MSELoss", **{**given, **settings})


def test_networks_get_dense_batches(frames: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Linear(WIDTH, 1), torch.nn.Flatten(0))
    dense = network(linear).fit(ROWS.toarray(), PRICE)
    compressed = network(linear).fit(ROWS, PRICE)
    for ours, theirs in zip(compressed.history_, dense.history_, strict=True):
        assert (ours["train_loss"], ours["valid_loss"]) == (theirs["train_loss"], theirs["valid_loss"])
    np.testing.assert_allclose(compressed.predict(ROWS), dense.predict(ROWS.toarray()), rtol=1e-6)
    in_spark = network(linear, label_column="price", feature_columns=["v"], num_workers=2).fit(frames["Spark"])
    np.testing.assert_allclose(column(in_spark.predict(frames["Spark"])), in_spark.predict(ROWS), rtol=1e-5)
    in_spark.save(tmp_path / "saved")
    np.testing.assert_allclose(raydp_ml.load(tmp_path / "saved").predict(ROWS), in_spark.predict(ROWS), rtol=1e-6)
    typed = network(linear, feature_types=torch.long)
    with pytest.raises(InvalidValueError, match="the sparse layout holds float32 only; set sparse=False"):
        typed.fit(ROWS, PRICE)


def test_keras_models_get_dense_batches(frames: dict[str, Any]) -> None:
    keras = pytest.importorskip("keras")
    given = {"loss": "mse", "num_epochs": 3, "batch_size": 64, "shuffle": False, "random_state": 0, "verbose": False}
    model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    held_out = {"validation": (ROWS[:50], PRICE[:50])}
    compressed = TFEstimator(model, **given, **held_out).fit(ROWS, PRICE)
    dense = TFEstimator(model, **given, validation=(ROWS[:50].toarray(), PRICE[:50])).fit(ROWS.toarray(), PRICE)
    for name in ("train_loss", "valid_loss"):
        ours, theirs = ([entry[name] for entry in est.history_] for est in (compressed, dense))
        assert ours == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(compressed.predict(ROWS), dense.predict(ROWS.toarray()), rtol=1e-4)
    in_spark = TFEstimator(model, **given, label_column="price", feature_columns=["v"]).fit(frames["Spark"])
    np.testing.assert_allclose(column(in_spark.predict(frames["Spark"])), in_spark.predict(ROWS), rtol=1e-5)
