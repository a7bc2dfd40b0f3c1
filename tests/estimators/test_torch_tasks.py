"""Several labels of 0 and 1, predictions of one's own, columns that reach the model by name, and sparse tensors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn import metrics
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_score
from torch import nn

import raydp_ml
from raydp_ml import InvalidTypeError, InvalidValueError, TorchEstimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3)).astype(np.float32)
LABELS = (X @ RNG.normal(size=(3, 2)) + RNG.normal(size=(300, 2)) / 3 > 0.3).astype(int)
FRAME = pd.DataFrame(X, columns=list("abc")).assign(hot=LABELS[:, 0], wet=LABELS[:, 1].astype(bool))


def linear(outputs: int = 2) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, outputs)


def net(model: Any = None, **settings: Any) -> TorchEstimator:
    given = {
        "loss": "BCEWithLogitsLoss",
        "lr": 0.05,
        "num_epochs": 3,
        "batch_size": 50,
        "shuffle": False,
        "verbose": False,
    }
    return TorchEstimator(linear() if model is None else model, **{**given, **settings})


# -- several labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_several_labels_are_the_loop_by_hand(weighted: bool) -> None:
    model, weight = linear(), np.linspace(0, 2, 300).astype(np.float32) if weighted else None
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(3):
        for start in range(0, 300, 50):
            rows = slice(start, start + 50)
            loss = nn.functional.binary_cross_entropy_with_logits(
                model(torch.from_numpy(X[rows])), torch.from_numpy(LABELS[rows]).float(), reduction="none"
            ).mean(dim=1)
            optimizer.zero_grad()
            of_rows = torch.ones(50) if weight is None else torch.from_numpy(weight[rows])
            ((loss * of_rows).sum() / of_rows.sum()).backward()
            optimizer.step()
    est = net().fit(X, LABELS, weight)
    expected = torch.sigmoid(model(torch.from_numpy(X))).detach().numpy()
    np.testing.assert_allclose(est.predict_proba(X), expected, atol=1e-5)
    predicted = est.predict(X)
    assert predicted.dtype == np.int64 and np.array_equal(predicted, expected > 0.5)
    assert 0.3 < predicted.mean() < 0.5
    assert est.score(X, LABELS, weight) == metrics.accuracy_score(LABELS, predicted, sample_weight=weight)


def test_metrics_of_several_labels_are_scikit_learns() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    f1 = torchmetrics.classification.MultilabelF1Score(num_labels=2)
    est = net(metrics={"accuracy": "accuracy", "auc": "roc_auc", "f1": f1}, validation=(X[:90], LABELS[:90]))
    est.fit(X, LABELS)
    found, probabilities = est.evaluate(X[:90], LABELS[:90]), est.predict_proba(X[:90])
    expected = {
        "accuracy": metrics.accuracy_score(LABELS[:90], probabilities > 0.5),
        "hamming_loss": metrics.hamming_loss(LABELS[:90], probabilities > 0.5),
        "f1_macro": metrics.f1_score(LABELS[:90], probabilities > 0.5, average="macro"),
        "roc_auc": metrics.roc_auc_score(LABELS[:90], probabilities),
    }
    assert found == pytest.approx(expected) and expected["roc_auc"] > 0.9
    last = est.history_[-1]
    for mine, theirs in (("accuracy", "accuracy"), ("auc", "roc_auc"), ("f1", "f1_macro")):
        assert last[f"valid_{mine}"] == pytest.approx(expected[theirs], abs=1e-6)
    one_class = np.stack([LABELS[:90, 0], np.ones(90, int)], axis=1)
    assert "roc_auc" not in est.evaluate(X[:90], one_class)


def test_several_label_columns_of_frames_and_scikit_learns_tools(tmp_path: Path) -> None:
    est = net(label_column=["hot", "wet"])
    assert est.inferred_task() == "multilabel" and is_classifier(est)
    est.fit(FRAME)
    arrays = net().fit(X, LABELS)
    np.testing.assert_allclose(est.predict_proba(FRAME), arrays.predict_proba(X), atol=1e-6)
    assert [classes.tolist() for classes in est.classes_] == [[0, 1], [0, 1]]  # scikit-learn's form
    assert est.score(FRAME) == arrays.score(X, LABELS)
    table = pa.Table.from_pandas(FRAME)
    predicted = est.predict(table)
    assert predicted.schema.field("prediction").type == pa.list_(pa.int64())
    assert predicted["prediction"].to_pylist() == est.predict(FRAME).tolist()
    assert est.evaluate(table) == pytest.approx(est.evaluate(FRAME))
    est.save(tmp_path / "model")
    again = raydp_ml.load(tmp_path / "model")
    assert np.array_equal(again.predict(FRAME), est.predict(FRAME)) and len(again.classes_) == 2
    with_gaps = FRAME.assign(a=FRAME["a"].where(FRAME.index > 0))
    assert again.set_params(null_features="null").predict(with_gaps)[0].tolist() == [None, None]
    # Other losses of such labels, on probabilities and on margins.
    for loss, model in (("BCELoss", nn.Sequential(linear(), nn.Sigmoid())), ("MultiLabelSoftMarginLoss", linear())):
        np.testing.assert_allclose(
            net(model, loss=loss).fit(X, LABELS).predict_proba(X), arrays.predict_proba(X), atol=1e-3
        )
    for scoring in ("f1_macro", "roc_auc", "accuracy", None):
        scores = cross_val_score(clone(arrays), X, LABELS, cv=2, scoring=scoring)
        half = np.arange(300) < 150
        fitted = net().fit(X[half], LABELS[half])
        name = scoring or "accuracy"
        assert scores[1] == pytest.approx(fitted.evaluate(X[~half], LABELS[~half])[name])


def test_labels_that_are_not_several_of_0_and_1_are_said() -> None:
    others = LABELS.copy()
    others[:7, 1] = 2
    for make, error, message in [
        (lambda: net().fit(X, others), InvalidValueError, "7 labels in 'y' of the training data are neither 0 nor 1"),
        (lambda: net(validation=(X, others)).fit(X, LABELS), InvalidValueError, "7 labels .* of validation"),
        (lambda: net(linear(3)).fit(X, LABELS), InvalidValueError, "3 outputs per row, .* one for each of 2 labels"),
        (lambda: net(class_weight="balanced").fit(X, LABELS), InvalidValueError, r"weights of the loss \(pos_weight\)"),
        (
            lambda: net(loss="CrossEntropyLoss", label_column=["hot", "wet"]).fit(FRAME),
            InvalidValueError,
            "several labels are possible for regression, and for a TorchEstimator whose loss",
        ),
        (lambda: net(loss="mse", task="multilabel").fit(X, LABELS), InvalidValueError, "contradict each other"),
        (lambda: net(label_column=["hot", "a"]).fit(FRAME), InvalidValueError, "300 labels in 'hot, a'"),
    ]:
        with pytest.raises(error, match=message):
            make()


def test_outputs_that_are_no_probabilities_are_said() -> None:
    with pytest.raises(InvalidValueError, match=r"values outside 0 to 1, such as .*torch.nn.Sigmoid"):
        net(nn.Sequential(linear(), nn.ReLU()), loss="BCELoss").fit(X, LABELS)

    class Sometimes(nn.Module):
        """Gives probabilities of the first batch."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = linear(), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return torch.sigmoid(self.inner(x)) + (self.seen > 2)

    with pytest.raises(InvalidValueError, match="values outside 0 to 1, such as 1"):
        net(Sometimes, loss=nn.BCELoss()).fit(X, LABELS)


# -- predictions of one's own ------------------------------------------------------------------------------------------


class Coder(nn.Module):
    """Squeezes rows and gives them back."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.back = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        code = torch.tanh(self.squeeze(x))
        return {"code": code, "rows": self.back(code)}


def as_it_was(outputs: dict[str, torch.Tensor], targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return ((outputs["rows"] - inputs) ** 2).mean()


def code_of(outputs: dict[str, torch.Tensor]) -> np.ndarray:
    return outputs["code"].numpy() * 10


def test_a_function_says_what_is_predicted(tmp_path: Path) -> None:
    def spread(labels: np.ndarray, predicted: np.ndarray) -> float:
        return float(predicted.std())

    est = net(Coder, loss=as_it_was, model_output=code_of, metrics=[spread], validation=(X, X[:, 0]), random_state=0)
    assert est.inferred_task() == "custom" and not is_classifier(est) and not hasattr(est, "predict_proba")
    est.fit(X, X[:, 0])
    with torch.no_grad():
        expected = 10 * est.model_(torch.from_numpy(X))["code"].numpy()
    np.testing.assert_allclose(est.predict(X), expected, atol=1e-5)
    assert est.history_[-1]["valid_spread"] == pytest.approx(expected.std(), rel=1e-4)
    table = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": X[:, 0]})
    frames = clone(est).set_params(label_column="y", validation=None).fit(table)
    column = frames.predict(table)["prediction"]
    assert column.type == pa.list_(pa.float64())
    np.testing.assert_allclose(column.to_pylist(), expected, atol=1e-5)
    for call in (est.score, est.evaluate):
        with pytest.raises(InvalidValueError, match="task='custom'"):
            call(X, X[:, 0])
    # With a loss that implies a task, the function is what is predicted there; the loss has what forward gives.
    doubled = net(linear(1), loss="mse", model_output=lambda outputs: 2 * outputs).fit(X, X[:, 0])
    plain = net(linear(1), loss="mse").fit(X, X[:, 0])
    np.testing.assert_allclose(doubled.predict(X), 2 * plain.predict(X), rtol=1e-5)
    classes = {"loss": "cross_entropy", "task": "custom", "model_output": nn.functional.softsign}
    kept = net(linear(2), **classes).fit(X, LABELS[:, 0])
    with torch.no_grad():
        np.testing.assert_allclose(kept.predict(X), nn.functional.softsign(kept.model_(torch.from_numpy(X))), atol=1e-6)
    kept.save(tmp_path / "model")
    np.testing.assert_allclose(raydp_ml.load(tmp_path / "model").predict(X), kept.predict(X))
    # Without a function, the tensor itself; two values for a row with one label, too.
    quantiles = net(linear(2), loss=lambda outputs, y: (outputs - y[:, None]).abs().mean(), task="custom")
    assert quantiles.fit(X, X[:, 0]).predict(X).shape == (300, 2)


def test_what_predicts_nothing_is_said() -> None:
    with pytest.raises(InvalidTypeError, match=r"gave a float .* a tensor or an array with an entry for each row"):
        net(Coder, loss=as_it_was, model_output=lambda outputs: 1.0).fit(X, X[:, 0]).predict(X)


# -- columns by name ---------------------------------------------------------------------------------------------------


class Bought(nn.Module):
    """Takes ids as integers, a number, and the matrix of what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.of_item, self.last = nn.Embedding(97, 2), nn.Linear(5, 1)

    def forward(self, others: torch.Tensor, item: torch.Tensor, price: torch.Tensor, size: Any = None) -> torch.Tensor:
        assert (item.dtype, price.dtype, price.ndim) == (torch.int64, torch.float32, 1) and others.shape[1] == 2
        return self.last(torch.cat([self.of_item(item % 97), others, price[:, None]], dim=1))[:, 0]


IDS = 2**40 + np.arange(300) % 8
SALES = pd.DataFrame({"a": X[:, 0], "item": IDS, "b": X[:, 1], "price": X[:, 2], "y": (IDS % 8).astype(float)})


def test_columns_reach_a_forward_of_several_arguments_by_name(tmp_path: Path) -> None:
    settings = {"loss": "mse", "label_column": "y", "num_epochs": 60, "lr": 0.1, "random_state": 0}
    est = net(Bought, **settings).fit(SALES)
    assert est.score(SALES) > 0.9  # as float32 all the ids are one
    told = net(Bought, feature_types={"item": torch.long, "price": torch.float32}, **settings).fit(SALES)
    np.testing.assert_allclose(est.predict(SALES), told.predict(SALES))

    def make(width: int) -> nn.Module:
        return Bought()

    for model in (make(1), make):
        given = {"model_params": {"width": 1}} if model is make else {}
        other = net(model, **settings, **given).fit(pa.Table.from_pandas(SALES))
        assert other.predict(SALES).dtype == np.float64
    est.save(tmp_path / "model")
    again = raydp_ml.load(tmp_path / "model", model=Bought)
    # Frames to predict may have the ids in another type.
    np.testing.assert_allclose(again.predict(SALES.astype({"item": "uint64"})), est.predict(SALES))

    class Any_(nn.Module):
        """Takes all columns by name."""

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(1, 1)

        def forward(self, **columns: torch.Tensor) -> torch.Tensor:
            assert list(columns) == ["a", "item", "b", "price"]
            return self.last(columns["a"][:, None])

    net(Any_, **{**settings, "num_epochs": 1}).fit(SALES)


def test_arguments_that_no_column_is_for_are_said() -> None:
    class Other(Bought):
        def forward(self, x: torch.Tensor, item: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            raise AssertionError("not called")

    class Only(Bought):
        def forward(self, item: torch.Tensor, price: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            raise AssertionError("not called")

    for model, columns, message in [
        (
            Other,
            None,
            r"forward\(x, item, cost\) takes x, cost, which are no feature columns .*only its first argument",
        ),
        (Only, None, r"forward\(item, price\) takes columns by name, and none of its arguments is for a, b"),
        (Bought, ["item", "price"], r"takes others, which are no feature columns \(those are item, price\)"),
        (nn.Bilinear(1, 1, 1), None, r"forward\(input1, input2\) takes input1, input2"),
    ]:
        with pytest.raises(InvalidValueError, match=message):
            net(model, loss="mse", label_column="y", feature_columns=columns).fit(SALES)


# -- sparse tensors ----------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """A linear layer that takes sparse rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(60, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.layout is torch.sparse_csr
        return torch.sparse.mm(x, self.weight)


@pytest.mark.parametrize("shuffle", [False, True])
def test_sparse_rows_reach_the_model_as_they_are(shuffle: bool, tmp_path: Path) -> None:
    rows = sparse.random(300, 60, density=0.1, format="csr", dtype=np.float32, random_state=1)
    y = np.asarray(rows @ np.linspace(-1, 1, 60)).ravel().astype(np.float32)
    dense = nn.Linear(60, 1, bias=False)
    nn.init.zeros_(dense.weight)
    settings = {"loss": "mse", "shuffle": shuffle, "random_state": 3, "batch_size": 70, "num_epochs": 20}
    held_out = {"validation": (rows[:50], y[:50])}
    plain = net(copy.deepcopy(dense), **settings, **held_out).fit(rows, y)
    est = net(Words, feature_types=torch.sparse_csr, **settings, **held_out).fit(rows, y)
    np.testing.assert_allclose(est.predict(rows), plain.predict(rows), atol=1e-4)
    for name in ("train_loss", "valid_loss"):
        assert est.history_[-1][name] == pytest.approx(plain.history_[-1][name], abs=1e-5)
    assert est.score(rows, y) > 0.9
    np.testing.assert_allclose(est.predict(rows.toarray()), est.predict(rows))
    est.save(tmp_path / "model")
    again = raydp_ml.load(tmp_path / "model", model=Words)
    np.testing.assert_allclose(again.predict(rows), est.predict(rows))
    assert again.feature_types is torch.sparse_csr
    weighted = net(Words, feature_types=torch.sparse_csr, **settings).fit(rows, y, np.ones(300))
    np.testing.assert_allclose(weighted.predict(rows), plain.predict(rows), atol=1e-4)
    with pytest.raises(InvalidValueError, match="is the layout of sparse rows, but sparse=False"):
        net(Words, feature_types=torch.sparse_csr, sparse=False, **settings).fit(rows, y)
    with pytest.raises(InvalidValueError, match=r"torch\.sparse_coo is a layout that rows are not given in"):
        net(Words, feature_types=torch.sparse_coo, **settings).fit(rows, y)
