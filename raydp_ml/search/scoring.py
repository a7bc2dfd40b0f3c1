"""What scores the candidates: scikit-learn's ``scoring``, on rows of any kind, with weights where there are any."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils import get_tags

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.predicting import label_and_predict
from raydp_ml.estimators.tasks import above_half
from raydp_ml.frames.columns import names_of
from raydp_ml.frames.fold_rows import FoldRows
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.pandas_frame import PandasFrame
from raydp_ml.frames.registry import open_frame
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.folds.columns import column_params
from raydp_ml.search.folds.fold import Part
from raydp_ml.search.folds.local import column_of

__all__ = ["SINGLE", "Collected", "Scorers", "names_several", "own_score", "score_frame", "score_part", "scorers_of"]

SINGLE = "score"
"""The name of the score where there is only one, as in scikit-learn's ``cv_results_``."""

Scorers = dict[str, Any]
"""Scorers by name; None stands for the estimator's own ``score``."""


def scorers_of(scoring: Any, estimator: Any) -> Scorers:
    """The scorers that the parameter ``scoring`` stands for.

    Parameters
    ----------
    scoring : str, callable, list, tuple, dict or None
        As scikit-learn takes it. A callable may return a dict of scores, whose names are known when it has been called.
    estimator : estimator
        What is searched.

    Examples
    --------
    >>> scorers_of(None, None)
    {'score': None}
    """
    if scoring is None:
        return {SINGLE: None}
    if isinstance(scoring, str):
        return {SINGLE: _named(scoring)}
    if callable(scoring):
        return {SINGLE: check_scoring(estimator, scoring=scoring)}
    if isinstance(scoring, Mapping):
        chosen = {name: _named(one) if isinstance(one, str) else one for name, one in scoring.items()}
    elif isinstance(scoring, list | tuple | set) and all(isinstance(name, str) for name in scoring):
        chosen = {name: _named(name) for name in scoring}
    else:
        raise InvalidTypeError(f"scoring must be a name, a callable, a list of names or a dict, got {scoring!r}")
    wrong = {name: one for name, one in chosen.items() if not callable(one)}
    if wrong:
        raise InvalidTypeError(f"scoring has values that are neither names nor callable: {wrong!r}")
    if not chosen:
        raise InvalidValueError(f"scoring={scoring!r} names no score")
    return chosen


def names_several(scoring: Any) -> bool:
    """Whether ``scoring`` has names for its scores."""
    return isinstance(scoring, Mapping | list | tuple | set)


def _named(name: str) -> Any:
    try:
        return get_scorer(name)
    except ValueError as error:
        raise InvalidValueError(
            f"scoring={name!r} is not one of scikit-learn's scorers (sklearn.metrics.get_scorer_names())"
        ) from error


def own_score(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """The scorer of a search without ``scoring``: the estimator's ``score``."""
    arguments = [X] if y is None else [X, y]
    if sample_weight is None:
        return float(estimator.score(*arguments))
    return float(estimator.score(*arguments, sample_weight=sample_weight))


# -- in trials ---------------------------------------------------------------------------------------------------------


def score_part(scorers: Scorers, estimator: Any, part: Part) -> dict[str, float]:
    """The scores of an estimator on the rows of a part of a fold.

    Parameters
    ----------
    scorers : dict
        See :func:`scorers_of`.
    estimator : estimator
        A fitted one.
    part : Part
        The rows; those with null features are left out where the estimator skips them.
    """
    X, y, weight = part.X, part.y, part.weight
    if isinstance(X, FoldRows):
        if estimator.null_features == "skip":
            X = X.without_nulls()
        return _scores(scorers, estimator, X, X.arrays.label, X.arrays.weight)
    frame = open_frame(X)
    if frame is None or y is not None:
        return _scores(scorers, estimator, X, y, weight)
    label, weight_column = (column_params(estimator)[name] for name in ("label_column", "weight_column"))
    own = {name: own_score(estimator, X) for name, scorer in scorers.items() if scorer is None}
    others = {name: scorer for name, scorer in scorers.items() if scorer is not None}
    if not others:
        return own
    if not isinstance(frame, PandasFrame):
        # Predictions of such a frame are a frame, and scorers compare arrays.
        collected = Collected(estimator, frame)
        return {**own, **_scores(others, collected, X, collected.labels, collected.weight)}
    if weight_column is not None:
        weight = column_of(X, weight_column)
    return {**own, **_scores(others, estimator, X, column_of(X, label), weight)}


def _scores(scorers: Scorers, estimator: Any, X: Any, y: Any, weight: Any) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name, scorer in scorers.items():
        value = _call(scorer, estimator, X, y, weight)
        if isinstance(value, Mapping):
            if name != SINGLE or len(scorers) > 1:
                raise InvalidTypeError(f"the scorer {name!r} of several gave a dict; only a single one may: {value!r}")
            if not value:
                raise InvalidValueError("scoring gave a dict without scores")
            scores.update({key: _number(one) for key, one in value.items()})
        else:
            scores[name] = _number(value)
    return scores


def _call(scorer: Any, estimator: Any, X: Any, y: Any, weight: Any) -> Any:
    if scorer is None:
        return own_score(estimator, X, y, weight)
    if weight is None or not _takes_weights(scorer):
        return scorer(estimator, X, y)
    return scorer(estimator, X, y, sample_weight=weight)


def _takes_weights(scorer: Callable[..., Any]) -> bool:
    """Whether a scorer has a parameter for weights; a function of the user without one scores without them."""
    return "sample_weight" in inspect.signature(scorer).parameters


def _number(value: Any) -> float:
    if not np.isscalar(value) and not (isinstance(value, np.ndarray) and value.ndim == 0):
        raise InvalidTypeError(f"scoring must give one number, it gave {type(value).__name__}: {value!r}")
    return float(np.asarray(value))


# -- frames ------------------------------------------------------------------------------------------------------------


class Collected(BaseEstimator):
    """Predictions and labels of a frame brought here, with the face that scikit-learn's scorers need.

    Parameters
    ----------
    estimator : EstimatorBase
        A fitted one.
    frame : Frame
        The rows, with label and weight columns.
    """

    def __init__(self, estimator: Any, frame: Frame) -> None:
        self._tags = get_tags(estimator)
        params = column_params(estimator)
        classifies = is_classifier(estimator)
        if classifies:
            self.classes_ = estimator.classes_
        predict = estimator.predict_proba if classifies else estimator.predict
        column = params["probability_column" if classifies else "prediction_column"]
        label = names_of(params["label_column"], "label_column")
        found = label_and_predict(label, params["weight_column"], frame, partial(predict, frame), column)
        self.labels, self.weight = found.labels, found.weight
        self._values = np.asarray(found.predictions, np.float64)

    def __sklearn_tags__(self) -> Any:
        return self._tags

    def predict(self, X: Any) -> np.ndarray:
        if not hasattr(self, "classes_"):
            return self._values
        if self.labels.ndim == 2:  # several 0/1 labels
            return above_half(self._values)
        labels: np.ndarray = self.classes_[np.argmax(self._values, axis=1)]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        if not hasattr(self, "classes_"):
            raise AttributeError("predict_proba")
        return self._values


def score_frame(scorer: Any, best: Any, X: Any, y: Any) -> float | dict[str, float]:
    """The score of the best estimator on rows that are no arrays, or the scores of a scorer that gives a dict.

    Parameters
    ----------
    scorer : callable
        One of :func:`scorers_of`.
    best : SparkRayPipeline or EstimatorBase
        A fitted one.
    X : frame or path
        The rows.
    y : array-like or None
        Labels that are not in X.
    """
    final = best
    if isinstance(best, SparkRayPipeline):
        X, final = best.features(best.spark_frame(X, y)), best.final_estimator
    frame = open_frame(X)
    if frame is None or isinstance(frame, PandasFrame):
        scores = score_part({SINGLE: scorer}, final, Part(X))
    else:
        collected = Collected(final, frame)
        scores = _scores({SINGLE: scorer}, collected, X, collected.labels, collected.weight)
    return scores.get(SINGLE, scores)
