"""Models that are made from parameters, take columns by name and give several things, beside loops written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from raydp_ml import InvalidValueError, TorchEstimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5]).astype(np.float32)


def fit(model: Any, loss: Any = "mse", rows: Any = X, **settings: Any) -> TorchEstimator:
    given = {"lr": 0.05, "num_epochs": 3, "batch_size": 40, "shuffle": False, "random_state": 0, "verbose": False}
    labels = {} if "label_column" in settings else {"y": Y}
    return TorchEstimator(model, loss=loss, **{**given, **settings}).fit(rows, **labels)


class Coder(nn.Module):
    """Gives a prediction, what it made of the rows, and a number."""

    def __init__(self, width: int = 2, form: type = dict) -> None:
        super().__init__()
        self.code, self.back, self.last = nn.Linear(3, width), nn.Linear(width, 3), nn.Linear(width, 1)
        self.form = form

    def forward(self, x: torch.Tensor) -> Any:
        code = torch.tanh(self.code(x))
        found = {"code": code, "rows": self.back(code), "score": self.last(code)[:, 0], "name": "not a tensor"}
        return found if self.form is dict else self.form(found.values())


def test_model_params_reach_classes_creators_and_the_rest_is_named() -> None:
    assert fit(nn.Linear, model_params={"in_features": 3, "out_features": 1}).model_.in_features == 3

    def creator(config: dict[str, int]) -> nn.Module:
        return nn.Sequential(nn.Linear(3, config["width"]), nn.Linear(config["width"], 1))

    def named(n_features: int, width: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_features, width), nn.Linear(width, n_outputs))

    for model in (creator, lambda settings: creator(settings), named):
        assert fit(model, model_params={"width": 5}).model_[0].out_features == 5
    with pytest.raises(InvalidValueError, match="model is a Linear that is made already"):
        fit(nn.Linear(3, 1), model_params={"bias": False})


@pytest.mark.parametrize(("form", "which"), [(dict, "score"), (tuple, 2)])
def test_a_loss_of_ones_own_sees_all_that_forward_gives_and_the_inputs(form: type, which: Any) -> None:
    def loss(outputs: Any, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        rows, score = (outputs["rows"], outputs["score"]) if form is dict else (outputs[1], outputs[2])
        return ((score - targets) ** 2).mean() + ((rows - inputs) ** 2).mean()

    torch.manual_seed(0)
    plain = Coder(form=form)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.05)
    for _ in range(3):
        for start in (0, 40, 80):
            rows, labels = torch.from_numpy(X[start : start + 40]), torch.from_numpy(Y[start : start + 40])
            optimizer.zero_grad()
            loss(plain(rows), labels, rows).backward()
            optimizer.step()
    est = fit(Coder, loss, model_params={"form": form}, model_output=which, task="regression", validation=(X, Y))
    with torch.no_grad():
        outputs = plain.eval()(torch.from_numpy(X))
        np.testing.assert_allclose(est.predict(X), outputs[which].numpy(), atol=1e-5)
        expected = float(loss(outputs, torch.from_numpy(Y), torch.from_numpy(X)))
    assert est.history_[-1]["valid_loss"] == pytest.approx(expected, abs=1e-5)
    # A loss of torch is given the prediction alone.
    assert fit(Coder, model_params={"form": form}, model_output=which).score(X, Y) > -10


def test_what_cannot_be_the_prediction_is_said() -> None:
    with pytest.raises(InvalidValueError, match=r"forward gives a dict with 3 tensors.*say with model_output"):
        fit(Coder)
    with pytest.raises(InvalidValueError, match=r"model_output='scores' is not among .*\['code', 'rows', 'score'\]"):
        fit(Coder, model_output="scores")
    with pytest.raises(InvalidValueError, match="model_output=0, but the model's forward gives one tensor"):
        fit(nn.Linear(3, 1), model_output=0)
    labels = (Y > 0).astype(int)
    with pytest.raises(
        InvalidValueError, match=r"logarithms of probabilities, .* let the model end in torch.nn.LogSoftmax"
    ):
        TorchEstimator(nn.Linear(3, 2), loss="NLLLoss", verbose=False).fit(X, labels)


class WideAndDeep(nn.Module):
    """Takes columns by their names: ids of 64 bits that it hashes itself, a number of float64, and the others."""

    def __init__(self, buckets: int = 97) -> None:
        super().__init__()
        self.buckets = buckets
        self.wide, self.deep, self.rest = nn.Embedding(buckets, 1), nn.Embedding(buckets, 4), nn.Linear(4 + 1, 1)

    def forward(self, x: torch.Tensor, item: torch.Tensor, price: torch.Tensor) -> torch.Tensor:
        assert item.dtype == torch.int64 and price.dtype == torch.float64
        place = item % self.buckets
        deep = torch.cat([self.deep(place), x], dim=1)
        return self.wide(place)[:, 0] + self.rest(deep)[:, 0] + (price - price.round()).float()


def test_ids_beyond_float32_reach_embeddings_as_they_are() -> None:
    ids = 2**40 + np.arange(120) % 8
    frame = pd.DataFrame({"a": X[:, 0], "item": ids, "price": ids / 3, "y": (ids % 8).astype(float)})
    types = {"item": torch.long, "price": torch.double}
    est = fit(WideAndDeep, rows=frame, label_column="y", feature_types=types, num_epochs=60, lr=0.1)
    assert est.score(frame) > 0.9  # as float32 all the ids are one
