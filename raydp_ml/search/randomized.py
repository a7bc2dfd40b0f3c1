"""RandomizedSearch: candidates drawn from distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterSampler
from sklearn.utils import check_random_state

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.base import BaseSearch
from raydp_ml.search.candidates import check_candidates

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
        By parameter name a list of values, a distribution with a method ``rvs``, such as those of ``scipy.stats``, or a search
        space of Ray Tune. Where all are lists, no candidate is drawn twice.
    n_iter : int, default=10
        Number of candidates.
    cv, scoring, refit, error_score, return_train_score, max_concurrent_trials, resources_per_trial, scheduler, time_budget_s
        As for :class:`~raydp_ml.GridSearch`.
    search_alg : "optuna" or ray.tune.search.Searcher, optional
        Chooses each candidate by the scores of those before, in place of the draw. Distributions are then lists, scipy's uniform,
        loguniform, randint and norm, or search spaces of Ray Tune (``ray.tune.loguniform``).
    random_state : int, RandomState or None
        Seed of the draw, and of shuffling the rows when ``cv`` is a number.
    storage_path, resume, run_config, verbose
        As for :class:`~raydp_ml.GridSearch`; a search to go on with needs a ``random_state``.

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
        return_train_score: bool = False,
        max_concurrent_trials: int | None = None,
        resources_per_trial: Mapping[str, float] | None = None,
        scheduler: Any = None,
        search_alg: Any = None,
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
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.search_alg = search_alg

    def _candidates(self) -> list[dict[str, Any]]:
        self._check_draw()
        try:
            return list(
                ParameterSampler(_drawable(self.param_distributions), self.n_iter, random_state=self.random_state)
            )
        except TypeError as error:
            raise InvalidTypeError(f"param_distributions: {error}") from error
        except ValueError as error:
            raise InvalidValueError(f"param_distributions: {error}") from error

    def _check_draw(self) -> None:
        if not self.param_distributions:
            raise InvalidValueError(
                f"param_distributions is empty ({self.param_distributions!r}); give at least one parameter and its values or "
                "distribution, such as {'model__max_depth': scipy.stats.randint(2, 9)}"
            )
        if isinstance(self.n_iter, bool) or not isinstance(self.n_iter, Integral) or self.n_iter < 1:
            raise InvalidValueError(f"n_iter={self.n_iter!r} must be a whole number of at least 1")

    def _suggestions_wanted(self) -> bool:
        return self.search_alg is not None

    def _suggestions(self) -> tuple[Any, Any, int] | None:
        if self.search_alg is None:
            return None
        from raydp_ml.search.searchers import Space, searcher_of

        self._check_draw()
        if self.resume:
            raise InvalidValueError(
                "resume=True cannot be used with search_alg: what a searcher has learnt is not written down; give one of them"
            )
        seed = None
        if self.random_state is not None:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        space = Space.of(self.param_distributions)
        searcher = searcher_of(self.search_alg, seed)
        # A candidate of first values shows whether the estimator has such parameters.
        first = {name: values[0] for name, values in space.lists.items()}
        first.update({name: domain.sample() for name, domain in space.domains.items() if name not in first})
        check_candidates(self.estimator, [first], self._candidates_name)
        return searcher, space, int(self.n_iter)


class _Drawn:
    """A search space of Ray Tune with the face of a scipy distribution."""

    def __init__(self, space: Any) -> None:
        self._space = space

    def rvs(self, random_state: Any = None) -> Any:
        """Draw one value."""
        return self._space.sample(random_state=random_state)


def _drawable(distributions: Any) -> Any:
    """Distributions as scikit-learn draws from them."""
    if isinstance(distributions, Mapping):
        return {
            name: _Drawn(value) if type(value).__module__.startswith("ray.tune.") else value
            for name, value in distributions.items()
        }
    return [_drawable(each) for each in distributions]
