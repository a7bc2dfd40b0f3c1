"""RandomizedSearch draws scikit-learn's candidates and scores them as GridSearch does; searches that have no best say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import make_scorer
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

import raydp_ml
from raydp_ml import GridSearch, RandomizedSearch, XGBEstimator
from raydp_ml.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(9)
X = RNG.normal(size=(120, 3)).astype(np.float32)
Y = np.where(X[:, 0] + X[:, 1] ** 2 + RNG.normal(size=120) > 1, "late", "fine")
DISTRIBUTIONS = {"max_depth": randint(1, 6), "eta": loguniform(0.05, 0.8)}


def model() -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", num_boost_round=4, verbose=False)


def test_candidates_and_scores_are_those_of_scikit_learn(ray_cluster: None) -> None:
    about: dict[str, Any] = {"n_iter": 3, "random_state": 4, "scoring": "roc_auc"}
    ours = RandomizedSearch(model(), DISTRIBUTIONS, cv=3, **about).fit(X, Y)
    drawn = list(ParameterSampler(DISTRIBUTIONS, 3, random_state=4))
    assert ours.cv_results_["params"] == drawn
    grid = GridSearch(
        model(),
        [{name: [value] for name, value in params.items()} for params in drawn],
        scoring="roc_auc",
        random_state=4,
    ).fit(X, Y)
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], grid.cv_results_["mean_test_score"])
    theirs = RandomizedSearchCV(model(), DISTRIBUTIONS, cv=3, **about).fit(X, Y)
    assert theirs.cv_results_["params"] == drawn
    assert ours.best_params_ in drawn
    assert ours.predict(X).tolist() == clone(model()).set_params(**ours.best_params_).fit(X, Y).predict(X).tolist()


def test_it_is_an_estimator_of_scikit_learn() -> None:
    search = RandomizedSearch(model(), DISTRIBUTIONS, n_iter=3)
    again = clone(search)
    assert (again.n_iter, again.param_distributions.keys()) == (3, DISTRIBUTIONS.keys())
    assert again.set_params(estimator__max_depth=2, n_iter=5).get_params()["estimator__max_depth"] == 2
    assert raydp_ml.RandomizedSearch is RandomizedSearch


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"param_distributions": {}}, InvalidValueError, "param_distributions is empty"),
        ({"param_distributions": {"max_depht": [1]}}, InvalidValueError, "max_depht"),
        ({"param_distributions": {"max_depth": 3}}, InvalidTypeError, "param_distributions"),
        ({"n_iter": 0}, InvalidValueError, "n_iter=0 must be"),
        ({"n_iter": 2.5}, InvalidValueError, r"n_iter=2\.5 must be"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        RandomizedSearch(model(), DISTRIBUTIONS).set_params(**changed).fit(X, Y)


def nowhere(y: np.ndarray, predicted: np.ndarray) -> float:
    return float("nan")


def test_a_search_without_any_score_raises(ray_cluster: None) -> None:
    search = GridSearch(model(), {"max_depth": [1, 2]}, scoring=make_scorer(nowhere))
    with pytest.raises(InvalidValueError, match="no candidate of the search has a score"):
        search.fit(X, Y)
    assert not hasattr(search, "best_estimator_")


def test_the_users_run_config_is_honoured_and_left_alone(ray_cluster: None, tmp_path: Any) -> None:
    from ray import tune

    given = tune.RunConfig(name="mine", verbose=0, callbacks=[])
    search = GridSearch(
        model(), {"max_depth": [1, 2]}, storage_path=str(tmp_path), run_config=given, max_concurrent_trials=1
    )
    search.fit(X, Y)
    assert given.callbacks == []
    assert given.storage_path != str(tmp_path)
    assert (tmp_path / "mine").is_dir()


def test_an_error_that_is_raised_ends_the_search_also_with_a_run_config(ray_cluster: None) -> None:
    from ray import tune

    class Count(tune.Callback):
        def __init__(self) -> None:
            self.ended = 0

        def __reduce__(self) -> Any:
            return Count, ()  # Tune writes callbacks down; this one counts in this process

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.ended += 1

    count = Count()
    search = GridSearch(
        model(),
        {"max_depth": [-5, 1, 2, 3, 4, 5]},
        error_score="raise",
        max_concurrent_trials=1,
        run_config=tune.RunConfig(verbose=0, callbacks=[count]),
    )
    with pytest.raises(Exception, match="max_depth"):
        search.fit(X, Y)
    assert count.ended < 6


def test_candidates_that_a_stopping_rule_left_out_have_the_error_score(ray_cluster: None) -> None:
    from ray import tune

    class AfterOne(tune.Stopper):
        """A rule of the user: the fits of one candidate are enough."""

        def __init__(self) -> None:
            self.seen = 0

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            self.seen += 1
            return False

        def stop_all(self) -> bool:
            return self.seen >= 2

    config = tune.RunConfig(verbose=0, stop=AfterOne())
    search = GridSearch(model(), {"max_depth": [1, 2, 3, 4, 5, 6]}, cv=2, max_concurrent_trials=1, run_config=config)
    with pytest.warns(FitFailedWarning, match="stopped before the candidate was tried"):
        search.fit(X, Y)
    means = search.cv_results_["mean_test_score"]
    assert search.best_params_ == {"max_depth": 1}
    assert not np.isnan(means[0])
    assert np.isnan(means[-1])
