"""What happens inside a trial of a search: one candidate is fitted and scored, fold after fold.

Without a scheduler a trial fits each fold once. With one, it fits all folds at a small part of the epochs or rounds, then again
at a larger part, and at last at all of them (see :mod:`raydp_ml.search.schedulers`); the folds stay in step, so that the scheduler
compares candidates by their mean over all folds.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import cloudpickle
import numpy as np
from sklearn.base import clone

from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.frames.fold_rows import FoldRows
from raydp_ml.pipeline.steps import final_of
from raydp_ml.search.budget import Budget
from raydp_ml.search.folds.fold import Fold, Folds
from raydp_ml.search.rungs import Share
from raydp_ml.search.scoring import Scorers, score_part

__all__ = ["CandidateRun", "FoldResult", "Outcome", "Plan", "budget_of", "candidate_estimator", "nested_estimators"]


@dataclass(frozen=True)
class Plan:
    """Everything that the trials of one search share.

    Parameters
    ----------
    estimator : estimator
        What is fitted; behind a pipeline its last step.
    name : str or None
        The name of that step.
    folds : Folds
        Where rows come from.
    n_splits : int
        How many folds there are.
    scorers : dict
        What scores.
    error_score : "raise" or float
        What a failed fit scores.
    train_scores : bool
        Whether training rows are scored too.
    metric : str or None
        The score that a scheduler or a searcher looks at.
    in_steps : bool
        Whether candidates are fitted at growing budgets.
    """

    estimator: Any
    name: str | None
    folds: Folds
    n_splits: int
    scorers: Scorers
    error_score: Any
    train_scores: bool = False
    metric: str | None = None
    in_steps: bool = False


@dataclass
class FoldResult:
    """What one fit gave.

    ``scores`` is None where it failed, and ``error`` then says why. ``resource`` counts the epochs, rounds or trees of
    the fit, where a scheduler has them grow.
    """

    fold: int
    step: int = 0
    resource: int | None = None
    scores: dict[str, float] | None = None
    train_scores: dict[str, float] | None = None
    fit_time: float = 0.0
    score_time: float = 0.0
    error: str | None = None


@dataclass
class Outcome:
    """What a candidate's fits gave so far.

    Parameters
    ----------
    results : list of FoldResult
        In the order of the fits.
    steps : int
        How many budgets the candidate has.
    problem : str or None
        Why fits are missing: the trial's process died, or the search was stopped.
    exception : str or None
        The pickled exception, in hexadecimal digits, that ends a search with ``error_score="raise"``.
    """

    results: list[FoldResult] = field(default_factory=list)
    steps: int = 1
    problem: str | None = None
    exception: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """What :meth:`to_dict` made."""
        return cls(**{**values, "results": [FoldResult(**each) for each in values["results"]]})

    def joined(self, other: Outcome) -> Outcome:
        """Also what another trial of the candidate gave; fits that are here already stay as they are."""
        known = {(result.step, result.fold) for result in self.results}
        new = [result for result in other.results if (result.step, result.fold) not in known]
        results = sorted([*self.results, *new], key=lambda result: (result.step, result.fold))
        return Outcome(results, other.steps, other.problem, other.exception)

    def last_step(self, n_splits: int) -> int:
        """The largest budget at which all folds were fitted; 0 when there is none yet."""
        counts = np.bincount([result.step for result in self.results], minlength=1)
        full = np.flatnonzero(counts == n_splits)
        return int(full[-1]) if len(full) else 0

    def of_step(self, step: int) -> dict[int, FoldResult]:
        """The results of one budget by fold."""
        return {result.fold: result for result in self.results if result.step == step}


class CandidateRun:
    """Fits of one candidate, one at a time.

    Parameters
    ----------
    plan : Plan
        The search.
    params : mapping
        The candidate's parameters, of the estimator alone.
    prefix : int
        The Spark steps that it is fitted behind.
    done : Outcome or None
        Fits that were made before and are not repeated.
    share : Share or None
        The fits to make; None: all.
    """

    def __init__(
        self,
        plan: Plan,
        params: Mapping[str, Any],
        prefix: int,
        done: Outcome | None = None,
        share: Share | None = None,
    ) -> None:
        self._plan, self._params, self._prefix = plan, params, prefix
        self._stored = {} if done is None else {(result.step, result.fold): result for result in done.results}
        self._share = share
        self._budget: Budget | None = None
        self._places: list[tuple[int, int]] = []
        self.outcome = Outcome()

    def advance(self) -> None:
        """Make the next fit, or take it from those that were made before."""
        if self._budget is None:
            self._budget = budget_of(self._plan, self._params)
            self.outcome.steps = len(self._budget)
            if self._share is None:
                self._places = list(product(range(len(self._budget)), range(self._plan.n_splits)))
            else:
                self._places = [(self._share.step, fold) for fold in self._share.folds]
        step, fold = self._places[len(self.outcome.results)]
        stored = self._stored.get((step, fold))
        if stored is not None:
            self.outcome.results.append(stored)
            return
        result = FoldResult(fold, step, self._budget.amount(step) if self._plan.in_steps else None)
        try:
            self._fit_and_score(result)
        except Exception as error:  # whatever a candidate raises is a result of the search
            if self._plan.error_score == "raise":
                self.outcome.exception = cloudpickle.dumps(error).hex()
                return
            result.error = traceback.format_exc()
        self.outcome.results.append(result)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to fit."""
        if self.outcome.exception is not None:
            return True
        return self._budget is not None and len(self.outcome.results) >= len(self._places)

    @property
    def step_complete(self) -> bool:
        """Whether the last fit was that of the last fold at its budget."""
        return bool(self.outcome.results) and self.outcome.results[-1].fold == self._plan.n_splits - 1

    def progress(self) -> tuple[int, float]:
        """How far the candidate is in the scheduler's own time, and in epochs or rounds."""
        if self._budget is None or not self.outcome.results:
            return 0, 0.0
        last = self.outcome.results[-1]
        return self._budget.time(last.step), float(self._budget.amount(last.step))

    def _fit_and_score(self, result: FoldResult) -> None:
        plan = self._plan
        fold = plan.folds.fold(self._prefix, result.fold)
        estimator = _in_trial(candidate_estimator(plan.estimator, plan.name, self._params))
        if self._budget is not None:
            self._budget.apply(estimator, result.step)
        if plan.name is not None:
            estimator = _as_last_step(estimator)
        start = time.perf_counter()
        try:
            _fit(estimator, fold)
        finally:
            result.fit_time = time.perf_counter() - start
        start = time.perf_counter()
        try:
            result.scores = score_part(plan.scorers, estimator, fold.test)
        finally:
            result.score_time = time.perf_counter() - start
        if plan.train_scores:
            result.train_scores = score_part(plan.scorers, estimator, fold.train)


def _fit(estimator: Any, fold: Fold) -> None:
    train = fold.train
    if isinstance(train.X, FoldRows):
        estimator.fit_features(train.X, vector_column=train.X.vector_column)
        return
    arguments = [train.X] if train.y is None else [train.X, train.y]
    named = dict(fold.fit_params)
    if train.weight is not None:
        named["sample_weight"] = train.weight
    estimator.fit(*arguments, **named)


def _as_last_step(estimator: Any) -> Any:
    """The last step of a pipeline as what trains on rows behind the other steps."""
    final = final_of(estimator)
    return estimator if final is None else final.estimator()


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


def budget_of(plan: Plan, params: Mapping[str, Any]) -> Budget:
    """The steps in which a candidate is fitted.

    Parameters
    ----------
    plan : Plan
        The search.
    params : mapping
        Parameters of the candidate that concern the estimator.
    """
    if not plan.in_steps:
        return Budget.whole()
    try:
        return Budget.of(candidate_estimator(plan.estimator, plan.name, params))
    except Exception:  # an estimator that cannot be made fails in its fit, where that is told
        return Budget.whole()


def nested_estimators(estimator: Any) -> Sequence[EstimatorBase]:
    """The estimators of raydp_ml in an estimator: itself, or those that a pipeline of scikit-learn, say, holds.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> nested_estimators(DummyClassifier())
    []
    """
    values = [estimator, *estimator.get_params(deep=True).values()]
    found = {id(value): value for value in values if isinstance(value, EstimatorBase)}
    return list(found.values())


def _in_trial(estimator: Any) -> Any:
    """Have estimators of raydp_ml train inside the trial's process, unless they need several workers."""
    for each in nested_estimators(estimator):
        if each.scaling_config is None and each.num_workers in (None, 1):
            each.set_params(num_workers=0)
        # The fits of all candidates would write into one folder; the search writes down those that have ended by itself.
        each.set_params(verbose=False, checkpoint_every=0)
    return estimator
