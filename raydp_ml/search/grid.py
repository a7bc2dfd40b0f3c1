"""GridSearch: every combination of the values given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.base import BaseSearch

__all__ = ["GridSearch"]


class GridSearch(BaseSearch):
    """Exhaustive search over parameters, by cross-validation with Ray Tune.

    Each candidate is one trial, which fits and scores it on every fold inside its own process. Behind a pipeline, Spark
    fits each combination of its steps' parameters once per fold, when a trial asks for it, and the rows cross to Ray
    once; all candidates that differ in the estimator's parameters alone share them.

    Parameters
    ----------
    estimator : SparkRayPipeline or estimator
        What to search; it is not changed.
    param_grid : dict or list of dict
        Values to try by parameter name, ``model__max_depth`` or ``vec__handleInvalid`` in a pipeline. The name of a step
        replaces the whole step, estimators included:
        ``[{"model": [XGBEstimator(...)], "model__max_depth": [4, 6]}, {"model": [TorchEstimator(...)]}]``.
    cv : int, float, splitter, iterable of (train, test) or str, default=3
        Number of folds (stratified for classifiers), a fraction of the rows that is held out and tested on (0.2; stratified for
        classifiers, drawn with seed 0 unless ``random_state`` is given), a splitter of scikit-learn or one of the same form,
        positions of rows, or the name of a column that numbers the folds (-1: never tested on). Of distributed frames
        only the label and the columns of groups and folds come to this process.
    scoring : str, callable, list, tuple, dict or None
        scikit-learn's scoring; None uses the estimator's ``score``. Several, or a callable that returns a dict: ``refit`` must name
        one of them.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows. A name chooses among several scores, a callable takes
        ``cv_results_`` and returns the index of the best.
    error_score : "raise" or number, default=nan
        What a candidate that fails scores, with a warning. When all fits fail, that is an error.
    return_train_score : bool, default=False
        Whether to score the training rows too.
    max_concurrent_trials : int, optional
        How many trials run at once; None: as many as there are free resources for, on one machine no more than it has cores.
    resources_per_trial : dict, optional
        What each trial takes, ``{"CPU": 1}`` by default.
    scheduler : "asha", "median" or ray.tune.schedulers.TrialScheduler, optional
        Stops weak candidates early. Each candidate is fitted on all folds with a sixteenth of its rounds, epochs or trees,
        then from the beginning with a quarter, then with all of them. With "asha" the best quarter by the mean over the folds,
        and one at least, comes to the next step, whatever runs at the same time; the others are asked after each
        step of a candidate. One that comes through has the scores that it has without a scheduler; one that was stopped keeps
        its last scores and ranks behind, and ``cv_results_["n_resources"]`` tells what they are of. A scheduler of Ray Tune sees
        epochs or rounds as ``training_iteration``; those that change parameters or resources of running trials are refused.
    time_budget_s : float, optional
        Seconds from the start of the first trial after which no further fit is started; fits that run then have up to ten
        seconds more. Candidates that had no turn have ``error_score``.
    random_state : int, RandomState or None
        Shuffles the rows before they are divided, when ``cv`` is a number. None: they are divided in their order, as
        scikit-learn does.
    storage_path : str, optional
        Where Ray Tune keeps the results of trials, and the search its fits for ``resume``; None: in a temporary folder.
    resume : bool, default=False
        Go on with the search that was interrupted with this ``storage_path``: fits that are written down there are not repeated.
        It must have the same estimator, candidates, labels and folds. Where nothing is written down it starts from the beginning.
    run_config : ray.tune.RunConfig, optional
        Further configuration of Ray Tune.
    verbose : int, default=0
        1 prints a line per candidate: how many are done and running, the best so far, and the time left.

    Attributes
    ----------
    cv_results_ : dict
        As in scikit-learn: ``params``, ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, ``mean_fit_time`` and so on. After Ctrl-C it has what was done until then.
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
    learning_curves_ : list of (ndarray, ndarray)
        With a scheduler: for each candidate the rounds, epochs or trees of its steps, and the mean scores there.
    results_ : ray.tune.ResultGrid
        What Ray Tune has of the trials, with "asha" several of a candidate; neither saved nor pickled.
    classes_, n_features_in_, feature_names_in_
        Those of the best estimator.

    See Also
    --------
    raydp_ml.plot_search : A picture of the scores.

    Examples
    --------
    >>> from raydp_ml import GridSearch, XGBEstimator
    >>> search = GridSearch(
    ...     XGBEstimator(objective="binary:logistic"), {"max_depth": [2, 6]}, scoring="roc_auc"
    ... )
    >>> search.fit(X, y).best_params_  # doctest: +SKIP
    {'max_depth': 6}
    """

    _candidates_name = "param_grid"

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        cv: Any = 3,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_concurrent_trials: int | None = None,
        resources_per_trial: Mapping[str, float] | None = None,
        scheduler: Any = None,
        time_budget_s: float | None = None,
        random_state: Any = None,
        storage_path: Any = None,
        resume: bool = False,
        run_config: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            max_concurrent_trials=max_concurrent_trials,
            resources_per_trial=resources_per_trial,
            scheduler=scheduler,
            time_budget_s=time_budget_s,
            random_state=random_state,
            storage_path=storage_path,
            resume=resume,
            run_config=run_config,
            verbose=verbose,
        )
        self.param_grid = param_grid

    def _candidates(self) -> list[dict[str, Any]]:
        if not self.param_grid:
            raise InvalidValueError(
                f"param_grid is empty ({self.param_grid!r}); give at least one parameter and its values, such as "
                "{'model__max_depth': [4, 6]}"
            )
        try:
            return list(ParameterGrid(self.param_grid))
        except TypeError as error:
            raise InvalidTypeError(f"param_grid: {error}") from error
        except ValueError as error:
            raise InvalidValueError(f"param_grid: {error}") from error
