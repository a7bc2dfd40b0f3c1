"""The metrics that the parameter ``metrics`` of TorchEstimator names."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.tasks import above_half

__all__ = ["Metric", "TorchMetric", "metrics_of"]


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
    right = (above_half(predicted) == y).all(axis=1) if y.ndim == 2 else predicted.argmax(axis=1) == y
    return float(np.average(right, weights=sample_weight))


def _auc(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    from sklearn.metrics import roc_auc_score

    if (y.min(axis=0) == y.max(axis=0)).any():  # one class only, in one of several labels maybe
        return float("nan")
    if y.ndim == 2:
        return float(roc_auc_score(y, predicted, sample_weight=sample_weight))
    if predicted.shape[1] == 2:
        return float(roc_auc_score(y, predicted[:, 1], sample_weight=sample_weight))
    return float(roc_auc_score(y, predicted, multi_class="ovr", sample_weight=sample_weight))


def _mse(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return _mean((y - predicted) ** 2, sample_weight)


def _mae(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return _mean(np.abs(y - predicted), sample_weight)


def _rmse(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(y, predicted, sample_weight=sample_weight))


def _r2(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(y, predicted, sample_weight=sample_weight))


def _log_loss(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    from sklearn.metrics import log_loss

    if y.ndim == 2:
        raise InvalidValueError(
            "metrics: 'log_loss' is for one label of each row; for several, the loss itself is in history_"
        )
    # Float32 adds up to 1 less exactly than scikit-learn asks for, and the rows may lack a class.
    predicted = predicted / predicted.sum(axis=1, keepdims=True)
    return float(log_loss(y, predicted, sample_weight=sample_weight, labels=np.arange(predicted.shape[1])))


def _mean(errors: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(errors.reshape(len(errors), -1).mean(axis=1), weights=weight))


# By scikit-learn's names, and by short ones; a history has the name that was given.
_METRICS = {
    "accuracy": _accuracy,
    "roc_auc": _auc,
    "log_loss": _log_loss,
    "r2": _r2,
    "auc": _auc,
    "mean_squared_error": _mse,
    "root_mean_squared_error": _rmse,
    "mse": _mse,
    "mean_absolute_error": _mae,
    "mae": _mae,
}


@dataclass(frozen=True)
class TorchMetric:
    """A metric of torchmetrics as a function of labels and predictions.

    Parameters
    ----------
    metric : torchmetrics.Metric
        The metric, which is copied for each pass over rows and stays as it is.
    """

    metric: Any

    def __call__(self, y: np.ndarray, predicted: np.ndarray) -> float:
        """The value on some rows."""
        torch = require("torch", "torch")
        metric = copy.deepcopy(self.metric).cpu()
        metric.reset()
        metric.sync_on_compute = False  # these are the rows of all workers already
        if predicted.ndim == 2 and predicted.shape[1] == 2 and type(metric).__name__.startswith("Binary"):
            predicted = predicted[:, 1]
        if y.ndim == 2 and type(metric).__name__.startswith("Multilabel"):
            y = y.astype(np.int64)
        metric.update(torch.as_tensor(predicted), torch.as_tensor(y))
        return float(metric.compute())


def _is_torchmetric(item: Any) -> bool:
    return any(base.__module__.partition(".")[0] == "torchmetrics" for base in type(item).__mro__)


def _of_torchmetrics(name: str) -> Any:
    """A metric of torchmetrics by the name of its class, without arguments."""
    unknown = f"metrics: {name!r} is not one of {', '.join(_METRICS)}; or give a function (y, predicted)"
    try:
        packages = [import_module("torchmetrics"), import_module("torchmetrics.classification")]
    except ImportError as error:
        raise InvalidValueError(f"{unknown}, or install torchmetrics and give a name of its classes") from error
    kind = next((vars(package)[name] for package in packages if name in vars(package)), None)
    if not isinstance(kind, type):
        raise InvalidValueError(f"{unknown}, or a class of torchmetrics")
    try:
        return kind()
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"metrics: torchmetrics.{name} needs arguments ({error}); give an object of it"
        ) from error


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
            found[name] = _METRICS[item] if item in _METRICS else TorchMetric(_of_torchmetrics(item))
        elif _is_torchmetric(item):
            found[name] = TorchMetric(item)
        elif not callable(item):
            raise InvalidTypeError(f"metrics: {item!r} must be a name or a function of labels and predictions")
    return {name: Metric(function, _takes_weight(function)) for name, function in found.items()}


def _takes_weight(function: Callable[..., float]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return False
