"""TFEstimator in this process: plain Keras equality, every kind of label and input, persistence, bad input."""

from __future__ import annotations

import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import raydp_ml
from raydp_ml import InvalidTypeError, InvalidValueError, TFEstimator
from raydp_ml.estimators import streamed
from raydp_ml.estimators.tf.model import import_keras

keras = import_keras()


def _rows(count=240, features=3):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(count, features)).astype("float32")
    return X, X @ np.arange(1, features + 1, dtype="float32")


BATCH = 40  # divides the rows: Keras traces a training step for every size of batch
X, VALUES = _rows()
LABELS = np.where(VALUES > 0, "late", "in time")
Y = (LABELS == "late").astype("int64")  # what the classes become, in the order of classes_


def _network(units=1, activation="sigmoid", seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(units, activation=activation),
        ]
    )


def _classifier(model=None, **params):
    settings = {
        "loss": "binary_crossentropy",
        "lr": 0.02,
        "batch_size": BATCH,
        "num_epochs": 3,
        "verbose": False,
        "random_state": 5,
    }
    return TFEstimator(_network() if model is None else model, **{**settings, **params})


def _plain(model, y, epochs=3, seed=5, loss="binary_crossentropy", **fit):
    """What Keras itself makes of the rows: the history, and the model."""
    model.compile(loss=loss, optimizer=keras.optimizers.Adam(0.02))
    if seed is not None:
        keras.utils.set_random_seed(seed)
    return model.fit(X, y, batch_size=BATCH, epochs=epochs, verbose=0, **fit).history


def _losses(estimator, name="train_loss"):
    return [entry[name] for entry in estimator.history_]


@pytest.fixture(scope="module")
def fitted():
    return _classifier(metrics=["accuracy"]).fit(X, LABELS)


# -- what Keras does ----------------------------------------------------------------------------------------------


def test_one_worker_is_plain_keras(fitted):
    network = _network()
    history = _plain(network, Y)
    np.testing.assert_allclose(_losses(fitted), history["loss"], rtol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(X)[:, 1], network.predict(X, verbose=0)[:, 0], atol=1e-6)
    assert history["loss"][0] > history["loss"][-1]


def test_weights_validation_and_class_weights_are_those_of_plain_keras():
    weight = np.linspace(0.2, 3, len(X)).astype("float32")
    held_out = (X[:40], LABELS[:40])
    estimator = _classifier(class_weight={"late": 2.5}, validation=held_out).fit(X, LABELS, sample_weight=weight)
    by_class = weight * np.where(Y == 1, 2.5, 1.0)
    history = _plain(_network(), Y, sample_weight=by_class / by_class.mean(), validation_data=(X[:40], Y[:40]))
    np.testing.assert_allclose(_losses(estimator), history["loss"], rtol=1e-5)
    np.testing.assert_allclose(_losses(estimator, "valid_loss"), history["val_loss"], rtol=1e-5)


def test_rows_on_disk_train_as_those_in_memory(monkeypatch):
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 100 * 24)
    monkeypatch.setattr(streamed, "CHUNKS", 5)
    weight = np.linspace(0.5, 2, len(X)).astype("float32")
    settings = {"shuffle": False, "drop_last": True, "validation": 0.25, "metrics": ["accuracy"]}
    memory, disk = (_classifier(**settings, streaming=each).fit(X, LABELS, weight) for each in (False, True))
    for mine, theirs in zip(memory.history_, disk.history_, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, rel=1e-6)
    np.testing.assert_allclose(memory.predict_proba(X), disk.predict_proba(X), atol=1e-6)
    order = np.argsort(LABELS)  # one class after the other
    shuffled = _classifier(streaming=True, num_epochs=6).fit(X[order], LABELS[order])
    assert shuffled.score(X, LABELS) == pytest.approx(
        _classifier(num_epochs=6).fit(X, LABELS).score(X, LABELS), abs=0.05
    )


def test_dropout_is_that_of_plain_keras():
    def network():
        keras.utils.set_random_seed(2)
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1, activation="sigmoid")]
        )

    estimator = _classifier(network()).fit(X, LABELS)
    np.testing.assert_allclose(_losses(estimator), _plain(network(), Y)["loss"], rtol=1e-5)


def test_going_on_is_one_long_training():
    twice = _classifier(shuffle=False, warm_start=True, num_epochs=2).fit(X, LABELS)
    first = _losses(twice)
    twice.fit(X, LABELS)
    history = _plain(_network(), Y, epochs=4, shuffle=False)
    np.testing.assert_allclose([*first, *_losses(twice)], history["loss"], rtol=1e-5)
    anew = _classifier(shuffle=False, num_epochs=2).fit(X, LABELS).fit(X, LABELS)
    np.testing.assert_allclose(_losses(anew), first, rtol=1e-5)
    bit_by_bit = _classifier(shuffle=False, num_epochs=2).partial_fit(X, LABELS).partial_fit(X, LABELS)
    np.testing.assert_allclose(_losses(bit_by_bit), _losses(twice), rtol=1e-5)


def test_a_model_that_changed_counts_or_is_refused():
    def network(activation="relu", units=8):
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(units, activation), keras.layers.Dense(1, activation="sigmoid")]
        )

    first = _classifier(network(), warm_start=True, num_epochs=2).fit(X, LABELS)
    weights = first.model_.get_weights()
    first.set_params(model=network("tanh"), lr=1e-12).fit(X, LABELS)
    assert first.model_.layers[0].activation is keras.activations.tanh
    for mine, its in zip(first.model_.get_weights(), weights, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)
    with pytest.raises(InvalidValueError, match="the model has changed since the fit before"):
        first.set_params(model=network(units=4)).fit(X, LABELS)


def test_early_stopping_keeps_the_best_weights():
    estimator = _classifier(lr=3.0, num_epochs=25, validation=80 / 240, early_stopping=2).fit(X, LABELS)
    losses = _losses(estimator, "valid_loss")
    assert len(losses) < 25
    assert int(np.argmin(losses)) == len(losses) - 3  # two epochs without a better one, then it stops
    by_name = clone(estimator).set_params(early_stopping={"monitor": "valid_loss", "patience": 2}).fit(X, LABELS)
    np.testing.assert_allclose(_losses(by_name, "valid_loss"), losses, rtol=1e-5)


def test_callbacks_are_called_and_may_stop():
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])))
    estimator = _classifier(callbacks=[watch]).fit(X, LABELS)
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    np.testing.assert_allclose([loss for _, loss in seen], _losses(estimator), rtol=1e-6)


def test_a_seed_repeats_and_leaves_the_programs_own_random_numbers_alone():
    first, second = _classifier(), _classifier()
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    first.fit(X, LABELS)
    second.fit(X, LABELS)
    assert np.random.rand() == expected
    assert _losses(first) == _losses(second)
    assert _losses(_classifier(random_state=6).fit(X, LABELS)) != _losses(first)


# -- models, losses, labels ----------------------------------------------------------------------------------------


def test_the_given_model_is_not_touched():
    network = _network()
    network.compile(loss="mse", optimizer="sgd")
    before = network.get_weights()
    estimator = _classifier(network).fit(X, LABELS)
    for mine, its in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert network.loss == "mse" and estimator.model is network
    assert not np.allclose(estimator.model_.get_weights()[0], before[0])


CONSTANT = keras.optimizers.schedules.ExponentialDecay(0.02, 10**9, 1.0)
OPTIMIZERS = {
    "instance": keras.optimizers.Adam(0.02),
    "class": keras.optimizers.Adam,
    "name": "Adam",
    "schedule": keras.optimizers.Adam(CONSTANT),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_in_all_spellings(optimizer, fitted):
    metrics = [keras.metrics.BinaryAccuracy(name="hits")]
    loss = keras.losses.BinaryCrossentropy()
    estimator = _classifier(optimizer=optimizer, loss=loss, metrics=metrics).fit(X, LABELS)
    np.testing.assert_allclose(_losses(estimator), _losses(fitted), rtol=1e-5)
    np.testing.assert_allclose(_losses(estimator, "train_hits"), _losses(fitted, "train_accuracy"))


def test_logits_become_probabilities():
    logits = _classifier(_network(activation=None), loss=keras.losses.BinaryCrossentropy(from_logits=True)).fit(
        X, LABELS
    )
    np.testing.assert_allclose(_losses(logits), _losses(_classifier().fit(X, LABELS)), rtol=1e-4)
    probabilities = logits.predict_proba(X)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(
        probabilities[:, 1], 1 / (1 + np.exp(-logits.model_.predict(X, verbose=0)[:, 0])), atol=1e-6
    )


def test_three_classes_sparse_and_one_hot_agree():
    labels = np.array(["a", "b", "c"])[np.digitize(VALUES, [-2, 2])]
    made = {}
    for loss in ("sparse_categorical_crossentropy", "categorical_crossentropy"):
        made[loss] = _classifier(
            _network(3, "softmax", seed=2), loss=loss, num_epochs=15, lr=0.1, metrics="accuracy"
        ).fit(X, labels)
    sparse, one_hot = made.values()
    np.testing.assert_allclose(_losses(sparse), _losses(one_hot), rtol=1e-5)
    np.testing.assert_allclose(_losses(sparse, "train_accuracy"), _losses(one_hot, "train_accuracy"))
    assert sparse.classes_.tolist() == ["a", "b", "c"] and sparse.predict_proba(X).shape == (len(X), 3)
    assert sparse.score(X, labels) > 0.85


def test_a_model_may_have_room_for_classes_that_the_data_does_not_show():
    estimator = _classifier(_network(5, "softmax"), loss="sparse_categorical_crossentropy").fit(X, LABELS)
    probabilities = estimator.predict_proba(X)
    assert probabilities.shape == (len(X), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_regression_and_several_outputs():
    one = _classifier(_network(1, None), loss="mse", lr=0.1, num_epochs=20).fit(X, VALUES)
    assert one.predict(X).shape == (len(X),) and one.score(X, VALUES) > 0.9
    assert not hasattr(one, "predict_proba")
    both = np.column_stack([VALUES, -VALUES])
    two = _classifier(_network(2, None), loss=keras.losses.Huber(), lr=0.1, num_epochs=20).fit(X, both)
    assert two.predict(X).shape == both.shape and two.score(X, both) > 0.8


def test_a_loss_of_ones_own_needs_a_task():
    def distance(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(keras.ops.reshape(y_true, (-1, 1)) - y_pred), axis=-1)

    with pytest.raises(InvalidValueError, match="task='classification' or task='regression'"):
        _classifier(_network(1, None), loss=distance).fit(X, VALUES)
    own = _classifier(_network(1, None), loss=distance, task="regression").fit(X, VALUES)
    keras_own = _classifier(_network(1, None), loss="mse").fit(X, VALUES)
    np.testing.assert_allclose(_losses(own), _losses(keras_own), rtol=1e-5)


def test_a_function_makes_the_model_and_its_width_comes_from_the_data():
    def build():
        return keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])

    estimator = _classifier(build)
    assert estimator.fit(X, LABELS).model_.get_weights()[0].shape == (3, 4)
    assert estimator.fit(X[:, :2], LABELS).model_.get_weights()[0].shape == (2, 4)
    assert _classifier(build()).fit(X, LABELS).model_.get_weights()[0].shape == (3, 4)


# -- inputs --------------------------------------------------------------------------------------------------------


def _by_column(names):
    inputs = [keras.Input((1,), name=name, dtype="int32" if name == "kind" else "float32") for name in names]
    parts = [
        keras.layers.Flatten()(keras.layers.Embedding(4, 2)(each)) if each.dtype == "int32" else each for each in inputs
    ]
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(parts)))


def test_each_column_an_input_by_name_or_in_order():
    frame = pd.DataFrame({"kind": np.arange(200) % 4, "size": np.linspace(-1, 1, 200)})
    frame["target"] = frame["size"] + np.array([3.0, -3.0, 1.0, 0.0])[frame["kind"]]
    estimator = TFEstimator(
        _by_column(["size", "kind"]),
        loss="mse",
        lr=0.3,
        num_epochs=25,
        batch_size=50,
        label_column="target",
        merge_feature_columns=False,
        verbose=False,
        random_state=0,
    )
    assert estimator.fit(frame).score(frame) > 0.95
    renamed = frame.rename(columns={"kind": "which"})[["size", "which", "target"]]
    model = _by_column(["size", "kind"])
    assert clone(estimator).set_params(model=model).fit(renamed).score(renamed) > 0.95
    with pytest.raises(InvalidValueError, match="merge_feature_columns=False"):
        clone(estimator).set_params(merge_feature_columns=True).fit(frame)
    with pytest.raises(
        InvalidValueError, match=r"the inputs \['size', 'kind'\], but the feature columns are \['size'\]"
    ):
        clone(estimator).set_params(feature_columns=["size"]).fit(frame)


def test_pandas_numpy_and_arrow_agree(fitted):
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(label=LABELS)
    by_frame = _classifier(label_column="label").fit(frame)
    by_table = _classifier(label_column="label").fit(pa.Table.from_pandas(frame))
    assert _losses(by_frame) == _losses(by_table) == _losses(fitted)
    assert by_frame.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(by_frame.predict(frame), fitted.predict(X))
    scored = by_table.predict_proba(pa.Table.from_pandas(frame))
    np.testing.assert_allclose(np.stack(scored["probability"].to_pylist()), fitted.predict_proba(X), atol=1e-7)
    assert fitted.evaluate(X, LABELS)["roc_auc"] == by_frame.evaluate(frame)["roc_auc"]


# -- parameters, pickles, files ------------------------------------------------------------------------------------


def test_parameters_are_kept_and_cloned():
    network, callback = _network(), keras.callbacks.TerminateOnNaN()
    estimator = _classifier(network, callbacks=[callback], drop_last=True)
    assert estimator.get_params()["model"] is network and estimator.callbacks == [callback]
    again = clone(estimator)
    assert again.model is not network and again.drop_last is True and not again.__sklearn_is_fitted__()
    np.testing.assert_array_equal(again.model.get_weights()[0], network.get_weights()[0])
    assert again.set_params(lr=0.5).lr == 0.5 and estimator.lr == 0.02


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_pickles_of_fitted_estimators(fitted, way, tmp_path):
    if way == "pickle":
        again = pickle.loads(pickle.dumps(fitted))
    else:
        joblib.dump(fitted, tmp_path / "fitted")
        again = joblib.load(tmp_path / "fitted")
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.history_ == fitted.history_


class Scaled(keras.layers.Layer):
    """A layer of the user's own."""

    def call(self, inputs):
        return inputs * 0.5


def _own_network():
    return keras.Sequential([keras.Input((3,)), Scaled(), keras.layers.Dense(1, activation="sigmoid")])


def test_saved_and_loaded_it_predicts_and_trains_on_alike(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    again = TFEstimator.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.history_ == fitted.history_ and again.lr == fitted.lr
    here = pickle.loads(pickle.dumps(fitted)).partial_fit(X, LABELS)
    np.testing.assert_allclose(_losses(again.partial_fit(X, LABELS)), _losses(here), rtol=1e-6)


def test_layers_of_ones_own_are_loaded_only_when_trusted_or_given_back(tmp_path):
    estimator = _classifier(_own_network()).fit(X, LABELS)
    expected = estimator.predict_proba(X)
    estimator.save(tmp_path / "saved")
    with pytest.raises(InvalidValueError, match="trusted="):
        raydp_ml.load(tmp_path / "saved")
    for trust in (Scaled.__module__, Scaled):
        trusted = raydp_ml.load(tmp_path / "saved", trusted=[trust])
        np.testing.assert_allclose(trusted.predict_proba(X), expected, atol=1e-7)
    given = raydp_ml.load(tmp_path / "saved", model=_own_network)
    np.testing.assert_allclose(given.predict_proba(X), expected, atol=1e-7)
    again = pickle.loads(pickle.dumps(given))
    np.testing.assert_allclose(again.predict_proba(X), expected, atol=1e-7)


def test_the_class_is_imported_without_tensorflow():
    import subprocess

    program = (
        "import sys\nfrom raydp_ml import TFEstimator\n"
        "TFEstimator(lambda: None, loss='mse')\nprint('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "False"]


# -- bad input -----------------------------------------------------------------------------------------------------


def _two_outputs():
    inputs = keras.Input((3,))
    return keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])


THREE = np.arange(len(X)) % 3
BAD = [
    ({"model": 3}, LABELS, InvalidTypeError, "model is a int"),
    ({"model": lambda: "network"}, LABELS, InvalidTypeError, "the function returned str"),
    ({"model": _two_outputs()}, LABELS, InvalidValueError, "the model gives a list of outputs"),
    ({"model": _network(2, "softmax")}, LABELS, InvalidValueError, "needs a model with 1 output, this one gives 2"),
    ({}, THREE, InvalidValueError, "2 classes and the label has 3"),
    (
        {"loss": "sparse_categorical_crossentropy", "model": _network(2, "softmax")},
        THREE,
        InvalidValueError,
        "gives 2 values per row for 3 classes",
    ),
    (
        {"model": keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])},
        LABELS,
        InvalidValueError,
        "5 numbers, but the features has 3",
    ),
    ({"loss": "mse", "model": _network(2)}, VALUES, InvalidValueError, "gives 2 values per row for 1 label"),
    ({"loss": "mse", "task": "classification"}, LABELS, InvalidValueError, "contradict each other"),
    ({"loss": None}, LABELS, InvalidValueError, "task="),
    (
        {"loss": "binary_crossentropi", "task": "classification"},
        LABELS,
        InvalidValueError,
        "did you mean 'binary_crossentropy'",
    ),
    ({"optimizer": "adem"}, LABELS, InvalidValueError, "optimizer='adem' is no name that Keras knows"),
    ({"optimizer": 3}, LABELS, InvalidTypeError, "optimizer is a int"),
    ({"metrics": ["acuracy"]}, LABELS, InvalidValueError, "metrics='acuracy' is no name"),
    ({"lr": "fast"}, LABELS, InvalidTypeError, "lr='fast'"),
    ({"lr": 0}, LABELS, InvalidValueError, "lr=0 must be above 0"),
    ({"batch_size": 0}, LABELS, InvalidValueError, "batch_size=0"),
    ({"num_epochs": 1.5}, LABELS, InvalidTypeError, "num_epochs=1.5"),
    ({"drop_last": True, "batch_size": 1000}, LABELS, InvalidValueError, "drop_last=True leaves no batch"),
    ({"early_stopping": "soon"}, LABELS, InvalidTypeError, "early_stopping='soon'"),
    ({"early_stopping": -1}, LABELS, InvalidValueError, "patience=-1"),
    (
        {"early_stopping": {"monitor": "valid_loss"}},
        LABELS,
        InvalidValueError,
        "is not among the metrics: train_loss",
    ),
    ({"callbacks": [print]}, LABELS, InvalidTypeError, "callbacks holds a builtin_function"),
    ({"callbacks": keras.callbacks.TerminateOnNaN()}, LABELS, InvalidTypeError, "must be a list"),
]


@pytest.mark.parametrize(("params", "labels", "error", "message"), BAD, ids=[str(list(each[0])) for each in BAD])
def test_bad_input_is_refused_with_its_name(params, labels, error, message):
    with pytest.raises(error, match=message):
        _classifier(**params).fit(X, labels)


def test_predict_before_fit_is_refused():
    with pytest.raises(NotFittedError, match="TFEstimator"):
        _classifier().predict(X)
