"""A search changes nothing that it is given: rows, estimator, grid, schedulers, searchers, callbacks, Ray's configuration."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from sklearn.model_selection import KFold

from raydp_ml import GridSearch, RandomizedSearch, XGBEstimator

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(RNG.normal(size=(120, 3)), columns=list("abc")).assign(
    y=lambda rows: (rows.a > rows.b).astype(int)
)


def state_of(thing: Any) -> Any:
    """All that an object holds, as values that can be compared."""
    if isinstance(thing, dict):
        return {key: state_of(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple | set):
        return [state_of(value) for value in thing]
    if isinstance(thing, np.ndarray | pd.DataFrame | np.random.RandomState):
        return pickle.dumps(thing)
    if hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing):
        return type(thing).__name__, state_of(vars(thing))
    return thing


def test_grid_search(ray_cluster: None, tmp_path: Any) -> None:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    own = xgboost.callback.EarlyStopping(rounds=2, save_best=False)
    est = XGBEstimator(
        objective="binary:logistic", label_column="y", num_boost_round=8, validation=0.2, params={"max_depth": 2},
        eval_metric=["auc"], callbacks=[own], random_state=0, verbose=False,
    )  # fmt: skip
    given: dict[str, Any] = {
        "estimator": est,
        "param_grid": {"eta": [0.3, 1e-6], "params": [{"max_leaves": 4}]},
        "scheduler": ASHAScheduler(),
        "run_config": tune.RunConfig(name="mine", callbacks=[tune.Callback()], stop={"training_iteration": 99}),
        "cv": KFold(2),
        "scoring": {"auc": "roc_auc", "fit": "accuracy"},
    }
    rows = FRAME.copy()
    before = state_of([*given.values(), rows])
    search = GridSearch(**given, refit="auc", storage_path=str(tmp_path), max_concurrent_trials=1).fit(rows)
    search.predict(rows)
    search.score(rows)
    assert search.best_params_["eta"] == 0.3
    assert state_of([*given.values(), rows]) == before


def test_a_searcher(ray_cluster: None) -> None:
    from ray.tune.search import Searcher

    class Next(Searcher):
        """Picks one value after the other."""

        asked = 0

        def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
            self.space = config
            return True

        def suggest(self, trial_id: str) -> dict[str, Any]:
            self.asked += 1
            return {"eta": self.asked % 3}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            self.asked += 10

    searcher = Next()
    space = {"eta": [0.1, 0.3, 0.5]}
    before = state_of([vars(searcher), space])
    est = XGBEstimator(objective="binary:logistic", num_boost_round=3, verbose=False)
    about: dict[str, Any] = {"n_iter": 2, "cv": 2, "refit": False, "max_concurrent_trials": 1, "search_alg": searcher}
    search = RandomizedSearch(est, space, **about).fit(FRAME[["a", "b"]], FRAME["y"])
    assert len(search.cv_results_["params"]) == 2
    assert state_of([vars(searcher), space]) == before
    RandomizedSearch(est, space, **about).fit(FRAME[["a", "b"]], FRAME["y"])  # it can be given again
