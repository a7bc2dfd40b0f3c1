"""RandomizedSearch: candidates drawn from distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterSampler

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.base import BaseSearch

__all__ = ["RandomizedSearch"]


class RandomizedSearch(BaseSearch):
    """Search over parameters drawn from distributions, by cross-validation with Ray Tune.

    As :class:`~raydp_ml.GridSearch`, but ``n_iter`` candidates are drawn instead of trying every combination; the draw is
    that of scikit-learn's ``ParameterSampler``.

    Parameters
    ----------
    estimator : SparkRayPipeline or estimator
        What to search; it is not changed.
    param_distributions : dict or list of dict
        By parameter name a list of values, or a distribution with a method ``rvs``, such as those of ``scipy.stats``. Where
        all are lists, no candidate is drawn twice.
    n_iter : int, default=10
        Number of candidates.
    cv, scoring, refit, error_score, max_concurrent_trials, resources_per_trial, storage_path, run_config, verbose
        As for :class:`~raydp_ml.GridSearch`.
    random_state : int, RandomState or None
        Seed of the draw, and of shuffling the rows when ``cv`` is a number.

    Attributes
    ----------
    cv_results_, best_estimator_, best_params_, best_score_, best_index_, n_splits_, scorer_, refit_time_, multimetric_
        As for :class:`~raydp_ml.GridSearch`.

    Examples
    --------
    >>> from scipy.stats import randint
    >>> from raydp_ml import RandomizedSearch, XGBEstimator
    >>> search = RandomizedSearch(
    ...     XGBEstimator(objective="binary:logistic"), {"max_depth": randint(2, 9)}, n_iter=4, random_state=0
    ... )
    >>> search.fit(X, y).best_params_  # doctest: +SKIP
    {'max_depth': 6}
    """

    _candidates_name = "param_distributions"

    def __init__(
        self,
        estimator: Any,
        param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int = 10,
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
        super().__init__(
            estimator,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            max_concurrent_trials=max_concurrent_trials,
            resources_per_trial=resources_per_trial,
            random_state=random_state,
            storage_path=storage_path,
            run_config=run_config,
            verbose=verbose,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter

    def _candidates(self) -> list[dict[str, Any]]:
        if not self.param_distributions:
            raise InvalidValueError(
                f"param_distributions is empty ({self.param_distributions!r}); give at least one parameter and its values or "
                "distribution, such as {'model__max_depth': scipy.stats.randint(2, 9)}"
            )
        if isinstance(self.n_iter, bool) or not isinstance(self.n_iter, Integral) or self.n_iter < 1:
            raise InvalidValueError(f"n_iter={self.n_iter!r} must be a whole number of at least 1")
        try:
            return list(ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state))
        except TypeError as error:
            raise InvalidTypeError(f"param_distributions: {error}") from error
        except ValueError as error:
            raise InvalidValueError(f"param_distributions: {error}") from error
