"""Keras behind the protocol of the estimators: the settings of one fit, and the training of one worker's rows."""

from __future__ import annotations

import logging
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle
import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.callbacks import copy_of_own
from raydp_ml.estimators.protocol import Backend, Job, Reporter, Rows
from raydp_ml.estimators.streamed import StreamedRows
from raydp_ml.estimators.tf.fitted import DenseBatches, Inputs, KerasFitted, check_outputs, plan_inputs, typed
from raydp_ml.estimators.tf.going_on import same_layers, take_weights
from raydp_ml.estimators.tf.model import (
    check_names,
    from_logits,
    import_keras,
    is_function,
    loss_kind,
    make_model,
    open_object,
    pack_model,
    pack_object,
    set_threads,
)
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import is_sparse

if TYPE_CHECKING:
    from raydp_ml.estimators.tf.loop import Group

__all__ = ["KerasBackend"]


@dataclass
class KerasBackend(Backend):
    """Settings of one fit; see `TFEstimator` for what they mean."""

    modules: ClassVar[tuple[str, ...]] = ("raydp_ml.estimators.tf.loop", "raydp_ml.estimators.tf.backend")

    model: Any
    loss: Any
    optimizer: Any = "adam"
    lr: float = 1e-3
    metrics: Any = None
    merge: bool = True
    batch_size: int = 256
    epochs: int = 10
    shuffle: bool = True
    drop_last: bool = False
    stopping: dict[str, Any] | None = None
    callbacks: Any = ()

    def trainer_class(self, workers: int) -> Any:
        """A Ray Train trainer that tells each worker the addresses of all; a single one needs none."""
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        if workers == 1:
            return DataParallelTrainer
        from raydp_ml.estimators.tf.ray_train import AddressBook

        return partial(DataParallelTrainer, backend_config=AddressBook())

    def __getstate__(self) -> dict[str, Any]:
        return {**self._packed().__dict__, "callbacks": _pickled_callbacks(self.callbacks)}

    def _packed(self) -> KerasBackend:
        """This with model, loss, optimizer and metrics as data: copies, received without importing TensorFlow."""
        if isinstance(self.loss, bytes):
            return self
        return replace(
            self,
            model=cloudpickle.dumps(self.model) if is_function(self.model) else pack_model(self.model),
            **{name: cloudpickle.dumps(pack_object(getattr(self, name))) for name in ("loss", "optimizer", "metrics")},
        )

    def train(self, job: Job, reporter: Reporter) -> KerasFitted:
        """Train on one worker's rows."""
        import_keras()
        if job.threads is not None:
            set_threads(job.threads, job.use_gpu)
        from raydp_ml.estimators.tf.loop import Group

        group = Group(job.rank, job.world_size)  # before any other object of TensorFlow is made
        # A training that goes on draws other numbers than it did in its first epochs.
        seed = None if job.seed is None else job.seed + job.rank + job.epochs_done
        with _calm(), _seeded(seed):
            return self._packed()._train(job, reporter, group, seed)

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types of the model's inputs; a function's model is made for that."""
        width = sum(feature.width for feature in features)
        if not width:
            return features
        with _calm():
            model = make_model(self.model, width, 1) if is_function(self.model) else self.model
            return typed(model, features, self.merge)

    def rehearse(self, job: Job) -> None:
        """Make and check model, loss and optimizer, if Keras is at hand here; if not, the workers do it."""
        if "keras" in sys.modules:
            with _calm(), _seeded(job.seed):
                self._packed()._prepare(job)

    def _prepare(self, job: Job) -> tuple[Any, Inputs, tuple[int, ...]]:
        """The compiled model, how it takes the features, and the shape of its output."""
        loss, optimizer, metrics = (
            open_object(pickle.loads(each)) for each in (self.loss, self.optimizer, self.metrics)
        )
        check_names(loss, optimizer, metrics)
        kind = loss_kind(loss)
        model, inputs = self._open_model(job, kind)
        shape = _output_shape(model, inputs.of(job.train.X[:2]))
        check_outputs(shape, kind, job.task, _classes(job), _outputs(job, kind))
        model.compile(
            optimizer=self._make_optimizer(optimizer),
            loss=loss,
            **_metrics_of(metrics, job),
            **_compile_options(job),
        )
        if job.previous is not None:
            _restore_optimizer(model, job.previous.carry)
        return model, inputs, shape

    def _train(self, job: Job, reporter: Reporter, group: Group, seed: int | None) -> KerasFitted:
        from raydp_ml.estimators.tf import checkpoints
        from raydp_ml.estimators.tf import loop as tf_worker
        from raydp_ml.estimators.tf.streamed import StreamedInputs

        model, inputs, shape = self._prepare(job)
        loss, kind = model.loss, loss_kind(model.loss)
        one_hot = shape[-1] if kind == "categorical" else None
        train, validation = job.train, job.validation

        def arrays(rows: Rows) -> tuple[Any, ...]:
            of_rows = partial(_arrays, inputs=inputs, one_hot=one_hot, scale=_scale(rows, loss, group))
            if not isinstance(rows, StreamedRows):
                return of_rows(rows)
            others = (rows.y,) if rows.weight is None else (rows.y, rows.weight)
            return (StreamedInputs(rows, of_rows), *others)

        if train.weight is not None or (validation is not None and validation.weight is not None):
            first = train.read([slice(0, min(2, len(train)))]) if isinstance(train, StreamedRows) else train
            _require_losses_of_rows(model, loss, _arrays(first, inputs, one_hot))
        callbacks = pickle.loads(self.callbacks) if isinstance(self.callbacks, bytes) else self.callbacks
        callbacks = [copy_of_own(each, "keras") for each in callbacks]
        if self.stopping is not None:
            monitor = "val_loss" if job.validation is not None else "loss"
            callbacks.append(tf_worker.Stopping(**{"monitor": monitor, **self.stopping}))
        watched = list(callbacks)
        callbacks.append(tf_worker.EpochEnd(reporter, lambda: checkpoints.state_of(model, watched, job.rank)))
        epochs_done = job.epochs_done
        if job.checkpoint is not None:
            checkpoints.restore(model, job.checkpoint)
            callbacks.append(checkpoints.GoOn(job.checkpoint, watched))
            epochs_done = self.epochs if callbacks[-1].stopped else epochs_done
        tf_worker.fit_model(
            model,
            arrays(train),
            None if validation is None else arrays(validation),
            group,
            rows_per_rank=job.rows_per_rank or (len(job.train),),
            batch_size=self.batch_size,
            epochs=self.epochs,
            epochs_done=epochs_done,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            seed=seed,
            callbacks=callbacks,
        )
        carry = {"optimizer": type(model.optimizer).__name__, "state": _optimizer_state(model.optimizer)}
        tf_worker.forget_training(model)
        return KerasFitted(
            *(pack_model(model), inputs, job.task, _outputs(job, kind), _classes(job), from_logits(loss)),
            carry=carry,
            _opened=model,
        )

    def _open_model(self, job: Job, kind: str | None) -> tuple[Any, Inputs]:
        given = pickle.loads(self.model) if isinstance(self.model, bytes) else self.model
        model = make_model(given, job.train.X.shape[1], _outputs(job, kind))
        inputs = plan_inputs(model, job.features, self.merge)
        if not model.built:
            model(inputs.of(job.train.X[:2]))
            inputs = plan_inputs(model, job.features, self.merge)
        if job.previous is not None:
            trained = job.previous.packed.open()
            if same_layers(trained, model):
                return trained, job.previous.inputs
            take_weights(model, trained)
        return model, inputs

    def _make_optimizer(self, optimizer: Any) -> Any:
        if isinstance(optimizer, type):
            return optimizer(learning_rate=self.lr)
        if not isinstance(optimizer, str):
            return optimizer
        made = import_keras().optimizers.get(optimizer)
        made.learning_rate = self.lr
        return made


def _classes(job: Job) -> int:
    return 0 if job.classes is None else len(job.classes)


def _outputs(job: Job, kind: str | None) -> int:
    """How many outputs a model for this job has."""
    if job.classes is None:
        return 1 if job.train.y.ndim == 1 else job.train.y.shape[1]
    return 1 if kind == "binary" else len(job.classes)


def _arrays(rows: Rows, inputs: Inputs, one_hot: int | None, scale: float | None = None) -> tuple[Any, ...]:
    """Rows as ``fit`` takes them: inputs, labels and, if there are any, weights, which are multiplied by a factor."""
    y = rows.y if rows.y.dtype.kind == "i" else rows.y.astype(np.float32)
    if one_hot is not None:
        y = np.eye(one_hot, dtype=np.float32)[y]
    arrays = (DenseBatches(rows.X, inputs) if is_sparse(rows.X) else inputs.of(rows.X), y)
    if rows.weight is None:
        return arrays
    return (*arrays, rows.weight if scale is None else (rows.weight * scale).astype(np.float32))


def _metrics_of(metrics: Any, job: Job) -> dict[str, Any]:
    """The metrics as ``compile`` takes them: weighted, where rows have weights."""
    sides = (job.train, job.validation)
    weighs = any(side is not None and side.weight is not None for side in sides)
    listed = metrics if metrics is None or isinstance(metrics, list | dict) else [metrics]
    return {"weighted_metrics" if weighs else "metrics": listed}


def _scale(rows: Rows, loss: Any, group: Group) -> float | None:
    """By what the weights of rows are multiplied for their mean over all workers to be 1; None: they stay as they are.

    Keras divides the loss of a batch by its number of rows, whatever their weights: with the mean 1, weights of 2 everywhere are
    no weights, the loss of a full batch is the weighted mean, and that of an epoch, or of all validation rows, is that of all
    its rows. A loss that is a sum stays the weighted sum.
    """
    if rows.weight is None or getattr(loss, "reduction", None) == "sum":
        return None
    total, count = group.sum(np.array([rows.weight.sum(dtype=np.float64), len(rows)])).numpy()
    return None if total == 0 else count / total


def _require_losses_of_rows(model: Any, loss: Any, arrays: tuple[Any, ...]) -> None:
    """Raise for a loss that gives one number for a batch, which Keras would multiply by the sum of the weights."""
    keras = import_keras()
    known = keras.losses.get(loss)
    function = known.call if isinstance(known, keras.losses.Loss) else known
    x, y = (_first_rows(each) for each in arrays[:2])
    predicted = model(x)
    target = keras.ops.convert_to_tensor(y)
    if len(target.shape) == 1 and len(predicted.shape) == 2:
        target = keras.ops.expand_dims(target, -1)
    if not tuple(function(target, predicted).shape):
        raise InvalidValueError(
            "rows have weights, but the loss gives one number for a batch, so they cannot be weighted: let it give the losses of "
            "the rows, or use no weights"
        )


def _first_rows(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        return {name: each[:2] for name, each in arrays.items()}
    return [each[:2] for each in arrays] if isinstance(arrays, list) else arrays[:2]


def _output_shape(model: Any, x: Any) -> tuple[int, ...]:
    outputs = model(x)
    if not hasattr(outputs, "shape"):
        raise InvalidValueError(
            f"the model gives a {type(outputs).__name__} of outputs; TFEstimator trains models that give one: make one of the "
            "output that is to be trained, keras.Model(model.inputs, output)"
        )
    return tuple(outputs.shape)


def _compile_options(job: Job) -> dict[str, Any]:
    # A collective operation cannot be part of a step that XLA compiles, which Keras would choose on a GPU.
    return {"jit_compile": False} if job.world_size > 1 else {}


def _pickled_callbacks(callbacks: Any) -> bytes:
    if isinstance(callbacks, bytes):
        return callbacks
    try:
        return cloudpickle.dumps(list(callbacks))
    except (TypeError, pickle.PicklingError, AttributeError) as error:
        raise InvalidTypeError(
            f"callbacks cannot be pickled, and workers get copies of them: {error}; open files, connections and the like in "
            "on_train_begin"
        ) from error


def _optimizer_state(optimizer: Any) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in optimizer.variables if variable.name != "learning_rate"]


def _restore_optimizer(model: Any, carry: dict[str, Any] | None) -> None:
    """Go on with the momenta of an earlier fit, when the optimizer is of the same kind."""
    optimizer = model.optimizer
    if carry is None or carry["optimizer"] != type(optimizer).__name__:
        return
    optimizer.build(model.trainable_variables)
    variables = [variable for variable in optimizer.variables if variable.name != "learning_rate"]
    if [tuple(variable.shape) for variable in variables] == [state.shape for state in carry["state"]]:
        for variable, state in zip(variables, carry["state"], strict=True):
            variable.assign(state)


@contextmanager
def _calm() -> Iterator[None]:
    """Keep TensorFlow from warning that it traces much: every fit of a small model does."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed Python, numpy and TensorFlow as Keras does it, and give the first two back as they were."""
    if seed is None:
        yield
        return
    before = random.getstate(), np.random.get_state()
    import_keras().utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
