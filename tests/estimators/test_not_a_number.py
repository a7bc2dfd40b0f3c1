"""NaN from a model is never a label and never a row less; rows to validate on are taken by name where there are names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.exceptions import FitFailedWarning

from raydp_ml import GridSearch, RaydpMLError, TorchEstimator, XGBEstimator
from raydp_ml.errors import InvalidValueError

RNG = np.random.default_rng(2)
X = RNG.normal(size=(90, 2)).astype(np.float32)
LABEL = np.where(X[:, 0] > 0, "yes", "no")
# Rows with a large first feature, for which Half gives NaN.
LOST = X[:, 0] > 0.5


class Half(torch.nn.Module):
    """Gives NaN for some rows, as a network does that has overflowed there."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        return out if self.training else torch.where(x[:, :1] > 0.5, torch.full_like(out, float("nan")), out)


def classifier(**params: object) -> TorchEstimator:
    return TorchEstimator(
        Half(2),
        **{"loss": "CrossEntropyLoss", "num_epochs": 3, "lr": 0.1, "random_state": 0, "verbose": False, **params},
    )


def test_a_row_without_probabilities_has_no_label() -> None:
    est = classifier().fit(X, LABEL)
    predicted = est.predict(X)
    assert [item is None for item in predicted] == LOST.tolist()
    assert set(predicted[~LOST]) <= {"yes", "no"}
    assert np.isnan(est.predict_proba(X)).all(axis=1).tolist() == LOST.tolist()
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    named = classifier(label_column="y").fit(table.append_column("y", pa.array(LABEL)))
    assert named.predict(table)["prediction"].is_null().to_pylist() == LOST.tolist()


def test_scores_are_not_those_of_the_other_rows() -> None:
    said = f"{LOST.sum()} of 90 predictions are NaN"
    est = classifier().fit(X, LABEL)
    for method in (est.score, est.evaluate):
        with pytest.raises(InvalidValueError, match=said):
            method(X, LABEL)
    amount = TorchEstimator(Half(1), loss="MSELoss", num_epochs=2, random_state=0, verbose=False).fit(X, X[:, 1])
    assert np.isnan(amount.predict(X)).tolist() == LOST.tolist()
    with pytest.raises(InvalidValueError, match=said):
        amount.score(X, X[:, 1])


def test_a_training_that_diverges_stops_and_names_the_epoch() -> None:
    with pytest.raises(RaydpMLError, match=r"the loss is NaN in epoch \d"):
        TorchEstimator(
            torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Linear(8, 1)),
            loss="MSELoss", optimizer="sgd", lr=1e12, num_epochs=20, random_state=0, verbose=False,
        ).fit(X, X[:, 1])  # fmt: skip


def test_a_candidate_that_diverged_does_not_win(ray_cluster: None) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    est = TorchEstimator(net, loss="CrossEntropyLoss", optimizer="sgd", num_epochs=4, random_state=0, verbose=False)
    with pytest.warns(FitFailedWarning, match="fits failed"):
        search = GridSearch(est, {"lr": [1e12, 0.05]}, cv=2).fit(X, LABEL)
    assert search.best_params_ == {"lr": 0.05}
    assert np.isnan(search.cv_results_["mean_test_score"][0])


def test_validation_columns_are_taken_by_name() -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    y = 3 * X[:, 0]

    def last(validation: object) -> float:
        est = XGBEstimator(task="regression", num_boost_round=5, validation=validation, verbose=False)
        return est.fit(frame, y).history_[-1]["valid_rmse"]

    assert last((frame[["b", "a"]], y)) == last((frame, y))
    with pytest.raises(InvalidValueError, match=r"validation has no column \['b'\]"):
        last((frame.rename(columns={"b": "c"}), y))


def test_trees_that_diverge_stop_with_the_round() -> None:
    est = XGBEstimator(task="regression", eta=1e20, num_boost_round=30, verbose=False)
    with pytest.raises(RaydpMLError, match=r"training diverged: train_rmse is NaN in epoch \d+"):
        est.fit(X, X[:, 0])
    # A metric that has no value for these rows is none of a loss.
    one_sided = XGBEstimator(
        task="classification", eval_metric="auc", num_boost_round=2, verbose=False, validation=(X[:1], [1])
    )
    assert np.isnan(one_sided.fit(X, X[:, 0] > 0).history_[-1]["valid_auc"])
