"""GridSearch on arrays and local frames: equal to scikit-learn's, failures told, nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold

from raydp_ml import GridSearch
from raydp_ml.errors import InvalidTypeError, InvalidValueError, ResourceTimeoutError
from raydp_ml.estimators.xgb import XGBEstimator
from raydp_ml.search.folds.local import take
from tests.waiting import until_free

RNG = np.random.default_rng(5)
X = RNG.normal(size=(150, 4)).astype(np.float32)
Y = np.where(X[:, 0] + X[:, 1] ** 2 + RNG.normal(size=150) > 1, "late", "fine")
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(y=Y, fold=np.arange(150) % 3)


def model(**params: Any) -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", num_boost_round=5, verbose=False, **params)


def scores_of(search: Any) -> dict[str, np.ndarray]:
    return {name: value for name, value in search.cv_results_.items() if "_test_" in name}


@pytest.fixture(scope="module")
def grid() -> dict[str, list[Any]]:
    return {"max_depth": [1, 4], "eta": [0.1, 0.6]}


@pytest.fixture(scope="module")
def search(ray_cluster: None, grid: dict[str, list[Any]]) -> GridSearch:
    return GridSearch(model(), grid, scoring="roc_auc", max_concurrent_trials=2).fit(X, Y)


def test_scores_are_those_of_scikit_learn(search: GridSearch, grid: dict[str, list[Any]]) -> None:
    theirs = GridSearchCV(model(), grid, scoring="roc_auc", cv=3).fit(X, Y)
    assert search.cv_results_.keys() == theirs.cv_results_.keys()
    assert search.cv_results_["params"] == theirs.cv_results_["params"]
    for name, values in scores_of(theirs).items():
        np.testing.assert_allclose(search.cv_results_[name], values, atol=1e-9, err_msg=name)
    assert search.cv_results_["param_eta"].tolist() == theirs.cv_results_["param_eta"].tolist()
    assert (search.best_index_, search.best_params_) == (theirs.best_index_, theirs.best_params_)
    assert search.best_score_ == pytest.approx(theirs.best_score_)
    assert (search.cv_results_["mean_fit_time"] > 0).all()
    assert search.n_splits_ == 3
    np.testing.assert_array_equal(search.predict(X), theirs.predict(X))
    np.testing.assert_allclose(search.predict_proba(X), theirs.predict_proba(X))
    assert search.score(X, Y) == pytest.approx(theirs.score(X, Y))
    assert search.classes_.tolist() == ["fine", "late"]


def test_the_search_is_an_estimator(search: GridSearch) -> None:
    assert not hasattr(clone(search), "best_estimator_")
    loaded = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert search.estimator.max_depth is None
    with pytest.raises(NotFittedError):
        GridSearch(model(), {"eta": [1]}).predict(X)
    search_without = pickle.loads(pickle.dumps(search))
    del search_without.best_estimator_
    with pytest.raises(AttributeError, match="refit"):
        search_without._best()


def test_several_scores_splitters_and_other_estimators(ray_cluster: None) -> None:
    grid = {"C": [0.01, 1.0, 100.0]}
    given: dict[str, Any] = {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss", "cv": GroupKFold(3)}
    groups = np.arange(150) // 10
    ours = GridSearch(LogisticRegression(), grid, max_concurrent_trials=1, **given).fit(X, Y, groups=groups)
    theirs = GridSearchCV(LogisticRegression(), grid, **given).fit(X, Y, groups=groups)
    for name, values in scores_of(theirs).items():
        np.testing.assert_allclose(ours.cv_results_[name], values, atol=1e-9, err_msg=name)
    assert ours.best_params_ == theirs.best_params_
    assert ours.multimetric_


def test_frames_with_a_label_column_and_a_column_of_folds(ray_cluster: None) -> None:
    given: dict[str, Any] = {"scoring": "accuracy", "max_concurrent_trials": 1}
    search = GridSearch(model(label_column="y"), {"max_depth": [1, 3]}, cv="fold", **given).fit(FRAME)
    pairs = [(np.flatnonzero(FRAME["fold"] != fold), np.flatnonzero(FRAME["fold"] == fold)) for fold in range(3)]
    theirs = GridSearchCV(model(), {"max_depth": [1, 3]}, cv=pairs, scoring="accuracy").fit(X, Y)
    for name, values in scores_of(theirs).items():
        np.testing.assert_allclose(search.cv_results_[name], values, atol=1e-9, err_msg=name)
    assert search.best_estimator_.feature_names_in_.tolist() == list("abcd")
    assert search.score(FRAME) == pytest.approx(np.mean(search.predict(FRAME) == Y))


def test_a_failing_candidate_is_told_and_comes_last(ray_cluster: None, capfd: pytest.CaptureFixture[str]) -> None:
    search = GridSearch(model(), {"max_depth": [-3, 2]}, verbose=1, refit=False, max_concurrent_trials=1)
    with pytest.warns(FitFailedWarning, match=r"3 of 6 fits failed.*'max_depth': -3") as caught:
        search.fit(X, Y)
    assert "should be greater equal to 0" in str(caught[-1].message)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert search.cv_results_["rank_test_score"].tolist() == [2, 1]
    printed = capfd.readouterr().out.strip().splitlines()
    assert len(printed) == 2 and all(line.startswith("[GridSearch]") for line in printed)


def test_all_failing_is_an_error(ray_cluster: None) -> None:
    with pytest.raises(InvalidValueError, match=r"all 3 fits of the search failed(?s:.*)max_depth"):
        GridSearch(model(), {"max_depth": [-3]}).fit(X, Y)
    with pytest.raises(InvalidValueError, match="should be greater equal to 0"):
        GridSearch(model(), {"max_depth": [-3, 2]}, error_score="raise", max_concurrent_trials=1).fit(X, Y)


class Exit(LogisticRegression):
    """Takes its process along for one value of C."""

    def fit(self, X: Any, y: Any) -> Any:
        if self.C == 13:
            os._exit(1)
        return super().fit(X, y)


def test_a_candidate_whose_process_dies_is_one_failure(ray_cluster: None) -> None:
    search = GridSearch(Exit(), {"C": [13, 1.0]}, error_score=-1.0, refit=False)
    with pytest.warns(FitFailedWarning, match="the trial's process failed"):
        search.fit(X, Y)
    assert search.cv_results_["mean_test_score"][0] == -1
    assert search.cv_results_["mean_test_score"][1] > 0.5


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"param_grid": {}}, InvalidValueError, "param_grid is empty"),
        ({"param_grid": []}, InvalidValueError, "param_grid is empty"),
        ({"param_grid": {"eta": []}}, InvalidValueError, "eta"),
        ({"param_grid": {"eta": 3}}, InvalidTypeError, "eta"),
        ({"param_grid": {"eta": [1], "label_column": ["y"]}}, InvalidValueError, "cannot be compared"),
        ({"cv": 1}, InvalidValueError, "cv=1 must be at least 2"),
        ({"cv": None}, InvalidTypeError, "cv=None"),
        ({"cv": 200}, InvalidValueError, "cv=200 does not fit 150 rows"),
        ({"scoring": "speed"}, InvalidValueError, "scoring='speed'"),
        ({"scoring": 3}, InvalidTypeError, "scoring must be"),
        ({"scoring": ["accuracy", "roc_auc"]}, InvalidValueError, "refit must name one of accuracy, roc_auc"),
        ({"error_score": "ignore"}, InvalidValueError, "error_score"),
        ({"max_concurrent_trials": 0}, InvalidValueError, "max_concurrent_trials=0"),
    ],
)
def test_bad_arguments(ray_cluster: None, given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GridSearch(model(), **{"param_grid": {"eta": [0.5]}, **given}).fit(X, Y)


def test_unknown_parameters_are_told_before_anything_runs(ray_cluster: None) -> None:
    with pytest.raises(InvalidValueError, match="param_grid holds 'depth'"):
        GridSearch(LogisticRegression(), {"depth": [1]}).fit(X, Y)


def test_labels_are_wanted(ray_cluster: None) -> None:
    with pytest.raises(InvalidValueError, match="y is not given"):
        GridSearch(model(), {"eta": [1]}).fit(X)


@pytest.mark.parametrize("y", [None, Y], ids=["no labels", "labels"])
def test_a_path_is_refused_before_ray_starts(y: Any) -> None:
    with pytest.raises(InvalidTypeError, match="only pipelines read paths"):
        GridSearch(model(label_column="y"), {"eta": [1]}).fit("rows.parquet", y)


@pytest.mark.parametrize("kind", ["pandas", "series", "arrow", "numpy", "sparse", "list"])
def test_rows_of_a_fold_keep_their_kind(kind: str) -> None:
    column = pd.Series([10, 20, 30], index=[7, 8, 9], name="a")
    rows = {
        "pandas": column.to_frame(),
        "series": column,
        "arrow": pa.table({"a": column.to_numpy()}),
        "numpy": column.to_numpy(),
        "sparse": csr_matrix(column.to_numpy()[:, None]),
        "list": column.tolist(),
    }[kind]
    taken = take(rows, np.array([2, 0]))
    assert type(taken) is type(rows)
    dense = taken.toarray() if kind == "sparse" else taken["a"] if kind == "arrow" else taken
    assert np.ravel(np.asarray(dense)).tolist() == [30, 10]


def test_resources_that_the_cluster_does_not_have(ray_cluster: None) -> None:
    with pytest.raises(ResourceTimeoutError, match=r"CPU +1000 +1000 +4 +4\n"):
        GridSearch(model(), {"eta": [1]}, resources_per_trial={"cpu": 1000}).fit(X, Y)


def test_ctrl_c_ends_the_search_soon_and_leaves_nothing(ray_cluster: None, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    mark = tmp_path / "started"
    pressed: list[float] = []

    def press() -> None:
        while not mark.exists():
            threading.Event().wait(0.05)
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    scorer = Marked(str(mark))
    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        GridSearch(LogisticRegression(), {"C": [1.0, 2.0]}, scoring=scorer, max_concurrent_trials=1).fit(X, Y)
    assert time.monotonic() - pressed[0] < 20
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(Path(tempfile.gettempdir()).glob("raydp_ml_search_*"))
    until_free(4)


class Marked:
    """A scorer that marks its start and takes a minute."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        Path(self.mark).touch()
        threading.Event().wait(60)
        return 1.0


def accuracy_and_matrices(fitted: Any, X: Any, y: Any) -> dict[str, float]:
    """The score, and what the process of the trial has of xgboost's matrices."""
    from raydp_ml.estimators.xgb.kept import kept_matrices

    kept = kept_matrices()
    return {"accuracy": fitted.score(X, y), "made": kept.made, "found": kept.found} if kept else {}


def test_candidates_of_one_process_quantise_the_rows_of_a_fold_once(ray_cluster: None) -> None:
    grid = [{"max_depth": [1, 2, 4]}, {"max_depth": [4], "max_bin": [16]}]
    search = GridSearch(
        model(random_state=0), grid, cv=2, scoring=accuracy_and_matrices, refit=False, max_concurrent_trials=1
    )
    search.fit(X, Y)
    found = search.cv_results_
    # A matrix for each fold, and others for fewer bins; Ray Tune may start a second process for a candidate between.
    assert found["split1_test_made"].max() <= 4 and found["split1_test_found"].max() >= 2
    alone = GridSearchCV(model(random_state=0), grid, cv=2, scoring="accuracy").fit(X, Y)
    assert found["mean_test_accuracy"].tolist() == alone.cv_results_["mean_test_score"].tolist()


class WritesItsProcess(LogisticRegression):
    """Writes down in which process it is fitted."""

    def __init__(self, C: float = 1.0, log: str = "") -> None:
        super().__init__(C=C)
        self.log = log

    def fit(self, X: Any, y: Any) -> Any:
        with open(self.log, "a") as lines:
            lines.write(f"{os.getpid()}\n")
        return super().fit(X, y)


def test_no_more_trials_run_at_once_than_there_are_cores(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raydp_ml.search.tune.cores", lambda: 1)  # Ray was told of several
    log = tmp_path / "processes"
    GridSearch(WritesItsProcess(log=str(log)), {"C": [0.1, 1.0, 10.0, 100.0]}, refit=False).fit(X, Y)
    processes = log.read_text().split()
    assert len(processes) == 12 and len(set(processes)) == 1
