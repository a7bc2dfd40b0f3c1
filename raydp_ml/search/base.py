"""What all searches share: candidates fitted and scored on folds in Ray Tune's trials, results, and the best estimator."""

from __future__ import annotations

import numbers
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import cloudpickle
import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold, check_cv
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.path import PathFrame
from raydp_ml.frames.registry import open_frame
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.results import (
    Collected,
    column_of,
    cv_results,
    fold_numbers,
    named_scorer,
    own_score,
    without_columns,
)
from raydp_ml.search.rows import LocalFolds
from raydp_ml.search.trial import AskedFolds, CrossedFolds, Outcome, Plan, candidate_estimator

__all__ = ["BaseSearch"]

# Parameters of an estimator that decide which columns cross to the trials.
_COLUMN_PARAMS = (
    "feature_columns",
    "label_column",
    "weight_column",
    "validation",
    "qid_column",
    "base_margin_column",
    "prediction_column",
    "probability_column",
)


def _best_has(method: str) -> Callable[[Any], bool]:
    def check(search: BaseSearch) -> bool:
        getattr(search.best_estimator_ if hasattr(search, "best_estimator_") else search.estimator, method)
        return True

    return check


class BaseSearch(MetaEstimatorMixin, BaseEstimator):
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
        max_concurrent_trials: int | None,
        resources_per_trial: Mapping[str, float] | None,
        random_state: Any,
        storage_path: Any,
        run_config: Any,
        verbose: int,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.error_score = error_score
        self.max_concurrent_trials = max_concurrent_trials
        self.resources_per_trial = resources_per_trial
        self.random_state = random_state
        self.storage_path = storage_path
        self.run_config = run_config
        self.verbose = verbose

    @abstractmethod
    def _candidates(self) -> list[dict[str, Any]]:
        """Parameters of each candidate, in the order of ``cv_results_``; raises for what makes none."""

    # ---- fit -------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> BaseSearch:
        """Search, and fit the best candidate on all rows.

        Parameters
        ----------
        X : frame or array
            Training rows, of any kind that the estimator takes.
        y : array-like, optional
            Labels, when they are no column of X.
        groups : array-like or str, optional
            Groups of rows for splitters such as GroupKFold; for frames the name of a column.

        Returns
        -------
        BaseSearch
            This object.
        """
        from raydp_ml.search.tune import ray_running

        candidates = self._candidates()
        self._check_candidates(candidates)
        scorers = self._scorers()
        self._check_arguments(scorers)
        if isinstance(self.estimator, SparkRayPipeline):
            X, y = self.estimator.spark_frame(X, y), None
        frame = open_frame(X)
        if isinstance(frame, PathFrame):
            frame.refuse()
        with ray_running():
            outcomes, splits = self._search(candidates, scorers, X, y, groups)
            self._keep_results(candidates, scorers, outcomes, splits)
            if self.refit:
                self._refit(without_columns(X, self._extra_columns(groups)), y)
        return self

    def _check_candidates(self, candidates: list[dict[str, Any]]) -> None:
        """Raise for parameters that the estimator does not have."""
        argument = self._candidates_name
        probe = clone(self.estimator)
        known = probe.get_params(deep=True)
        for name in dict.fromkeys(name for params in candidates for name in params):
            if name.rpartition("__")[2] == "label_column":
                raise InvalidValueError(f"{argument} holds {name!r}: candidates with other labels cannot be compared")
            if name not in known:
                # Estimators may take names that they do not list, as XGBEstimator does; they know.
                value = next(params[name] for params in candidates if name in params)
                try:
                    probe.set_params(**{name: value})
                except (ValueError, TypeError) as error:
                    raise InvalidValueError(f"{argument} holds {name!r}: {error}") from error

    def _scorers(self) -> dict[str, Any]:
        scoring = self.scoring
        if scoring is None:
            return {"score": None}
        if isinstance(scoring, str):
            return {"score": named_scorer(scoring)}
        if callable(scoring):
            return {"score": check_scoring(self.estimator, scoring=scoring)}
        if isinstance(scoring, Mapping):
            chosen = {name: named_scorer(one) if isinstance(one, str) else one for name, one in scoring.items()}
        elif isinstance(scoring, list | tuple | set) and all(isinstance(name, str) for name in scoring):
            chosen = {name: named_scorer(name) for name in scoring}
        else:
            raise InvalidTypeError(f"scoring must be a name, a callable, a list of names or a dict, got {scoring!r}")
        if not chosen:
            raise InvalidValueError(f"scoring={scoring!r} names no score")
        return chosen

    def _check_arguments(self, scorers: Mapping[str, Any]) -> None:
        several = isinstance(self.scoring, Mapping | list | tuple | set)
        if several and self.refit and not callable(self.refit) and self.refit not in scorers:
            raise InvalidValueError(
                f"with several scores refit must name one of {', '.join(scorers)}, or be False; it is {self.refit!r}"
            )
        if self.error_score != "raise" and not isinstance(self.error_score, numbers.Number):
            raise InvalidValueError(f"error_score={self.error_score!r} must be 'raise' or a number")
        if isinstance(self.cv, numbers.Integral) and self.cv < 2:
            raise InvalidValueError(f"cv={self.cv!r} must be at least 2 folds")
        if self.cv is None or isinstance(self.cv, bool | float):
            raise InvalidTypeError(
                f"cv={self.cv!r} must be a number of folds, a splitter, (train, test) pairs or a column"
            )
        limit = self.max_concurrent_trials
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, numbers.Integral) or limit < 1):
            raise InvalidValueError(f"max_concurrent_trials={limit!r} must be a whole number of at least 1, or None")

    def _search(
        self, candidates: list[dict[str, Any]], scorers: dict[str, Any], X: Any, y: Any, groups: Any
    ) -> tuple[list[Outcome], int]:
        if isinstance(self.estimator, SparkRayPipeline):
            return self._search_pipeline(candidates, scorers, X, groups)
        frame = open_frame(X)
        folds: LocalFolds | CrossedFolds
        if frame is not None and frame.distributed:
            folds, n_splits = self._frame_folds(candidates, X, y, groups)
        else:
            folds, n_splits = self._local_folds(X, y, groups)
        one_prefix = [0] * len(candidates)
        plan = Plan(self.estimator, None, candidates, one_prefix, n_splits, scorers, self.error_score, folds)
        return self._run(plan, candidates, list(range(len(candidates))), None), n_splits

    def _local_folds(self, X: Any, y: Any, groups: Any) -> tuple[LocalFolds, int]:
        """Folds of arrays or of a frame in this process, and how many there are."""
        import ray

        inside = y is None
        if inside:
            label = getattr(self.estimator, "label_column", None)
            if label is None or open_frame(X) is None:
                raise InvalidValueError(
                    "y is not given: give the labels, or a frame and an estimator with label_column"
                )
            y = column_of(X, label)
        splits = self._splits(
            y, column_of(X, groups) if isinstance(groups, str) else groups, lambda name: column_of(X, name)
        )
        X = without_columns(X, self._extra_columns(groups))
        return LocalFolds(ray.put(X), ray.put(y), ray.put(splits), inside), len(splits)

    def _frame_folds(self, candidates: list[dict[str, Any]], X: Any, y: Any, groups: Any) -> tuple[CrossedFolds, int]:
        """Folds of a Spark frame or Ray Dataset, whose rows cross once, and how many there are."""
        from raydp_ml.search.sources import FrameSource

        if y is not None:
            raise InvalidTypeError(f"y was given with a {type(X).__name__}; its label is a column: set label_column")
        for name in {name for params in candidates for name in params}:
            if name in _COLUMN_PARAMS:
                raise InvalidValueError(
                    f"{self._candidates_name} holds {name!r}, which can be searched in a SparkRayPipeline only"
                )
        source = FrameSource(self.estimator, X, self._extra_columns(groups))
        splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
        return CrossedFolds(source.folds(splits)), len(splits)

    def _search_pipeline(
        self, candidates: list[dict[str, Any]], scorers: dict[str, Any], df: Any, groups: Any
    ) -> tuple[list[Outcome], int]:
        from raydp_ml.search.broker import FoldService
        from raydp_ml.search.sources import PipelineSource, label_names, prefix_keys

        pipeline = clone(self.estimator)
        _, final = pipeline.split_steps()
        if final is None:
            raise InvalidTypeError("the pipeline has no estimator as its last step, so there is nothing to score")
        name = final[0]
        own = [{key: value for key, value in params.items() if _concerns(key, name)} for params in candidates]
        split_by = {key for params in candidates for key in params if not _concerns(key, name)}
        split_by |= {f"{name}__{param}" for param in _COLUMN_PARAMS} | {name}
        prefixes, firsts = prefix_keys(candidates, sorted(split_by))

        def builder(first: int) -> Callable[[], tuple[list[Any], Any]]:
            before = {key: value for key, value in candidates[first].items() if not _concerns(key, name)}

            def build() -> tuple[list[Any], Any]:
                steps = clone(pipeline).set_params(**before).split_steps()[0]
                return steps, candidate_estimator(final[1], name, own[first])

            return build

        source = PipelineSource(df, label_names(final[1]), self._extra_columns(groups))
        try:
            splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
            source.prepare(splits, [builder(first) for first in firsts])
            order = sorted(range(len(candidates)), key=prefixes.__getitem__)
            with FoldService(source.make, source.release, prefixes, len(splits), source.cancel) as service:
                asked = AskedFolds(service.broker)
                plan = Plan(final[1], name, own, prefixes, len(splits), scorers, self.error_score, asked)
                return self._run(plan, candidates, order, service.finished), len(splits)
        finally:
            source.close()

    def _extra_columns(self, groups: Any) -> list[str]:
        return list(dict.fromkeys(name for name in (self.cv, groups) if isinstance(name, str)))

    def _splits(self, y: Any, groups: Any, column: Callable[[str], Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions of training and test rows for each fold."""
        y = np.asarray(y)
        cv = self.cv
        if isinstance(cv, str):
            splitter: Any = PredefinedSplit(fold_numbers(np.asarray(column(cv)), cv))
        else:
            splitter = check_cv(cv, y if y.ndim == 1 else None, classifier=is_classifier(self.estimator))
            if isinstance(cv, numbers.Integral) and self.random_state is not None:
                kind = StratifiedKFold if isinstance(splitter, StratifiedKFold) else KFold
                splitter = kind(int(cv), shuffle=True, random_state=self.random_state)
        try:
            splits = list(splitter.split(np.zeros(len(y)), y, groups))
        except ValueError as error:
            raise InvalidValueError(f"cv={cv!r} does not fit {len(y)} rows: {error}") from error
        return [(np.asarray(train), np.asarray(test)) for train, test in splits]

    # ---- trials ----------------------------------------------------------------------------------------------------

    def _run(
        self,
        plan: Plan,
        candidates: list[dict[str, Any]],
        order: list[int],
        also_finished: Callable[[int], None] | None,
    ) -> list[Outcome]:
        from raydp_ml.search.tune import run_trials, trial_resources

        outcomes: dict[int, Outcome] = {}
        exceptions: list[BaseException] = []

        def finished(candidate: int, outcome: Outcome | None, problem: str) -> None:
            if also_finished is not None:
                also_finished(candidate)
            if outcome is not None and outcome.exception is not None:
                exceptions.append(cloudpickle.loads(bytes.fromhex(outcome.exception)))
                return
            outcomes[candidate] = outcome or Outcome.of_lost_trial(plan, problem)
            if self.verbose:
                self._print_progress(len(outcomes), len(candidates), candidates[candidate], outcomes[candidate])

        run_trials(
            plan,
            order,
            resources=trial_resources(plan.estimator, self.resources_per_trial),
            max_concurrent_trials=self.max_concurrent_trials,
            storage_path=self.storage_path,
            run_config=self.run_config,
            finished=finished,
        )
        if exceptions:
            raise exceptions[0]
        # A stopping rule in the user's run_config may end the search before each candidate had its turn.
        stopped = Outcome.of_lost_trial(plan, "the search was stopped before the candidate was tried")
        return [outcomes.get(candidate, stopped) for candidate in range(len(candidates))]

    def _print_progress(self, count: int, total: int, params: dict[str, Any], outcome: Outcome) -> None:
        scores = "  ".join(
            f"{name} {np.mean(values):.4f} ± {np.std(values):.4f}" for name, values in outcome.scores.items()
        )
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        seconds = sum(outcome.fit_time)
        print(f"[{type(self).__name__}] {count}/{total}  {scores}  {seconds:.1f} s  {shown}", flush=True)

    # ---- results ---------------------------------------------------------------------------------------------------

    def _keep_results(
        self, candidates: list[dict[str, Any]], scorers: dict[str, Any], outcomes: list[Outcome], n_splits: int
    ) -> None:
        failed = [number for number, outcome in enumerate(outcomes) if outcome.errors]
        if failed:
            first = outcomes[failed[0]].errors[0]
            fits = sum(len(outcome.errors) for outcome in outcomes)
            if fits == n_splits * len(candidates):
                raise InvalidValueError(f"all {fits} fits of the search failed. The first failed with:\n{first}")
            warnings.warn(
                f"{fits} of {n_splits * len(candidates)} fits failed and score {self.error_score}, those of "
                f"{[candidates[number] for number in failed]}. The first failed with:\n{first}",
                FitFailedWarning,
                stacklevel=3,
            )
        several = isinstance(self.scoring, Mapping | list | tuple | set)
        results = cv_results(candidates, outcomes, list(scorers))
        self.cv_results_ = results
        self.n_splits_ = n_splits
        self.multimetric_ = several
        kept = {name: own_score if scorer is None else scorer for name, scorer in scorers.items()}
        self.scorer_ = kept if several else kept["score"]
        for attribute in ("best_index_", "best_params_", "best_score_", "best_estimator_"):
            self.__dict__.pop(attribute, None)
        if several and not self.refit:
            return
        if callable(self.refit):
            index = self.refit(results)
            if not isinstance(index, int | np.integer) or not 0 <= index < len(candidates):
                raise InvalidValueError(
                    f"refit returned {index!r}, which is not the index of one of {len(candidates)} candidates"
                )
            self.best_index_ = int(index)
        else:
            metric = self.refit if several else "score"
            self.best_index_ = int(results[f"rank_test_{metric}"].argmin())
            self.best_score_ = float(results[f"mean_test_{metric}"][self.best_index_])
            if np.isnan(self.best_score_):
                raise InvalidValueError(
                    f"no candidate of the search has a score: the mean of {metric!r} over the folds is NaN for each of "
                    f"{len(candidates)}; see cv_results_"
                )
        self.best_params_ = candidates[self.best_index_]

    def _refit(self, X: Any, y: Any) -> None:
        params = {name: clone(value, safe=False) for name, value in self.best_params_.items()}
        best = clone(self.estimator).set_params(**params)
        start = time.perf_counter()
        self.best_estimator_ = best.fit(X) if y is None else best.fit(X, y)
        self.refit_time_ = time.perf_counter() - start

    # ---- the best estimator ----------------------------------------------------------------------------------------

    def _best(self) -> Any:
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("the search has refit=False, so there is no best_estimator_; set refit=True")
        return self.best_estimator_

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict with the best estimator."""
        return self._best().predict(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities with the best estimator."""
        return self._best().predict_proba(X)

    @available_if(_best_has("transform"))
    def transform(self, X: Any) -> Any:
        """Transform with the best pipeline."""
        return self._best().transform(X)

    @available_if(_best_has("evaluate"))
    def evaluate(self, X: Any, y: Any = None) -> dict[str, float]:
        """Loss and metrics of the best estimator."""
        return self._best().evaluate(X) if y is None else self._best().evaluate(X, y)

    def score(self, X: Any, y: Any = None) -> float:
        """The search's score (``scoring``) of the best estimator.

        Parameters
        ----------
        X : frame or array
            Rows, with labels when ``y`` is not given.
        y : array-like, optional
            Labels.

        Returns
        -------
        float
            The score.
        """
        best = self._best()
        scorer: Any = self.scorer_
        if self.multimetric_ and isinstance(self.refit, str):
            scorer = scorer[self.refit]
        if scorer is own_score or isinstance(scorer, dict):
            return best.score(X) if y is None else best.score(X, y)
        if y is not None and not isinstance(best, SparkRayPipeline):
            return float(scorer(best, X, y))
        collected = Collected(best, X, y)
        return float(scorer(collected, None, collected.labels))

    @property
    def classes_(self) -> Any:
        """Class labels of the best classifier."""
        return self._best().classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features of the best estimator."""
        return self._best().n_features_in_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.estimator_type = own.estimator_type
        tags.classifier_tags = own.classifier_tags
        tags.regressor_tags = own.regressor_tags
        return tags


def _concerns(key: str, name: str) -> bool:
    """Whether a parameter is the step of this name or one of the step's."""
    return key == name or key.startswith(name + "__")
