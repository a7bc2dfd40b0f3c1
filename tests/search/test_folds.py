"""Which rows are in which fold, and that the folds of every kind of input are those of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raydp_ml import GridSearch, XGBEstimator
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.folds.splits import Splits, check_cv_argument, codes_of, split_rows

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 3)).astype(np.float32)
Y = np.where(X[:, 0] - X[:, 2] + RNG.normal(size=120) > 0.3, "late", "fine")
GROUPS = RNG.integers(0, 9, 120)
WEIGHT = RNG.uniform(0.2, 3, 120).astype(np.float32)


def split(cv: Any, y: Any = Y, groups: Any = None, **given: Any) -> Splits:
    given = {"classifies": True, "random_state": None, **given}
    return split_rows(cv, np.asarray(y), groups, {"fold": np.arange(120) % 3 - 1}.__getitem__, **given)


def positions(splits: Splits) -> list[tuple[list[int], list[int]]]:
    return [tuple(part.tolist() for part in splits.positions(number)) for number in range(len(splits))]


@pytest.mark.parametrize(
    ("cv", "given", "theirs"),
    [
        (3, {}, StratifiedKFold(3)),
        (3, {"random_state": 1}, StratifiedKFold(3, shuffle=True, random_state=1)),
        (4, {"classifies": False}, KFold(4)),
        (0.2, {}, StratifiedShuffleSplit(1, test_size=0.2, random_state=0)),
        (0.25, {"random_state": 5, "classifies": False}, ShuffleSplit(1, test_size=0.25, random_state=5)),
        ("fold", {}, PredefinedSplit(np.arange(120) % 3 - 1)),
        (GroupKFold(3), {"groups": GROUPS}, GroupKFold(3)),
        (StratifiedGroupKFold(3), {"groups": GROUPS}, StratifiedGroupKFold(3)),
        (TimeSeriesSplit(4), {}, TimeSeriesSplit(4)),
        ([([0, 1, 5], [2]), ([2, 7], [0, 1])], {}, [([0, 1, 5], [2]), ([2, 7], [0, 1])]),
    ],
    ids=str,
)
def test_rows_are_divided_as_scikit_learn_divides_them(cv: Any, given: dict[str, Any], theirs: Any) -> None:
    pairs = theirs if isinstance(theirs, list) else theirs.split(X, Y, given.get("groups"))
    expected = [(np.sort(train).tolist(), np.sort(test).tolist()) for train, test in pairs]
    assert positions(split(cv, **given)) == expected
    # Codes of the labels, which stand for them where the rows are distributed, divide them alike.
    codes = codes_of(pa.chunked_array([Y[:50], Y[50:]])).to_numpy()
    assert positions(split(cv, codes, **given)) == expected


def test_splits_are_told_apart() -> None:
    assert split(3).digest() == split(StratifiedKFold(3)).digest()
    assert split(3).digest() != split(3, random_state=0).digest()


def test_columns_become_codes_that_keep_order_and_nulls() -> None:
    words = pa.chunked_array([["pear", None, "fig"], ["fig", "apple"]])
    assert codes_of(words).to_pylist() == [2, None, 1, 1, 0]
    assert codes_of(words.dictionary_encode()).to_pylist() == [2, None, 1, 1, 0]
    numbers = pa.chunked_array([[3.5, None]])
    assert codes_of(numbers) is numbers
    assert codes_of(pa.chunked_array([], pa.string())).to_pylist() == []


@pytest.mark.parametrize(
    ("cv", "error", "said"),
    [
        (None, InvalidTypeError, "cv=None must be"),
        (True, InvalidTypeError, "cv=True must be"),
        (1, InvalidValueError, "at least 2"),
        (1.5, InvalidValueError, "between 0 and 1"),
        (-0.1, InvalidValueError, "between 0 and 1"),
    ],
)
def test_a_cv_that_cannot_divide_rows(cv: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        check_cv_argument(cv)


@pytest.mark.parametrize(
    ("cv", "said"),
    [
        (400, "cv=400 does not fit 120 rows"),
        ([([0, 1], [])], "leaves fold 0 without rows"),
        ([([0], [500])], "does not fit 120 rows"),
        ([], "No splits|makes no folds|does not fit"),
    ],
)
def test_folds_that_rows_cannot_have(cv: Any, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        split(cv)


# -- scores ----------------------------------------------------------------------------------------------------------


def model(**params: Any) -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", num_boost_round=4, verbose=False, **params)


def same_scores(ours: GridSearch, theirs: GridSearchCV) -> None:
    names = [name for name in theirs.cv_results_ if "_test_" in name or "_train_" in name]
    assert names
    for name in names:
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
@pytest.mark.parametrize("scoring", [None, "roc_auc"])
def test_frames_in_memory_have_the_scores_of_arrays(ray_cluster: None, kind: str, scoring: Any) -> None:
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y, group=GROUPS)
    rows = frame if kind == "pandas" else pa.Table.from_pandas(frame)
    grid = {"max_depth": [1, 3]}
    about: dict[str, Any] = {"cv": GroupKFold(3), "scoring": scoring, "return_train_score": True, "refit": False}
    ours = GridSearch(model(label_column="y"), grid, **about).fit(rows, groups="group")
    theirs = GridSearchCV(model(), grid, **about).fit(X, Y, groups=GROUPS)
    same_scores(ours, theirs)


def test_a_fraction_is_held_out(ray_cluster: None) -> None:
    ours = GridSearch(model(), {"max_depth": [1, 3]}, cv=0.3, scoring="roc_auc", random_state=2).fit(X, Y)
    cv = StratifiedShuffleSplit(1, test_size=0.3, random_state=2)
    same_scores(ours, GridSearchCV(model(), {"max_depth": [1, 3]}, cv=cv, scoring="roc_auc").fit(X, Y))
    assert ours.n_splits_ == 1


# -- what reaches fits and scorers -----------------------------------------------------------------------------------


def both(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """A scorer that gives a dict."""
    predicted = estimator.predict(X)
    return {"accuracy": accuracy_score(y, predicted), "late": float(np.mean(predicted == "late"))}


def test_weights_reach_fits_and_scorers(ray_cluster: None) -> None:
    search = GridSearch(LogisticRegression(), {"C": [0.1, 10.0]}, scoring="roc_auc")
    search.fit(X, Y, sample_weight=WEIGHT)
    for number, (train, test) in enumerate(StratifiedKFold(3).split(X, Y)):
        for place, C in enumerate((0.1, 10.0)):
            fitted = LogisticRegression(C=C).fit(X[train], Y[train], sample_weight=WEIGHT[train])
            expected = get_scorer("roc_auc")(fitted, X[test], Y[test], sample_weight=WEIGHT[test])
            assert search.cv_results_[f"split{number}_test_score"][place] == pytest.approx(expected, abs=1e-9)
    again = LogisticRegression(C=search.best_params_["C"]).fit(X, Y, sample_weight=WEIGHT)
    np.testing.assert_allclose(search.best_estimator_.coef_, again.coef_)


def test_a_weight_column_does_the_same_as_weights(ray_cluster: None) -> None:
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y, w=WEIGHT)
    inside = model(label_column="y", weight_column="w")
    about: dict[str, Any] = {"scoring": ["accuracy", "roc_auc"], "refit": False}
    arrays = GridSearch(model(), {"max_depth": [2]}, **about).fit(X, Y, sample_weight=WEIGHT).cv_results_
    for rows in (frame, pa.Table.from_pandas(frame)):
        columns = GridSearch(inside, {"max_depth": [2]}, **about).fit(rows).cv_results_
        for name in ("mean_test_accuracy", "mean_test_roc_auc"):
            np.testing.assert_allclose(columns[name], arrays[name], atol=1e-7)


def test_a_scorer_that_gives_a_dict_and_fit_parameters_of_a_step(ray_cluster: None) -> None:
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [0.01, 10.0]}
    about: dict[str, Any] = {"scoring": both, "refit": "accuracy", "return_train_score": True}
    ours = GridSearch(pipe, grid, cv=3, **about)
    ours.fit(X, Y, logisticregression__sample_weight=WEIGHT)
    theirs = GridSearchCV(pipe, grid, cv=3, **about).fit(X, Y, logisticregression__sample_weight=WEIGHT)
    assert ours.multimetric_ and ours.cv_results_.keys() == theirs.cv_results_.keys()
    same_scores(ours, theirs)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X))
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X))
    assert ours.score(X, Y) == pytest.approx(accuracy_score(Y, ours.predict(X)))
    assert ours.refit_time_ > 0 and not hasattr(ours, "transform")
    with pytest.raises(InvalidValueError, match="refit must name one of the scores accuracy, late"):
        GridSearch(pipe, grid, scoring=both).fit(X, Y)


def test_what_the_best_estimator_can_do_is_passed_on(ray_cluster: None) -> None:
    from sklearn.decomposition import PCA

    frame = pd.DataFrame(X, columns=list("abc"))
    search = GridSearch(PCA(), {"n_components": [1, 2]}, cv=KFold(3)).fit(frame, np.zeros(120))
    theirs = GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=KFold(3)).fit(frame)
    same_scores(search, theirs)
    assert search.best_params_ == theirs.best_params_
    assert search.feature_names_in_.tolist() == list("abc")
    np.testing.assert_allclose(
        search.inverse_transform(search.transform(frame)), theirs.inverse_transform(theirs.transform(frame)), atol=1e-5
    )
    assert len(search.results_) == 2
    assert not hasattr(search, "predict")


# -- whole steps -----------------------------------------------------------------------------------------------------


def test_whole_steps_are_replaced_estimators_included(ray_cluster: None) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    # The default of an estimator of ours trains on arrays in the trial; one worker would wait for the CPU that the trial has.
    pipe = Pipeline([("scale", StandardScaler()), ("m", DummyClassifier())])
    grid: list[dict[str, Any]] = [
        {"m": [LogisticRegression()], "m__C": [0.1, 1]},
        {"m": [model(num_workers=1)], "m__max_depth": [2], "scale": ["passthrough"]},
    ]
    about: dict[str, Any] = {"scoring": "roc_auc", "cv": 2}
    ours = GridSearch(pipe, grid, max_concurrent_trials=1, **about).fit(X, Y)
    grid[1]["m"] = [model(num_workers=0)]
    theirs = GridSearchCV(pipe, grid, **about).fit(X, Y)
    same_scores(ours, theirs)
    assert type(ours.best_params_["m"]) is type(theirs.best_params_["m"])
    assert grid[0]["m"][0].C == 1.0  # what was given stays as it is
    with pytest.raises(InvalidValueError, match="param_grid holds 'm__depth'"):
        GridSearch(pipe, [{"m": [LogisticRegression()], "m__depth": [1]}]).fit(X, Y)
