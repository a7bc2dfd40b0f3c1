"""GridSearch: parameters of any step of a pipeline, chosen by cross-validation on Ray."""

from __future__ import annotations

import numbers
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import KFold, ParameterGrid, PredefinedSplit, StratifiedKFold, check_cv
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from raydp_ml.errors import InvalidTypeError, InvalidValueError
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
from raydp_ml.search.trial import AskedFolds, CrossedFolds, Plan, candidate_estimator

__all__ = ["GridSearch"]

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
    def check(search: GridSearch) -> bool:
        getattr(search.best_estimator_ if hasattr(search, "best_estimator_") else search.estimator, method)
        return True

    return check


class GridSearch(MetaEstimatorMixin, BaseEstimator):
    """Exhaustive search over parameters, by cross-validation with Ray Tune.

    Each candidate is one trial, which fits and scores it on every fold inside its own process. Behind a pipeline, Spark
    fits each combination of its steps' parameters once per fold, when a trial asks for it, and the rows cross to Ray
    once; all candidates that differ in the estimator's parameters alone share them.

    Parameters
    ----------
    estimator : SparkRayPipeline or estimator
        What to search; it is not changed.
    param_grid : dict or list of dict
        Values to try by parameter name, ``model__max_depth`` or ``vec__handleInvalid`` in a pipeline.
    cv : int, splitter, iterable of (train, test) or str, default=3
        Number of folds (stratified for classifiers), a scikit-learn splitter, positions of rows, or the name of a column
        that numbers the folds (-1: never tested on).
    scoring : str, callable, list, tuple, dict or None
        scikit-learn's scoring; None uses the estimator's ``score``. Several: ``refit`` must name one of them.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows. A name chooses among several scores, a callable takes
        ``cv_results_`` and returns the index of the best.
    error_score : "raise" or number, default=nan
        What a candidate that fails scores, with a warning.
    max_concurrent_trials : int, optional
        How many trials run at once; None: as many as there are free resources for.
    resources_per_trial : dict, optional
        What each trial takes, ``{"CPU": 1}`` by default.
    random_state : int, RandomState or None
        Shuffles the rows before they are divided, when ``cv`` is a number. None: they are divided in their order, as
        scikit-learn does.
    storage_path : str, optional
        Where Ray Tune keeps the results of trials; None: in a temporary folder.
    run_config : ray.tune.RunConfig, optional
        Further configuration of Ray Tune.
    verbose : int, default=0
        1 prints a line per candidate.

    Attributes
    ----------
    cv_results_ : dict
        As in scikit-learn: ``params``, ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, ``mean_fit_time`` and so on.
    best_estimator_, best_params_, best_score_, best_index_
        The best candidate, fitted on all rows when ``refit``.
    n_splits_ : int
        Number of folds.
    scorer_ : callable or dict
        What scored; None stands for the estimator's ``score``.
    refit_time_ : float
        Seconds that the last fit took.
    multimetric_ : bool
        Whether there are several scores.

    Examples
    --------
    >>> from raydp_ml import GridSearch, XGBEstimator
    >>> search = GridSearch(
    ...     XGBEstimator(objective="binary:logistic"), {"max_depth": [2, 6]}, scoring="roc_auc"
    ... )
    >>> search.fit(X, y).best_params_  # doctest: +SKIP
    {'max_depth': 6}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        cv: Any = 3,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        max_concurrent_trials: int | None = None,
        resources_per_trial: Mapping[str, float] | None = None,
        random_state: Any = None,
        storage_path: Any = None,
        run_config: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
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

    # ---- fit -------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> GridSearch:
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
        GridSearch
            This object.
        """
        from raydp_ml.search.tune import ray_running

        candidates = self._candidates()
        scorers = self._scorers()
        self._check_arguments(scorers)
        if isinstance(self.estimator, SparkRayPipeline):
            X, y = self.estimator._frame(X, y), None
        with ray_running():
            outcomes, splits = self._search(candidates, scorers, X, y, groups)
            self._keep_results(candidates, scorers, outcomes, splits)
            if self.refit:
                self._refit(without_columns(X, self._extra_columns(groups)), y)
        return self

    def _candidates(self) -> list[dict[str, Any]]:
        if not self.param_grid:
            raise InvalidValueError(
                f"param_grid is empty ({self.param_grid!r}); give at least one parameter and its values, such as "
                "{'model__max_depth': [4, 6]}"
            )
        try:
            candidates = list(ParameterGrid(self.param_grid))
        except TypeError as error:
            raise InvalidTypeError(f"param_grid: {error}") from error
        except ValueError as error:
            raise InvalidValueError(f"param_grid: {error}") from error
        probe = clone(self.estimator)
        known = probe.get_params(deep=True)
        for name in dict.fromkeys(name for params in candidates for name in params):
            if name.rpartition("__")[2] == "label_column":
                raise InvalidValueError(f"param_grid holds {name!r}: candidates with other labels cannot be compared")
            if name not in known:
                # Estimators may take names that they do not list, as XGBEstimator does; they know.
                value = next(params[name] for params in candidates if name in params)
                try:
                    probe.set_params(**{name: value})
                except (ValueError, TypeError) as error:
                    raise InvalidValueError(f"param_grid holds {name!r}: {error}") from error
        return candidates

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
    ) -> tuple[list[dict[str, Any]], int]:
        from raydp_ml.frames.registry import open_frame

        if isinstance(self.estimator, SparkRayPipeline):
            return self._search_pipeline(candidates, scorers, X, groups)
        plan = Plan(self.estimator, None, candidates, [0] * len(candidates), 0, scorers, self.error_score, None)
        frame = open_frame(X)
        if frame is not None and frame.distributed:
            return self._search_frame(plan, X, y, groups)
        return self._search_local(plan, X, y, groups)

    def _search_local(self, plan: Plan, X: Any, y: Any, groups: Any) -> tuple[list[dict[str, Any]], int]:
        import ray

        from raydp_ml.search.rows import LocalFolds

        inside = y is None
        if inside:
            label = getattr(self.estimator, "label_column", None)
            if label is None or not hasattr(X, "columns"):
                raise InvalidValueError(
                    "y is not given: give the labels, or a frame and an estimator with label_column"
                )
            y = column_of(X, label)
        splits = self._splits(
            y, column_of(X, groups) if isinstance(groups, str) else groups, lambda name: column_of(X, name)
        )
        X = without_columns(X, self._extra_columns(groups))
        plan.folds = LocalFolds(ray.put(X), ray.put(y), ray.put(splits), inside)
        plan.n_splits = len(splits)
        return self._run(plan, list(range(len(plan.candidates))), None), len(splits)

    def _search_frame(self, plan: Plan, X: Any, y: Any, groups: Any) -> tuple[list[dict[str, Any]], int]:
        from raydp_ml.search.sources import FrameSource

        if y is not None:
            raise InvalidTypeError(f"y was given with a {type(X).__name__}; its label is a column: set label_column")
        for name in {name for params in plan.candidates for name in params}:
            if name in _COLUMN_PARAMS:
                raise InvalidValueError(f"param_grid holds {name!r}, which can be searched in a SparkRayPipeline only")
        source = FrameSource(self.estimator, X, self._extra_columns(groups))
        splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
        plan.folds = CrossedFolds(source.folds(splits))
        plan.n_splits = len(splits)
        return self._run(plan, list(range(len(plan.candidates))), None), len(splits)

    def _search_pipeline(
        self, candidates: list[dict[str, Any]], scorers: dict[str, Any], df: Any, groups: Any
    ) -> tuple[list[dict[str, Any]], int]:
        from raydp_ml.search.broker import FoldService
        from raydp_ml.search.sources import PipelineSource, label_names, prefix_keys

        pipeline = clone(self.estimator)
        _, final = pipeline._split()
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
                steps = clone(pipeline).set_params(**before)._split()[0]
                return steps, candidate_estimator(final[1], name, own[first])

            return build

        plan = Plan(final[1], name, own, prefixes, 0, scorers, self.error_score, None)
        source = PipelineSource(df, label_names(final[1]), self._extra_columns(groups))
        try:
            splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
            plan.n_splits = len(splits)
            source.prepare(splits, [builder(first) for first in firsts])
            order = sorted(range(len(candidates)), key=prefixes.__getitem__)
            with FoldService(source.make, source.release, prefixes, len(splits), source.cancel) as service:
                plan.folds = AskedFolds(service.broker)
                return self._run(plan, order, service.finished), len(splits)
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

    def _run(self, plan: Plan, order: list[int], also_finished: Callable[[int], None] | None) -> list[dict[str, Any]]:
        from raydp_ml.search.tune import run_trials, trial_resources

        outcomes: dict[int, dict[str, Any]] = {}
        exceptions: list[BaseException] = []

        def finished(candidate: int, outcome: dict[str, Any] | None, problem: str | None) -> None:
            if also_finished is not None:
                also_finished(candidate)
            if outcome is not None and "exception" in outcome:
                exceptions.append(cloudpickle.loads(bytes.fromhex(outcome["exception"])))
                return
            if outcome is None:
                lost = np.nan if self.error_score == "raise" else float(self.error_score)
                nothing = [0.0] * plan.n_splits
                outcome = {"fit_time": nothing, "score_time": nothing, "errors": [problem] * plan.n_splits}
                outcome["scores"] = {name: [lost] * plan.n_splits for name in plan.scorers}
            outcomes[candidate] = outcome
            if self.verbose:
                self._print_progress(len(outcomes), plan, candidate, outcome)

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
        return [outcomes[candidate] for candidate in range(len(plan.candidates))]

    def _print_progress(self, count: int, plan: Plan, candidate: int, outcome: dict[str, Any]) -> None:
        scores = "  ".join(
            f"{name} {np.mean(values):.4f} ± {np.std(values):.4f}" for name, values in outcome["scores"].items()
        )
        params = ", ".join(f"{key}={value}" for key, value in self._shown(plan, candidate).items())
        seconds = sum(outcome["fit_time"])
        print(f"[GridSearch] {count}/{len(plan.candidates)}  {scores}  {seconds:.1f} s  {params}", flush=True)

    def _shown(self, plan: Plan, candidate: int) -> dict[str, Any]:
        return list(ParameterGrid(self.param_grid))[candidate]

    # ---- results ---------------------------------------------------------------------------------------------------

    def _keep_results(
        self, candidates: list[dict[str, Any]], scorers: dict[str, Any], outcomes: list[dict[str, Any]], n_splits: int
    ) -> None:
        failed = [number for number, outcome in enumerate(outcomes) if outcome["errors"]]
        if failed:
            first = outcomes[failed[0]]["errors"][0]
            fits = sum(len(outcome["errors"]) for outcome in outcomes)
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
