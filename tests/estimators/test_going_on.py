"""Training that goes on is what the plain library does when it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost

import raydp_ml
from raydp_ml import InvalidValueError, TorchEstimator, XGBEstimator

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


def network(hidden: int = 8, dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.Dropout(dropout), torch.nn.Linear(hidden, 1))


def net(**settings: object) -> TorchEstimator:
    given = {"lr": 0.01, "num_epochs": 3, "batch_size": 100, "shuffle": False, "random_state": 0, **settings}
    return TorchEstimator(network(), loss="mse", warm_start=True, verbose=False, **given)


def loop(module: torch.nn.Module, optimizer: torch.optim.Optimizer, epochs: int, scheduler: object = None) -> None:
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y.astype(np.float32)).reshape(-1, 1)
    for _ in range(epochs):
        for start in range(0, len(rows), 100):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(module(rows[start : start + 100]), labels[start : start + 100]).backward()
            optimizer.step()
        if scheduler is not None:
            scheduler.step()


def outputs(module: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(torch.from_numpy(X)).numpy().ravel()


def test_a_changed_learning_rate_counts_and_the_moments_stay() -> None:
    est = net().fit(X, Y).set_params(lr=0.05).fit(X, Y)
    plain = network()
    adam = torch.optim.Adam(plain.parameters(), lr=0.01)
    loop(plain, adam, 3)
    adam.param_groups[0]["lr"] = 0.05
    loop(plain, adam, 3)
    np.testing.assert_allclose(est.predict(X), outputs(plain), rtol=1e-5, atol=1e-5)


def test_a_schedule_begins_anew_with_each_fit() -> None:
    est = net(lr_scheduler="cosine").fit(X, Y).fit(X, Y)
    plain = network()
    adam = torch.optim.Adam(plain.parameters(), lr=0.01)
    for _ in range(2):
        adam.param_groups[0]["lr"] = 0.01
        adam.param_groups[0].pop("initial_lr", None)
        loop(plain, adam, 3, torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3))
    np.testing.assert_allclose(est.predict(X), outputs(plain), rtol=1e-5, atol=1e-5)


def test_another_optimizer_starts_anew_with_the_weights_of_before() -> None:
    est = net().fit(X, Y).set_params(optimizer="sgd").fit(X, Y)
    plain = network()
    loop(plain, torch.optim.Adam(plain.parameters(), lr=0.01), 3)
    loop(plain, torch.optim.SGD(plain.parameters(), lr=0.01), 3)
    np.testing.assert_allclose(est.predict(X), outputs(plain), rtol=1e-5, atol=1e-5)


def test_a_changed_model_counts_or_is_refused() -> None:
    est = net().fit(X, Y).set_params(model=network(dropout=0.9)).fit(X, Y)
    assert est.model_[1].p == 0.9
    with pytest.raises(
        InvalidValueError, match=r"the model has changed since the fit before: 0.bias, 0.weight, 2.weight differ"
    ):
        est.set_params(model=network(hidden=5)).fit(X, Y)
