"""A loaded estimator predicts what the saved one did, or loading says that it does not; and it goes on training as that would."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydp_ml
from raydp_ml import TorchEstimator, XGBEstimator
from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.metadata import Metadata

torch = pytest.importorskip("torch")

FACTOR = 1.0
RNG = np.random.default_rng(2)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5]).astype(np.float32)


class Changing(torch.nn.Module):
    """Depends on something that is not saved with it, and counts its steps in a buffer that the state_dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.register_buffer("steps", torch.zeros(1), persistent=False)

    def forward(self, x: Any) -> Any:
        if self.training:
            self.steps += 1.0
        return self.layer(x) * FACTOR + self.steps


class Embedded(torch.nn.Module):
    """Takes indices, and has no row for others."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 2)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return self.layer(self.table(x[:, 0].long())) * FACTOR


class Noisy(torch.nn.Module):
    """Gives other values each time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        return self.layer(x) + torch.rand(len(x), 1)


def regressor(model: Any, **given: Any) -> TorchEstimator:
    given = {"lr": 0.05, "num_epochs": 2, "shuffle": False, "batch_size": 16, "verbose": False, **given}
    return TorchEstimator(model, loss="MSELoss", random_state=0, **given)


@pytest.mark.parametrize(
    ("model", "rows"), [(Changing, X), (Embedded, np.abs(X).astype(int) % 4)], ids=["numbers", "indices"]
)
def test_a_model_that_predicts_otherwise_than_when_it_was_saved_is_told(
    model: Any, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = regressor(model()).fit(rows.astype(np.float32), Y)
    estimator.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "metadata.json").read_text())["state"]["made_up"] is not None
    loaded = raydp_ml.load(tmp_path / "model", trusted=[__name__])
    np.testing.assert_array_equal(loaded.predict(rows), estimator.predict(rows))
    monkeypatch.setitem(globals(), "FACTOR", 1.5)
    with pytest.raises(
        InvalidValueError, match=r"does not predict what the saved one did: .*stored seed it gives .* where it was"
    ):
        raydp_ml.load(tmp_path / "model", trusted=[__name__])


def fit_xgb() -> Any:
    return XGBEstimator(objective="reg:squarederror", num_boost_round=3, verbose=False).fit(X, Y)


def fit_tf() -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    return raydp_ml.TFEstimator(model, loss="mse", num_epochs=1, verbose=False).fit(X, Y)


needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="this environment has no TensorFlow")


@pytest.mark.parametrize(
    ("fit", "file"), [(fit_xgb, "model.ubj"), pytest.param(fit_tf, "model.keras", marks=needs_keras)], ids=["xgb", "tf"]
)
def test_the_weights_of_another_model_are_told(fit: Callable[[], Any], file: str, tmp_path: Path) -> None:
    fit().save(tmp_path / "model")
    global Y
    Y, before = 3 * Y + 1, Y
    try:
        fit().save(tmp_path / "other")
    finally:
        Y = before
    shutil.copy(tmp_path / "other" / file, tmp_path / "model" / file)
    Metadata.read(tmp_path / "model").write(tmp_path / "model")
    with pytest.raises(InvalidValueError, match="does not predict what the saved one did"):
        raydp_ml.load(tmp_path / "model")


def test_a_model_that_gives_other_values_each_time_is_loaded(tmp_path: Path) -> None:
    regressor(Noisy()).fit(X, Y).save(tmp_path / "model")
    assert raydp_ml.load(tmp_path / "model", trusted=[__name__]).predict(X).shape == (64,)


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", sgd], ids=["adam", "adagrad", "momentum"])
def test_training_goes_on_after_a_load_as_it_would_have_without(optimizer: Any, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    estimator = regressor(model, optimizer=optimizer).fit(X, Y)
    estimator.save(tmp_path / "model")
    loaded = raydp_ml.load(tmp_path / "model", trusted=[__name__])
    np.testing.assert_array_equal(loaded.partial_fit(X, Y).predict(X), estimator.partial_fit(X, Y).predict(X))


class Odd(torch.optim.SGD):
    """Gathers something that has no written form."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["odd"] = {1, 2}
        return super().step(closure)


def test_a_state_of_the_optimizer_that_is_not_written_is_told(tmp_path: Path) -> None:
    estimator = regressor(torch.nn.Linear(3, 1), optimizer=Odd).fit(X, Y)
    with pytest.warns(UserWarning, match=r"state of the optimizer is not written: it holds a builtins\.set"):
        estimator.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = raydp_ml.load(tmp_path / "model", trusted=[__name__])
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
