"""Nothing that a user gives is changed, and what torch offers works or is refused with the reason."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch

from raydp_ml import EarlyStopping, InvalidValueError, TorchEstimator

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
