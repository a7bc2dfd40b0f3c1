"""An estimator of scikit-learn as the last step: trained on features that were collected, predicting inside Spark like ours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import has_fit_parameter

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.base import NotFittedError
from raydp_ml.estimators.metrics import evaluate_values, score_values
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.arrays import Arrays, fetch
from raydp_ml.frames.columns import Feature, Selection, resolve
from raydp_ml.frames.fold_rows import FoldRows
from raydp_ml.frames.layouts import Matrix, null_rows
from raydp_ml.frames.registry import require_frame
from raydp_ml.persistence.directory import Savable, current_trust
from raydp_ml.persistence.names import qualified_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["CollectedEstimator"]


@dataclass
class _SklearnFitted(Fitted):
    """A fitted estimator of scikit-learn; ``output`` says which of its methods answers."""

    estimator: Any
    task: str
    output: str = "prediction"
    modules: ClassVar[tuple[str, ...]] = ("sklearn.base", __name__)
    reads_nulls: ClassVar[bool] = False

    @property
    def model(self) -> Any:
        return self.estimator

    def predict(self, X: Matrix) -> np.ndarray:
        if self.task == "regression":
            return np.asarray(self.estimator.predict(X))
        if self.output == "probability":
            return np.asarray(self.estimator.predict_proba(X))
        # The class that it predicts need not be the one of the largest probability.
        return np.asarray(self.estimator.predict(X)[:, None] == self.estimator.classes_, dtype=float)

    def write(self, directory: str) -> dict[str, Any]:
        raise InvalidTypeError(_no_files(self.estimator))

    @classmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> Fitted:
        raise InvalidValueError("there are no files of estimators of scikit-learn")


@dataclass
class _SklearnPredictor(Predictor):
    """A predictor whose labels and probabilities come from different methods."""

    def values(self, X: Matrix, output: str) -> tuple[np.ndarray, np.ndarray | None]:
        own = {item.name: getattr(self, item.name) for item in fields(Predictor)}
        fitted = _SklearnFitted(self.fitted.model, self.task, output)
        return Predictor(**{**own, "fitted": fitted}).values(X, output)


def _gives_probabilities(collected: CollectedEstimator) -> bool:
    if not hasattr(collected.fitted_or_given, "predict_proba"):
        raise AttributeError(f"{type(collected.estimator).__name__} has no predict_proba")
    return True


class CollectedEstimator(Savable, BaseEstimator):
    """A classifier or regressor of scikit-learn that trains on the rows of a Spark DataFrame, collected in this process.

    A pipeline makes one of an estimator that is its last step. Write it down yourself to name columns or to allow more bytes.

    Parameters
    ----------
    estimator : classifier or regressor
        Of scikit-learn, or of a library with its interface.
    label_column : str, default="label"
        The labels.
    feature_columns : str or list of str, optional
        Features; by default the vector column that the steps made last, or all numeric columns.
    weight_column : str, optional
        Weights of rows.
    prediction_column, probability_column : str
        The columns that predictions append.
    max_bytes : int, default=2**30
        The largest float32 matrix of features that is collected, in bytes.

    Attributes
    ----------
    estimator_ : object
        The fitted estimator.
    feature_names_in_ : numpy.ndarray
        The columns of features.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from raydp_ml.pipeline import CollectedEstimator
    >>> CollectedEstimator(LogisticRegression(C=0.5), label_column="late").get_params()["estimator__C"]
    0.5
    """

    null_features: ClassVar[str] = "error"
    """What a null feature means, where the estimator does not read it as a missing value."""

    def __init__(
        self,
        estimator: Any,
        *,
        label_column: str = "label",
        feature_columns: Any = None,
        weight_column: str | None = None,
        prediction_column: str = "prediction",
        probability_column: str = "probability",
        max_bytes: int = 1 << 30,
    ) -> None:
        self.estimator = estimator
        self.label_column = label_column
        self.feature_columns = feature_columns
        self.weight_column = weight_column
        self.prediction_column = prediction_column
        self.probability_column = probability_column
        self.max_bytes = max_bytes

    @property
    def fitted_or_given(self) -> Any:
        """The fitted estimator once there is one, otherwise the one that was given."""
        return self.estimator_ if self.__sklearn_is_fitted__() else self.estimator

    @property
    def task(self) -> str:
        """Classification or regression."""
        if is_classifier(self.estimator):
            return "classification"
        if is_regressor(self.estimator):
            return "regression"
        raise InvalidTypeError(f"{type(self.estimator).__name__} is neither a classifier nor a regressor")

    @property
    def classes_(self) -> np.ndarray:
        """Class labels of a fitted classifier."""
        labels: np.ndarray = self.fitted_or_given.classes_
        return labels

    def fit_features(self, df: DataFrame | FoldRows, *, vector_column: str | None = None) -> CollectedEstimator:
        """Collect the features of a frame, if they are small enough, and train.

        Parameters
        ----------
        df : pyspark.sql.DataFrame or FoldRows
            The rows; in a trial of a search those of a fold, which have been collected.
        vector_column : str, optional
            The features when ``feature_columns`` is None.

        Raises
        ------
        InvalidValueError
            When the features take more than ``max_bytes``; nothing is collected then.
        """
        task = self.task
        frame = require_frame(df)
        selection = resolve(
            frame,
            feature_columns=self.feature_columns,
            label=(self.label_column,),
            roles={"weight": self.weight_column} if self.weight_column is not None else None,
            vector_column=vector_column,
        )
        rows = len(df) if isinstance(df, FoldRows) else df.count()
        size = 4 * rows * selection.width
        if size > self.max_bytes:
            raise InvalidValueError(
                f"{type(self.estimator).__name__} trains in the memory of this process, and the features of {rows:,} rows with "
                f"{selection.width:,} numbers each take {size:,} bytes, more than max_bytes={self.max_bytes:,}; take fewer "
                "rows, allow more with CollectedEstimator(..., max_bytes=...), or use an estimator of raydp_ml, which trains on "
                "distributed rows"
            )
        loaded = frame.load(selection)
        arrays = (
            loaded
            if isinstance(loaded, Arrays)
            else Arrays.concat([fetch(ref, loaded.selection) for ref in loaded.refs])
        )
        allows_nulls = get_tags(self.estimator).input_tags.allow_nan
        nulls = None if allows_nulls else null_rows(arrays.X)
        if nulls is not None:
            raise InvalidValueError(
                f"{int(nulls.sum())} of {rows} rows have a null or NaN feature, which {type(self.estimator).__name__} does not "
                "take; fill or drop them in a step before"
            )
        weights = {} if arrays.weight is None else {"sample_weight": arrays.weight}
        if weights and not has_fit_parameter(self.estimator, "sample_weight"):
            raise InvalidValueError(f"{type(self.estimator).__name__} takes no weights, so weight_column must be None")
        self.estimator_ = clone(self.estimator).fit(arrays.X, arrays.label, **weights)
        self._features, self._allows_nulls = selection.features, bool(allows_nulls)
        self.feature_names_in_ = np.array([feature.name for feature in selection.features], dtype=object)
        self._task = task
        return self

    def serving_form(self) -> tuple[Predictor, tuple[Feature, ...]]:
        """What predicts without this object, and the columns of the matrices that it takes."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                "this CollectedEstimator is not fitted yet: fit the pipeline that it is the last step of"
            )
        classes = self.estimator_.classes_ if self._task == "classification" else None
        width = sum(feature.width for feature in self._features)
        nulls = "null" if self._allows_nulls else "error"
        fitted = _SklearnFitted(self.estimator_, self._task)
        return _SklearnPredictor(fitted, self._task, width, classes, None, 1, nulls, self._allows_nulls), self._features

    def predict(self, X: Any) -> Any:
        """The frame with the column of predictions; lazy for Spark."""
        return self._predict(X, "prediction", self.prediction_column)

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """The frame with a column of the probabilities of all classes; lazy for Spark."""
        return self._predict(X, "probability", self.probability_column)

    def _predict(self, X: Any, output: str, name: str) -> Any:
        predictor, features = self.serving_form()
        return require_frame(X).with_predictions(predictor, Selection(features), output, name)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy of a classifier, R² of a regressor; by the frame's own labels and weights where y is not given."""
        if y is None:
            return score_values(self._task, *self._pull(self.predict(X), self.prediction_column))
        return score_values(self._task, np.asarray(y), self.predict(X), sample_weight)

    def evaluate(self, X: Any) -> dict[str, float]:
        """The metrics that our estimators give; accuracy alone for a classifier without probabilities."""
        if self._task == "classification" and not hasattr(self, "predict_proba"):
            return {"accuracy": self.score(X)}
        if self._task == "regression":
            labels, values, weight = self._pull(self.predict(X), self.prediction_column)
            return evaluate_values(self._task, labels, values, None, weight)
        labels, values, weight = self._pull(self.predict_proba(X), self.probability_column)
        return evaluate_values(self._task, labels, np.vstack(list(values)), self.classes_, weight)

    def _pull(self, predicted: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        names = [self.label_column, name, *([self.weight_column] if self.weight_column is not None else [])]
        columns = require_frame(predicted).pull(names)
        weight = None if self.weight_column is None else columns[self.weight_column]
        return columns[self.label_column], columns[name], weight

    # ---- scikit-learn and persistence ------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """What was learnt, where it is numbers and arrays."""
        model = self.estimator_
        given = model.get_params(deep=False)
        learnt = {name: value for name, value in vars(model).items() if name not in given}
        for name, value in learnt.items():
            if not _is_plain(value):
                raise InvalidTypeError(f"{_no_files(model)}: its {name} holds more than numbers and text")
        return {
            "estimator": qualified_name(type(model)),
            "params": given,
            "learnt": learnt,
            "features": [[feature.name, feature.width] for feature in self._features],
            "allows_nulls": self._allows_nulls,
            "task": self._task,
        }

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over what was learnt."""
        self.estimator_ = current_trust().resolve(state["estimator"])(**state["params"])
        vars(self.estimator_).update(state["learnt"])
        self._features = tuple(Feature(name, width) for name, width in state["features"])
        self._allows_nulls, self._task = state["allows_nulls"], state["task"]
        self.feature_names_in_ = np.array([feature.name for feature in self._features], dtype=object)


def _is_plain(value: Any) -> bool:
    """Whether a value is numbers and text all through; other objects would be written as they were before their fit."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "O" or all(isinstance(item, str | None) for item in value.ravel())
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _no_files(estimator: Any) -> str:
    return (
        f"a fitted {type(estimator).__name__} cannot be saved in a directory that runs no code when it is loaded; pickle the "
        "pipeline instead (pickle.dumps, joblib.dump), and load it only where you trust its source"
    )
