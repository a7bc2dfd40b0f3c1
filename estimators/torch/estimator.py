"""TorchEstimator: PyTorch models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.estimators.callbacks import Callback, early_stopping_of
from raydp_ml.estimators.inputs import ColumnSpec, shape_of
from raydp_ml.estimators.launch import warm_with_sessions
from raydp_ml.estimators.tasks import CUSTOM, MULTILABEL
from raydp_ml.estimators.torch.backend import TorchBackend
from raydp_ml.estimators.torch.fitted import TorchFitted
from raydp_ml.estimators.torch.losses import ModelOutput, build_loss, kind_of, takes_several_labels, task_of_loss
from raydp_ml.estimators.torch.metrics import metrics_of
from raydp_ml.estimators.torch.skorch_nets import NetParameters, is_net, make_net, parameters_of, split_rows

__all__ = ["TorchEstimator"]


class TorchEstimator(EstimatorBase):
    """A PyTorch model on Spark, Ray and in-memory data.

    A ``forward`` of one argument is given one float32 matrix whose columns are the features in order; a model with embeddings
    takes the columns that hold indices out of it (``x[:, 0].long()``, exact up to 16,777,216). A ``forward`` of several
    arguments is given the columns of their names, and as its first argument, where no column has its name, the matrix of the
    others; such columns, and those that ``feature_types`` names, keep their own type from the frame to ``forward``, ids of 64 bits
    included. Several workers train with DistributedDataParallel.

    Parameters
    ----------
    model : torch.nn.Module, class, callable or skorch.NeuralNet
        The model, which is copied and never changed; or a class or function that makes one, called with ``model_params``, and with
        ``n_features`` and ``n_outputs`` where it names them. A skorch net says with its own parameters how it is trained.
    loss : str, class, torch.nn.Module or callable, optional
        ``"BCEWithLogitsLoss"``, ``torch.nn.MSELoss``, an object, or a function of outputs and targets, and of the model's
        inputs where it has a third argument. With ``BCEWithLogitsLoss`` and ``BCELoss`` the model has one output (one for each
        label where rows have several), with ``CrossEntropyLoss`` and ``NLLLoss`` one for each class. A function of yours is given
        all that ``forward`` gives. None only for a skorch net, which has a criterion.
    model_params : dict, optional
        Arguments by name for the class or function that makes the model. A function of one argument, ``config``, gets them as one
        dict, as RayDP's creators do.
    model_output : int, str or callable, optional
        Which is the prediction, where ``forward`` gives a tuple or a dict: a place or a key. None: the only tensor. A function
        makes the prediction of what ``forward`` gives, a number or as many numbers for each row; the loss is given what
        ``forward`` gives.
    optimizer : str, class, callable or torch.optim.Optimizer, default="adam"
        A name, a class, a function of the parameters, or an optimizer of the model's parameters, which is made anew for the
        copy that is trained, with its groups, their learning rates and what it has gathered. LBFGS computes the loss of a batch
        several times in a step.
    lr : float, default=1e-3
        Learning rate, for an optimizer given by name or class.
    lr_scheduler : str, class, callable or scheduler, optional
        ``"cosine"`` or another class of torch.optim.lr_scheduler, by name or as it is, which is told how often it will step
        (``T_max``, ``total_steps``, ``total_iters``, ``T_0``) and the learning rate (``max_lr``); a function of the optimizer; or
        a scheduler of the optimizer given.
    scheduler_step_freq : {"epoch", "batch"}, default="epoch"
        Whether the scheduler steps after each epoch or after each step of the optimizer.
    scheduler_monitor : str, optional
        The metric that ReduceLROnPlateau looks at; None: ``valid_loss``, or ``train_loss`` when nothing is held out.
    accumulate_batches : int, default=1
        How many batches make one step of the optimizer, whose gradient is that of one batch of all their rows.
    max_grad_norm, max_grad_value : float, optional
        The largest norm of all gradients together, and the largest absolute value of each, before a step.
    precision : {"float32", "bf16", "fp16"}, default="float32"
        In which type the model computes where torch's autocast allows it. Weights and loss stay float32; with ``"fp16"`` the loss
        is scaled so that small gradients do not vanish.
    compile : bool or dict, default=False
        Whether to train with ``torch.compile``, or its arguments.
    loop : class, optional
        A subclass of :class:`raydp_ml.estimators.torch.TrainingLoop`, which trains in its place.
    metrics : list or dict, optional
        ``"accuracy"``, ``"roc_auc"``, ``"log_loss"``, ``"r2"``, ``"mean_squared_error"``, ``"root_mean_squared_error"``,
        ``"mean_absolute_error"`` (``"auc"``, ``"mse"`` and ``"mae"`` are short forms), or functions of labels and predictions
        (probabilities for classification). Those that take
        ``sample_weight`` are given the weights of the rows, on the training rows with ``class_weight`` in them.
        Objects and names of torchmetrics, too (``raydp-ml[torchmetrics]``). They see the rows of all workers.
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
    callbacks : list of Callback, optional
        See :mod:`raydp_ml.estimators.callbacks`.
    class_weight : dict or "balanced", optional
        Weights by class.
    feature_types : dtype, list, dict or torch.sparse_csr, optional
        One dtype for the matrix; a list with one for each column, of which the matrix gets the common one; or a dict: the
        columns named are given to ``forward`` as arguments of their own names and types, after the matrix of the others, which
        is float32. Integers cross as 64 bits, ``float64`` as it is; numbers with a fraction lose it in an integer column. A
        ``forward`` of several arguments is given the columns of their names without it: int64 where they are integers, float32
        otherwise. ``torch.sparse_csr``: ``forward`` is given rows of the sparse layout as a sparse tensor.
    label_type : dtype, optional
        Type of the targets, where the loss needs another than the usual one.
    task : {"classification", "multilabel", "regression", "custom"}, optional
        None: what ``loss`` implies; ``"multilabel"`` with ``BCEWithLogitsLoss`` or ``BCELoss`` where rows have several labels, each
        0 or 1; ``"custom"`` where the loss implies nothing and ``model_output`` is a function, whose numbers ``predict`` gives as
        they are.
    feature_columns : str or list of str, optional
        Feature columns of a frame; None: all numeric and vector columns without another role.
    label_column, weight_column : str, optional
        Columns of a frame. Several label columns make a regression with several outputs. With a loss of labels that are
        0 or 1, they are several labels of a row.
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
    threads : int, optional
        Threads of torch on each worker; None: as many as the worker has CPUs, in this process as many as torch uses there.
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
        model gets dense rows, made batch by batch, or sparse ones (``feature_types``).
    streaming : bool or "auto", default="auto"
        Whether a worker has its rows on its disk and trains on them in chunks, in bounded memory: docs/training.md.
        "auto": when the rows of a Spark frame or a Ray Dataset would take more memory than a worker may have.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present model.
    random_state : int, RandomState or None
        Seed of all that is random in training. That is the shuffling, weights that a class or function initialises, and
        dropout.
    verbose : bool, default=True
        Whether to print how training goes: a line per epoch.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fitted model.
    history_ : list of dict
        Loss and metrics of each epoch, such as ``{"epoch": 1, "train_loss": 0.6, ...}``.
    classes_ : ndarray
        Labels of a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Feature columns of a frame, and the names that Spark ML gives the elements of a vector: one for each feature, but
        for vectors of more than 4,096 elements.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from raydp_ml import TorchEstimator
    >>> X = np.linspace(-1, 1, 40, dtype="float32").reshape(-1, 1)
    >>> y = np.where(X[:, 0] < 0, "low", "high")
    >>> est = TorchEstimator(
    ...     torch.nn.Linear(1, 2), loss="CrossEntropyLoss", lr=0.1, num_epochs=20, random_state=0, verbose=False
    ... )
    >>> est.fit(X, y).predict([[-0.9], [0.9]]).tolist()
    ['low', 'high']

    Rows on the worker's disk, which train in chunks:

    >>> est.set_params(streaming=True).fit(X, y).predict([[-0.9], [0.9]]).tolist()
    ['low', 'high']
    """

    _tasks: ClassVar[tuple[str, ...]] = ("classification", MULTILABEL, "regression", CUSTOM)

    def __init__(
        self,
        model: Any,
        *,
        loss: Any = None,
        model_params: Mapping[str, Any] | None = None,
        model_output: ModelOutput = None,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        lr_scheduler: Any = None,
        scheduler_step_freq: str = "epoch",
        scheduler_monitor: str | None = None,
        accumulate_batches: int = 1,
        max_grad_norm: float | None = None,
        max_grad_value: float | None = None,
        precision: str = "float32",
        compile: bool | dict[str, Any] = False,
        loop: Any = None,
        metrics: Any = None,
        batch_size: int = 256,
        num_epochs: int = 10,
        shuffle: bool = True,
        drop_last: bool = False,
        early_stopping: Any = None,
        callbacks: Sequence[Callback] | None = None,
        class_weight: dict[Any, float] | str | None = None,
        feature_types: Any = None,
        label_type: Any = None,
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
        threads: int | None = None,
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
        self.model_params = model_params
        self.model_output = model_output
        self.optimizer = optimizer
        self.lr = lr
        self.lr_scheduler = lr_scheduler
        self.scheduler_step_freq = scheduler_step_freq
        self.scheduler_monitor = scheduler_monitor
        self.accumulate_batches = accumulate_batches
        self.max_grad_norm = max_grad_norm
        self.max_grad_value = max_grad_value
        self.precision = precision
        self.compile = compile
        self.loop = loop
        self.metrics = metrics
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.early_stopping = early_stopping
        self.callbacks = callbacks
        self.class_weight = class_weight
        self.feature_types = feature_types
        self.label_type = label_type
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
        self.threads = threads
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

    # -- skorch's nets ---------------------------------------------------------------------------------------------

    def to_skorch(self) -> Any:
        """The fitted model as a skorch net, which predicts, trains on and is saved as skorch's own are.

        Returns
        -------
        skorch.NeuralNet
            A net like the one given as ``model``; otherwise a ``NeuralNetRegressor``, ``NeuralNetClassifier``,
            ``NeuralNetBinaryClassifier`` (one output) or ``NeuralNet`` (a loss of yours, several labels). As always with
            skorch, rows are float32, targets of a regression have two dimensions, and classes are numbers from 0 on.

        Examples
        --------
        >>> import numpy as np, torch
        >>> from raydp_ml import TorchEstimator
        >>> X = np.linspace(-1, 1, 40, dtype="float32")[:, None]
        >>> est = TorchEstimator(torch.nn.Linear(1, 1), loss="mse", num_epochs=2, verbose=False).fit(X, 2 * X[:, 0])
        >>> net = est.to_skorch()
        >>> bool(np.allclose(net.predict(X)[:, 0], est.predict(X)))
        True
        """
        fitted = cast(TorchFitted, self._require_learnt().fitted)
        return make_net(self, fitted.module, fitted.kind, fitted.task, fitted.optimizer_state)

    def _said_by_net(self) -> NetParameters | None:
        """What a skorch net given as the model says; None for other models."""
        if not is_net(self.model):
            return None
        defaults = {name: each.default for name, each in inspect.signature(TorchEstimator).parameters.items()}
        return parameters_of(self.model, self.get_params(deep=False), defaults)

    def _fit(self, X: Any, y: Any, sample_weight: Any, **about: Any) -> Any:
        said = self._said_by_net()
        if said is None:
            return super()._fit(X, y, sample_weight, **about)
        about["go_on"] = about["go_on"] or said.settings["warm_start"]
        if said.classes is not None:
            about.setdefault("classes", said.classes)
        if said.split is not None:
            if isinstance(X, np.ndarray) and y is not None and sample_weight is None and len(X) == len(y):
                X, y, said.settings["validation"] = split_rows(said.split, X, np.asarray(y))
            else:
                said.settings["validation"] = said.fraction
        plain = type(self)(**{**self.get_params(deep=False), **said.settings})
        plain._learnt = self._learnt
        plain._fit(X, y, sample_weight, **about)
        self.__dict__.update({name: value for name, value in vars(plain).items() if name not in plain.get_params()})
        return self

    # -- what the base asks for ------------------------------------------------------------------------------------

    def _infer_task(self) -> str | None:
        said = self._said_by_net()
        loss = self.loss if said is None else said.settings["loss"]
        if said is not None and said.settings["task"] is not None:
            return said.settings["task"]
        several = not isinstance(self.label_column, str | None) and len(self.label_column) > 1
        if several and takes_several_labels(loss):
            return MULTILABEL
        return task_of_loss(loss) or (CUSTOM if callable(self.model_output) else None)

    def _task_of_fit(self, y: Any) -> str:
        task = self._task()
        shape = shape_of(y)
        several = len(shape) == 2 and shape[1] > 1
        return MULTILABEL if several and task == "classification" and takes_several_labels(self.loss) else task

    def _fitted_type(self) -> type[TorchFitted]:
        return TorchFitted

    def _columns(self) -> ColumnSpec:
        columns = super()._columns()
        if type(self.feature_types).__name__ != "layout":  # asked without importing torch
            return columns
        if self.sparse is False:
            raise InvalidValueError(
                f"feature_types={self.feature_types} is the layout of sparse rows, but sparse=False; leave one of them out"
            )
        return replace(columns, sparse=True)

    def names_of_model(self) -> Any:
        """The arguments of ``forward`` where columns reach it by name."""
        require("torch", "torch")
        from raydp_ml.estimators.torch.arguments import columns_named_by

        said = self._said_by_net()
        about = vars(self) if said is None else said.settings
        return columns_named_by(about["model"], about.get("model_params"))

    def _planned_epochs(self) -> int:
        return self.num_epochs

    def _make_backend(self, task: str, n_classes: int | None) -> TorchBackend:
        require("torch", "torch")
        said = self._said_by_net()
        if said is not None:
            plain = type(self)(**{**self.get_params(deep=False), **said.settings})
            return plain._make_backend(task, n_classes)
        from raydp_ml.estimators.torch.checks import check_training, compile_arguments, loop_of
        from raydp_ml.estimators.torch.model_inputs import as_dtype
        from raydp_ml.estimators.torch.models import check_model
        from raydp_ml.estimators.torch.optimizers import pack_optimizer
        from raydp_ml.estimators.torch.schedulers import SchedulerSettings, pack_scheduler
        from raydp_ml.estimators.torch.settings import Settings

        check_model(self.model)
        check_training(self.get_params(deep=False))
        if self.loss is None:
            raise InvalidValueError("loss is not given: name it, for example loss='CrossEntropyLoss' or loss='MSELoss'")
        implied = task_of_loss(self.loss)
        if task == MULTILABEL and takes_several_labels(self.loss):
            implied = MULTILABEL
        if task != CUSTOM and implied not in (None, task):
            raise InvalidValueError(f"task={task!r} and loss={self.loss!r} contradict each other")
        callbacks = list(self.callbacks or [])
        wrong = [item for item in callbacks if not isinstance(item, Callback)]
        if wrong:
            raise InvalidTypeError(f"callbacks holds {wrong}, which are not raydp_ml.estimators.callbacks.Callback")
        stopping = early_stopping_of(self.early_stopping)
        settings = Settings(
            model=self.model,
            optimizer=pack_optimizer(self.optimizer, float(self.lr), self.model),
            loss=build_loss(self.loss),
            kind=kind_of(self.loss),
            loop=loop_of(self.loop),
            model_params=self.model_params,
            model_output=self.model_output,
            scheduler=SchedulerSettings(
                recipe=pack_scheduler(self.lr_scheduler, self.optimizer),
                every_batch=self.scheduler_step_freq == "batch",
                monitor=self.scheduler_monitor,
            ),
            metrics=metrics_of(self.metrics),
            batch_size=self.batch_size,
            epochs=self.num_epochs,
            shuffle=bool(self.shuffle),
            drop_last=bool(self.drop_last),
            accumulate=self.accumulate_batches,
            max_grad_norm=self.max_grad_norm,
            max_grad_value=self.max_grad_value,
            precision=self.precision,
            compile=compile_arguments(self.compile),
            callbacks=tuple(callbacks if stopping is None else [*callbacks, stopping]),
            feature_types=self.feature_types,
            label_type=None if self.label_type is None else as_dtype(self.label_type, "label_type"),
            threads=self.threads,
        )
        return TorchBackend(settings)


warm_with_sessions(TorchBackend.modules, TorchFitted.modules)
