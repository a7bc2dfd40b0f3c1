"""What the estimators share: parameters checked, data opened, a backend run, predictions in the input's own kind."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from raydp_ml import progress
from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.estimators.checkpoints import CheckpointSettings, checkpoint_settings
from raydp_ml.estimators.checks import check_parameters
from raydp_ml.estimators.fit_on_spark import cross_for_training
from raydp_ml.estimators.fitting import FitSettings, fit
from raydp_ml.estimators.inputs import ColumnSpec
from raydp_ml.estimators.launch import Placement
from raydp_ml.estimators.learnt import ATTRIBUTES, Learnt
from raydp_ml.estimators.metrics import evaluate_values, score_values
from raydp_ml.estimators.predicting import (
    LabelledPredictions,
    check_matrix,
    features_of,
    frame_of,
    label_and_predict,
    rated,
    weights_of,
    with_weights,
)
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Backend, Fitted
from raydp_ml.estimators.tasks import predicts_probabilities, with_tags_of_task
from raydp_ml.frames.columns import Feature, Selection
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.registry import open_frame
from raydp_ml.persistence.directory import Savable

__all__ = ["EstimatorBase", "NotFittedError"]

# A parameter of the estimator, where a fit was given nothing else.
_AS_SET: Any = object()


class NotFittedError(RaydpMLError, SklearnNotFittedError):
    """The estimator has not been fitted."""


def _classifies(estimator: EstimatorBase) -> bool:
    if predicts_probabilities(estimator.inferred_task()):
        return True
    raise AttributeError(f"{type(estimator).__name__} has no predict_proba: its task is not classification")


class EstimatorBase(Savable, BaseEstimator):
    """Base of the estimators. A subclass has its own ``__init__`` and the four methods that raise here."""

    _tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    # After how many epochs there is a checkpoint, where checkpoint_every does not say it.
    _epochs_between_checkpoints: ClassVar[int] = 1

    _learnt: Learnt | None = None

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

    def _streaming(self) -> bool | str:
        """Whether rows are trained on in chunks: the parameter, unless another one implies it."""
        return self.streaming

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
            Whether to go on from the last checkpoint in ``storage_path`` that an interrupted fit has left there, in this process or
            in another one; from the start where there is none. One of a fit with other parameters or rows is an error.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, go_on=bool(self.warm_start), resume=resume)

    def fit_features(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, vector_column: str | None, resume: bool = False
    ) -> Any:
        """Train as the last step of a pipeline.

        Parameters
        ----------
        X, y, sample_weight, resume
            As for :meth:`fit`.
        vector_column : str or None
            The last vector column that a step before made. When ``feature_columns`` is None it alone is the features.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, go_on=bool(self.warm_start), vector_column=vector_column, resume=resume)

    def check_resume(self) -> None:
        """Raise when a fit with these parameters has no place for checkpoints to go on from."""
        self._checkpoints(seed=None, resume=True)

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
        frames = cross_for_training(
            [train_df] if evaluate_df is None else [train_df, evaluate_df],
            fs_directory=fs_directory,
            compression=compression,
            stop_spark=stop_spark_after_conversion,
        )
        return self._fit(
            frames[0],
            None,
            None,
            go_on=bool(self.warm_start),
            validation=_AS_SET if evaluate_df is None else frames[1],
            max_retries=max_retries,
        )

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        go_on: bool,
        classes: Any = None,
        validation: Any = _AS_SET,
        max_retries: int | None = None,
        vector_column: str | None = None,
        resume: bool = False,
    ) -> Any:
        task, seed = self._task_of_fit(y), self._seed()
        check_parameters(self.get_params(deep=False))
        frame = open_frame(X)
        distributed = frame is not None and frame.distributed
        settings = FitSettings(
            owner=type(self).__name__,
            task=task,
            columns=self._columns(),
            reads_nulls=self._fitted_type().reads_nulls,
            prediction_modules=(Predictor.__module__, *self._fitted_type().modules),
            make_backend=partial(self._make_backend, task),
            validate=self._validated,
            placement=self._placement(distributed, max_retries),
            validation=self.validation if validation is _AS_SET else validation,
            class_weight=self.class_weight,
            classes=classes,
            seed=seed,
            verbose=bool(self.verbose),
            epochs=self._planned_epochs(),
            previous=self._learnt if go_on else None,
            checkpoints=self._checkpoints(seed=seed, resume=resume),
            streaming=self._streaming(),
        )
        learnt, self.history_ = fit(settings, X, y, sample_weight, vector_column=vector_column)
        if learnt.by_name:
            self.feature_names_in_ = np.array(learnt.feature_names, dtype=object)
            self.n_features_in_ = learnt.width
        self._take_over(learnt)
        return self

    def _checkpoints(self, *, seed: int | None, resume: bool) -> CheckpointSettings | None:
        params, every = self.get_params(deep=False), self._epochs_between_checkpoints
        return checkpoint_settings(type(self).__name__, params, every=every, seed=seed, resume=resume)

    def _take_over(self, learnt: Learnt) -> None:
        self._learnt = learnt
        if learnt.classes is not None:
            self.classes_ = learnt.classes
        elif hasattr(self, "classes_"):
            del self.classes_

    def in_layout(self, selection: Selection, frame: Frame) -> Selection:
        """Features in the layout and the types in which this estimator reads them.

        Parameters
        ----------
        selection : Selection
            The columns.
        frame : Frame
            What has them.
        """
        return self._columns().in_layout(selection, frame, self._make_backend(self._task(), None).typed)

    def _columns(self) -> ColumnSpec:
        return ColumnSpec(
            feature_columns=self.feature_columns,
            label_column=self.label_column,
            weight_column=self.weight_column,
            prediction_column=self.prediction_column,
            probability_column=self.probability_column,
            null_features=self.null_features,
            sparse=self.sparse,
            extra=self._extra_roles(),
        )

    def role_columns(self) -> dict[str, str]:
        """Columns that training reads besides features and label.

        Returns
        -------
        dict of str to str
            ``{"weight": name, "qid": name, ...}``; roles without a column are left out.
        """
        return self._columns().roles()

    def names_of_model(self) -> Any:
        """What the model itself says of the columns and types that it takes, beside the parameters; None where it says nothing.

        Candidates of a search whose values are equal may share what crosses.
        """
        return None

    def _validated(self, X: Any, y: Any = "no_validation", **about: Any) -> tuple[np.ndarray, Any, Any]:
        """scikit-learn's validation, which keeps number and names of the features on the estimator."""
        checked = validate_data(self, X, y, **about)
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        return X, y, getattr(self, "feature_names_in_", None)

    def _placement(self, distributed: bool, max_retries: int | None) -> Placement:
        return Placement.of(self.get_params(deep=False), distributed, max_retries)

    def _seed(self) -> int | None:
        state = self.random_state
        if state is None or isinstance(state, int | np.integer):
            return None if state is None else int(state)
        return int(check_random_state(state).randint(2**31 - 1))

    def _task(self) -> str:
        if self.task is not None and self.task not in self._tasks:
            raise InvalidValueError(f"task={self.task!r} must be one of {', '.join(self._tasks)}, or None")
        task = self.inferred_task()
        if task is None:
            raise InvalidValueError(
                f"{type(self).__name__} cannot tell its task from the other parameters; give "
                + " or ".join(f"task={name!r}" for name in self._tasks)
            )
        return task

    def _task_of_fit(self, y: Any) -> str:
        """The task of a fit; a subclass may look at the labels of an array, None for frames."""
        return self._task()

    def inferred_task(self) -> str | None:
        """The task: the parameter, or what loss or objective imply; None when they imply none."""
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
        """Predict the probability of each class, in the order of ``classes_``, or of each of several labels.

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
        learnt, spec, owner = self._learnt_for(X), self._columns(), type(self).__name__
        predictor = learnt.predictor(self.null_features)
        frame = frame_of(learnt, X)
        if frame is None:
            return predictor.to_numpy(check_matrix(learnt, spec, self._validated, X, owner), output)
        selection = features_of(learnt, spec, frame, hasattr(self, "feature_names_in_"), owner)
        return frame.with_predictions(predictor, selection, output, name)

    def _learnt_for(self, X: Any) -> Learnt:
        """What was learnt, as it predicts X: a subclass may read further columns of frames. X is None for frames to come."""
        return self._require_learnt()

    def serving_form(self) -> tuple[Predictor, tuple[Feature, ...]]:
        """What predicts without this estimator, and the columns of the matrices that it takes."""
        learnt = self._learnt_for(None)
        return learnt.predictor(self.null_features), learnt.features

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy for classification (where a row has several 0/1 labels, all of them must be right), R2 for regression.

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
        task = self._require_learnt().task
        found = rated(self.labelled_predictions(X, y, sample_weight), self.null_features)
        return score_values(task, found.labels, found.predictions, found.weight)

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """Several metrics at once.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`score`.

        Returns
        -------
        dict
            By scikit-learn's names: ``accuracy``, ``log_loss`` and ``roc_auc`` for classification, ``accuracy`` (of all labels of
            a row together), ``hamming_loss``, ``f1_macro`` and ``roc_auc`` for several 0/1 labels, ``r2``,
            ``root_mean_squared_error`` and ``mean_absolute_error`` for regression.
        """
        learnt = self._require_learnt()
        output = "probability" if predicts_probabilities(learnt.task) else "prediction"
        found = rated(self.labelled_predictions(X, y, sample_weight, output=output), self.null_features)
        return evaluate_values(learnt.task, found.labels, found.predictions, learnt.classes, found.weight)

    def labelled_predictions(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, output: str = "prediction"
    ) -> LabelledPredictions:
        """Labels beside predictions, for metrics.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`score`.
        output : {"prediction", "probability"}, default="prediction"
            What to predict.

        Returns
        -------
        LabelledPredictions
            ``labels``, ``predictions`` and ``weight`` of all rows, NaN or None where a row has no prediction.
        """
        self._require_learnt()
        spec = self._columns()
        if y is None:
            with (
                progress.call(type(self).__name__, bool(self.verbose)),
                progress.waiting_for("rows to score are predicted"),
            ):
                column = "__raydp_prediction__"
                predict = partial(self._predict_input, X, output, column)
                found = label_and_predict(spec.label, spec.weight_column, X, predict, column)
        else:
            predictions = self._predict_input(X, output, self.prediction_column)
            if not isinstance(predictions, np.ndarray):
                raise InvalidTypeError(f"y was given with a {type(X).__name__}; name its label_column instead")
            found = LabelledPredictions(np.asarray(y), predictions, weights_of(spec, X))
        return found if sample_weight is None else with_weights(found, X, sample_weight)

    # -- fitted state ----------------------------------------------------------------------------------------------

    @property
    def model_(self) -> Any:
        """The fitted model as the training library's own object."""
        if self._learnt is None:
            raise AttributeError(f"this {type(self).__name__} has no model_ yet: call fit first")
        return self._learnt.fitted.model

    def get_model(self) -> Any:
        """The fitted model as the training library's own object."""
        return self._require_learnt().fitted.model

    def __sklearn_is_fitted__(self) -> bool:
        return self._learnt is not None

    def _require_learnt(self) -> Learnt:
        if self._learnt is None:
            raise NotFittedError(f"This {type(self).__name__} instance is not fitted yet; call fit first")
        return self._learnt

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.null_features in ("skip", "null")
        return with_tags_of_task(tags, self.inferred_task())

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the weights, and return what else was learnt."""
        attributes = {name: getattr(self, name) for name in ATTRIBUTES if hasattr(self, name)}
        return self._require_learnt().write(path, attributes)

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over what was learnt."""
        given = model if model is not None else getattr(self, "model", None)
        learnt = Learnt.read(path, state, self._fitted_type(), given)
        for name, value in state["attributes"].items():
            setattr(self, name, value)
        self._take_over(learnt)
