"""Weights of rows: 1 everywhere is no weights, 2 is the row twice, in training and in metrics, for all backends and frames."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xgboost

from raydp_ml import InvalidTypeError, InvalidValueError, TFEstimator, TorchEstimator, XGBEstimator
from raydp_ml.estimators.tf.model import import_keras

keras = import_keras()
RNG = np.random.default_rng(5)
# Values of few digits, fewer of them than xgboost has bins.
X = RNG.integers(-8, 8, (120, 3)).astype(np.float32) / 8
Y = X[:, 0] - 2 * X[:, 1] + RNG.integers(-4, 5, 120) / 8
CLASSES = np.digitize(Y, [-0.7, 0.7])
LATE = (Y > 0).astype(int)
WEIGHT = np.where(np.arange(120) % 3 == 0, 2.0, 1.0)
TWICE = np.repeat(np.arange(120), WEIGHT.astype(int))
BY_CLASS = torch.tensor([0.5, 1.0, 3.0])


def net(loss: Any, outputs: int = 1, **settings: Any) -> TorchEstimator:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, outputs))
    given = {"optimizer": "sgd", "lr": 0.05, "batch_size": 1000, "num_epochs": 5, "verbose": False, **settings}
    return TorchEstimator(model, loss=loss, random_state=0, **given)


def network(loss: Any, outputs: int = 1, **settings: Any) -> TFEstimator:
    keras.utils.set_random_seed(1)
    last = {1: None, 2: "sigmoid", 3: "softmax"}[outputs]
    layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(3 if outputs == 3 else 1, activation=last)]
    given = {"optimizer": "sgd", "lr": 0.05, "batch_size": 1000, "num_epochs": 5, "verbose": False, **settings}
    return TFEstimator(keras.Sequential([keras.Input((3,)), *layers]), loss=loss, random_state=0, **given)


def trees(**settings: Any) -> XGBEstimator:
    return XGBEstimator(**{"num_boost_round": 8, "max_depth": 3, "verbose": False, "random_state": 0, **settings})


def loss_of_rows(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (outputs - y).abs().flatten()


def squared(predicted: np.ndarray, matrix: xgboost.DMatrix) -> tuple[np.ndarray, np.ndarray]:
    """An objective that does not look at weights."""
    return predicted - matrix.get_label(), np.ones(len(predicted))


def squared_with_weights(predicted: np.ndarray, matrix: xgboost.DMatrix) -> tuple[np.ndarray, np.ndarray]:
    weight = matrix.get_weight() if len(matrix.get_weight()) else np.ones(len(predicted))
    return weight * (predicted - matrix.get_label()), weight


CE, F = torch.nn.CrossEntropyLoss, torch.nn.functional
# For each loss that is taken: an estimator with it, and the labels of its task.
CASES: dict[str, Any] = {
    "torch mean": lambda **s: (net("mse", metrics=["mse", "mae"], **s), Y),
    "torch sum": lambda **s: (net(torch.nn.MSELoss(reduction="sum"), lr=0.001, **s), Y),
    "torch none": lambda **s: (net(torch.nn.HuberLoss(reduction="none"), **s), Y),
    "torch function of rows": lambda **s: (net(loss_of_rows, task="regression", **s), Y),
    "torch logits": lambda **s: (net("BCEWithLogitsLoss", metrics=["accuracy", "auc"], **s), LATE),
    "torch pos_weight": lambda **s: (net(torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), **s), LATE),
    "torch class-weighted": lambda **s: (net(CE(BY_CLASS), 3, **s), CLASSES),
    "torch class-weighted sum": lambda **s: (net(CE(BY_CLASS, reduction="sum"), 3, lr=0.001, **s), CLASSES),
    "torch smoothed": lambda **s: (net(CE(BY_CLASS, label_smoothing=0.1), 3, **s), CLASSES),
    "torch ignoring": lambda **s: (net(CE(ignore_index=1), 3, **s), CLASSES),
    "torch partial": lambda **s: (
        net(functools.partial(F.cross_entropy, weight=BY_CLASS), 3, task="classification", **s), CLASSES
    ),
    "keras mean": lambda **s: (network("mse", metrics=["mae"], **s), Y),
    "keras sum": lambda **s: (network(keras.losses.MeanSquaredError(reduction="sum"), lr=0.001, **s), Y),
    "keras function": lambda **s: (
        network(lambda y, predicted: keras.ops.abs(y - predicted), task="regression", **s), Y
    ),
    "keras binary": lambda **s: (network("binary_crossentropy", 2, metrics=["accuracy"], **s), LATE),
    "xgboost": lambda **s: (trees(task="regression", eval_metric=["rmse", "mae"], **s), Y),
    "xgboost exact": lambda **s: (trees(task="regression", tree_method="exact", **s), Y),
    "xgboost logistic": lambda **s: (trees(objective="binary:logistic", eval_metric=["logloss", "auc"], **s), LATE),
    "xgboost classes": lambda **s: (trees(objective="multi:softprob", **s), CLASSES),
    "xgboost function": lambda **s: (trees(objective=squared, task="regression", base_score=0.0, **s), Y),
    "xgboost weighing function": lambda **s: (
        trees(objective=squared_with_weights, task="regression", base_score=0.0, **s), Y
    ),
}  # fmt: skip


def outputs(est: Any, rows: Any = X) -> np.ndarray:
    return est.predict_proba(rows) if est.inferred_task() == "classification" else est.predict(rows)


def alike(one: Any, other: Any, rows: Any = X) -> None:
    """Two fits learnt the same, and say the same of it."""
    np.testing.assert_allclose(outputs(one, rows), outputs(other, rows), rtol=2e-4, atol=2e-5)
    for mine, its in zip(one.history_, other.history_, strict=True):
        names = sorted(set(mine) - {"seconds"})
        assert names == sorted(set(its) - {"seconds"})
        assert [mine[name] for name in names] == pytest.approx([its[name] for name in names], rel=2e-4, abs=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_weight_1_is_no_weight_and_weight_2_is_the_row_twice(name: str) -> None:
    _, y = CASES[name]()

    def fitted(rows: Any, held: Any, weight: Any = None) -> Any:
        held_out = (X[held], y[held]) if weight is None else (X[held], y[held], weight[held])
        est, _ = CASES[name](validation=held_out)
        return est.fit(X[rows], y[rows], sample_weight=None if weight is None else weight[rows])

    every, few = np.arange(120), np.arange(50)
    plain = fitted(every, few)
    alike(fitted(every, few, np.ones(120)), plain)
    alike(fitted(every, few, 2 * np.ones(120)), fitted(np.tile(every, 2), np.tile(few, 2)))
    weighed = fitted(every, few, WEIGHT)
    alike(weighed, fitted(TWICE, TWICE[TWICE < 50]))
    assert not np.allclose(outputs(weighed), outputs(plain), rtol=1e-3, atol=1e-4)


def test_weights_in_small_batches_are_nearly_rows_twice() -> None:
    # Batches of other rows: the tolerance is that of another shuffling.
    settings = {"optimizer": "adam", "lr": 0.02, "batch_size": 16, "num_epochs": 40}
    for est in (net("mse", **settings), network("mse", **settings)):
        weighed = copy.copy(est).fit(X, Y, sample_weight=WEIGHT).predict(X)
        twice = copy.copy(est).fit(X[TWICE], Y[TWICE]).predict(X)
        assert np.abs(weighed - twice).mean() < 0.1 * np.std(Y)


FRAMES = {"pandas": lambda frame: frame, "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False)}
MAKERS = {"torch": lambda **s: net("mse", **s), "keras": lambda **s: network("mse", **s), "xgboost": trees}


@pytest.mark.parametrize("backend", MAKERS)
@pytest.mark.parametrize("kind", FRAMES)
def test_the_weight_column_of_a_frame_is_sample_weight(kind: str, backend: str) -> None:
    make = MAKERS[backend]
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y, w=WEIGHT)
    named = make(task="regression", label_column="y", weight_column="w", validation=FRAMES[kind](frame[:50]))
    named.fit(FRAMES[kind](frame))
    assert named.feature_names_in_.tolist() == ["a", "b", "c"]
    beside = make(task="regression", validation=(X[:50], Y[:50], WEIGHT[:50])).fit(X, Y, sample_weight=WEIGHT)
    alike(named, beside)
    # In metrics, too: of the frame's column, of weights given beside it, and of both together.
    twice = {name: pytest.approx(value, rel=1e-5) for name, value in beside.evaluate(X[TWICE], Y[TWICE]).items()}
    assert named.evaluate(FRAMES[kind](frame)) == twice
    assert beside.evaluate(X, Y, sample_weight=WEIGHT) == twice
    assert named.score(FRAMES[kind](frame)) == pytest.approx(beside.score(X[TWICE], Y[TWICE]), rel=1e-5)
    if kind == "pandas":
        assert named.evaluate(frame, Y) == twice
        assert named.evaluate(frame.assign(w=1.0), sample_weight=WEIGHT) == twice
        assert named.evaluate(frame.assign(w=np.sqrt(WEIGHT)), Y, sample_weight=np.sqrt(WEIGHT)) == twice
    else:
        with pytest.raises(InvalidTypeError, match="sample_weight was given with a pyarrow Table"):
            named.evaluate(FRAMES[kind](frame), sample_weight=WEIGHT)


@pytest.mark.parametrize("name", ["torch logits", "keras binary", "xgboost logistic"])
def test_class_weight_weighs_training_and_leaves_validation_as_it_is(name: str) -> None:
    held_out = (X[:50], LATE[:50], WEIGHT[:50])
    by_class, y = CASES[name](class_weight={1: 3.0}, validation=held_out)
    by_row, _ = CASES[name](validation=held_out)
    alike(by_class.fit(X, y), by_row.fit(X, y, sample_weight=np.where(y == 1, 3.0, 1.0)))
    last = by_class.history_[-1]
    loss = last["valid_logloss"] if "valid_logloss" in last else last["valid_loss"]
    assert loss == pytest.approx(by_class.evaluate(X[:50], y[:50], WEIGHT[:50])["log_loss"], rel=1e-5)
    name = {"valid_auc": "roc_auc", "valid_accuracy": "accuracy"}
    found = {ours: value for metric, ours in name.items() if (value := last.get(metric)) is not None}
    assert found == pytest.approx({ours: by_class.evaluate(X[:50], y[:50], WEIGHT[:50])[ours] for ours in found})
    assert found


def test_a_metric_that_takes_weights_is_given_them() -> None:
    def share(y: np.ndarray, predicted: np.ndarray, sample_weight: Any = None) -> float:
        return float(np.average(y > 0, weights=sample_weight))

    def plain_share(y: np.ndarray, predicted: np.ndarray) -> float:
        return float(np.mean(y > 0))

    est = net("mse", metrics=[share, plain_share]).fit(X, Y, sample_weight=WEIGHT)
    assert est.history_[-1]["train_share"] == pytest.approx((Y[TWICE] > 0).mean(), rel=1e-5)
    assert est.history_[-1]["train_plain_share"] == pytest.approx((Y > 0).mean(), rel=1e-5)


class Doubled(torch.nn.MSELoss):
    """Means something else by its mean than that of the rows."""

    def forward(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = super().forward(outputs, y)
        return 2 * value if self.reduction == "mean" else value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: net(lambda outputs, y: (outputs - y).abs().mean(), task="regression"), "one number for a batch"),
        (lambda: net(Doubled(), task="regression"), "cannot be weighted"),
        (lambda: network(lambda y, out: keras.ops.mean(keras.ops.abs(y - out)), task="regression"), "one number"),
    ],
)
def test_a_loss_that_cannot_be_weighted_is_refused_with_weights(make: Any, message: str) -> None:
    make().fit(X, Y)
    with pytest.raises(InvalidValueError, match=message):
        make().fit(X, Y, sample_weight=WEIGHT)


def test_ranking_weighs_queries() -> None:
    query = np.repeat(np.arange(20), 6)
    frame = pd.DataFrame(X, columns=list("abc")).assign(grade=CLASSES, query=query, w=WEIGHT)
    est = trees(task="ranking", label_column="grade", qid_column="query", weight_column="w")
    with pytest.raises(InvalidValueError, match="the rows of query 0 have different weights"):
        est.fit(frame)
    frame["w"] = np.where(query < 10, 3.0, 1.0)
    matrix = xgboost.QuantileDMatrix(X, CLASSES, qid=query, weight=np.where(np.arange(20) < 10, 3.0, 1.0))
    plain = xgboost.train({"objective": "rank:ndcg", "max_depth": 3, "seed": 0}, matrix, 8)
    np.testing.assert_array_equal(est.fit(frame).predict(frame), plain.predict(xgboost.DMatrix(X)))


@pytest.mark.parametrize("backend", MAKERS)
def test_weights_that_leave_nothing_are_an_error(backend: str) -> None:
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y, w=0.0)
    make = MAKERS[backend]
    with pytest.raises(InvalidValueError, match="every one of the 120 rows of the training data has the weight 0"):
        make(task="regression", label_column="y", weight_column="w").fit(frame)
    with pytest.raises(InvalidValueError, match="at least one non-zero"):
        make(task="regression").fit(X, Y, sample_weight=np.zeros(120))


@pytest.mark.parametrize("value", [{0: 0.0, 1: 0.0}, {0: -1.0}, {1: float("nan")}])
def test_class_weights_are_not_negative_and_leave_something(value: dict[int, float]) -> None:
    with pytest.raises(InvalidValueError, match="class_weight="):
        trees(objective="binary:logistic", class_weight=value).fit(X, LATE)
