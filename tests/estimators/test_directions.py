"""Which way is better, and that names of one parameter are one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from raydp_ml import EarlyStopping, InvalidValueError, TorchEstimator, XGBEstimator
from raydp_ml.estimators.directions import greater_is_better

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5)).astype(np.float32)
LABELS = (X[:, 0] + 0.5 * RNG.normal(size=400) > 0).astype(np.int64)


def test_names_tell() -> None:
    assert [greater_is_better(name) for name in ("valid_auc", "ndcg@10", "neg_log_loss", "map@3-")] == [True] * 4
    assert [greater_is_better(name) for name in ("train_loss", "rmse", "log_loss", "cox-nloglik")] == [False] * 4
    assert greater_is_better("valid_share_of_yes") is None


def trees(**settings: object) -> XGBEstimator:
    return XGBEstimator(task="classification", verbose=False, validation=0.3, random_state=0, **settings)


def auc(predicted: np.ndarray, matrix: object) -> tuple[str, float]:
    return "mine", float(roc_auc_score(matrix.get_label(), predicted))


def test_a_function_of_which_more_is_better_is_maximised() -> None:
    given = {"num_boost_round": 40, "early_stopping_rounds": 5, "eval_metric": auc, "eta": 0.5}
    with pytest.raises(InvalidValueError, match="direction cannot be known: give maximize=True"):
        trees(**given).fit(X, LABELS)
    est = trees(**given, maximize=True).fit(X, LABELS)
    scores = [entry["valid_mine"] for entry in est.history_]
    assert est.model_.num_boosted_rounds() == int(np.argmax(scores)) + 1


def net(**settings: object) -> TorchEstimator:
    torch.manual_seed(0)
    return TorchEstimator(
        torch.nn.Linear(5, 2),
        loss="cross_entropy",
        metrics=["roc_auc"],
        num_epochs=8,
        lr=0.5,
        validation=(X, 1 - LABELS),  # each epoch is worse than the one before
        random_state=0,
        verbose=False,
        **settings,
    )


def test_torch_goes_back_to_the_epoch_with_the_most_of_what_should_be_large() -> None:
    stopping = EarlyStopping(patience=3, monitor="valid_roc_auc")
    before = copy.deepcopy(vars(stopping))
    est = net(early_stopping=stopping).fit(X, LABELS)
    scores = [entry["valid_roc_auc"] for entry in est.history_]
    assert len(scores) == int(np.argmax(scores)) + 1 + 3
    assert est.evaluate(X, 1 - LABELS)["roc_auc"] == pytest.approx(max(scores), abs=1e-6)
    assert vars(stopping) == before
    as_dict = net(early_stopping={"patience": 3, "monitor": "valid_roc_auc"}).fit(X, LABELS)
    assert len(as_dict.history_) == len(scores)


def test_a_metric_of_the_users_needs_a_direction() -> None:
    with pytest.raises(InvalidValueError, match="direction cannot be known: give mode='min' or mode='max'"):
        EarlyStopping(monitor="valid_share_of_yes")
    assert EarlyStopping(monitor="valid_share_of_yes", mode="max").greater_is_better


def test_two_names_of_a_parameter_are_one() -> None:
    expected = trees(num_boost_round=3, eta=0.9).fit(X, LABELS).predict_proba(X)
    for est in (
        trees(num_boost_round=3, learning_rate=0.9),
        trees(num_boost_round=3, params={"learning_rate": 0.1}, eta=0.9),
        trees(num_boost_round=3, params={"eta": 0.1}).set_params(learning_rate=0.9),
        clone(trees(num_boost_round=3, learning_rate=0.2)).set_params(eta=0.9),
        trees(num_boost_round=3, params={"learning_rate": 0.9}),
    ):
        np.testing.assert_array_equal(est.fit(X, LABELS).predict_proba(X), expected)
    renamed = trees(learning_rate=0.4)
    assert renamed.get_params()["eta"] == renamed.learning_rate == 0.4
    assert trees(**{"lambda": 2.0}).get_params()["reg_lambda"] == 2.0
    with pytest.raises(
        InvalidValueError, match=r"eta=0.1 and 0.2 were given for one parameter.*\(eta, learning_rate\)"
    ):
        trees(eta=0.1, learning_rate=0.2)
    with pytest.raises(InvalidValueError, match="set_params: eta"):
        trees().set_params(eta=0.1, learning_rate=0.2)


def test_seed_is_random_state() -> None:
    about = {"subsample": 0.5, "num_boost_round": 3}
    given = [{"random_state": 7}, {"random_state": 7, "seed": 7}, {"random_state": 7, "params": {"seed": 1}}]
    given += [{"random_state": None, "seed": 7, "validation": None}]
    fits = [
        XGBEstimator(task="classification", verbose=False, **about, **each).fit(X, LABELS).predict_proba(X)
        for each in given
    ]
    for each in fits[1:]:
        np.testing.assert_array_equal(each, fits[0])
    with pytest.raises(InvalidValueError, match="two names of one parameter"):
        XGBEstimator(task="classification", random_state=7, seed=1).fit(X, LABELS)
