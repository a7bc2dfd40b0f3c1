"""Training that goes on is what the plain library does when it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost

import raydp_ml
from raydp_ml import XGBEstimator

RNG = np.random.default_rng(3)
X = RNG.normal(size=(600, 4)).astype(np.float32)
Y = (np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]).astype(np.float64)
OTHER = (5 * RNG.normal(size=(500, 4)) + 2).astype(np.float32)  # rows whose quantiles are other ones
OTHER_Y = np.sin(2 * OTHER[:, 0]) + OTHER[:, 1]
PARAMS = {"objective": "reg:squarederror", "max_depth": 4, "eta": 0.3, "seed": 0}


def estimator(**settings: object) -> XGBEstimator:
    given = {"max_depth": 4, "eta": 0.3, "random_state": 0, "num_boost_round": 10, "verbose": False, **settings}
    return XGBEstimator(objective="reg:squarederror", **given)


def plainly(second_eta: float = 0.3) -> xgboost.Booster:
    first = xgboost.train(PARAMS, xgboost.QuantileDMatrix(X, Y), num_boost_round=10)
    again = {**PARAMS, "eta": second_eta}
    return xgboost.train(again, xgboost.DMatrix(OTHER, OTHER_Y), num_boost_round=10, xgb_model=first)


def frame(rows: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list("abcd")).assign(y=labels)


def test_partial_fit_equals_xgboost_that_goes_on() -> None:
    went_on = estimator().fit(X, Y).partial_fit(OTHER, OTHER_Y)
    np.testing.assert_array_equal(went_on.predict(OTHER), plainly().inplace_predict(OTHER).astype(np.float64))


def test_named_columns_go_on_too() -> None:
    went_on = estimator(label_column="y").fit(frame(X, Y)).partial_fit(frame(OTHER, OTHER_Y))
    np.testing.assert_array_equal(went_on.predict(frame(OTHER, OTHER_Y)), plainly().inplace_predict(OTHER))
    assert went_on.model_.feature_names == list("abcd")


def test_what_changed_between_the_calls_counts() -> None:
    went_on = estimator(warm_start=True).fit(X, Y).set_params(learning_rate=0.05).fit(OTHER, OTHER_Y)
    np.testing.assert_array_equal(went_on.predict(OTHER), plainly(0.05).inplace_predict(OTHER).astype(np.float64))


def test_a_loaded_estimator_goes_on(tmp_path: Path) -> None:
    estimator().fit(X, Y).save(tmp_path / "saved")
    went_on = raydp_ml.load(tmp_path / "saved").partial_fit(OTHER, OTHER_Y)
    np.testing.assert_array_equal(went_on.predict(OTHER), plainly().inplace_predict(OTHER).astype(np.float64))


@pytest.mark.parametrize("early_stopping_rounds", [None, 5])
def test_it_gets_better_with_the_rows_that_it_goes_on_with(early_stopping_rounds: int | None) -> None:
    est = estimator(warm_start=True, validation=0.3, early_stopping_rounds=early_stopping_rounds, num_boost_round=60)
    before = est.fit(X, Y).evaluate(X, Y)["root_mean_squared_error"]
    assert est.fit(X, Y).evaluate(X, Y)["root_mean_squared_error"] <= before * 1.02
