"""Nothing that a user gives is changed, and what torch offers works or is refused with the reason."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xgboost
from sklearn.model_selection import cross_val_score

from raydp_ml import EarlyStopping, InvalidValueError, TorchEstimator, XGBEstimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5]).astype(np.float64)


class InPlace(torch.nn.Module):
    """Works on its input's own memory."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x /= 2
        return self.linear(torch.nn.functional.relu(x, inplace=True))


class Several(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(x), x


def net(model: object, **settings: object) -> TorchEstimator:
    given = {"loss": "mse", "num_epochs": 2, "random_state": 0, "verbose": False, **settings}
    return TorchEstimator(model, **given)


def test_arrays_and_objects_stay_as_they_were() -> None:
    torch.manual_seed(0)
    rows, labels, weight = X.copy(), Y.copy(), np.ones(200, np.float32)
    held_out = (X[:50].copy(), Y[:50].copy())
    stopping, model = EarlyStopping(patience=1), InPlace()
    before = copy.deepcopy((rows, labels, weight, held_out, model.state_dict()))
    settings = dict(vars(stopping))
    est = net(model, validation=held_out, early_stopping=stopping).fit(rows, labels, weight)
    est.predict(rows)
    est.score(rows, labels)
    after = (rows, labels, weight, held_out, model.state_dict())
    assert vars(stopping) == settings
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_lbfgs_trains_as_in_a_plain_loop() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    est = net(model, optimizer="lbfgs", lr=0.5, batch_size=200, shuffle=False).fit(X, Y)
    plain = copy.deepcopy(model)
    optimizer = torch.optim.LBFGS(plain.parameters(), lr=0.5)
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y.astype(np.float32)).reshape(-1, 1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(plain(rows), labels)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    np.testing.assert_allclose(est.predict(X), plain(rows).detach().numpy().ravel(), rtol=1e-5, atol=1e-5)


def test_what_a_model_gives_and_needs_is_said() -> None:
    with pytest.raises(
        InvalidValueError, match=r"forward gives a tuple with 2 tensors, \[0, 1\]: say with model_output"
    ):
        net(Several()).fit(X, Y)

    def make(width: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 1))

    with pytest.raises(InvalidValueError, match="model=make needs width"):
        net(make).fit(X, Y)
    with pytest.raises(InvalidValueError, match="model_params names depth, which model=make does not take"):
        net(make, model_params={"width": 4, "depth": 1}).fit(X, Y)
    assert net(make, model_params={"width": 4}).fit(X, Y).model_[0].out_features == 4
    assert net(functools.partial(make, width=4)).fit(X, Y).model_[0].out_features == 4


def test_frames_params_and_callbacks_of_xgboost_stay_as_they_were() -> None:
    class Count(xgboost.callback.TrainingCallback):
        rounds = 0

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            self.rounds += 1
            return False

    params = {"max_depth": 2, "monotone_constraints": {"a": 1}, "eval_metric": ["rmse"]}
    stopping, count = xgboost.callback.EarlyStopping(rounds=2), Count()
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y, w=1.0)
    held_out = pa.Table.from_pandas(frame[:50])
    settings: dict[str, Any] = {
        "params": params, "callbacks": [stopping, count], "validation": held_out, "feature_columns": ["a", "b"],
        "label_column": ["y"], "weight_column": "w",
    }  # fmt: skip
    given = (settings["params"], stopping, frame, held_out, settings["feature_columns"], settings["label_column"])
    before = pickle.dumps(given)
    est = XGBEstimator(task="regression", num_boost_round=3, verbose=False, **settings)
    est.fit(frame)
    est.fit(frame)  # a callback that keeps state would begin with that of the first fit
    est.predict(frame)
    est.evaluate(frame)
    assert pickle.dumps(given) == before
    assert settings["callbacks"] == [stopping, count] and count.rounds == 6  # the user's own class is used itself


def test_what_keras_is_given_stays_as_it_was() -> None:
    pytest.importorskip("tensorflow")
    from raydp_ml import TFEstimator
    from raydp_ml.estimators.tf.model import import_keras

    keras = import_keras()
    seen: list[int] = []
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    optimizer, loss, metric = keras.optimizers.Adam(0.1), keras.losses.Huber(), keras.metrics.MeanAbsoluteError()
    stopping = keras.callbacks.EarlyStopping("loss", patience=1)
    noting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    rows, labels = X.copy(), Y.copy()
    before = ([each.copy() for each in model.get_weights()], optimizer.get_config(), dict(vars(stopping)))
    est = TFEstimator(
        model, loss=loss, optimizer=optimizer, metrics=[metric], callbacks=[stopping, noting], num_epochs=2,
        validation=(rows[:40], labels[:40]), verbose=False,
    )  # fmt: skip
    est.fit(rows, labels).predict(rows)
    for mine, its in zip(model.get_weights(), before[0], strict=True):
        np.testing.assert_array_equal(mine, its)
    assert (optimizer.get_config(), dict(vars(stopping))) == before[1:]
    assert not optimizer.built and not metric.variables[0].numpy() and not model.compiled
    assert seen == [0, 1]
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(labels, Y)

    def make(width: int) -> Any:
        return keras.Sequential([keras.layers.Dense(width), keras.layers.Dense(1)])

    with pytest.raises(InvalidValueError, match="model=make needs width"):
        TFEstimator(make, loss="mse", verbose=False).fit(X, Y)
    source = keras.Input((3,))
    two = keras.Model(source, {"a": keras.layers.Dense(1)(source)})
    with pytest.raises(InvalidValueError, match="the model gives a dict of outputs"):
        TFEstimator(two, loss="mse", verbose=False).fit(X, Y)


def test_rows_without_a_prediction_are_left_out_in_cross_validation() -> None:
    rows = X.copy()
    rows[::9, 1] = np.nan
    for est in (
        net(torch.nn.Linear(3, 1), null_features="skip", num_epochs=20, lr=0.1),
        XGBEstimator(task="regression", num_boost_round=20, null_features="skip", verbose=False),
    ):
        assert (cross_val_score(est, rows, Y, cv=2) > 0.7).all()
