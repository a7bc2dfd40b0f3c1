"""skorch's nets as TorchEstimator's model: trained as skorch trains them, and given back fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import raydp_ml
from raydp_ml import InvalidValueError, TorchEstimator

skorch = pytest.importorskip("skorch")
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler  # noqa: E402
from skorch.dataset import Dataset, ValidSplit  # noqa: E402
from skorch.helper import predefined_split  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
Y = (X[:, :1] * X[:, 1:2] + X[:, 2:3]).astype(np.float32)
LABELS = (Y[:, 0] > 0).astype(np.int64) + (Y[:, 0] > 1)


class Module(nn.Module):
    def __init__(self, hidden: int = 8, outputs: int = 1, last: type = nn.Identity) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, outputs), last())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Softmax(nn.Softmax):
    def __init__(self) -> None:
        super().__init__(dim=1)


def regressor(**settings: Any) -> Any:
    about = {
        "module__hidden": 5,
        "lr": 0.05,
        "max_epochs": 4,
        "batch_size": 32,
        "verbose": 0,
        "optimizer__momentum": 0.9,
    }
    return skorch.NeuralNetRegressor(Module, **{**about, **settings})


def classifier(**settings: Any) -> Any:
    about = {"module__outputs": 3, "module__last": Softmax, "lr": 0.1, "max_epochs": 4, "batch_size": 32, "verbose": 0}
    return skorch.NeuralNetClassifier(Module, **{**about, **settings})


def alone(net: Any, y: np.ndarray) -> Any:
    """The net as skorch trains it, from the weights that the seed gives."""
    torch.manual_seed(7)
    return clone(net).fit(X, y)


def ours(net: Any, y: np.ndarray, **settings: Any) -> TorchEstimator:
    return TorchEstimator(net, random_state=7, verbose=False, **settings).fit(X, y)


def test_a_regressor_trains_and_stops_as_skorch_does() -> None:
    callbacks = [
        EarlyStopping(patience=2, threshold=0.3, load_best=True),
        LRScheduler("StepLR", step_size=1, gamma=0.5),
        GradientNormClipping(0.3),
    ]
    net = regressor(callbacks=callbacks, max_epochs=30)
    expected, found = alone(net, Y), ours(net, Y[:, 0])
    # skorch validates on the first fifth of the rows.
    for name in ("train_loss", "valid_loss"):
        assert [each[name] for each in found.history_] == pytest.approx(expected.history[:, name], abs=1e-5)
    assert len(found.history_) < 30
    np.testing.assert_allclose(found.predict(X), expected.predict(X)[:, 0], atol=1e-5)
    assert not hasattr(net, "module_")


@pytest.mark.parametrize(
    "net",
    [
        classifier(),
        classifier(
            criterion=nn.CrossEntropyLoss, module__last=nn.Identity, train_split=None, iterator_train__drop_last=True
        ),
        classifier(
            train_split=ValidSplit(0.3, stratified=True, random_state=1), batch_size=-1, optimizer=torch.optim.Adam
        ),
        classifier(
            train_split=predefined_split(Dataset(X[:50], LABELS[:50])), callbacks=[EpochScoring("accuracy", name="a")]
        ),
    ],
    ids=["probabilities", "logits", "stratified part", "rows of its own"],
)
def test_a_classifier_trains_as_skorch_does(net: Any) -> None:
    expected, found = alone(net, LABELS), ours(net, LABELS)
    shared = ["train_loss", *(["valid_loss", "valid_acc"] if net.train_split is not None else [])]
    for name in shared:
        assert [each[name] for each in found.history_] == pytest.approx(expected.history[:, name], abs=1e-5)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    assert found.classes_.tolist() == [0, 1, 2]


def test_scikit_learn_searches_over_a_nets_own_parameters(tmp_path: Any) -> None:
    est = TorchEstimator(regressor(max_epochs=20), random_state=0, verbose=False)
    search = GridSearchCV(est, {"model__lr": [1e-6, 0.05], "model__module__hidden": [6]}, cv=2).fit(X, Y[:, 0])
    assert search.best_params_["model__lr"] == 0.05
    assert search.best_estimator_.model_.layers[0].out_features == 6
    search.best_estimator_.save(tmp_path / "model")
    loaded = raydp_ml.load(tmp_path / "model", model=search.best_estimator_.model)
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))


def test_to_skorch_gives_a_net_that_predicts_and_goes_on() -> None:
    net = regressor(train_split=None)
    back = ours(net, Y[:, 0]).to_skorch()
    assert type(back) is skorch.NeuralNetRegressor and back.history[-1, "epoch"] == 4
    expected = alone(net, Y)
    np.testing.assert_allclose(back.predict(X), expected.predict(X), atol=1e-5)
    np.testing.assert_allclose(back.partial_fit(X, Y).predict(X), expected.partial_fit(X, Y).predict(X), atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "module", "y", "kind"),
    [
        ("mse", Module(), Y[:, 0], "NeuralNetRegressor"),
        ("CrossEntropyLoss", Module(outputs=3), LABELS, "NeuralNetClassifier"),
        ("NLLLoss", nn.Sequential(Module(outputs=3), nn.LogSoftmax(dim=1)), LABELS, "NeuralNetClassifier"),
        ("BCEWithLogitsLoss", Module(), (LABELS > 0).astype(int), "NeuralNetBinaryClassifier"),
    ],
)
def test_other_models_become_nets_too(loss: str, module: nn.Module, y: np.ndarray, kind: str) -> None:
    est = TorchEstimator(module, loss=loss, num_epochs=2, verbose=False, random_state=0).fit(X, y)
    net = est.to_skorch()
    assert type(net).__name__ == kind
    if loss == "mse":
        np.testing.assert_allclose(net.predict(X)[:, 0], est.predict(X), atol=1e-6)
        net.partial_fit(X, Y)
    else:
        np.testing.assert_allclose(net.predict_proba(X), est.predict_proba(X), atol=1e-6)
        assert np.array_equal(net.predict(X), est.predict(X))
        net.partial_fit(X, y.astype(np.float32) if loss.startswith("BCE") else y)
    assert len(net.history) > 2 and np.isfinite(net.history[-1, "train_loss"])


class Own(Callback):
    pass


class Loader(torch.utils.data.DataLoader):
    pass


@pytest.mark.parametrize(
    ("net", "settings", "message"),
    [
        (regressor(callbacks=[("own", Own())]), {}, "the callback .*Own.* write it as a raydp_ml.Callback"),
        (regressor(iterator_train=Loader), {}, "iterator_train is a class of its own"),
        (regressor(iterator_train__sampler=None), {}, "iterator_train__sampler, which TorchEstimator does not have"),
        (regressor(dataset=object), {}, "the net's dataset is"),
        (classifier(predict_nonlinearity=None), {}, "predict_nonlinearity=None"),
        (regressor(device="mps"), {}, "device='mps'"),
        (regressor(), {"lr": 0.5, "loss": "mse"}, "loss, lr and the skorch net given as model contradict"),
    ],
)
def test_what_is_not_taken_is_named(net: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ours(net, Y[:, 0], **settings)
