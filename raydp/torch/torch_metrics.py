"""Metrics by the names of torchmetrics, in the form that raydp_ml's TorchEstimator takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError, MissingDependencyError

# What raydp_ml computes itself.
_OWN = {"Accuracy": "accuracy", "AUROC": "auc", "MeanAbsoluteError": "mae", "MeanSquaredError": "mse"}


def metrics_of(names: Sequence[Any] | None, config: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """The metrics that ``metrics_name`` and ``metrics_config`` ask for, by name.

    Parameters
    ----------
    names : sequence of str or torchmetrics.Metric, optional
        The metrics.
    config : mapping, optional
        Arguments by name.

    Examples
    --------
    >>> metrics_of(["MeanAbsoluteError"], None)
    {'MeanAbsoluteError': 'mae'}
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InvalidTypeError(f"metrics_name={names!r} must be a list of names or of torchmetrics.Metric objects")
    found: dict[str, Any] = {}
    for item in names:
        if not isinstance(item, str):
            found[type(item).__name__] = item
            continue
        arguments = dict((config or {}).get(item) or {})
        found[item] = _OWN[item] if item in _OWN and not arguments else _build(item, arguments)
    return found


def _build(name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        import torchmetrics
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"metrics_name: {name!r} with {dict(arguments)} needs torchmetrics (pip install torchmetrics); "
            f"without it there are {', '.join(_OWN)}, without arguments"
        ) from error
    kind = getattr(torchmetrics, name, None)
    if kind is None:
        raise InvalidValueError(f"metrics_name: {name!r} is not a metric of torchmetrics")
    return kind(**arguments)
