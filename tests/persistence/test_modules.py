"""Modules of torch that were changed after their construction: they come back as they were, or saving says why not."""

from __future__ import annotations

import functools
import json
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydp_ml
from raydp_ml import EarlyStopping, TorchEstimator
from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.trust import Trust
from raydp_ml.persistence.values import decode, encode

torch = pytest.importorskip("torch")
nn = torch.nn


class Net(nn.Module):
    """Keeps its argument; what it does depends on plain attributes, a buffer that is not saved, and nested layers."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width
        self.scale = 1.0
        self.shift = torch.zeros(width)
        self.activation = nn.functional.relu
        self.later = lambda x: x * self.scale
        self.body = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.1), nn.Linear(width, width))
        self.register_buffer("offset", torch.zeros(width), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.later(self.activation(self.body(x + self.offset) + self.shift))


class Tied(nn.Module):
    """Ties its layers itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Any) -> Any:
        return self.two(self.one(x))


def changed_attributes() -> Any:
    net = Net()
    net.scale = 5.0
    net.shift = torch.tensor([1.0, float("inf"), 3.0])
    net.activation = nn.functional.tanh
    net.extra = {"a": (1, 2)}
    net.body[1].p = 0.7
    net.offset += 2.0
    return net


def other_partial() -> Any:
    net = Net()
    net.activation = functools.partial(nn.functional.softmax, dim=1)
    return net


def tied_later() -> Any:
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    return net


def one_layer_twice() -> Any:
    layer, activation = nn.Linear(3, 3), nn.ReLU()
    return nn.Sequential(layer, activation, nn.Sequential(nn.Linear(3, 3), activation), layer)


def with_new_buffer() -> Any:
    net = Net()
    net.body.register_buffer("seen", torch.ones(2), persistent=False)
    return net


def unfrozen() -> Any:
    net = Net()
    net.body[0].requires_grad_(False)
    return net


MADE_AGAIN: dict[str, Callable[[], Any]] = {
    "attributes": changed_attributes,
    "partial": other_partial,
    "tied": tied_later,
    "tied itself": Tied,
    "shared": one_layer_twice,
    "buffer": with_new_buffer,
    "frozen": unfrozen,
    "rnn": lambda: nn.RNN(3, 3, nonlinearity="relu", batch_first=True),
    "lstm": lambda: nn.LSTM(3, 4, proj_size=2, bidirectional=True),
    "gru": lambda: nn.GRU(3, 4, num_layers=2, dropout=0.2, bias=False),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2)),
    "bfloat16": lambda: nn.Linear(3, 3).bfloat16(),
}


def first(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("make", MADE_AGAIN.values(), ids=MADE_AGAIN)
def test_a_module_comes_back_as_it_is(make: Callable[[], Any], tmp_path: Path) -> None:
    module = make().eval()
    attachments = Attachments(tmp_path)
    spec = json.loads(json.dumps(encode(module, attachments), allow_nan=False))
    back = decode(spec, attachments, Trust([__name__])).eval()
    is_lazy = nn.parameter.is_lazy
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert [name for name, _ in back.named_parameters(remove_duplicate=False)] == names
    assert [each.requires_grad for each in back.parameters()] == [each.requires_grad for each in module.parameters()]
    assert len(list(back.modules())) == len(list(module.modules()))
    if any(map(is_lazy, module.parameters())):
        assert list(map(is_lazy, back.parameters())) == list(map(is_lazy, module.parameters()))
        torch.testing.assert_close(back[2].weight, module[2].weight, rtol=0, atol=0)
        return
    X = torch.randn(4, 2, 3).to(next(module.parameters()).dtype)
    torch.testing.assert_close(first(back(X)), first(module(X)), rtol=0, atol=0)
    if isinstance(module, Net):
        assert dict(back.named_buffers()).keys() == dict(module.named_buffers()).keys()
        assert (back.body[1].p, getattr(back, "extra", None)) == (module.body[1].p, getattr(module, "extra", None))


def hook(module: Any, inputs: Any, outputs: Any) -> Any:
    return outputs * 2


def hooked() -> Any:
    net = Net()
    net.body[0].register_forward_hook(hook)
    return net


def replaced_method() -> Any:
    net = Net()
    net.forward = types.MethodType(lambda self, x: x, net)
    return net


def other_closure() -> Any:
    net = Net()
    net.later = lambda x: -x
    return net


def other_layer() -> Any:
    net = Net()
    net.body[1] = nn.Tanh()
    return net


def other_class() -> Any:
    net = Net()
    net.body[0].__class__ = type("Linear", (nn.Linear,), {"forward": lambda self, x: x})
    return net


def hidden_modules() -> Any:
    net = Net()
    net.others = [nn.Linear(3, 3)]
    return net


def untied() -> Any:
    net = Tied()
    net.two.weight = nn.Parameter(net.one.weight.detach().clone())
    return net


def shared_inside() -> Any:
    net = Net()
    net.body[2] = net.body[0]
    return net


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "hook": (hooked, r"part 'body\.0' has a hook \(forward_hooks\)"),
    "method": (replaced_method, "forward was replaced"),
    "closure": (other_closure, "attribute later was set later"),
    "layer": (other_layer, r"part 'body\.1' is of another class"),
    "class": (other_class, r"part 'body\.0' is of another class"),
    "hidden": (hidden_modules, "attribute others holds modules"),
    "untied": (untied, "weights are not tied"),
    "shared": (shared_inside, "holds its submodules in another way"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_module_that_cannot_come_back_as_it_is_is_refused(
    make: Callable[[], Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotEncodeError, match=reason):
        encode(make(), Attachments(tmp_path))


@pytest.mark.parametrize("name", ["__class__", "forward", "_modules", "training", "a b"])
def test_attributes_of_every_module_cannot_be_set(name: str, tmp_path: Path) -> None:
    spec = encode(nn.Sequential(nn.Linear(2, 2)), Attachments(tmp_path))
    spec["$module"]["attributes"] = {"0": {name: 3}}
    with pytest.raises(InvalidValueError, match=f"an attribute '{name}'"):
        decode(spec, Attachments(tmp_path), Trust())


def test_a_few_digits_ask_for_no_memory(tmp_path: Path) -> None:
    spec = encode(nn.Linear(2, 2), Attachments(tmp_path))
    spec["$module"]["arguments"]["in_features"] = 10**12
    with pytest.raises(InvalidValueError, match="weights do not belong to the torch"):
        decode(spec, Attachments(tmp_path), Trust())


X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def test_saving_says_what_loading_needs(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    net.register_forward_hook(hook)
    estimator = TorchEstimator(net, loss="CrossEntropyLoss", num_epochs=1, verbose=False).fit(X, Y)
    with pytest.warns(
        UserWarning, match=r"'model' of the TorchEstimator is not written: .* hook .*load\(path, model=\.\.\.\)"
    ):
        estimator.save(tmp_path / "model")
    with pytest.raises(InvalidValueError, match=r"has a hook.*load\(path, model=\.\.\.\)"):
        raydp_ml.load(tmp_path / "model")
    loaded = raydp_ml.load(tmp_path / "model", model=net)
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


def test_estimators_with_lazy_layers_and_callbacks_of_ours_come_back(tmp_path: Path) -> None:
    stop = EarlyStopping(patience=2, monitor="train_loss", min_delta=0.5)
    estimator = TorchEstimator(
        nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2)),
        loss="CrossEntropyLoss",
        num_epochs=4,
        early_stopping=stop,
        callbacks=[EarlyStopping(7)],
        verbose=False,
    ).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.save(tmp_path / "model")
        loaded = raydp_ml.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    arguments = ("patience", "monitor", "min_delta", "mode", "restore_best")
    assert [getattr(loaded.early_stopping, name) for name in arguments] == [2, "train_loss", 0.5, "auto", True]
    assert [item.patience for item in loaded.callbacks] == [7]
    np.testing.assert_array_equal(loaded.fit(X, Y).predict(X).shape, (64,))
