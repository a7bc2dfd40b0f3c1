"""Functions as ``eval_metric``: xgboost's form, and the metrics of scikit-learn, also by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from raydp_ml.estimators.directions import greater_is_better

__all__ = ["EvalMetrics", "NamedMetric", "direction_of", "is_of_scikit_learn", "with_functions"]

# Functions of scikit-learn by the names that ``evaluate`` and scorers have for them, and that xgboost has for none of its metrics.
_BY_NAME = {
    "accuracy": "accuracy_score",
    "balanced_accuracy": "balanced_accuracy_score",
    "average_precision": "average_precision_score",
    "log_loss": "log_loss",
    "roc_auc": "roc_auc_score",
    "r2": "r2_score",
    "explained_variance": "explained_variance_score",
    "mean_squared_error": "mean_squared_error",
    "root_mean_squared_error": "root_mean_squared_error",
    "mean_absolute_error": "mean_absolute_error",
    "mean_absolute_percentage_error": "mean_absolute_percentage_error",
    "median_absolute_error": "median_absolute_error",
}

# Metrics of scikit-learn that compare labels, not probabilities.
_LABEL_NAMES = """
    accuracy_score balanced_accuracy_score f1_score fbeta_score precision_score recall_score jaccard_score hamming_loss
    zero_one_loss matthews_corrcoef cohen_kappa_score
"""
_OF_LABELS = frozenset(_LABEL_NAMES.split())


@dataclass(frozen=True)
class NamedMetric:
    """A metric of scikit-learn that was asked for by a name, which its values have.

    Examples
    --------
    >>> round(float(NamedMetric("log_loss")(np.array([0.0, 1.0]), np.array([0.5, 0.5]))), 4)
    0.6931
    """

    name: str

    def __call__(self, y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
        """Its value, of labels or class numbers and what xgboost predicts: values, or probabilities."""
        from sklearn import metrics

        function, several = _BY_NAME[self.name], predicted.ndim == 2 and y.ndim == 1
        about: dict[str, Any] = {}
        if function == "log_loss" or (function == "roc_auc_score" and several):
            about["labels"] = np.arange(predicted.shape[1] if several else 2)  # a worker's rows may have fewer classes
        if function == "roc_auc_score" and several:
            about["multi_class"] = "ovr"
        if function in _OF_LABELS:
            predicted = _labels(predicted)
        return float(getattr(metrics, function)(y, predicted, sample_weight=weight, **about))


def with_functions(metrics: Sequence[Any]) -> list[Any]:
    """The metrics of the parameter ``eval_metric``, those of scikit-learn in place of their names.

    Examples
    --------
    >>> with_functions(["auc", "roc_auc"])
    ['auc', NamedMetric(name='roc_auc')]
    """
    return [NamedMetric(each) if isinstance(each, str) and each in _BY_NAME else each for each in metrics]


def _labels(predicted: np.ndarray) -> np.ndarray:
    return predicted.argmax(axis=1) if predicted.ndim == 2 else predicted > 0.5


def _inner(function: Any) -> Any:
    return function.func if isinstance(function, partial) else function


def is_of_scikit_learn(function: Callable) -> bool:
    """Whether a function takes labels and predictions, as those of scikit-learn do, and not predictions and a DMatrix.

    Examples
    --------
    >>> from sklearn.metrics import mean_absolute_error
    >>> is_of_scikit_learn(mean_absolute_error), is_of_scikit_learn(lambda predicted, matrix: ("mine", 0.0))
    (True, False)
    """
    return next(iter(inspect.signature(_inner(function)).parameters), None) == "y_true"


def direction_of(function: Callable) -> bool | None:
    """Whether more of a metric is better; None when it is not one of scikit-learn."""
    if isinstance(function, NamedMetric):
        return greater_is_better(function.name)
    inner = _inner(function)
    return greater_is_better(inner.__name__) if inner.__module__.startswith("sklearn.") else None


@dataclass(frozen=True)
class EvalMetrics:
    """Several functions as the one that xgboost calls after each round.

    Parameters
    ----------
    functions : sequence of callable
        Of xgboost's form ``f(predicted, matrix) -> (name, value)``, or of scikit-learn's ``f(y_true, y_pred)``, which is given
        ``sample_weight`` where it takes it and the rows have weights.
    world_size : int
        Number of workers: with several, the mean of their values, by their rows or weights.
    """

    functions: Sequence[Callable]
    world_size: int = 1

    def __call__(self, predicted: np.ndarray, matrix: Any) -> list[tuple[str, float]]:
        """Names and values."""
        found: list[tuple[str, float]] = []
        for function in self.functions:
            value = _value(function, predicted, matrix)
            found += value if isinstance(value, list) else [value]
        if self.world_size == 1:
            return found
        # Without it workers would see values of their own, and stop early in different rounds.
        from xgboost import collective

        weight = matrix.get_weight()
        count = float(weight.sum()) if len(weight) else float(matrix.num_row())
        sums = collective.allreduce(np.array([*(value * count for _, value in found), count]), collective.Op.SUM)
        return [(name, float(total / sums[-1])) for (name, _), total in zip(found, sums[:-1], strict=True)]


def _value(function: Any, predicted: np.ndarray, matrix: Any) -> Any:
    named = isinstance(function, NamedMetric)
    if not named and not is_of_scikit_learn(function):
        return function(predicted, matrix)
    y, weight = matrix.get_label().reshape(matrix.num_row(), -1), matrix.get_weight()
    y = y[:, 0] if y.shape[1] == 1 else y
    if named:
        return function.name, function(y, predicted, weight if len(weight) else None)
    inner = _inner(function)
    if inner.__name__ in _OF_LABELS:
        predicted = _labels(predicted)
    takes = len(weight) and "sample_weight" in inspect.signature(inner).parameters
    return inner.__name__, float(function(y, predicted, **({"sample_weight": weight} if takes else {})))
