"""The metrics that the parameter ``metrics`` of TorchEstimator names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["metrics_of"]


def _accuracy(y: np.ndarray, predicted: np.ndarray) -> float:
    return float((predicted.argmax(axis=1) == y).mean())


def _auc(y: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    if len(np.unique(y)) < 2:
        return float("nan")
    return float(
        roc_auc_score(y, predicted[:, 1]) if predicted.shape[1] == 2 else roc_auc_score(y, predicted, multi_class="ovr")
    )


def _mse(y: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean((y - predicted) ** 2))


def _mae(y: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.abs(y - predicted)))


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


def metrics_of(value: Any) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """The parameter ``metrics`` as functions by name."""
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
    return found
