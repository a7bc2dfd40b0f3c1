"""The training loop of one worker, without Ray: plans of steps, batches, plain Keras equality."""

from __future__ import annotations

import numpy as np
import pytest

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.tf.model import import_keras, pack_model

keras = import_keras()

from raydp_ml.estimators.tf import loop as tf_worker  # noqa: E402


def test_batches_hold_every_row_in_another_order_each_epoch():
    steps = tf_worker.steps_of([50], 0, 16, False)
    values = np.arange(50, dtype="float32")
    batches = [x.numpy() for x, _ in tf_worker.make_batches((values, values), 50, steps, 2, seed=3)]
    assert [len(batch) for batch in batches] == [16, 16, 16, 2] * 2
    first, second = np.concatenate(batches[:4]), np.concatenate(batches[4:])
    np.testing.assert_array_equal(np.sort(first), values)
    np.testing.assert_array_equal(np.sort(second), values)
    assert not np.array_equal(first, second) and not np.array_equal(first, values)


def test_batches_without_a_seed_keep_the_order():
    steps = tf_worker.steps_of([7], 0, 3, False)
    values = np.arange(7)
    batches = tf_worker.make_batches(({"x": values},), 7, steps, 1, seed=None)
    assert np.concatenate([batch[0]["x"].numpy() for batch in batches]).tolist() == list(range(7))


def test_a_worker_with_fewer_rows_than_steps_repeats_rows_that_do_not_count():
    steps = tf_worker.steps_of([500, 2], 1, 256, False)
    assert steps.sizes.tolist() == [2, 0, 0, 0]
    assert steps.parts.tolist() == pytest.approx([2 / 130, 0, 0, 0])
    batches = tf_worker.make_batches((np.arange(2.0),), 2, steps, 1, seed=None)
    assert [batch[0].numpy().tolist() for batch in batches] == [[0.0, 1.0], [1.0], [1.0], [1.0]]


def _data(rows=300):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 5)).astype("float32")
    return x, (x.sum(1) > 0).astype("float32")


def _model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True), optimizer=keras.optimizers.Adam(0.01))
    return model


def _fit(model, train, **changes):
    settings = (
        dict(batch_size=64, epochs=3, shuffle=True, drop_last=False, seed=4, callbacks=[], validation=None) | changes
    )
    validation = settings.pop("validation")
    rows = [len(train[1])]
    return tf_worker.fit_model(model, train, validation, tf_worker.Group(), rows_per_rank=rows, **settings)


def test_one_worker_is_plain_keras():
    x, y = _data()
    weight = np.linspace(0.1, 2, len(y)).astype("float32")
    plain, ours = _model(), _model()
    keras.utils.set_random_seed(9)
    expected = plain.fit(x, y, 64, epochs=3, sample_weight=weight, validation_data=(x[:50], y[:50]), verbose=0).history
    keras.utils.set_random_seed(9)
    history = _fit(ours, (x, y, weight), validation=(x[:50], y[:50]))
    assert history == expected
    for mine, its in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_drop_last_leaves_out_what_does_not_fill_a_batch():
    x, y = _data(150)
    y[128:] = np.nan  # would spoil the loss if a row of the last, short batch were used
    history = _fit(_model(), (x, y), drop_last=True, shuffle=False)
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(
        InvalidValueError, match="drop_last=True leaves no batch: batch_size=151 is larger than the 150"
    ):
        _fit(_model(), (x, y), drop_last=True, batch_size=151)


class _TwinGroup(tf_worker.Group):
    """Two workers of which the other holds the same rows: every sum is twice this worker's value."""

    def __init__(self):
        super().__init__()
        self.size = 2

    def sum(self, values, key=None):
        return 2 * tf_worker.tf.convert_to_tensor(values)

    def share_weights(self, variables):
        """Both start alike."""


def test_two_workers_with_the_same_rows_train_as_one_with_these_rows():
    x, y = _data(256)
    plain, ours = _model(), _model()
    expected = plain.fit(x, y, 64, epochs=3, shuffle=False, verbose=0).history
    history = tf_worker.fit_model(
        *(ours, (x, y), None, _TwinGroup()),
        rows_per_rank=[256, 256],
        batch_size=128,
        epochs=3,
        shuffle=False,
        drop_last=False,
        seed=None,
        callbacks=[],
    )
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for mine, its in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)
    assert "apply" not in vars(ours.optimizer)
    pack_model(ours).open(compiled=True)  # the optimizer can be saved again
