"""How often the training rows are evaluated while trees grow."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from raydp_ml import XGBEstimator


@pytest.mark.parametrize(("rows", "told"), [(20_000, set(range(1, 51))), (250_000, {1, *range(5, 51, 5)})])
def test_the_training_rows_are_evaluated_in_all_rounds_or_in_ten(rows: int, told: set[int]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 2)).astype("float32")
    y = (X[:, 0] + rng.normal(size=rows) > 0).astype("int64")
    model = XGBEstimator(
        task="classification", num_boost_round=50, max_depth=2, validation=(X[:99], y[:99]), verbose=False
    )
    history = model.fit(X, y).history_
    log: dict = {}
    matrix = xgboost.QuantileDMatrix(X, y)
    xgboost.train({"objective": "binary:logistic", "max_depth": 2}, matrix, 50, [(matrix, "train")], evals_result=log,
                  verbose_eval=False)  # fmt: skip
    expected = {number: value for number, value in enumerate(log["train"]["logloss"], 1) if number in told}
    assert {entry["epoch"]: entry["train_logloss"] for entry in history if "train_logloss" in entry} == expected
    assert [entry["epoch"] for entry in history if "valid_logloss" in entry] == list(range(1, 51))
