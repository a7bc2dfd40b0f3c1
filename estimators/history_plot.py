"""A picture of a training: its metrics against the epochs, or rounds, and the best of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.base import EstimatorBase, NotFittedError
from raydp_ml.estimators.directions import greater_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_history"]

_SIDES = {"train": "training rows", "valid": "validation rows"}


def plot_history(est: EstimatorBase, ax: Axes | None = None, *, metric: str | None = None) -> Axes:
    """Draw a metric of the training and of the validation rows against the epochs, and mark the best epoch.

    The best epoch is that of the validation rows, where there are some. A metric of one's own, of which it is not known whether
    more or less of it is better, has no mark.

    Parameters
    ----------
    est : TorchEstimator, TFEstimator or XGBEstimator
        A fitted one; of a pipeline, its last step: ``pipe["model"]``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; None: on axes of a new figure.
    metric : str, optional
        The metric without its side, ``"loss"`` or ``"auc"`` for example; None: the first one in ``history_``.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; ``ax.figure.savefig(path)`` writes the picture.

    Raises
    ------
    MissingDependencyError
        When matplotlib is not installed.
    InvalidValueError
        For a metric that the history does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from raydp_ml import XGBEstimator, plot_history
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> est = XGBEstimator(task="regression", num_boost_round=5, validation=0.25, random_state=0, verbose=False)
    >>> ax = plot_history(est.fit(X, X[:, 0] ** 2))
    >>> ax.get_ylabel(), [line.get_label() for line in ax.lines]
    ('rmse', ['training rows', 'validation rows'])
    """
    if not isinstance(est, EstimatorBase):
        raise InvalidTypeError(
            f"est must be a TorchEstimator, TFEstimator or XGBEstimator, got a {type(est).__name__}; of a pipeline give the step "
            'that trains, pipe["model"] for example'
        )
    if not est.__sklearn_is_fitted__():
        raise NotFittedError(f"This {type(est).__name__} instance is not fitted yet; call fit first")
    figures = require("matplotlib.figure", "plot")
    history: list[dict[str, Any]] = est.history_
    metric = _metric(history, metric)
    if ax is None:
        ax = figures.Figure(figsize=(5.2, 3.8), layout="constrained").subplots()
    epochs = [entry["epoch"] for entry in history]
    best: tuple[float, float] | None = None
    for side, label in _SIDES.items():
        name = f"{side}_{metric}"
        if any(name in entry for entry in history):
            values = np.array([entry.get(name, np.nan) for entry in history], float)
            known = ~np.isnan(values)  # many training rows are evaluated now and then only
            ax.plot(np.array(epochs)[known], values[known], label=label)
            best = _best(epochs, values, greater_is_better(name))
    if best is not None:
        ax.scatter(*best, color="black", zorder=3, label=f"best: {best[1]:.4g} in {best[0]:.0f}")
    ax.set_xlabel("round" if type(est).__name__ == "XGBEstimator" else "epoch")
    ax.set_ylabel(metric)
    ax.legend()
    return ax


def _metric(history: list[dict[str, Any]], metric: str | None) -> str:
    names = [name.partition("_") for name in history[0]] if history else []
    known = list(dict.fromkeys(name for side, _, name in names if side in _SIDES and name))
    if metric is None and known:
        return known[0]
    if metric not in known:
        raise InvalidValueError(f"metric={metric!r} is not in the history, which has {', '.join(known) or 'none'}")
    return metric


def _best(epochs: list[float], values: np.ndarray, greater: bool | None) -> tuple[float, float] | None:
    if greater is None or np.isnan(values).all():
        return None
    place = int(np.nanargmax(values) if greater else np.nanargmin(values))
    return float(epochs[place]), float(values[place])
