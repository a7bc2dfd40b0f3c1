"""What lasts of a search: saved and loaded, drawn, told while it runs, kept after Ctrl-C; and scikit-learn's own searches."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)

import raydp_ml
from raydp_ml import GridSearch, TorchEstimator, XGBEstimator, load, plot_search
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.progress import Progress
from raydp_ml.search.trial import FoldResult, Outcome

RNG = np.random.default_rng(21)
X = RNG.normal(size=(150, 4)).astype(np.float32)
Y = np.where(X[:, 0] + X[:, 1] ** 2 + RNG.normal(size=150) > 1, "late", "fine")


def model(**params: Any) -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", verbose=False, **{"num_boost_round": 16, **params})


@pytest.fixture(scope="module")
def search(ray_cluster: None) -> GridSearch:
    grid = {"max_depth": [1, 3], "eta": [0.5, 0.001]}
    return GridSearch(model(), grid, scoring="roc_auc", scheduler="asha", max_concurrent_trials=1).fit(X, Y)


# -- saved -----------------------------------------------------------------------------------------------------------


def test_a_search_is_saved_and_loaded(search: GridSearch, tmp_path: Path) -> None:
    search.save(tmp_path / "search")
    loaded = load(tmp_path / "search")
    assert isinstance(loaded, GridSearch)
    np.testing.assert_array_equal(loaded.predict_proba(X), search.predict_proba(X))
    assert loaded.get_params()["estimator__num_boost_round"] == 16
    assert (loaded.param_grid, loaded.scoring, loaded.scheduler) == (search.param_grid, "roc_auc", "asha")
    assert loaded.cv_results_.keys() == search.cv_results_.keys()
    for name, values in search.cv_results_.items():
        np.testing.assert_array_equal(np.asarray(loaded.cv_results_[name]), np.asarray(values), err_msg=name)
    for name in ("best_index_", "best_params_", "best_score_", "n_splits_", "multimetric_", "refit_time_"):
        assert getattr(loaded, name) == getattr(search, name)
    assert loaded.score(X, Y) == search.score(X, Y)
    assert plot_search(loaded).axes


def test_unfitted_searches_and_what_cannot_be_saved(tmp_path: Path) -> None:
    GridSearch(model(), {"max_depth": [1]}, cv=4).save(tmp_path / "unfitted")
    loaded = GridSearch.load(tmp_path / "unfitted")
    assert loaded.cv == 4 and not hasattr(loaded, "cv_results_")
    with pytest.raises(InvalidTypeError, match=r"over a LogisticRegression.*joblib"):
        GridSearch(LogisticRegression(), {"C": [1]}).save(tmp_path / "other")
    GridSearch(model(), {"max_depth": [1]}, cv=StratifiedKFold(4)).save(tmp_path / "splitter")
    with pytest.raises(InvalidValueError, match=r"StratifiedKFold.*trusted"):
        load(tmp_path / "splitter")
    assert load(tmp_path / "splitter", trusted=["sklearn.model_selection"]).cv.n_splits == 4


# -- drawn -----------------------------------------------------------------------------------------------------------


def test_scores_are_drawn_against_one_and_two_parameters(search: GridSearch) -> None:
    scores, curves = plot_search(search, "eta").axes
    means = search.cv_results_["mean_test_score"]
    points = next(line for line in scores.lines if line.get_linestyle() == "None" and line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_ydata(), means)
    assert points.get_xdata().tolist() == search.cv_results_["param_eta"].tolist()
    assert scores.get_xscale() == "log"
    assert [1, 4, 16] in [line.get_xdata().tolist() for line in curves.lines]
    assert search.learning_curves_[search.best_index_][0].tolist() == [1, 4, 16]
    assert [curve[-1] for _, curve in search.learning_curves_] == pytest.approx(means.tolist())
    cells = plot_search(search).axes[0]
    assert [text.get_text() for text in cells.get_xticklabels()] == ["0.001", "0.5"]
    assert sorted(text.get_text() for text in cells.texts) == sorted(f"{mean:.3f}" for mean in means)
    with pytest.raises(InvalidValueError, match="must name one or two of the parameters eta, max_depth"):
        plot_search(search, "depth")
    with pytest.raises(InvalidValueError, match="is not one of the scores score"):
        plot_search(search, metric="accuracy")
    with pytest.raises(InvalidTypeError, match="got a XGBEstimator"):
        plot_search(model())
    assert raydp_ml.plot_search is plot_search


# -- told ------------------------------------------------------------------------------------------------------------


def test_progress_says_what_is_done_running_best_and_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("raydp_ml.search.progress.time.monotonic", lambda: clock[0])
    progress = Progress("GridSearch", 3, 2, None)
    progress.started(0)
    progress.started(1)
    results = [FoldResult(fold, scores={"score": 0.5 + fold / 10}, fit_time=1.5) for fold in range(2)]
    clock[0] = 106.0
    progress.advanced(1, 1)
    progress.ended(0, {"C": 1}, Outcome(results))
    told = "[GridSearch] 1/3 done, 1 running, best 0.5500, about 6 s left: score 0.5500 ± 0.0500  3.0 s  C=1\n"
    assert capsys.readouterr().out == told
    progress.ended(1, {"C": 2}, Outcome([FoldResult(0, error="boom"), FoldResult(1, error="boom")]))
    assert ": failed  0.0 s  C=2\n" in capsys.readouterr().out


def test_nothing_is_printed_unless_asked(search: GridSearch, capfd: pytest.CaptureFixture[str]) -> None:
    GridSearch(LogisticRegression(), {"C": [1]}, refit=False).fit(X, Y)
    assert capfd.readouterr().out == ""


# -- interrupted -----------------------------------------------------------------------------------------------------


class Waits(LogisticRegression):
    """Waits in the fit of one candidate."""

    def __init__(self, C: float = 1.0, mark: str = "") -> None:
        super().__init__(C=C)
        self.mark = mark

    def fit(self, X: Any, y: Any) -> Any:
        if self.C == 3:
            Path(self.mark).touch()
            threading.Event().wait(600)
        return super().fit(X, y)


def test_ctrl_c_keeps_the_results_so_far(ray_cluster: None, tmp_path: Path) -> None:
    mark = tmp_path / "waits"

    def press() -> None:
        while not mark.exists():
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    search = GridSearch(Waits(mark=str(mark)), {"C": [1, 3, 5]}, max_concurrent_trials=1)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True, True]
    with pytest.raises(AttributeError, match="was interrupted, so there is no best_estimator_"):
        search.predict(X)


# -- scikit-learn's own ------------------------------------------------------------------------------------------------


def network(**params: Any) -> TorchEstimator:
    import torch

    given: dict[str, Any] = {"loss": "bce_with_logits", "num_epochs": 2, "random_state": 0, "verbose": False}
    return TorchEstimator(torch.nn.Linear(4, 1), **{**given, **params})


def test_searches_of_scikit_learn_take_our_estimators() -> None:
    cv = StratifiedKFold(3)
    grid = GridSearchCV(model(), {"max_depth": [1, 3]}, cv=cv, scoring="roc_auc").fit(X, Y)
    by_hand = cross_val_score(model(max_depth=3), X, Y, cv=cv, scoring="roc_auc")
    assert grid.cv_results_["mean_test_score"][1] == pytest.approx(by_hand.mean())
    assert grid.predict(X).tolist() == model(**grid.best_params_).fit(X, Y).predict(X).tolist()
    drawn = RandomizedSearchCV(network(), {"lr": [1e-3, 1e-1]}, n_iter=2, cv=2, random_state=0).fit(X, Y)
    assert drawn.best_score_ == drawn.cv_results_["mean_test_score"].max()
    halving = HalvingGridSearchCV(
        model(), {"max_depth": [1, 2, 3]}, resource="num_boost_round", max_resources=9, min_resources=3, cv=2
    )
    halving.fit(X, Y)
    assert halving.best_estimator_.get_params()["num_boost_round"] == 9
    assert set(halving.classes_) == {"fine", "late"}
