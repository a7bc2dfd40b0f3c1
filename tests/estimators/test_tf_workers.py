"""TFEstimator on Ray Train workers and in Spark's executors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raydp_ml import InvalidValueError, TFEstimator
from raydp_ml.estimators.tf.model import import_keras

keras = import_keras()

ROWS = 1501  # uneven for two workers and for the batches
COLUMNS = ["a", "b", "c"]


def _frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(ROWS, 3)).astype("float32"), columns=COLUMNS)
    noise = generator.normal(size=ROWS)
    frame["late"] = np.where(frame["a"] + 2 * frame["b"] * frame["c"] + noise > 0, "yes", "no")
    return frame


FRAME = _frame()


def _build(n_features):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((n_features,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def _estimator(**params):
    settings = {
        "loss": "binary_crossentropy",
        "lr": 0.02,
        "num_epochs": 8,
        "batch_size": 100,
        "random_state": 3,
        "verbose": False,
        "label_column": "late",
        "feature_columns": COLUMNS,
    }
    return TFEstimator(**{"model": _build(3), **settings, **params})


class WriteDown(keras.callbacks.Callback):
    """Write what this rank sees of the losses, and its weights at the end."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.losses = folder, []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])

    def on_train_end(self, logs=None):
        rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        weights = [array.tolist() for array in self.model.get_weights()]
        Path(self.folder, f"{rank}.json").write_text(json.dumps({"losses": self.losses, "weights": weights}))


@pytest.fixture(scope="module")
def one_worker():
    return _estimator(validation=0.2, num_workers=0).fit(FRAME)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def two_workers(ray_cluster, written):
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as what a notebook defines
    try:
        return _estimator(validation=0.2, num_workers=2, metrics=["accuracy"], callbacks=[WriteDown(str(written))]).fit(
            FRAME
        )
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_two_workers_reach_what_one_reaches(one_worker, two_workers):
    one, two = (each.evaluate(FRAME)["roc_auc"] for each in (one_worker, two_workers))
    assert one > 0.85
    assert two == pytest.approx(one, abs=0.005)


def test_all_ranks_hold_the_same_weights_and_see_the_same_losses(two_workers, written):
    first, second = (json.loads((written / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(first["losses"]) == 8
    np.testing.assert_allclose(second["losses"], first["losses"], rtol=1e-6)
    np.testing.assert_allclose([entry["train_loss"] for entry in two_workers.history_], first["losses"], rtol=1e-6)
    for mine, its, kept in zip(first["weights"], second["weights"], two_workers.model_.get_weights(), strict=True):
        np.testing.assert_allclose(its, mine, atol=1e-6)
        np.testing.assert_allclose(kept, mine, atol=1e-6)


def test_the_history_is_of_all_rows(two_workers):
    last = two_workers.history_[-1]
    assert {"epoch", "train_loss", "valid_loss", "train_accuracy", "valid_accuracy"} <= set(last)
    # An average over both ranks' rows: a whole number of the 300 that validate.
    hits = last["valid_accuracy"] * 300
    assert hits == pytest.approx(round(hits), abs=1e-3)


def test_errors_of_workers_come_back_as_they_are(ray_cluster, monkeypatch):
    with pytest.raises(InvalidValueError, match="drop_last=True leaves no batch"):
        _estimator(num_workers=2, drop_last=True, batch_size=5000).fit(FRAME)


def test_spark_pandas_and_numpy_agree(spark):
    given = spark.createDataFrame(FRAME)
    # One worker trains on the rows in the order in which Spark holds them.
    collected = given.toPandas()
    by_spark = _estimator().fit(given)
    by_numpy = _estimator(label_column=None, feature_columns=None).fit(
        collected[COLUMNS].to_numpy(), collected["late"].to_numpy()
    )
    np.testing.assert_allclose(
        [entry["train_loss"] for entry in by_spark.history_],
        [entry["train_loss"] for entry in by_numpy.history_],
        rtol=1e-5,
    )
    scored = by_spark.predict_proba(by_spark.predict(given))
    assert scored.columns == [*COLUMNS, "late", "prediction", "probability"]
    rows = scored.toPandas()
    X = rows[COLUMNS].to_numpy()
    np.testing.assert_allclose(np.stack(rows["probability"]), by_spark.predict_proba(X), atol=1e-6)
    assert (rows["prediction"] == by_spark.predict(rows)).all()
    np.testing.assert_allclose(by_numpy.predict_proba(X), by_spark.predict_proba(X), atol=1e-5)
    assert by_spark.score(given) == pytest.approx(by_spark.score(collected))


def test_weights_of_two_workers_are_those_of_one(ray_cluster):
    weight = np.linspace(0.2, 3.0, len(FRAME)) ** 2  # the workers' parts weigh differently
    frame = FRAME.assign(w=weight)
    about = {"weight_column": "w", "optimizer": "sgd", "lr": 0.1, "batch_size": 10_000, "num_epochs": 3}
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    one, two = (
        _estimator(model=plain, num_workers=workers, metrics=["accuracy"], validation=frame[:301], **about).fit(frame)
        for workers in (0, 2)
    )
    for mine, its in zip(two.history_, one.history_, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**its, "seconds": 0}, abs=1e-4)
    np.testing.assert_allclose(two.predict_proba(FRAME), one.predict_proba(FRAME), atol=1e-4)
