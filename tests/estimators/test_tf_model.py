"""Keras models as data: what a loss says, packing with the user's own classes, a quiet import."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest

from raydp_ml.errors import InvalidTypeError, RaydpMLError
from raydp_ml.estimators.tf import model as tf_model

keras = tf_model.import_keras()


@pytest.mark.parametrize(
    ("loss", "kind", "task"),
    [
        ("binary_crossentropy", "binary", "classification"),
        ("BCE", "binary", "classification"),
        ("categorical_crossentropy", "categorical", "classification"),
        ("sparse_categorical_crossentropy", "sparse", "classification"),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sparse", "classification"),
        (keras.losses.BinaryFocalCrossentropy(), "binary", "classification"),
        ("mse", "regression", "regression"),
        (keras.losses.mean_absolute_error, "regression", "regression"),
        (keras.losses.Huber(), "regression", "regression"),
        ("hinge", None, None),
        (lambda y, p: y - p, None, None),
    ],
)
def test_a_loss_says_its_task(loss, kind, task):
    assert tf_model.loss_kind(loss) == kind
    assert tf_model.loss_task(loss) == task


def test_logits_are_read_from_the_loss():
    assert tf_model.from_logits(keras.losses.BinaryCrossentropy(from_logits=True)) is True
    assert tf_model.from_logits(keras.losses.BinaryCrossentropy()) is False
    assert tf_model.from_logits("mse") is False


class Doubling(keras.layers.Dense):
    """A layer that Keras cannot find by name in another process."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def cube(values):
    return values**3


def test_a_model_with_own_classes_and_functions_is_opened_where_they_cannot_be_imported():
    # As if this module were a notebook: what it defines is pickled by value.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        model = keras.Sequential([keras.Input((3,)), Doubling(4, activation=cube), keras.layers.Dense(1)])
        sent = pickle.dumps(tf_model.pack_model(model))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert set(tf_model.own_objects(model)) == {"Doubling", "cube"}
    rows = np.arange(6, dtype="float32").reshape(2, 3)
    program = (
        "import json, pickle, sys, numpy as np\n"
        "model = pickle.loads(sys.stdin.buffer.read()).open()\n"
        "print(json.dumps(np.asarray(model(np.arange(6, dtype='float32').reshape(2, 3))).ravel().tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    np.testing.assert_allclose(json.loads(done.stdout), np.asarray(model(rows)).ravel(), rtol=1e-5)
    assert b"oneDNN" not in done.stderr


def test_an_opened_model_shares_nothing_with_the_packed_one():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    again = tf_model.pack_model(model).open()
    for mine, its in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    again.set_weights([w + 1 for w in again.get_weights()])
    assert not np.allclose(model.get_weights()[0], again.get_weights()[0])


def test_objects_are_opened_fresh_and_equal():
    metric = keras.metrics.AUC(name="area", num_thresholds=50)
    metric.update_state([0, 1], [0.2, 0.9])
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), momentum=0.7)
    opened = tf_model.open_object(tf_model.pack_object({"m": [metric, "mse"], "o": optimizer}))
    assert opened["m"][1] == "mse"
    assert opened["m"][0].name == "area" and len(opened["m"][0].thresholds) == 50
    assert float(opened["m"][0].result()) == 0.0
    assert opened["o"].get_config() == optimizer.get_config() and opened["o"] is not optimizer


def test_a_function_makes_the_model_and_must_return_one():
    def build(n_outputs, n_features):
        return keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(n_outputs)])

    assert tf_model.make_model(build, 5, 2).get_weights()[0].shape == (5, 2)
    assert tf_model.make_model(lambda: build(3, 4), 5, 2).get_weights()[0].shape == (4, 3)
    with pytest.raises(InvalidTypeError, match="the function returned int"):
        tf_model.make_model(lambda: 3, 5, 2)


def test_another_keras_backend_is_an_error_that_names_the_variable(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RaydpMLError, match="KERAS_BACKEND=tensorflow"):
        tf_model.import_keras()


def test_importing_is_quiet_and_loses_no_other_line():
    program = (
        "import os, sys\n"
        "from raydp_ml.estimators.tf.model import import_keras, _without_greeting\n"
        "assert 'tensorflow' not in sys.modules\n"
        "import_keras()\n"
        "with _without_greeting():\n"
        "    os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called\\n')\n"
        "    print('something else', file=sys.stderr)\n"
        "print('after', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"something else\nafter\n")
