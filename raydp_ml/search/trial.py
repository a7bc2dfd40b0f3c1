"""What happens inside a trial of a search: one candidate is fitted and scored on every fold."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import numpy as np
from sklearn.base import clone

from raydp_ml.frames.fold_rows import FoldRows
from raydp_ml.search.rows import CrossedFold, LocalFolds

__all__ = ["AskedFolds", "CrossedFolds", "Outcome", "Plan", "candidate_estimator", "evaluate"]


@dataclass(frozen=True)
class Plan:
    """Everything that the trials of one search share.

    ``candidates`` holds, for each candidate, the parameters of the estimator alone, and ``prefixes`` the number of the
    Spark steps that it is fitted behind.
    """

    estimator: Any
    name: str | None
    candidates: list[dict[str, Any]]
    prefixes: list[int]
    n_splits: int
    scorers: dict[str, Any]
    error_score: Any
    folds: Any


@dataclass
class Outcome:
    """What a candidate's fits gave: for each fold a score of each scorer, and seconds.

    ``errors`` has a message for each fold that failed; ``exception`` is the pickled exception, in hexadecimal digits, that ends a
    search with ``error_score="raise"``.
    """

    scores: dict[str, list[float]]
    fit_time: list[float] = field(default_factory=list)
    score_time: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    exception: str | None = None

    @classmethod
    def of_lost_trial(cls, plan: Plan, problem: str) -> Outcome:
        """The outcome of a trial that ended without one."""
        lost = np.nan if plan.error_score == "raise" else float(plan.error_score)
        nothing = [0.0] * plan.n_splits
        scores = {name: [lost] * plan.n_splits for name in plan.scorers}
        return cls(scores, nothing, nothing, [problem] * plan.n_splits)


@dataclass
class AskedFolds:
    """Folds that the driver's Spark makes when a trial asks for them, through the broker."""

    broker: Any

    def fold(self, prefix: int, number: int) -> tuple[Any, Any, Any, Any]:
        """Training rows and labels, test rows and labels."""
        import ray

        crossed: CrossedFold | BaseException = ray.get(self.broker.get.remote((prefix, number)))
        if isinstance(crossed, BaseException):
            raise crossed
        return read_fold(crossed)


@dataclass
class CrossedFolds:
    """Folds of one crossed frame that no step depends on."""

    crossed: list[CrossedFold]

    def fold(self, prefix: int, number: int) -> tuple[Any, Any, Any, Any]:
        """Training rows and labels, test rows and labels."""
        return read_fold(self.crossed[number])


def read_fold(crossed: CrossedFold) -> tuple[Any, Any, Any, Any]:
    """Training rows and labels, test rows and labels; the labels of the training rows are inside them."""
    train, test = crossed.read()
    return train, None, test, test.arrays.label


def candidate_estimator(estimator: Any, name: str | None, params: Mapping[str, Any]) -> Any:
    """A new estimator with a candidate's parameters.

    Parameters
    ----------
    estimator : estimator
        The estimator that is searched, or the last step of the pipeline.
    name : str or None
        Name of that step; None when there is no pipeline.
    params : mapping
        Parameters of the candidate that concern the estimator.

    Returns
    -------
    estimator
        Unfitted.
    """
    own = dict(params)
    if name is not None:
        if name in own:
            estimator = own.pop(name)
        own = {key.removeprefix(name + "__"): value for key, value in own.items()}
    # Values are cloned as scikit-learn does: an estimator among them may be shared by several candidates.
    return clone(estimator).set_params(**{key: clone(value, safe=False) for key, value in own.items()})


def in_trial(estimator: Any) -> Any:
    """Have an estimator of raydp_ml train inside the trial's process, unless it needs several workers."""
    params = estimator.get_params(deep=False)
    if "num_workers" in params and params.get("scaling_config") is None and params["num_workers"] in (None, 1):
        estimator.set_params(num_workers=0)
    if "num_workers" in params and "verbose" in params:
        estimator.set_params(verbose=False)
    return estimator


def evaluate(plan: Plan, candidate: int) -> Outcome:
    """Fit and score one candidate on every fold.

    Parameters
    ----------
    plan : Plan
        The search.
    candidate : int
        Which of its candidates.

    Returns
    -------
    Outcome
        Scores and times of each fold.
    """
    outcome = Outcome({name: [] for name in plan.scorers})
    for number in range(plan.n_splits):
        start = fitted = time.perf_counter()
        try:
            X, y, X_test, y_test = plan.folds.fold(plan.prefixes[candidate], number)
            estimator = candidate_estimator(plan.estimator, plan.name, plan.candidates[candidate])
            estimator = in_trial(estimator)
            if isinstance(X_test, FoldRows) and estimator.null_features == "skip":
                X_test = X_test.without_nulls()
                y_test = X_test.arrays.label
            start = time.perf_counter()
            if isinstance(X, FoldRows):
                estimator.fit_features(X, vector_column=X.vector_column)
            elif y is None or _label_inside(plan.folds):
                estimator.fit(X)
            else:
                estimator.fit(X, y)
            fitted = time.perf_counter()
            values = {name: score_of(scorer, estimator, X_test, y_test) for name, scorer in plan.scorers.items()}
        except Exception as error:  # whatever a candidate raises is a result of the search
            if plan.error_score == "raise":
                outcome.exception = cloudpickle.dumps(error).hex()
                return outcome
            fitted = max(fitted, start)
            values = {name: float(plan.error_score) for name in plan.scorers}
            outcome.errors.append(traceback.format_exc())
        outcome.fit_time.append(fitted - start)
        outcome.score_time.append(time.perf_counter() - fitted)
        for name, value in values.items():
            outcome.scores[name].append(value)
    return outcome


def _label_inside(folds: Any) -> bool:
    return isinstance(folds, LocalFolds) and folds.y_in_frame


def score_of(scorer: Any, estimator: Any, X: Any, y: Any) -> float:
    """One score; without a scorer the estimator's own."""
    value = estimator.score(X, y) if scorer is None else scorer(estimator, X, y)
    if not np.isscalar(value) and not (isinstance(value, np.ndarray) and value.ndim == 0):
        raise ValueError(f"scoring must give one number, it gave {type(value).__name__}: {value!r}")
    return float(np.asarray(value))
