"""What all searches share: candidates fitted and scored on folds in Ray Tune's trials, results, and the best estimator."""

from __future__ import annotations

import numbers
import time
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.utils import get_tags

from raydp_ml import progress
from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.frames.path import PathFrame
from raydp_ml.frames.registry import open_frame
from raydp_ml.persistence.directory import Savable
from raydp_ml.pipeline.collected import CollectedEstimator
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.best import BestEstimator
from raydp_ml.search.budget import Budget
from raydp_ml.search.candidates import check_candidates, concerns, with_params
from raydp_ml.search.division import Division
from raydp_ml.search.files import read_search, write_search
from raydp_ml.search.folds.local import require_alignable, without_columns
from raydp_ml.search.folds.splits import check_cv_argument
from raydp_ml.search.journal import Journal, fingerprint
from raydp_ml.search.progress import Progress
from raydp_ml.search.results import cv_results, failures_of, learning_curves, metric_names
from raydp_ml.search.run import SearchRows, SearchRun
from raydp_ml.search.scoring import SINGLE, Scorers, names_several, own_score, scorers_of
from raydp_ml.search.trial import Outcome, Plan, budget_of

if TYPE_CHECKING:
    from raydp_ml.search.searchers import Space
    from raydp_ml.search.watching import Observer

__all__ = ["BaseSearch"]

_FITTED = (
    "best_index_",
    "best_params_",
    "best_score_",
    "best_estimator_",
    "refit_time_",
    "cv_results_",
    "learning_curves_",
    "results_",
)


class BaseSearch(BestEstimator, MetaEstimatorMixin, Savable, BaseEstimator):
    """Search by cross-validation on Ray Tune; a subclass says which candidates run.

    As in scikit-learn's ``BaseSearchCV``: a subclass stores its own constructor arguments, hands the others on, and defines
    :meth:`_candidates` and ``_candidates_name``.
    """

    _candidates_name: ClassVar[str]
    """The parameter that holds the values to try, for messages."""

    def __init__(
        self,
        estimator: Any,
        *,
        cv: Any,
        scoring: Any,
        refit: Any,
        error_score: Any,
        return_train_score: bool,
        max_concurrent_trials: int | None,
        resources_per_trial: Mapping[str, float] | None,
        scheduler: Any,
        time_budget_s: float | None,
        random_state: Any,
        storage_path: Any,
        resume: bool,
        run_config: Any,
        verbose: int,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.max_concurrent_trials = max_concurrent_trials
        self.resources_per_trial = resources_per_trial
        self.scheduler = scheduler
        self.time_budget_s = time_budget_s
        self.random_state = random_state
        self.storage_path = storage_path
        self.resume = resume
        self.run_config = run_config
        self.verbose = verbose

    @abstractmethod
    def _candidates(self) -> list[dict[str, Any]]:
        """Parameters of each candidate, in the order of ``cv_results_``; raises for what makes none."""

    def _suggestions(self) -> tuple[Any, Space, int] | None:
        """A searcher, its space and how many candidates it suggests, where candidates depend on earlier scores."""
        return None

    # ---- fit -------------------------------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any = None, *, groups: Any = None, sample_weight: Any = None, **fit_params: Any
    ) -> BaseSearch:
        """Search, and fit the best candidate on all rows.

        Parameters
        ----------
        X : frame or array
            Training rows, of any kind that the estimator takes.
        y : array-like, optional
            Labels, when they are no column of X.
        groups : array-like or str, optional
            Groups of rows for splitters such as GroupKFold; for frames the name of a column.
        sample_weight : array-like, optional
            Weights of rows that lie in this process, for fits and for scorers that take weights. For distributed frames the
            estimator's ``weight_column`` does the same.
        **fit_params : object
            Further arguments of the estimator's ``fit``; those that have an item for each row are divided as the rows are.

        Returns
        -------
        BaseSearch
            This object. After Ctrl-C it has ``cv_results_`` of what was done until then.
        """
        with progress.call(type(self).__name__, bool(self.verbose)):
            return self._fit(X, y, groups, {"sample_weight": sample_weight, **fit_params})

    def _fit(self, X: Any, y: Any, groups: Any, given: dict[str, Any]) -> BaseSearch:
        from raydp_ml.search.tune import ray_running

        suggestions = self._suggestions()
        candidates = [] if suggestions is not None else self._candidates()
        check_candidates(self.estimator, candidates, self._candidates_name)
        scorers = scorers_of(self.scoring, self.estimator)
        self._check_arguments(scorers)
        for name in _FITTED:
            self.__dict__.pop(name, None)
        if isinstance(self.estimator, SparkRayPipeline):
            X, y = self.estimator.spark_frame(X, y), None
        frame = open_frame(X)
        if isinstance(frame, PathFrame):
            frame.refuse()
        if frame is not None and frame.distributed:
            require_alignable(given, frame.kind)
        division = Division(self.estimator, self.cv, self.random_state, self._candidates_name)
        with ray_running():
            with ExitStack() as opened:
                with progress.waiting_for("the rows are divided into folds"):
                    rows = opened.enter_context(division.rows(X, y, groups, given, candidates))
                run = self._start(rows, candidates, scorers)
                try:
                    self.results_ = self._search(run, scorers, suggestions)
                except KeyboardInterrupt:
                    self._keep_table(run.candidates, scorers, run.all_outcomes(), len(rows.splits))
                    raise
                self._keep_results(run.candidates, scorers, run.all_outcomes(), len(rows.splits))
            if self.refit:
                self._refit(without_columns(X, division.extra_columns(groups)), y, given)
        return self

    def _check_arguments(self, scorers: Scorers) -> None:
        if names_several(self.scoring) and self.refit and not callable(self.refit) and self.refit not in scorers:
            raise InvalidValueError(
                f"with several scores refit must name one of {', '.join(scorers)}, or be False; it is {self.refit!r}"
            )
        if self.error_score != "raise" and not isinstance(self.error_score, numbers.Number):
            raise InvalidValueError(f"error_score={self.error_score!r} must be 'raise' or a number")
        check_cv_argument(self.cv)
        limit = self.max_concurrent_trials
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, numbers.Integral) or limit < 1):
            raise InvalidValueError(f"max_concurrent_trials={limit!r} must be a whole number of at least 1, or None")
        seconds = self.time_budget_s
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not seconds > 0
        ):
            raise InvalidValueError(f"time_budget_s={seconds!r} must be a positive number of seconds, or None")
        if self.resume and self._storage() is None:
            raise InvalidValueError(
                "resume=True needs storage_path: the folder where the fits of the search to go on with are written down"
            )

    def _storage(self) -> Any:
        if self.storage_path is not None or self.run_config is None:
            return self.storage_path
        return self.run_config.storage_path

    # ---- trials ----------------------------------------------------------------------------------------------------

    def _start(self, rows: SearchRows, candidates: list[dict[str, Any]], scorers: Scorers) -> SearchRun:
        run = SearchRun(rows)
        for params in candidates:
            run.add(params)
        storage = self._storage()
        if storage is not None:
            run.journal = Journal(storage)
            described = fingerprint(
                self.estimator,
                candidates,
                rows.y,
                rows.splits.digest(),
                scores=list(scorers),
                error_score=self.error_score,
                return_train_score=self.return_train_score,
                in_steps=self.scheduler is not None,
            )
            run.outcomes = run.journal.begin(described, resume=self.resume)
        return run

    def _search(self, run: SearchRun, scorers: Scorers, suggestions: tuple[Any, Space, int] | None) -> Any:
        """Run the trials; Ray Tune's results."""
        from raydp_ml.search.halving import Halving, InOrder
        from raydp_ml.search.schedulers import scheduler_of
        from raydp_ml.search.searchers import Suggested, Suggesting
        from raydp_ml.search.trainable import Candidates, Listed
        from raydp_ml.search.tune import Queue, Settings, run_trials

        rows, n_splits = run.rows, len(run.rows.splits)
        halves = isinstance(self.scheduler, str) and self.scheduler == "asha"
        scheduler = None if halves else scheduler_of(self.scheduler)
        in_steps = halves or scheduler is not None
        metric = self._metric(scorers) if in_steps or suggestions is not None else None
        plan = Plan(
            rows.estimator,
            rows.name,
            rows.folds,
            n_splits,
            scorers,
            self.error_score,
            bool(self.return_train_score),
            metric,
            in_steps,
        )
        own = partial(_own_params, rows.name)
        resources = self._resources(run.candidates, in_steps)
        candidates: Candidates
        if suggestions is None:
            order = sorted(range(len(run.candidates)), key=run.prefixes.__getitem__)
            queue = Queue(order, len(order))
            candidates = Listed(list(map(own, run.candidates)), run.prefixes, dict(run.outcomes))
        else:
            searcher, space, count = suggestions
            queue = Queue([], count, Suggesting(searcher, space, run.add))
            candidates = Suggested(space, own)
        observer: Observer = run
        if halves:

            def budget(number: int) -> Budget:
                return budget_of(plan, own(run.candidates[number]))

            inner = queue.searcher or InOrder(queue.order)
            observer = halving = Halving(inner, run, budget, queue.count, n_splits, metric or SINGLE)
            queue = Queue([], queue.count, halving, in_shares=True)
        if self.verbose:
            run.progress = Progress(type(self).__name__, queue.count, n_splits, self._metric(scorers))
        settings = Settings(
            resources, self.max_concurrent_trials, self.storage_path, self.run_config, scheduler, self.time_budget_s
        )
        try:
            with progress.waiting_for(f"trials of {queue.count} candidates start, and fit"):
                results = run_trials(plan, candidates, queue, settings, observer, lambda: run.failed)
        finally:
            if run.progress is not None:
                run.progress.close()
        if run.exception is not None:
            raise run.exception
        return results

    def _resources(self, candidates: list[dict[str, Any]], in_steps: bool) -> tuple[dict[str, float], dict[str, float]]:
        """What a trial takes by itself and with its workers, and whether the scheduler can work with these candidates."""
        from raydp_ml.search.tune import trial_resources

        estimators = [with_params(self.estimator, params) for params in candidates] or [self.estimator]
        finals = [each.final_estimator if isinstance(each, SparkRayPipeline) else each for each in estimators]
        for each, final in zip(estimators, finals, strict=True):
            if isinstance(each, SparkRayPipeline) and not isinstance(final, EstimatorBase | CollectedEstimator):
                raise InvalidValueError(
                    f"param_grid holds {each.steps[-1][0]!r} that trains in Spark: a pipeline can end in it, but trials have no "
                    "Spark; search over an estimator of raydp_ml or scikit-learn, or use pyspark.ml.tuning.CrossValidator"
                )
        own, together = trial_resources(finals[0], self.resources_per_trial)
        for final in finals[1:]:
            for name, amount in trial_resources(final, self.resources_per_trial)[1].items():
                together[name] = max(together.get(name, 0.0), amount)
        if not in_steps:
            return own, together
        if own != together:
            raise InvalidValueError(
                "scheduler cannot stop candidates whose estimator has several workers or a scaling_config: stopped trials would "
                "leave their workers behind; use num_workers=1, or no scheduler"
            )
        if not any(len(Budget.of(final)) > 1 for final in finals):
            raise InvalidValueError(
                f"scheduler has nothing to stop: {type(finals[0]).__name__} has no num_boost_round, num_epochs or n_estimators "
                "above 1, of which candidates could have a part first"
            )
        return own, together

    def _metric(self, scorers: Scorers) -> str | None:
        """The score that decides; None when a scorer that gives a dict has to be called to know."""
        if not names_several(self.scoring):
            return self.refit if isinstance(self.refit, str) else SINGLE
        if isinstance(self.refit, str):
            return self.refit
        if self.scheduler is None and not self._suggestions_wanted():
            return None
        raise InvalidValueError(
            f"with several scores, scheduler and search_alg look at the one that refit names: {', '.join(scorers)}"
        )

    def _suggestions_wanted(self) -> bool:
        return False

    # ---- results ---------------------------------------------------------------------------------------------------

    def _keep_table(
        self, candidates: list[dict[str, Any]], scorers: Scorers, outcomes: list[Outcome], n_splits: int
    ) -> None:
        self.n_splits_ = n_splits
        self.multimetric_ = names_several(self.scoring) or metric_names(outcomes) != [SINGLE]
        self.scorer_ = self._kept_scorers(scorers)
        self.cv_results_ = cv_results(
            candidates,
            outcomes,
            n_splits=n_splits,
            error_score=self.error_score,
            train_scores=bool(self.return_train_score),
            in_steps=self.scheduler is not None,
        )
        if self.scheduler is not None:
            self.learning_curves_ = learning_curves(outcomes, n_splits, self._metric(scorers) or SINGLE)

    def _kept_scorers(self, scorers: Scorers) -> Any:
        kept = {name: own_score if scorer is None else scorer for name, scorer in scorers.items()}
        return kept if names_several(self.scoring) else kept[SINGLE]

    def _keep_results(
        self, candidates: list[dict[str, Any]], scorers: Scorers, outcomes: list[Outcome], n_splits: int
    ) -> None:
        if not candidates:
            raise InvalidValueError("search_alg suggested no candidate")
        failures = failures_of(outcomes, n_splits)
        every = n_splits * len(candidates)
        if failures is not None and failures.fits == every:
            raise InvalidValueError(
                f"all {every} fits of the search failed, so that no candidate can be chosen; error_score='raise' raises the first "
                f"error itself. It is:\n{failures.first}"
            )
        if failures is not None:
            warnings.warn(
                f"{failures.fits} of {every} fits failed and score {self.error_score}, those of "
                f"{[candidates[number] for number in failures.candidates]}. The first failed with:\n{failures.first}",
                FitFailedWarning,
                stacklevel=3,
            )
        self._keep_table(candidates, scorers, outcomes, n_splits)
        if self.multimetric_ and not self.refit:
            return
        self._choose(candidates)

    def _choose(self, candidates: list[dict[str, Any]]) -> None:
        results = self.cv_results_
        if callable(self.refit):
            index = self.refit(results)
            if not isinstance(index, int | np.integer) or not 0 <= index < len(candidates):
                raise InvalidValueError(
                    f"refit returned {index!r}, which is not the index of one of {len(candidates)} candidates"
                )
            self.best_index_ = int(index)
        else:
            metric = self.refit if self.multimetric_ else SINGLE
            if f"rank_test_{metric}" not in results:
                names = [name.removeprefix("rank_test_") for name in results if name.startswith("rank_test_")]
                raise InvalidValueError(f"refit must name one of the scores {', '.join(names)}; it is {self.refit!r}")
            self.best_index_ = int(results[f"rank_test_{metric}"].argmin())
            self.best_score_ = float(results[f"mean_test_{metric}"][self.best_index_])
            if np.isnan(self.best_score_):
                raise InvalidValueError(
                    f"no candidate of the search has a score: the mean of {metric!r} over the folds is NaN for each of "
                    f"{len(candidates)}; see cv_results_"
                )
        self.best_params_ = candidates[self.best_index_]

    def _refit(self, X: Any, y: Any, given: Mapping[str, Any]) -> None:
        best = with_params(self.estimator, self.best_params_)
        arguments = [X] if y is None else [X, y]
        start = time.perf_counter()
        named = {name: value for name, value in given.items() if name != "sample_weight" or value is not None}
        self.best_estimator_ = best.fit(*arguments, **named)
        self.refit_time_ = time.perf_counter() - start

    # ---- scikit-learn, pickle and persistence ------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.estimator_type = own.estimator_type
        tags.classifier_tags = own.classifier_tags
        tags.regressor_tags = own.regressor_tags
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune's results belong to the cluster and the folder that they came from.
        return {name: value for name, value in super().__getstate__().items() if name != "results_"}

    # The estimator is a directory of its own, also before a fit.
    has_state_unfitted = True

    def params_to_save(self) -> dict[str, Any]:
        """The parameters without the estimator."""
        return {**self.get_params(deep=False), "estimator": None}

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the estimator and the best one, and return the results."""
        return write_search(self, path)

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over the estimator and the results."""
        read_search(self, path, state)
        if hasattr(self, "cv_results_"):
            self.scorer_ = self._kept_scorers(scorers_of(self.scoring, self.estimator))


def _own_params(name: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a candidate that concern the estimator that trials fit."""
    return {key: value for key, value in params.items() if name is None or concerns(key, name)}
