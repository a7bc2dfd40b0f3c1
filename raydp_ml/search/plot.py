"""A picture of a search: scores against one or two parameters, and the learning curves of its candidates."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.frames.columns import names_of
from raydp_ml.search.base import BaseSearch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_search"]

# From this ratio of the largest to the smallest value on, a parameter is shown on a logarithmic scale.
_LOG_FROM = 50


def plot_search(search: BaseSearch, params: str | Sequence[str] | None = None, *, metric: str | None = None) -> Figure:
    """Draw the scores of a search against one or two parameters.

    Against one parameter each candidate is a point with the standard deviation over the folds, and a line goes through the best of
    each value. Against two, each cell has the best mean of the candidates with these values. A search with a scheduler has its
    learning curves beside that: the mean over the folds at each number of rounds, epochs or trees.

    Parameters
    ----------
    search : GridSearch or RandomizedSearch
        A fitted one.
    params : str or list of str, optional
        One or two parameters; None: the first two that candidates differ in.
    metric : str, optional
        The score; None: the one that chose the best.

    Returns
    -------
    matplotlib.figure.Figure
        Notebooks show it; ``figure.savefig(path)`` writes it.

    Raises
    ------
    MissingDependencyError
        When matplotlib is not installed.
    InvalidValueError
        For names that the search does not have.

    Examples
    --------
    >>> from raydp_ml import plot_search
    >>> plot_search(search, "model__max_depth").savefig("search.png")  # doctest: +SKIP
    """
    if not isinstance(search, BaseSearch):
        raise InvalidTypeError(f"search must be a GridSearch or RandomizedSearch, got a {type(search).__name__}")
    check_is_fitted(search)
    figures = require("matplotlib.figure", "plot")
    results = search.cv_results_
    metric = _metric(search, metric)
    chosen = _params(results, params)
    curves = getattr(search, "learning_curves_", None)
    count = 1 if curves is None else 2
    figure: Figure = figures.Figure(figsize=(5.2 * count, 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count))
    (_against_one if len(chosen) == 1 else _against_two)(axes[0], results, metric, chosen)
    if curves is not None:
        _learning_curves(axes[1], curves, search, metric)
    return figure


def _metric(search: BaseSearch, metric: str | None) -> str:
    names = [name.removeprefix("mean_test_") for name in search.cv_results_ if name.startswith("mean_test_")]
    if metric is None:
        metric = search.refit if isinstance(search.refit, str) and search.refit in names else names[0]
    if metric not in names:
        raise InvalidValueError(f"metric={metric!r} is not one of the scores {', '.join(names)}")
    return metric


def _params(results: dict[str, Any], params: Any) -> tuple[str, ...]:
    known = [name.removeprefix("param_") for name in results if name.startswith("param_")]
    chosen = names_of(params, "params")
    if not chosen:
        varied = [name for name in known if len(set(map(str, results[f"param_{name}"].tolist()))) > 1]
        chosen = tuple((varied or known)[:2])
    unknown = [name for name in chosen if name not in known]
    if unknown or not 1 <= len(chosen) <= 2:
        raise InvalidValueError(f"params={params!r} must name one or two of the parameters {', '.join(known)}")
    return chosen


def _values(results: dict[str, Any], name: str) -> tuple[np.ndarray, list[str] | None]:
    """Positions of the candidates on an axis, and its labels; None where the values are numbers."""
    values = results[f"param_{name}"].tolist()
    if all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values):
        return np.array(values, float), None
    labels = list(dict.fromkeys(_label(value) for value in values))
    return np.array([labels.index(_label(value)) for value in values], float), labels


def _label(value: Any) -> str:
    text = type(value).__name__ if hasattr(value, "get_params") else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def _against_one(axes: Axes, results: dict[str, Any], metric: str, chosen: Sequence[str]) -> None:
    places, labels = _values(results, chosen[0])
    means, spread = results[f"mean_test_{metric}"], results[f"std_test_{metric}"]
    axes.errorbar(places, means, yerr=spread, fmt="o", capsize=3, alpha=0.6)
    known = ~np.isnan(means)
    ordered = np.unique(places[known])
    axes.plot(ordered, [means[known & (places == place)].max() for place in ordered], "-")
    _name_axis(axes.xaxis, chosen[0], labels)
    if labels is None and places.min() > 0 and places.max() / places.min() >= _LOG_FROM:
        axes.set_xscale("log")
    axes.set_ylabel(f"{metric}, mean ± standard deviation")


def _against_two(axes: Axes, results: dict[str, Any], metric: str, chosen: Sequence[str]) -> None:
    means = results[f"mean_test_{metric}"]
    columns, names = [], []
    for name in chosen:
        places, labels = _values(results, name)
        ordered, numbered = np.unique(places, return_inverse=True)
        columns.append(numbered)
        names.append([f"{place:g}" for place in ordered] if labels is None else labels)
    table = np.full((len(names[1]), len(names[0])), np.nan)
    for x, y, mean in zip(*columns, means, strict=True):
        table[y, x] = np.nanmax([table[y, x], mean]) if not np.isnan([table[y, x], mean]).all() else np.nan
    axes.imshow(table, aspect="auto", origin="lower", cmap="Blues")
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)])
    for (y, x), value in np.ndenumerate(table):
        if not np.isnan(value):
            axes.text(x, y, f"{value:.3f}", ha="center", va="center", color="white" if value > middle else "black")
    _name_axis(axes.xaxis, chosen[0], names[0])
    _name_axis(axes.yaxis, chosen[1], names[1])
    axes.set_title(f"best mean {metric}", loc="left", fontsize=10)


def _name_axis(axis: Any, name: str, labels: list[str] | None) -> None:
    axis.set_label_text(name)
    if labels is not None:
        axis.set_ticks(range(len(labels)), labels)


def _learning_curves(axes: Axes, curves: Sequence[Any], search: BaseSearch, metric: str) -> None:
    best = getattr(search, "best_index_", None)
    for number, (resources, scores) in enumerate(curves):
        best_one = number == best
        axes.plot(
            resources, scores, "o-", markersize=3, color="C1" if best_one else "C0", alpha=1.0 if best_one else 0.4
        )
    axes.set_xlabel("rounds, epochs or trees")
    axes.set_ylabel(f"mean {metric}")
    axes.set_title("candidates, the best one in orange", loc="left", fontsize=10)
