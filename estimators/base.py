"""What the estimators share: parameters checked, data opened, a backend run, predictions in the input's own kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.estimators import inputs, launch
from raydp_ml.estimators.metrics import evaluate_values, score_values
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Backend, Fitted
from raydp_ml.estimators.survey import Survey
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.registry import open_frame
from raydp_ml.persistence.directory import Savable

__all__ = ["EstimatorBase", "NotFittedError"]

_TASKS = ("classification", "regression", "ranking")


class NotFittedError(RaydpMLError, SklearnNotFittedError):
    """The estimator has not been fitted."""


def _classifies(estimator: EstimatorBase) -> bool:
    if estimator._task_or_none() == "classification":
        return True
    raise AttributeError(f"{type(estimator).__name__} has no predict_proba: its task is not classification")


class EstimatorBase(Savable, BaseEstimator):
    """Base of the estimators. A subclass has its own ``__init__`` and the four methods that raise here."""

    _tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    _fitted: Fitted | None = None
    _by_name: bool = True

    # -- what a subclass defines -----------------------------------------------------------------------------------

    def _infer_task(self) -> str | None:
        """The task that loss or objective imply; None when they do not."""
        raise NotImplementedError

    def _make_backend(self, task: str, n_classes: int | None) -> Backend:
        """The backend with this estimator's settings; raises for settings that make no sense together."""
        raise NotImplementedError

    def _fitted_type(self) -> type[Fitted]:
        """The class of the fitted model, which reads itself from a directory."""
        raise NotImplementedError

    def _planned_epochs(self) -> int | None:
        """How many epochs a fit makes at most."""
        return None

    def _extra_roles(self) -> dict[str, str]:
        """Further columns that training reads: ``{"qid": name}`` for example."""
        return {}

    # -- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, resume: bool = False) -> Any:
        """Train on a frame or an array.

        Parameters
        ----------
        X : Spark DataFrame, pandas-on-Spark frame, Ray Dataset, pandas frame, pyarrow Table or array-like
            The rows. Frames carry the label in ``label_column``.
        y : array-like, optional
            The labels of an array or a pandas frame.
        sample_weight : array-like, optional
            Weights of the rows of an array or a pandas frame; for the others name ``weight_column``.
        resume : bool, default=False
            Reserved for going on from the checkpoints of an interrupted run; not possible yet.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, resume=resume, go_on=bool(self.warm_start))

    def fit_features(self, X: Any, y: Any = None, sample_weight: Any = None, *, vector_column: str | None) -> Any:
        """Train as the last step of a pipeline.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        vector_column : str or None
            The last vector column that a step before made. When ``feature_columns`` is None it alone is the features.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, go_on=bool(self.warm_start), vector_column=vector_column)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, classes: Any = None) -> Any:
        """Train on from the present state with more rows.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array-like, optional
            All classes that will ever come, for the first call.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, go_on=True, classes=classes)

    def fit_on_spark(
        self,
        train_df: Any,
        evaluate_df: Any = None,
        fs_directory: str | None = None,
        compression: str | None = None,
        max_retries: int | None = None,
        stop_spark_after_conversion: bool = False,
    ) -> Any:
        """Train on a Spark DataFrame, with RayDP's arguments.

        Parameters
        ----------
        train_df, evaluate_df : Spark DataFrame or pandas-on-Spark frame
            Training rows, and rows to validate on after each epoch.
        fs_directory : str, optional
            Write the rows there as Parquet and train from these files, instead of through the object store.
        compression : str, optional
            Codec of the Parquet files.
        max_retries : int, optional
            In place of the parameter of that name, for this fit.
        stop_spark_after_conversion : bool, default=False
            Stop Spark, and so free its CPUs, before training.

        Returns
        -------
        self
        """
        frames = inputs.cross_for_training(
            [train_df] if evaluate_df is None else [train_df, evaluate_df],
            fs_directory=fs_directory,
            compression=compression,
            stop_spark=stop_spark_after_conversion,
        )
        validation = frames[1] if evaluate_df is not None else self.validation
        return self._fit(
            frames[0], None, None, go_on=bool(self.warm_start), validation=validation, max_retries=max_retries
        )

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        resume: bool = False,
        go_on: bool = False,
        classes: Any = None,
        validation: Any = inputs.UNSET,
        max_retries: int | None = None,
        vector_column: str | None = None,
    ) -> Any:
        if resume:
            raise InvalidValueError(
                "resume=True is not possible yet: no checkpoints are kept; use warm_start or partial_fit"
            )
        task = self._task()
        inputs.check_parameters(self)
        self._make_backend(task, None)  # settings that contradict each other are said before any data is read
        validation = self.validation if validation is inputs.UNSET else validation
        previous = self._fitted if go_on and self.__sklearn_is_fitted__() else None
        indicator = validation if isinstance(validation, str) else None
        opened = inputs.open_training(
            self, X, y, sample_weight, task, indicator, reset=previous is None, vector_column=vector_column
        )
        if previous is not None:
            inputs.check_same_features(self, opened)
        placement, seed = self._placement(opened.data, max_retries), self._seed()

        reads_nulls = self._fitted_type().reads_nulls
        drop_nulls = self.null_features == "skip" or (self.null_features == "null" and not reads_nulls)
        check_nulls = self.null_features == "error"
        classify, here = task == "classification", placement.workers == 0
        train = launch.look(opened.data, classify, drop_nulls, here)
        inputs.check_survey(train.known, check_nulls, "the training data", opened.label_name)
        chosen: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
        held_out = None
        if isinstance(validation, str):
            mask = np.asarray(train.known.validation, bool)
            chosen, held_out = (~mask, mask), train
        elif isinstance(validation, float):
            mask = inputs.validation_mask(train.known, validation, seed)
            chosen, held_out = (~mask, mask), train
        elif validation is not None:
            held_out = launch.look(inputs.open_validation(self, validation, opened, task), classify, drop_nulls, here)
            inputs.check_survey(held_out.known, check_nulls, "validation", opened.label_name)

        known_classes = self._fit_classes(task, train.known, previous, classes)
        plan = launch.Plan(
            backend=self._make_backend(task, None if known_classes is None else len(known_classes)),
            task=task,
            features=opened.features,
            label=type(self).__name__,
            outputs=opened.outputs,
            classes=known_classes,
            class_weight=self._class_weights(known_classes, train.known),
            seed=seed,
            previous=previous,
            verbose=bool(self.verbose),
            epochs=self._planned_epochs(),
        )
        outcome = launch.run(plan, placement, train, held_out, chosen)

        opened.set_attributes(self)
        self._fitted, self._features, self._fitted_task = outcome.fitted, opened.features, task
        self._label_type = opened.label_type(known_classes)
        self._outputs = outcome.fitted.outputs or opened.outputs
        self.history_ = outcome.history
        if known_classes is not None:
            self.classes_ = known_classes
        elif hasattr(self, "classes_"):
            del self.classes_
        return self

    def _fit_classes(self, task: str, known: Survey, previous: Any, classes: Any) -> np.ndarray | None:
        if task != "classification":
            return None
        if previous is not None:
            return self.classes_
        found = known.classes if classes is None else np.unique(np.asarray(classes))
        if found is None or len(found) < 2:
            only = [] if found is None else found.tolist()
            raise InvalidValueError(f"the label has one class only, {only}; a classifier needs at least 2 classes")
        return found

    def _class_weights(self, classes: np.ndarray | None, known: Survey) -> np.ndarray | None:
        class_weight = getattr(self, "class_weight", None)
        if class_weight is None:
            return None
        if classes is None:
            raise InvalidValueError("class_weight has a meaning for classification only; use weight_column")
        if isinstance(class_weight, Mapping):
            unknown = [key for key in class_weight if key not in classes]
            if unknown:
                raise InvalidValueError(
                    f"class_weight names {unknown}, which are not among the classes {classes.tolist()}"
                )
            return np.array([float(class_weight.get(item, 1.0)) for item in classes.tolist()])
        if class_weight != "balanced":
            raise InvalidValueError(f"class_weight={class_weight!r} must be 'balanced', a dict by class, or None")
        counts = np.zeros(len(classes))
        if known.classes is not None and known.class_counts is not None:
            counts[np.searchsorted(classes, known.classes)] = known.class_counts
        return counts.sum() / (len(classes) * np.maximum(counts, 1))

    def _placement(self, data: Arrays | Blocks, max_retries: int | None) -> launch.Placement:
        workers = self.num_workers
        if self.scaling_config is not None:
            asked = getattr(self.scaling_config, "num_workers", None)
            if not isinstance(asked, int):
                raise InvalidTypeError("scaling_config must be a ray.train.ScalingConfig with a number of workers")
            if workers is not None and workers != asked:
                raise InvalidValueError(
                    f"num_workers={workers} and scaling_config.num_workers={asked} differ; give one"
                )
            workers = asked
        if workers is None:
            workers = 0 if isinstance(data, Arrays) else 1
        return launch.Placement(
            workers=workers,
            use_gpu=bool(self.use_gpu),
            resources_per_worker=self.resources_per_worker,
            scaling_config=self.scaling_config,
            run_config=self.run_config,
            storage_path=self.storage_path,
            max_retries=self.max_retries if max_retries is None else max_retries,
        )

    def _seed(self) -> int | None:
        state = self.random_state
        if state is None or isinstance(state, int | np.integer):
            return None if state is None else int(state)
        return int(check_random_state(state).randint(2**31 - 1))

    def _task(self) -> str:
        if self.task is not None and self.task not in self._tasks:
            raise InvalidValueError(f"task={self.task!r} must be one of {', '.join(self._tasks)}, or None")
        task = self._task_or_none()
        if task is None:
            raise InvalidValueError(
                f"{type(self).__name__} cannot tell its task from the other parameters; give "
                + " or ".join(f"task={name!r}" for name in self._tasks)
            )
        return task

    def _task_or_none(self) -> str | None:
        return self.task if self.task is not None else self._infer_task()

    # -- predicting ------------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Predict labels or values.

        Parameters
        ----------
        X : Spark DataFrame, pandas-on-Spark frame, Ray Dataset, pandas frame, pyarrow Table or array-like
            The rows.

        Returns
        -------
        Same kind as X, or numpy.ndarray
            Spark frames, pandas-on-Spark frames and Ray Datasets (computed when they are read) and pyarrow Tables come back
            with the column ``prediction_column`` appended; pandas frames and arrays give an array.
        """
        return self._predict_input(X, "prediction", self.prediction_column)

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Returns
        -------
        Same kind as X, or numpy.ndarray of shape (rows, classes)
            With an array column ``probability_column`` appended where :meth:`predict` appends one.
        """
        return self._predict_input(X, "probability", self.probability_column)

    def _predict_input(self, X: Any, output: str, name: str) -> Any:
        self._require_fitted()
        predictor = self._predictor()
        frame = None if inputs.is_plain_pandas(self, X) else open_frame(X)
        if frame is None:
            return predictor.to_numpy(inputs.check_matrix(self, X), output)
        return frame.with_predictions(predictor, inputs.known_features(self, frame), output, name)

    def _predictor(self) -> Predictor:
        width = sum(feature.width for feature in self._features)
        classes = getattr(self, "classes_", None)
        reads_nulls = self._fitted_type().reads_nulls
        return Predictor(
            self._require_fitted(),
            self._fitted_task,
            width,
            classes,
            self._label_type,
            self._outputs,
            self.null_features,
            reads_nulls,
        )

    def serving_form(self) -> tuple[Predictor, tuple[Feature, ...]]:
        """What predicts without this estimator, and the columns of the matrices that it takes."""
        return self._predictor(), self._features

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy for classification, R2 for regression.

        Parameters
        ----------
        X
            As for :meth:`predict`; a frame carries the labels in ``label_column``.
        y, sample_weight : array-like, optional
            Labels and weights of the rows of an array or a pandas frame.

        Returns
        -------
        float
        """
        labels, values, weight = self._labels_and_predictions(X, y, sample_weight, "prediction")
        return score_values(self._fitted_task, labels, values, weight)

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """Several metrics at once.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`score`.

        Returns
        -------
        dict
            ``accuracy``, ``log_loss`` and ``roc_auc`` for classification, ``r2``, ``rmse`` and ``mae`` for regression.
        """
        self._require_fitted()
        output = "probability" if self._fitted_task == "classification" else "prediction"
        labels, values, weight = self._labels_and_predictions(X, y, sample_weight, output)
        return evaluate_values(self._fitted_task, labels, values, getattr(self, "classes_", None), weight)

    def _labels_and_predictions(
        self, X: Any, y: Any, sample_weight: Any, output: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        self._require_fitted()
        if y is not None:
            labels, weight = np.asarray(y), None if sample_weight is None else np.asarray(sample_weight)
            values = self._predict_input(X, output, self.prediction_column)
            if not isinstance(values, np.ndarray):
                raise InvalidTypeError(f"y was given with a {type(X).__name__}; name its label_column instead")
        else:
            labels, values, weight = inputs.labels_and_predictions(self, X, output)
        rated = ~_missing(values)
        if not rated.all():
            if self.null_features == "error":
                raise InvalidValueError(
                    f"{int((~rated).sum())} of {len(values)} predictions are NaN, which cannot be compared with labels: the model "
                    "has diverged, or its outputs are not finite; train with a smaller learning rate, or scale the features"
                )
            labels, values = labels[rated], values[rated]
            weight = None if weight is None else weight[rated]
        if values.dtype == object and labels.dtype != object:
            values = values.astype(labels.dtype)
        return labels, values, weight

    # -- fitted state ----------------------------------------------------------------------------------------------

    @property
    def model_(self) -> Any:
        """The fitted model as the training library's own object."""
        if self._fitted is None:
            raise AttributeError(f"this {type(self).__name__} has no model_ yet: call fit first")
        return self._fitted.model

    def get_model(self) -> Any:
        """The fitted model as the training library's own object."""
        self._require_fitted()
        return self.model_

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def _require_fitted(self) -> Fitted:
        if self._fitted is None:
            raise NotFittedError(f"This {type(self).__name__} instance is not fitted yet; call fit first")
        return self._fitted

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags

        tags = super().__sklearn_tags__()
        task = self._task_or_none()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = self.null_features in ("skip", "null")
        if task == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        elif task == "regression":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the weights, and return what else was learnt."""
        fitted = self._require_fitted()
        names = ("n_features_in_", "feature_names_in_", "classes_", "history_")
        return {
            "task": self._fitted_task,
            "features": [[feature.name, feature.width] for feature in self._features],
            "label_type": None if self._label_type is None else str(self._label_type),
            "by_name": self._by_name,
            "outputs": self._outputs,
            "attributes": {name: getattr(self, name) for name in names if hasattr(self, name)},
            "weights": fitted.write(path),
        }

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over what was learnt."""
        given = model if model is not None else getattr(self, "model", None)
        self._fitted = self._fitted_type().read(path, state["weights"], model=given)
        self._fitted_task, self._by_name, self._outputs = state["task"], state["by_name"], state["outputs"]
        self._features = tuple(Feature(name, width) for name, width in state["features"])
        self._label_type = None if state["label_type"] is None else pa.type_for_alias(state["label_type"])
        for name, value in state["attributes"].items():
            setattr(self, name, value)


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif values.dtype == object:
        missing = np.frompyfunc(lambda item: item is None or item != item, 1, 1)(values).astype(bool)
    else:
        missing = np.zeros(values.shape, bool)
    return missing.any(axis=1) if missing.ndim == 2 else missing
