"""The metrics that ``score`` and ``evaluate`` give."""

from __future__ import annotations

import numpy as np
from sklearn import metrics

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.tasks import MULTILABEL, above_half

__all__ = ["evaluate_values", "score_values"]


def score_values(task: str, y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
    """Accuracy for classification, R2 for regression.

    Examples
    --------
    >>> score_values("classification", np.array([0, 1]), np.array([0, 0]), None)
    0.5
    """
    _require_same_shape(task, y, predicted)
    if task == MULTILABEL:
        y, predicted = y.astype(np.int64), predicted.astype(np.int64)
    if task in ("classification", MULTILABEL):
        return float(metrics.accuracy_score(y, predicted, sample_weight=weight))
    if task == "regression":
        return float(metrics.r2_score(y, predicted, sample_weight=weight))
    raise InvalidValueError(
        f"score is defined for classification and regression; for task={task!r} compute a metric from predict"
    )


def evaluate_values(
    task: str, y: np.ndarray, values: np.ndarray, classes: np.ndarray | None, weight: np.ndarray | None
) -> dict[str, float]:
    """Several metrics at once, by scikit-learn's names: ``values`` are probabilities for classification, predictions otherwise.

    Examples
    --------
    >>> evaluate_values("regression", np.array([0.0, 1.0]), np.array([0.0, 1.0]), None, None)["r2"]
    1.0
    """
    if task == "classification" and classes is not None:
        found = {
            "accuracy": metrics.accuracy_score(y, classes[values.argmax(axis=1)], sample_weight=weight),
            "log_loss": metrics.log_loss(y, values, labels=classes, sample_weight=weight),
        }
        if len(np.unique(y)) == len(classes):
            if len(classes) == 2:
                found["roc_auc"] = metrics.roc_auc_score(y == classes[1], values[:, 1], sample_weight=weight)
            else:
                found["roc_auc"] = metrics.roc_auc_score(
                    y, values, labels=classes, multi_class="ovr", sample_weight=weight
                )
    elif task == MULTILABEL:
        _require_same_shape(task, y, values)
        y, predicted = y.astype(np.int64), above_half(values)
        found = {
            "accuracy": metrics.accuracy_score(y, predicted, sample_weight=weight),
            "hamming_loss": metrics.hamming_loss(y, predicted, sample_weight=weight),
            "f1_macro": metrics.f1_score(y, predicted, average="macro", sample_weight=weight, zero_division=0.0),
        }
        if ((y == 0).any(axis=0) & (y == 1).any(axis=0)).all():
            found["roc_auc"] = metrics.roc_auc_score(y, values, sample_weight=weight)
    elif task == "regression":
        _require_same_shape(task, y, values)
        found = {
            "r2": metrics.r2_score(y, values, sample_weight=weight),
            "root_mean_squared_error": metrics.root_mean_squared_error(y, values, sample_weight=weight),
            "mean_absolute_error": metrics.mean_absolute_error(y, values, sample_weight=weight),
        }
    else:
        raise InvalidValueError(
            f"evaluate is defined for classification and regression; for task={task!r} compute a metric from predict"
        )
    return {name: float(value) for name, value in found.items()}


def _require_same_shape(task: str, y: np.ndarray, values: np.ndarray) -> None:
    if task in ("regression", MULTILABEL) and np.shape(y)[1:] != np.shape(values)[1:]:
        labels, outputs = (1 if np.ndim(each) == 1 else np.shape(each)[1] for each in (y, values))
        raise InvalidValueError(
            f"score and evaluate compare each label with a prediction, but rows have {labels} label(s) and {outputs} "
            "prediction(s), as in quantile regression and survival analysis: compute a metric of them from predict"
        )
