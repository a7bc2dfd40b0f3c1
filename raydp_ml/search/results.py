"""What a search makes of the scores of its candidates, and small readers of columns that it needs for that."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, is_classifier
from sklearn.metrics import get_scorer
from sklearn.utils import get_tags

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.registry import open_frame, require_frame
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.trial import Outcome

__all__ = ["Collected", "column_of", "cv_results", "fold_numbers", "named_scorer", "own_score", "without_columns"]


class Collected(BaseEstimator):
    """Predictions and labels of a frame brought here, with the face that scikit-learn's scorers need."""

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        final = estimator
        if isinstance(estimator, SparkRayPipeline):
            X, final = estimator.features(estimator.spark_frame(X, y)), estimator.final_estimator
        self._tags = get_tags(final)
        classifies = is_classifier(final)
        found = final.labelled_predictions(X, output="probability" if classifies else "prediction")
        self.labels, self._values = found.labels, found.predictions
        if classifies:
            self.classes_ = final.classes_

    def __sklearn_tags__(self) -> Any:
        return self._tags

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[np.argmax(self._values, axis=1)] if hasattr(self, "classes_") else self._values

    def predict_proba(self, X: Any) -> np.ndarray:
        if not hasattr(self, "classes_"):
            raise AttributeError("predict_proba")
        return self._values


def own_score(estimator: Any, X: Any, y: Any = None) -> float:
    """The scorer of a search without ``scoring``."""
    return estimator.score(X) if y is None else estimator.score(X, y)


def named_scorer(name: str) -> Any:
    try:
        return get_scorer(name)
    except ValueError as error:
        raise InvalidValueError(
            f"scoring={name!r} is not one of scikit-learn's scorers (sklearn.metrics.get_scorer_names())"
        ) from error


def column_of(X: Any, name: Any) -> Any:
    """A column of a local frame, or several as a matrix."""
    frame = open_frame(X)
    names = [name] if isinstance(name, str) else list(name)
    present = [] if frame is None else [column.name for column in frame.columns()]
    missing = [one for one in names if one not in present]
    if frame is None or missing:
        raise InvalidValueError(f"X has no column {missing or names} (its columns: {', '.join(present) or 'none'})")
    pulled = frame.pull(names)
    return pulled[names[0]] if isinstance(name, str) else np.column_stack([pulled[one] for one in names])


def without_columns(X: Any, names: list[str]) -> Any:
    """A frame without some columns."""
    if not names:
        return X
    return require_frame(X).drop(names)


def fold_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Fold numbers for PredefinedSplit: -1 stays, other values are numbered in their order."""
    kinds, numbered = np.unique(values, return_inverse=True)
    numbered = numbered.reshape(-1).astype(int)
    if values.dtype.kind in "iuf":
        numbered[values == -1] = -1
        kinds = kinds[kinds != -1]
    if len(kinds) < 2 and not (numbered == -1).any():
        raise InvalidValueError(f"cv={name!r}: the column has {len(kinds)} value, so no rows are left to train on")
    return numbered


def cv_results(candidates: list[dict[str, Any]], outcomes: list[Outcome], metrics: list[str]) -> dict[str, Any]:
    """The table of results in scikit-learn's layout."""
    results: dict[str, Any] = {}
    for name, seconds in (
        ("fit_time", [outcome.fit_time for outcome in outcomes]),
        ("score_time", [outcome.score_time for outcome in outcomes]),
    ):
        times = np.array(seconds)
        results[f"mean_{name}"], results[f"std_{name}"] = times.mean(axis=1), times.std(axis=1)
    columns: dict[str, np.ma.MaskedArray] = defaultdict(
        lambda: np.ma.MaskedArray(np.empty(len(candidates), dtype=object), mask=True)
    )
    for number, params in enumerate(candidates):
        for name, value in params.items():
            columns[f"param_{name}"][number] = value
    results.update(columns)
    results["params"] = candidates
    for metric in metrics:
        scores = np.array([outcome.scores[metric] for outcome in outcomes], dtype=float)
        for split in range(scores.shape[1]):
            results[f"split{split}_test_{metric}"] = scores[:, split]
        mean = scores.mean(axis=1)
        results[f"mean_test_{metric}"], results[f"std_test_{metric}"] = mean, scores.std(axis=1)
        # Candidates without a score come last.
        lowest = np.nanmin(mean) - 1 if not np.isnan(mean).all() else 0.0
        results[f"rank_test_{metric}"] = rankdata(-np.where(np.isnan(mean), lowest, mean), method="min").astype(
            np.int32
        )
    return results
