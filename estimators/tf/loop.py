"""Keras training in one worker of a group: `model.fit` per worker, its gradients summed over the workers.

Keras 3 cannot train under a multi-worker distribution strategy of TensorFlow, but its optimizers take gradients through
one method. So every worker runs plain `model.fit` on its own rows, and the optimizer's `apply` first sums the gradients
over the workers with a collective operation. With one worker nothing is changed and the result is plain Keras's.

This module imports TensorFlow; import it only where a model is trained.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.epochs import plan_epoch
from raydp_ml.estimators.protocol import Reporter
from raydp_ml.estimators.tf.fitted import DenseBatches
from raydp_ml.estimators.tf.model import seed_variables
from raydp_ml.estimators.tf.streamed import StreamedInputs, streamed_batches

# Names the one group of devices that all collectives of a fit run on.
_GROUP_KEY = 1
# The sum of the gradients has one name on all ranks, however often each of them traces its training step.
_GRADIENT_KEY = 1


class Group:
    """The workers of one fit, and sums over them.

    With more than one worker it starts TensorFlow's collective runtime, which reads the addresses of the workers from
    the environment variable ``TF_CONFIG``; TensorFlow must not have run an operation in this process before.

    Parameters
    ----------
    rank, size : int
        The number of this worker, and how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._keys = itertools.count(_GRADIENT_KEY + 1)
        # The strategy is made for the runtime that it brings up (a server, and leader election among the workers);
        # nothing runs in its scope.
        self._runtime = tf.distribute.MultiWorkerMirroredStrategy() if size > 1 else None

    def sum(self, values: Any, key: int | None = None) -> Any:
        """Sum a tensor over the workers; all of them must call it, in the same order."""
        if self.size == 1:
            return tf.convert_to_tensor(values)
        return tf.raw_ops.CollectiveReduceV2(
            input=values,
            group_size=self.size,
            group_key=_GROUP_KEY,
            instance_key=next(self._keys) if key is None else key,
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
            communication_hint="auto",
            timeout_seconds=0,
        )

    def average(self, values: Sequence[float], weight: float) -> list[float]:
        """Average numbers over the workers, each worker's with a weight."""
        sums = self.sum(np.append(np.asarray(values, np.float64) * weight, float(weight))).numpy()
        return [float(total) for total in sums[:-1] / sums[-1]]

    def share_weights(self, variables: Sequence[Any]) -> None:
        """Give the variables the values that they have on the first worker."""
        for variable in variables:
            value = variable.numpy()
            if np.issubdtype(value.dtype, np.floating):
                value = value.astype(np.float32)
                variable.assign(self.sum(value if self.rank == 0 else np.zeros_like(value)))

    def average_weights(self, variables: Sequence[Any]) -> None:
        """Give the variables their average over the workers; those without fractions stay as they are."""
        for variable in variables:
            value = variable.numpy()
            if np.issubdtype(value.dtype, np.floating):
                variable.assign(self.sum(value.astype(np.float32)) / self.size)


@dataclass(frozen=True)
class Steps:
    """How many rows one worker takes in each step of an epoch, and what part of that step's rows of all workers it is."""

    sizes: np.ndarray
    parts: np.ndarray


def steps_of(rows: Sequence[int], rank: int, batch_size: int, drop_last: bool) -> Steps:
    """The steps of one worker; its gradients count by its part of a step's rows.

    Parameters
    ----------
    rows : sequence of int
        How many rows each worker has.
    rank : int
        The worker.
    batch_size, drop_last
        As for :func:`raydp_ml.estimators.epochs.plan_epoch`.
    """
    sizes = plan_epoch(rows, batch_size, drop_last)
    return Steps(sizes[rank], sizes[rank] / sizes.sum(axis=0))


def make_batches(arrays: Any, rows: int, steps: Steps, epochs: int, seed: int | None) -> tf.data.Dataset:
    """Make a dataset of batches for all epochs; a seed shuffles the rows, anew in each epoch."""
    inputs = arrays[0]
    if isinstance(inputs, StreamedInputs):
        return streamed_batches(inputs, steps.sizes, epochs, seed)
    sparse = isinstance(inputs, DenseBatches)
    held = tf.nest.map_structure(tf.convert_to_tensor, arrays[1:] if sparse else arrays)
    # A worker with fewer rows than steps repeats a row where it has none; its part of that step's gradient is 0.
    sizes = tf.constant(np.maximum(steps.sizes, 1), tf.int64)
    starts = tf.constant(np.minimum(np.cumsum(steps.sizes) - steps.sizes, rows - 1), tf.int64)

    def one_epoch(epoch: Any) -> tf.data.Dataset:
        order = tf.range(rows, dtype=tf.int64)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.data.Dataset.range(len(steps.sizes)).map(lambda step: tf.slice(order, [starts[step]], [sizes[step]]))

    def take(indices: Any) -> Any:
        gathered = tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), held)
        return (_dense_inputs(inputs, indices), *gathered) if sparse else gathered

    batches = tf.data.Dataset.range(epochs).flat_map(one_epoch).map(take, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


class SummedGradients:
    """A context in which an optimizer sums the gradients over the workers before it applies them.

    Outside of it the optimizer is what it was: it can be saved.
    """

    def __init__(self, optimizer: Any, group: Group, steps: Steps, whole_sum: bool) -> None:
        self._optimizer, self._group = optimizer, group
        # A loss that is a mean over the batch makes gradients that are one, too: weigh each worker's by its rows.
        parts = np.ones(len(steps.parts)) if whole_sum else steps.parts
        self._parts = tf.constant(parts, tf.float32)
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)

    def __enter__(self) -> "SummedGradients":
        if self._group.size > 1:
            self._apply, self._optimizer.apply = self._optimizer.apply, self._sum_and_apply
        return self

    def __exit__(self, *_: object) -> None:
        if self._group.size > 1:
            del self._optimizer.apply

    def _sum_and_apply(self, gradients: Sequence[Any], variables: Any = None) -> Any:
        # One collective for all gradients: most models have many small ones, and each call has a fixed cost.
        dense = [None if each is None else tf.convert_to_tensor(each) for each in gradients]
        present = [each for each in dense if each is not None]
        part = self._parts[self._step % len(self._parts)]
        self._step.assign_add(1)
        flat = tf.concat([tf.reshape(tf.cast(each, tf.float32), [-1]) for each in present], axis=0)
        pieces = iter(
            tf.split(self._group.sum(flat * part, _GRADIENT_KEY), [each.shape.num_elements() for each in present])
        )
        summed = [each if each is None else tf.cast(tf.reshape(next(pieces), each.shape), each.dtype) for each in dense]
        return self._apply(summed, variables)


class SharedLogs(keras.callbacks.Callback):
    """Put the averages over all workers into the logs, so that every later callback decides alike on every worker."""

    def __init__(self, group: Group, train: tuple[Any, ...], validation: tuple[Any, ...] | None) -> None:
        super().__init__()
        self._group, self._train, self._validation = group, train, validation

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._share_state()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._share_state()
        logs = {} if logs is None else logs
        for arrays, of_validation in ((self._train, False), (self._validation, True)):
            names = sorted(name for name in logs if name.startswith("val_") == of_validation)
            if not names or arrays is None:
                continue
            # A loss is a mean over rows (their weights have the mean 1), a metric one over weights.
            loss = "val_loss" if of_validation else "loss"
            by_rows, by_weight = [name for name in names if name == loss], [name for name in names if name != loss]
            counts = (
                (by_rows, len(arrays[1])),
                (by_weight, float(np.sum(arrays[2])) if arrays[2:] else len(arrays[1])),
            )
            for averaged, count in counts:
                if averaged:
                    values = self._group.average([logs[name] for name in averaged], count)
                    logs.update(zip(averaged, values, strict=True))

    def _share_state(self) -> None:
        # What layers learn without gradients (the averages of a batch normalisation) differs between the workers.
        self._group.average_weights(self.model.non_trainable_variables)


class Stopping(keras.callbacks.EarlyStopping):
    """Early stopping that does not pass over a metric which is not there."""

    def get_monitor_value(self, logs: dict | None) -> float:
        if not logs or self.monitor not in logs:
            known = ", ".join(sorted(told_names(logs or {}).values()))
            raise InvalidValueError(f"early_stopping: monitor={self.monitor!r} is not among the metrics: {known}")
        return logs[self.monitor]


def told_names(logs: Mapping[str, float]) -> dict[str, str]:
    """Keras's names of metrics and ours, those of the loss first."""
    names = sorted(logs, key=lambda name: name.removeprefix("val_") != "loss")
    return {name: f"valid_{name[4:]}" if name.startswith("val_") else f"train_{name}" for name in names}


class EpochEnd(keras.callbacks.Callback):
    """Report the logs of each epoch, with what gives the state of the training."""

    def __init__(self, reporter: Reporter, state: Callable[[], Mapping[str, bytes]] | None = None) -> None:
        super().__init__()
        self._reporter, self._state = reporter, state

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        values = {told: float(logs[name]) for name, told in told_names(logs).items()}
        self._reporter.report({"epoch": epoch + 1, **values}, self._state)


def fit_model(
    model: Any,
    train: tuple[Any, ...],
    validation: tuple[Any, ...] | None,
    group: Group,
    *,
    rows_per_rank: Sequence[int],
    batch_size: int,
    epochs: int,
    shuffle: bool,
    drop_last: bool,
    seed: int | None,
    callbacks: Sequence[Any],
    epochs_done: int = 0,
) -> dict[str, list[float]]:
    """Run ``model.fit`` on this worker's rows.

    Parameters
    ----------
    model : keras.Model
        A compiled model; trained in place. Its weights on the first worker are where all workers start.
    train, validation : tuple of (x, y) or (x, y, sample_weight)
        This worker's rows as arrays; x may be a list or dict of arrays.
    group : Group
        The workers of this fit.
    rows_per_rank : sequence of int
        How many rows each of them has; each must have one at least, and rows to validate on when another has.
    batch_size, epochs, shuffle, drop_last, callbacks
        As in Keras; a batch is that of all workers together.
    seed : int or None
        Of the order of the rows, where several workers train or incomplete batches are dropped; otherwise Keras
        shuffles and `keras.utils.set_random_seed` decides.
    epochs_done : int, default=0
        How many of the epochs the model has behind it.

    Returns
    -------
    dict of str to list of float
        The history, averaged over the workers.
    """
    rows = len(train[1])
    options: dict[str, Any] = {
        "epochs": epochs,
        "initial_epoch": epochs_done,
        "verbose": 0,
        "callbacks": list(callbacks),
    }
    if group.size == 1 and not drop_last and not _needs_batches(train):
        x, y, *weight = train
        history = model.fit(
            *(x, y, batch_size),
            **options,
            shuffle=shuffle,
            sample_weight=weight[0] if weight else None,
            validation_data=validation,
        )
        return history.history

    steps = steps_of(rows_per_rank, group.rank, batch_size, drop_last)
    if not shuffle:
        seed = None
    elif seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    batches = make_batches(train, rows, steps, max(epochs - epochs_done, 1), seed)
    group.share_weights(model.variables)
    for generator in seed_variables(model) if group.rank else ():
        generator.assign(generator + group.rank)  # other random numbers on each worker
    options["callbacks"].insert(0, SharedLogs(group, train, validation))
    held_out: Any = validation
    if validation is not None and _needs_batches(validation):
        whole = steps_of([len(validation[1])], 0, batch_size, False)
        held_out = make_batches(validation, len(validation[1]), whole, 1, None)
        # Keras warns of data that ends where nobody told it when.
        held_out = held_out.apply(tf.data.experimental.assert_cardinality(len(whole.sizes)))
    with SummedGradients(model.optimizer, group, steps, getattr(model.loss, "reduction", None) == "sum"):
        history = model.fit(
            batches, shuffle=False, steps_per_epoch=len(steps.sizes), validation_data=held_out, **options
        )
    return history.history


def _needs_batches(arrays: tuple[Any, ...]) -> bool:
    """Whether ``model.fit`` needs batches in place of arrays: of rows that are sparse or on disk, and of float64.

    Keras rounds float64 in arrays.
    """
    inputs = arrays[0]
    if isinstance(inputs, DenseBatches | StreamedInputs):
        return True
    return any(array.dtype == np.float64 for array in tf.nest.flatten(inputs))


def _dense_inputs(batches: DenseBatches, indices: Any) -> Any:
    """The inputs of some rows, as the model takes them."""
    parts = batches.inputs.parts
    made = tf.numpy_function(batches.take, [indices], [tf.as_dtype(part.dtype) for part in parts])
    by_part = dict(zip(parts, made, strict=True))

    def shaped(part: Any) -> Any:
        return tf.ensure_shape(by_part[part], (None, *part.shape))

    return batches.inputs.each(shaped)


def forget_training(model: Any) -> None:
    """Take loss, metrics and optimizer off a model: it only predicts from now on, and its file is small."""
    model.optimizer = None
    model.compiled = False
