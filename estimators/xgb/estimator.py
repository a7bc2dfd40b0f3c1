"""XGBEstimator: gradient boosted trees by xgboost."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.inputs import ColumnSpec
from raydp_ml.estimators.launch import Placement, warm_with_sessions
from raydp_ml.estimators.learnt import Learnt
from raydp_ml.estimators.xgb.actors import in_actors
from raydp_ml.estimators.xgb.backend import XGBBackend
from raydp_ml.estimators.xgb.continuation import booster_of
from raydp_ml.estimators.xgb.fitted import XGBFitted
from raydp_ml.estimators.xgb.fitted_trees import FittedTrees
from raydp_ml.estimators.xgb.metrics import NamedMetric, direction_of, is_of_scikit_learn, with_functions
from raydp_ml.estimators.xgb.params import ALIASES, PARAMETERS, canonical, check_names, is_parameter, task_of
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.registry import open_frame

__all__ = ["XGBEstimator"]

_DEFAULT_OBJECTIVE = {"regression": "reg:squarederror", "ranking": "rank:ndcg"}


def _with_keywords(function: Callable, names: Sequence[str]) -> inspect.Signature:
    """The signature of a function that takes keywords, with these keywords spelt out."""
    signature = inspect.signature(function)
    fixed = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    spelt = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in names
        if not keyword.iskeyword(name)
    ]
    return signature.replace(parameters=[*fixed, *spelt])


class XGBEstimator(FittedTrees):
    """Gradient boosted trees on Spark, Ray and in-memory data.

    Every training parameter of xgboost is taken by its own name as a keyword (``max_depth``, ``eta``, ...), and through
    ``set_params``; a keyword wins over the same parameter in ``params``, and two
    names of one parameter (``eta`` and ``learning_rate``) are one. With one worker the model is the one that
    ``xgboost.train`` makes of the same rows in the same order.

    Parameters
    ----------
    objective : str or callable, optional
        xgboost's learning objective; None: ``binary:logistic``, ``multi:softprob``, ``reg:squarederror`` or ``rank:ndcg``
        by task and labels.
    num_boost_round : int, default=100
        Number of boosting rounds.
    early_stopping_rounds : int, optional
        Stop when the last metric on the validation rows has not improved for so many rounds, and keep the best round.
    maximize : bool, optional
        Whether more of that metric is better; None: what its name tells, and an error where it is a function of yours.
    eval_metric : str, callable or list of these, optional
        Metrics in ``history_``: xgboost's names, functions of xgboost's form (of predictions and a DMatrix, giving a name and a
        value), and metrics of scikit-learn, by the names that :meth:`evaluate` has for them (``"roc_auc"``, ``"log_loss"``, ...) or
        as functions such as ``sklearn.metrics.mean_absolute_error``, which are given probabilities, or labels where they compare
        labels. xgboost's own come first. With several workers those of functions and of scikit-learn are averaged over them.
    params : dict, optional
        xgboost parameters.
    feature_weights : array-like or dict of str to float, optional
        How often each feature is drawn where ``colsample_bytree`` and the like leave some out; features that a dict does not name
        have 1.
    xgb_model : Booster, path or bytearray, optional
        A model that the first fit adds rounds to: ``est.get_booster()``, a saved file, or its bytes.
    qid_column : str, optional
        Query of each row, for ranking: numbers or strings. The rows of a query go to one worker, and a fraction in ``validation``
        is one of queries. Weights are those of queries: the same in all rows of one.
    base_margin_column : str, optional
        Margin that training and predictions start from. Frames to predict have it, too; None in ``set_params`` predicts without.
    backend : {"xgboost", "xgboost-ray"}, default="xgboost"
        What trains: xgboost on Ray Train's workers, or the actors of xgboost-ray, for programs that need its own way:
        docs/xgboost.md.
    enable_categorical : bool, default=False
        Whether columns of categories are features: pandas's category columns, dictionaries of Arrow, and numbers with nominal
        attributes in Spark ML's metadata, such as StringIndexer makes, also inside a vector. Predictions bring categories to
        the codes of training by value; one that training had not is missing, and ``null_features`` says what that means.
    external_memory : bool, default=False
        Whether xgboost keeps the matrix of bins on the worker's disk and reads it there in every round: for rows that do not fit in
        memory even as bins, at one byte for each number. Needs xgboost 3.0, and streams the rows.
    callbacks : list of xgboost.callback.TrainingCallback, optional
        Called after each round; those that xgboost brings are copied for each fit, your own are called themselves.
    class_weight : dict or "balanced", optional
        Weights by class.
    task : {"classification", "regression", "ranking"}, optional
        None: what ``objective`` implies.
    feature_columns : str or list of str, optional
        Feature columns of a frame; None: all numeric and vector columns without another role.
    label_column, weight_column : str, optional
        Columns of a frame. Several label columns make a regression with several outputs.
    validation : float, frame, tuple (X, y) or str, optional
        Rows to validate on: a fraction of the rows, a frame, arrays, or the name of a boolean column.
    prediction_column, probability_column : str
        Columns that predictions are appended as.
    margin_column, leaf_column, contribution_column : str
        Columns that :meth:`predict_margin`, :meth:`apply` and :meth:`predict_contributions` append.
    null_features : {"error", "skip", "null"}, default="error"
        What a null or NaN feature means: an error; the row is left out; xgboost treats it as a missing value.
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
        After how many rounds a checkpoint is written; None: after every ten, 0: never.
    max_retries : int, default=3
        How often training starts again when a worker dies.
    sparse : bool or "auto", default="auto"
        Whether features are read in the sparse layout, in which only what is not zero takes memory, and zero and absent
        are one value. "auto": when X is of scipy.sparse, or a feature is an ML vector of more than 4096 elements.
        xgboost takes that value as missing.
    streaming : bool or "auto", default="auto"
        Whether a worker has its rows on its disk and trains on them in chunks, in bounded memory: docs/training.md.
        "auto": when the rows of a Spark frame or a Ray Dataset would take more memory than a worker may have. Of
        streamed rows the matrix of bins is in memory, or with ``external_memory`` on disk.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present model. It adds ``num_boost_round`` rounds.
    random_state : int, RandomState or None
        Seed of all that is random in training.
    verbose : bool, default=True
        Whether to print how training goes: a line every few rounds.
    **kwargs
        xgboost's training parameters.

    Attributes
    ----------
    model_ : xgboost.Booster
        The fitted model.
    history_ : list of dict
        Metrics after each round, such as ``{"epoch": 1, "train_logloss": 0.6, ...}``.
    classes_ : ndarray
        Labels of a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Feature columns of a frame, and the names that Spark ML gives the elements of a vector: one for each feature, but
        for vectors of more than 4,096 elements.
    feature_importances_ : ndarray
        Mean gain of the splits on each column of the matrix, summing to 1; coefficients of a linear booster.
    best_iteration_, best_score_ : int, float
        The best round, counted from 0, and its metric, after early stopping.

    Examples
    --------
    >>> import numpy as np
    >>> from raydp_ml import XGBEstimator
    >>> X = np.arange(20.0).reshape(-1, 1)
    >>> y = np.where(X[:, 0] < 10, "low", "high")
    >>> est = XGBEstimator(task="classification", num_boost_round=5, max_depth=2, verbose=False).fit(X, y)
    >>> est.predict([[3.0], [17.0]]).tolist()
    ['low', 'high']

    Compressed rows of scipy.sparse train as they are:

    >>> from scipy.sparse import csr_matrix
    >>> rows = csr_matrix(np.eye(20, dtype="float32"))
    >>> est = XGBEstimator(objective="reg:squarederror", num_boost_round=5, min_child_weight=0, verbose=False)
    >>> est.fit(rows, np.arange(20.0)).predict(rows).shape
    (20,)

    A matrix on disk, for rows that memory does not hold:

    >>> est = XGBEstimator(task="classification", num_boost_round=5, external_memory=True, verbose=False).fit(X, y)
    >>> est.predict([[3.0], [17.0]]).tolist()
    ['low', 'high']

    Categories are split into groups of categories, and predictions find them by value:

    >>> import pandas as pd
    >>> city = pd.Series(["Oslo", "Rome", "Bonn", "Rome", "Oslo", "Bonn"] * 5, dtype="category")
    >>> est = XGBEstimator(enable_categorical=True, task="regression", eta=1.0, num_boost_round=1, reg_lambda=0, verbose=False)
    >>> est = est.fit(pd.DataFrame({"city": city}), city.map({"Bonn": 1.0, "Oslo": 2.0, "Rome": 3.0}).astype(float))
    >>> est.predict(pd.DataFrame({"city": ["Rome", "Bonn"]})).round(3).tolist()
    [3.0, 1.0]
    """

    _tasks: ClassVar[tuple[str, ...]] = ("classification", "regression", "ranking")
    _epochs_between_checkpoints: ClassVar[int] = 10  # rounds, which are short

    def __init__(
        self,
        *,
        objective: str | Callable | None = None,
        num_boost_round: int = 100,
        early_stopping_rounds: int | None = None,
        maximize: bool | None = None,
        eval_metric: str | Callable | Sequence | None = None,
        params: dict[str, Any] | None = None,
        feature_weights: Any = None,
        xgb_model: Any = None,
        margin_column: str = "prediction_margin",
        leaf_column: str = "prediction_leaf",
        contribution_column: str = "prediction_contributions",
        qid_column: str | None = None,
        base_margin_column: str | None = None,
        backend: str = "xgboost",
        enable_categorical: bool = False,
        external_memory: bool = False,
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
        **kwargs: Any,
    ) -> None:
        check_names(kwargs, InvalidTypeError, "XGBEstimator")
        self.objective = objective
        self.num_boost_round = num_boost_round
        self.early_stopping_rounds = early_stopping_rounds
        self.maximize = maximize
        self.eval_metric = eval_metric
        self.params = params
        self.feature_weights = feature_weights
        self.xgb_model = xgb_model
        self.margin_column = margin_column
        self.leaf_column = leaf_column
        self.contribution_column = contribution_column
        self.qid_column = qid_column
        self.base_margin_column = base_margin_column
        self.backend = backend
        self.enable_categorical = enable_categorical
        self.external_memory = external_memory
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
        for name, value in canonical(kwargs, type(self).__name__).items():
            setattr(self, name, value)

    # scikit-learn reads the names of all parameters here, and asks for each to be independent of the others: other names of a
    # parameter are taken all the same.
    __init__.__signature__ = _with_keywords(__init__, [name for name in PARAMETERS if name not in ALIASES])  # type: ignore[attr-defined]

    # -- parameters ------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of this estimator, those of xgboost among them under one name each; None stands for xgboost's own default.

        Parameters
        ----------
        deep : bool, default=True
            For scikit-learn; no parameter has parameters of its own.
        """
        return super().get_params(deep=deep)

    def set_params(self, **params: Any) -> XGBEstimator:
        """Set parameters; any training parameter of xgboost is taken by its own name.

        Parameters
        ----------
        **params
            Names and values.
        """
        own = self.get_params(deep=False)
        check_names([name for name in params if name not in own], InvalidValueError, "set_params")
        for name, value in canonical(params, "set_params").items():
            setattr(self, name, value)
        return self

    def _xgboost_params(self) -> dict[str, Any]:
        """Everything for xgboost but objective and metric, keywords over ``params``."""
        given = dict(self.params or {})
        check_names(given, InvalidValueError, "params")
        given.pop("objective", None)
        given.pop("eval_metric", None)
        return canonical(given, "params") | self._keywords()

    def _params_with_one_seed(self) -> dict[str, Any]:
        """Everything for xgboost but objective and metric; ``seed`` is another name of ``random_state``, which stands here."""
        params = self._xgboost_params()
        if self.random_state is not None:
            seed = self._keywords().get("seed")
            if seed is not None and seed != self.random_state:
                raise InvalidValueError(
                    f"random_state={self.random_state!r} and seed={seed!r} are two names of one parameter; give one"
                )
            params.pop("seed", None)
        return params

    def _keywords(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if is_parameter(name) and value is not None}

    def params_to_save(self) -> dict[str, Any]:
        """The estimator's own parameters, and those of xgboost that have a value."""
        own = {name: value for name, value in self.get_params(deep=False).items() if not is_parameter(name)}
        return own | self._keywords()

    def _objective(self) -> Any:
        return self.objective if self.objective is not None else (self.params or {}).get("objective")

    # -- what the base asks for ------------------------------------------------------------------------------------

    def _infer_task(self) -> str | None:
        return task_of(self._objective())

    def _fitted_type(self) -> type[XGBFitted]:
        return XGBFitted

    def _planned_epochs(self) -> int:
        return self.num_boost_round

    def _streaming(self) -> bool | str:
        return True if self.external_memory else self.streaming

    def _extra_roles(self) -> dict[str, str]:
        roles = {"qid": self.qid_column, "base_margin": self.base_margin_column}
        return {role: name for role, name in roles.items() if name is not None}

    def _columns(self) -> ColumnSpec:
        outputs = (self.margin_column, self.leaf_column, self.contribution_column)
        return replace(super()._columns(), further_outputs=outputs, categorical=bool(self.enable_categorical))

    def _validated(self, X: Any, y: Any = "no_validation", **about: Any) -> tuple[np.ndarray, Any, Any]:
        if self._objective() != "survival:aft" or y is None or isinstance(y, str):
            return super()._validated(X, y, **about)
        # scikit-learn refuses infinite labels, and here the upper bound of a time may be infinite.
        features = {name: value for name, value in about.items() if name not in ("multi_output", "y_numeric")}
        X, _, names = super()._validated(X, **features)
        return X, np.asarray(y, np.float64), names

    def _placement(self, distributed: bool, max_retries: int | None) -> Placement:
        placement = super()._placement(distributed, max_retries)
        # Actors of xgboost-ray are started by this process.
        return replace(placement, workers=0) if self.backend == "xgboost-ray" else placement

    def _make_backend(self, task: str, n_classes: int | None) -> XGBBackend:
        xgboost = require("xgboost", "xgboost")
        if self.backend not in ("xgboost", "xgboost-ray"):
            raise InvalidValueError(f"backend={self.backend!r} must be 'xgboost' or 'xgboost-ray'")
        if self.external_memory and self.streaming is False:
            raise InvalidValueError("external_memory=True streams the rows, and streaming=False forbids it")
        if self.external_memory and int(xgboost.__version__.split(".")[0]) < 3:
            raise InvalidValueError(
                f"external_memory=True needs xgboost 3.0 or later, and {xgboost.__version__} is installed; streaming=True keeps "
                "the bins in memory and works with it"
            )
        if self.early_stopping_rounds is not None and self.validation is None:
            raise InvalidValueError("early_stopping_rounds needs validation: give a fraction, a frame or a column name")
        objective = self._objective()
        implied = task_of(objective)
        if implied is not None and implied != task:
            raise InvalidValueError(f"task={task!r} and objective={objective!r} contradict each other")
        if callable(objective) and task == "classification":
            raise InvalidValueError(
                "objective is a function, whose outputs have no known probabilities; use task='regression'"
            )
        if objective is None:
            binary = "binary:logistic" if n_classes == 2 else "multi:softprob"
            objective = _DEFAULT_OBJECTIVE.get(task, binary)
        if n_classes is not None and n_classes > 2 and str(objective).startswith("binary:"):
            raise InvalidValueError(f"objective={objective!r} is for 2 classes, but the label has {n_classes}")
        if objective == "survival:cox" and self._placement(False, None).workers > 1:
            raise InvalidValueError(
                "objective='survival:cox' trains on one worker: xgboost compares all rows with each other in it"
            )
        if self.base_margin_column is not None and ((n_classes or 2) > 2 or self._columns().label[1:]):
            raise InvalidValueError(
                "base_margin_column is one margin for each row; several classes or labels would need one each"
            )
        if task == "ranking" and self.qid_column is None:
            raise InvalidValueError("ranking needs qid_column, the column that says which query a row belongs to")
        params = self._params_with_one_seed()
        metric = self.eval_metric if self.eval_metric is not None else (self.params or {}).get("eval_metric")
        metrics = [] if metric is None else with_functions(metric if isinstance(metric, list | tuple) else [metric])
        names, functions = (
            [item for item in metrics if isinstance(item, str)],
            [item for item in metrics if callable(item)],
        )
        if len(names) + len(functions) != len(metrics):
            raise InvalidTypeError(f"eval_metric={metric!r} must be names of metrics and functions")
        maximize = self.maximize
        if maximize is None and functions:
            functions.sort(key=lambda each: isinstance(each, NamedMetric) or is_of_scikit_learn(each))
            maximize = direction_of(functions[-1])
        if self.early_stopping_rounds is not None and maximize is None and functions:
            raise InvalidValueError(
                f"early_stopping_rounds watches the function {functions[-1]!r}, whose direction cannot be known: give "
                "maximize=True or False"
            )
        if str(objective).startswith("multi:"):
            params["num_class"] = n_classes or 2
        if self.use_gpu:
            params.setdefault("device", "cuda")
        backend = XGBBackend(
            params=params,
            objective=objective,
            metrics=names,
            metric_functions=functions,
            rounds=self.num_boost_round,
            early_stopping_rounds=self.early_stopping_rounds,
            maximize=maximize,
            callbacks=list(self.callbacks or []),
            feature_weights=self.feature_weights,
            start=None if self.xgb_model is None else booster_of(self.xgb_model),
            external_memory=self.external_memory,
            ranking=task == "ranking",
        )
        return in_actors(backend, task, self.get_params(deep=False)) if self.backend == "xgboost-ray" else backend

    # -- predicting ------------------------------------------------------------------------------------------------

    def _learnt_for(self, X: Any) -> Learnt:
        learnt = self._require_learnt()
        if self.base_margin_column is None:
            return learnt
        if X is not None and open_frame(X) is None:
            raise InvalidValueError(
                f"base_margin_column={self.base_margin_column!r} names a column, but X is a {type(X).__name__} without names; "
                "give a frame, or set base_margin_column to None to predict without margins"
            )
        fitted = replace(cast(XGBFitted, learnt.fitted), reads_margin=True)
        return replace(learnt, fitted=fitted, features=(*learnt.features, Feature(self.base_margin_column)))


def _alias(name: str) -> property:
    """Another name of a parameter."""

    def get(self: XGBEstimator) -> Any:
        return getattr(self, name)

    def put(self: XGBEstimator, value: Any) -> None:
        setattr(self, name, value)

    return property(get, put, doc=f"The same parameter as ``{name}``.")


# What an estimator that was not given a parameter has for it.
for _name in PARAMETERS:
    setattr(XGBEstimator, _name, _alias(ALIASES[_name]) if _name in ALIASES else None)


warm_with_sessions(XGBBackend.modules, XGBFitted.modules)
