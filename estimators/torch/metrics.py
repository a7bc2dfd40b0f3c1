"""The metrics that the parameter ``metrics`` of TorchEstimator names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["Metric", "metrics_of"]


@dataclass(frozen=True)
class Metric:
    """A metric of labels and predictions; one that takes ``sample_weight`` is given the weights of the rows."""

    function: Callable[..., float]
    takes_weight: bool

    def __call__(self, y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        """Its value on some rows."""
        if weight is None or not self.takes_weight:
            return float(self.function(y, predicted))
        return float(self.function(y, predicted, sample_weight=weight))


def _accuracy(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return float(np.average(predicted.argmax(axis=1) == y, weights=sample_weight))


def _auc(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    from sklearn.metrics import roc_auc_score

    if len(np.unique(y)) < 2:
        return float("nan")
    if predicted.shape[1] == 2:
        return float(roc_auc_score(y, predicted[:, 1], sample_weight=sample_weight))
    return float(roc_auc_score(y, predicted, multi_class="ovr", sample_weight=sample_weight))


def _mse(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return _mean((y - predicted) ** 2, sample_weight)


def _mae(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return _mean(np.abs(y - predicted), sample_weight)


def _mean(errors: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(errors.reshape(len(errors), -1).mean(axis=1), weights=weight))


# By scikit-learn's names, and by short ones; a history has the name that was given.
_METRICS = {
    "accuracy": _accuracy,
    "roc_auc": _auc,
    "auc": _auc,
    "mean_squared_error": _mse,
    "mse": _mse,
    "mean_absolute_error": _mae,
    "mae": _mae,
}


def metrics_of(value: Any) -> dict[str, Metric]:
    """The parameter ``metrics``, by name."""
    if value is None:
        return {}
    if isinstance(value, dict):
        found = dict(value)
    else:
        items = [value] if isinstance(value, str) or callable(value) else list(value)
        found = {
            item if isinstance(item, str) else getattr(item, "__name__", type(item).__name__): item for item in items
        }
    for name, item in found.items():
        if isinstance(item, str):
            if item not in _METRICS:
                raise InvalidValueError(
                    f"metrics: {item!r} is not one of {', '.join(_METRICS)}; or give a function (y, predicted)"
                )
            found[name] = _METRICS[item]
        elif not callable(item):
            raise InvalidTypeError(f"metrics: {item!r} must be a name or a function of labels and predictions")
    return {name: Metric(function, _takes_weight(function)) for name, function in found.items()}


def _takes_weight(function: Callable[..., float]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return False
