"""TFEstimator: Keras models on TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.estimators.callbacks import EarlyStopping, early_stopping_of
from raydp_ml.estimators.launch import warm_with_sessions
from raydp_ml.estimators.tf.backend import KerasBackend
from raydp_ml.estimators.tf.fitted import KerasFitted
from raydp_ml.estimators.tf.model import check_names, is_function, loss_task

__all__ = ["TFEstimator"]


class TFEstimator(EstimatorBase):
    """A Keras 3 model on Spark, Ray and in-memory data.

    With one worker, training is ``model.fit`` of plain Keras on the same rows in the same order. With several, each worker
    runs ``model.fit`` on its part of the rows and the gradients are summed over the workers at every step, so that all of
    them hold the same weights; metrics in the history are averages over the workers. Weights of rows are divided by their mean
    first, so that only their proportions count.

    Parameters
    ----------
    model : keras.Model or callable
        A Keras model, which is copied and never changed; or a class or function that makes one, called without arguments or
        with ``n_features`` and ``n_outputs`` where it names them. A model instance with layers of your own can be cloned by
        scikit-learn only if they are registered (``keras.saving.register_keras_serializable``); a function always can.
        Without an Input layer the model gets its width from the data.
    loss : str, keras.losses.Loss or callable
        What to minimise. A loss of your own needs ``task``; for classification it is given class numbers, and the model must
        give probabilities.
    optimizer : str, keras.optimizers.Optimizer or its class, default="adam"
        A name or a class is made with ``lr``; an instance is copied, with its own learning rate.
    lr : float, default=1e-3
        Learning rate, for an optimizer given by name or class.
    metrics : str, keras.metrics.Metric, or a list of these, optional
        Further metrics in ``history_``, of the rows with their weights; on training rows ``class_weight`` is in them.
    merge_feature_columns : bool, default=True
        Give the model all features as one matrix. False: each feature column is an input of its own, by name when the inputs
        are called like the columns, otherwise in order. An input whose dtype is an integer or float64 gets its columns in that
        type, ids of 64 bits included.
    batch_size : int, default=256
        Rows in a step, of all workers together.
    num_epochs : int, default=10
        Passes over the rows.
    shuffle : bool, default=True
        Whether to take the rows of a worker in another order in each epoch.
    drop_last : bool, default=False
        Whether to leave out the rows at the end of an epoch that do not fill a batch.
    early_stopping : int, dict or EarlyStopping, optional
        Epochs without improvement after which to stop, or more about it: see :class:`raydp_ml.EarlyStopping`.
    callbacks : list of keras.callbacks.Callback, optional
        Called on every worker, as copies, with logs that are averaged over all workers; in this process your own are called
        themselves, and those that Keras brings are copied for each fit.
    class_weight : dict or "balanced", optional
        Weights by class.
    task : {"classification", "regression"}, optional
        None: what ``loss`` implies.
    feature_columns : str or list of str, optional
        Feature columns of a frame; None: all numeric and vector columns without another role.
    label_column, weight_column : str, optional
        Columns of a frame. Several label columns make a regression with several outputs.
    validation : float, frame, tuple (X, y) or str, optional
        Rows to validate on: a fraction of the rows, a frame, arrays, or the name of a boolean column.
    prediction_column, probability_column : str
        Columns that predictions are appended as.
    null_features : {"error", "skip", "null"}, default="error"
        What a null or NaN feature means: an error; the row is left out; training leaves it out and its prediction is
        null.
    num_workers : int, optional
        Number of Ray Train workers, 0 for this process. None: this process for arrays, pandas and pyarrow, one worker
        for Spark frames and Ray Datasets.
    use_gpu : bool, default=False
        Train on GPUs.
    resources_per_worker : dict, optional
        Ray resources of each worker, which uses as many threads as it has CPUs. One with several GPUs becomes as many
        workers.
    scaling_config, run_config : optional
        Ray Train's own configuration, for training on workers. FailureConfig and CheckpointConfig of the latter say how
        often workers start again, and which checkpoints stay.
    storage_path : str, optional
        Where checkpoints are kept: a path that all workers see, or a URI that pyarrow.fs understands. A worker that
        dies goes on from the last one, and so does ``fit(..., resume=True)`` in a new process. None: there are none.
    checkpoint_every : int, optional
        After how many epochs a checkpoint is written; None: after each one, 0: never.
    max_retries : int, default=3
        How often training starts again when a worker dies.
    sparse : bool or "auto", default="auto"
        Whether features are read in the sparse layout, in which only what is not zero takes memory, and zero and absent
        are one value. "auto": when X is of scipy.sparse, or a feature is an ML vector of more than 4096 elements. The
        model gets dense rows, made batch by batch.
    streaming : bool or "auto", default="auto"
        Whether a worker has its rows on its disk and trains on them in chunks, in bounded memory: docs/training.md.
        "auto": when the rows of a Spark frame or a Ray Dataset would take more memory than a worker may have.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present model.
    random_state : int, RandomState or None
        Seed of all that is random in training. It is set as ``keras.utils.set_random_seed`` does.
    verbose : bool, default=True
        Whether to print how training goes: a line per epoch.

    Attributes
    ----------
    model_ : keras.Model
        The trained model, not compiled.
    history_ : list of dict
        Loss and metrics after each epoch, such as ``{"epoch": 1, "train_loss": 0.6, "valid_loss": 0.7, ...}``.
    classes_ : ndarray
        Labels of a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Feature columns of a frame, and the names that Spark ML gives the elements of a vector: one for each feature, but
        for vectors of more than 4,096 elements.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from raydp_ml import TFEstimator
    >>> X = np.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
    >>> y = np.where(X[:, 0] < 0, "low", "high")
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    >>> est = TFEstimator(model, loss="binary_crossentropy", lr=0.1, batch_size=8, random_state=0, verbose=False)
    >>> est.fit(X, y).predict([[-0.9], [0.9]]).tolist()
    ['low', 'high']
    """

    def __init__(
        self,
        model: Any,
        *,
        loss: Any,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        metrics: Any = None,
        merge_feature_columns: bool = True,
        batch_size: int = 256,
        num_epochs: int = 10,
        shuffle: bool = True,
        drop_last: bool = False,
        early_stopping: Any = None,
        callbacks: Sequence[Any] | None = None,
        class_weight: dict[Any, float] | str | None = None,
        task: str | None = None,
        feature_columns: Sequence[str] | str | None = None,
        label_column: Sequence[str] | str | None = None,
        weight_column: str | None = None,
        validation: Any = None,
        prediction_column: str = "prediction",
        probability_column: str = "probability",
        null_features: str = "error",
        num_workers: int | None = None,
        use_gpu: bool = False,
        resources_per_worker: dict[str, float] | None = None,
        scaling_config: Any = None,
        run_config: Any = None,
        storage_path: str | None = None,
        checkpoint_every: int | None = None,
        max_retries: int = 3,
        sparse: bool | str = "auto",
        streaming: bool | str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = True,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.metrics = metrics
        self.merge_feature_columns = merge_feature_columns
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.early_stopping = early_stopping
        self.callbacks = callbacks
        self.class_weight = class_weight
        self.task = task
        self.feature_columns = feature_columns
        self.label_column = label_column
        self.weight_column = weight_column
        self.validation = validation
        self.prediction_column = prediction_column
        self.probability_column = probability_column
        self.null_features = null_features
        self.num_workers = num_workers
        self.use_gpu = use_gpu
        self.resources_per_worker = resources_per_worker
        self.scaling_config = scaling_config
        self.run_config = run_config
        self.storage_path = storage_path
        self.checkpoint_every = checkpoint_every
        self.max_retries = max_retries
        self.sparse = sparse
        self.streaming = streaming
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _infer_task(self) -> str | None:
        return None if self.loss is None else loss_task(self.loss)

    def _fitted_type(self) -> type[KerasFitted]:
        return KerasFitted

    def _planned_epochs(self) -> int:
        return self.num_epochs

    def _make_backend(self, task: str, n_classes: int | None) -> KerasBackend:
        if not is_function(self.model) and not _is_keras(self.model, "Model"):
            raise InvalidTypeError(
                f"model is a {type(self.model).__name__}; give a Keras model, or a function without arguments that makes one"
            )
        implied = self._infer_task()
        if implied is not None and implied != task:
            raise InvalidValueError(f"task={task!r} and loss={self.loss!r} contradict each other")
        if not isinstance(self.lr, Real) or isinstance(self.lr, bool):
            raise InvalidTypeError(f"lr={self.lr!r} must be a number; a schedule goes into an optimizer instance")
        if not self.lr > 0:
            raise InvalidValueError(f"lr={self.lr!r} must be above 0")
        callbacks = self._checked_callbacks()
        if "keras" in sys.modules:  # otherwise the worker finds out, and this process need not load TensorFlow for it
            check_names(self.loss, self.optimizer, self.metrics)
        return KerasBackend(
            model=self.model,
            loss=self.loss,
            optimizer=self.optimizer,
            lr=float(self.lr),
            metrics=self.metrics,
            merge=self.merge_feature_columns,
            batch_size=self.batch_size,
            epochs=self.num_epochs,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            stopping=self._stopping(),
            callbacks=callbacks,
        )

    def _checked_callbacks(self) -> list[Any]:
        if self.callbacks is not None and (
            isinstance(self.callbacks, Mapping) or not isinstance(self.callbacks, Sequence)
        ):
            raise InvalidTypeError(f"callbacks={self.callbacks!r} must be a list of keras.callbacks.Callback")
        for callback in self.callbacks or ():
            if not _is_keras(callback, "Callback"):
                raise InvalidTypeError(
                    f"callbacks holds a {type(callback).__name__}; it must hold keras.callbacks.Callback"
                )
        return list(self.callbacks or ())

    def _stopping(self) -> dict[str, Any] | None:
        """What ``early_stopping`` says, as arguments of Keras's early stopping."""
        rule = early_stopping_of(self.early_stopping)
        if rule is None:
            return None
        if not isinstance(rule, EarlyStopping):
            raise InvalidTypeError(
                f"early_stopping is a {type(rule).__name__}; Keras needs a patience, a dict or an EarlyStopping"
            )
        settings = {
            "patience": rule.patience,
            "min_delta": rule.min_delta,
            "mode": "max" if rule.greater_is_better else "min",
        }
        if rule.monitor is not None:
            side, _, name = rule.monitor.partition("_")
            settings["monitor"] = f"val_{name}" if side == "valid" else name if side == "train" else rule.monitor
        return {**settings, "restore_best_weights": rule.restore_best}


def _is_keras(thing: Any, name: str) -> bool:
    """Whether something is a Keras object of this kind; Keras need not be imported to see that it is not."""
    return any(base.__name__ == name and base.__module__.split(".")[0] == "keras" for base in type(thing).__mro__)


warm_with_sessions(KerasBackend.modules, KerasFitted.modules)
