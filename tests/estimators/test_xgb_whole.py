"""What xgboost offers besides trees for tables of numbers: held against xgboost itself on the same rows."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from sklearn import metrics
from sklearn.base import clone
from sklearn.feature_selection import RFE, SelectFromModel

import raydp_ml
from raydp_ml import InvalidTypeError, InvalidValueError, XGBEstimator
from raydp_ml.estimators.launch.rows import look_here
from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.xgb import matrix
from raydp_ml.estimators.xgb.params import TABLE, Ours, Refused
from raydp_ml.frames.arrays import Arrays

RNG = np.random.default_rng(4)
X = RNG.normal(size=(300, 3)).astype(np.float32)
Y = (2 * X[:, 0] + X[:, 1] + 0.1 * RNG.normal(size=300)).astype(np.float64)
LATE, CLASSES = (Y > 0).astype(int), np.digitize(Y, [-1.0, 1.0])
FRAME = pd.DataFrame(X, columns=list("abc")).assign(y=Y, late=LATE, group=CLASSES)
ROWS = xgboost.DMatrix(X)


def trees(**settings: Any) -> XGBEstimator:
    return XGBEstimator(**{"num_boost_round": 6, "max_depth": 3, "random_state": 1, "verbose": False, **settings})


def plain(params: dict[str, Any], rounds: int = 6, start: Any = None, **about: Any) -> xgboost.Booster:
    matrix = xgboost.DMatrix if start is not None else xgboost.QuantileDMatrix
    return xgboost.train({"max_depth": 3, "seed": 1, **params}, matrix(X, **about), rounds, xgb_model=start)


# -- other outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("label", "axes"), [("late", 1), ("group", 2)])
def test_margins_leaves_and_contributions(label: str, axes: int, tmp_path: Any) -> None:
    est = trees(task="classification", label_column=label, feature_columns=["a", "b", "c"]).fit(FRAME)
    booster = est.get_booster()
    assert booster is est.model_ and booster.feature_names == ["a", "b", "c"]
    named = xgboost.DMatrix(X, feature_names=["a", "b", "c"])
    margin, leaf = est.predict_margin(FRAME), est.apply(FRAME)
    contributions = est.predict_contributions(FRAME)
    np.testing.assert_array_equal(margin, booster.predict(named, output_margin=True))
    np.testing.assert_array_equal(leaf, booster.predict(named, pred_leaf=True))
    assert leaf.dtype == np.int32 and margin.ndim == axes and contributions.shape[-1] == 4
    np.testing.assert_array_equal(contributions, booster.predict(named, pred_contribs=True))
    np.testing.assert_allclose(contributions.sum(axis=-1), margin, atol=1e-5)
    # A table has them as columns of the names that the parameters say, and such columns are no features.
    est.set_params(margin_column="m", leaf_column="l", contribution_column="shap", null_features="null")
    table = est.predict_contributions(est.apply(est.predict_margin(pa.Table.from_pandas(FRAME))))
    assert table.column_names[-3:] == ["m", "l", "shap"]
    for name, values in (("m", margin), ("l", leaf), ("shap", contributions)):
        np.testing.assert_array_equal(np.array(table[name].to_pylist()), values)
    assert (
        est.set_params(feature_columns=None).fit(table.drop_columns(["y"])).n_features_in_ == 4
    )  # with the other label
    # Rows without a prediction have none of these either.
    gaps = FRAME.copy()
    gaps.loc[1, "a"] = np.nan
    skipping = trees(task="classification", label_column=label, feature_columns=["a", "b"], null_features="skip").fit(
        gaps
    )
    for found in (skipping.predict_margin(gaps), skipping.apply(gaps), skipping.predict_contributions(gaps)):
        assert np.isnan(found[1]).all() and np.isfinite(np.delete(found, 1, axis=0)).all()
    assert skipping.predict_margin(gaps[:0]).shape == margin[:0].shape
    skipping.save(tmp_path / "model")
    again = raydp_ml.load(tmp_path / "model").predict_contributions(gaps)
    np.testing.assert_array_equal(again, skipping.predict_contributions(gaps))


def test_outputs_that_a_booster_does_not_have_are_named() -> None:
    linear = XGBEstimator(task="regression", booster="gblinear", num_boost_round=20, verbose=False).fit(X, Y)
    np.testing.assert_allclose(linear.predict_contributions(X).sum(axis=1), linear.predict_margin(X), atol=1e-4)
    with pytest.raises(InvalidValueError, match="gblinear' has no trees"):
        linear.apply(X)
    vectors = trees(task="regression", multi_strategy="multi_output_tree").fit(X, np.column_stack([Y, -Y]))
    booster = plain(
        {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree"}, label=np.column_stack([Y, -Y])
    )
    np.testing.assert_array_equal(vectors.predict(X), booster.predict(ROWS).astype(float))
    with pytest.raises(InvalidValueError, match="xgboost cannot give contributions of this model: Check failed"):
        vectors.predict_contributions(X)


def test_base_margin_in_predictions() -> None:
    frame = FRAME[["a", "b", "c", "late"]].assign(start=np.float32(3 * X[:, 2]))
    est = trees(task="classification", label_column="late", base_margin_column="start").fit(frame)
    matrix = xgboost.DMatrix(X, base_margin=frame["start"], feature_names=["a", "b", "c"])
    margin = est.get_booster().predict(matrix, output_margin=True)
    np.testing.assert_array_equal(est.predict_margin(frame), margin)
    np.testing.assert_allclose(est.predict_proba(frame)[:, 1], est.get_booster().predict(matrix), atol=1e-6)
    np.testing.assert_allclose(est.predict_contributions(frame).sum(axis=1), margin, atol=1e-5)
    np.testing.assert_array_equal(est.predict_margin(pa.Table.from_pandas(frame))["prediction_margin"], margin)
    with pytest.raises(InvalidValueError, match="has no column 'start'"):
        est.predict(frame.drop(columns="start"))
    with pytest.raises(InvalidValueError, match="names a column, but X is a ndarray"):
        est.predict(X)
    without = est.set_params(base_margin_column=None).predict_margin(X)
    np.testing.assert_array_equal(without, est.get_booster().predict(ROWS, output_margin=True, validate_features=False))
    with pytest.raises(InvalidValueError, match="one margin for each row"):
        trees(task="classification", label_column="group", base_margin_column="a").fit(FRAME)


# -- after the fit -----------------------------------------------------------------------------------------------------


def test_importances_choose_features() -> None:
    est = trees(task="regression").fit(X, Y)
    theirs = xgboost.XGBRegressor(n_estimators=6, max_depth=3, random_state=1).fit(X, Y)
    np.testing.assert_allclose(est.feature_importances_, theirs.feature_importances_, rtol=1e-5)
    assert RFE(trees(task="regression"), n_features_to_select=2).fit(X, Y).support_.tolist() == [True, True, False]
    assert SelectFromModel(est, prefit=True, threshold=0.1).transform(X).shape == (300, 2)
    assert not hasattr(trees(), "feature_importances_")


def test_the_best_round_is_kept_and_told() -> None:
    held_out = (X[:100], LATE[:100])
    est = trees(task="classification", num_boost_round=80, early_stopping_rounds=3, validation=held_out, eta=0.6)
    est.fit(X[100:], LATE[100:])
    losses = [entry["valid_logloss"] for entry in est.history_]
    assert (est.best_iteration_, est.best_score_) == (int(np.argmin(losses)), pytest.approx(min(losses)))
    assert est.get_booster().num_boosted_rounds() == est.best_iteration_ + 1 < len(losses)
    with pytest.raises(AttributeError, match="early_stopping_rounds"):
        _ = trees(task="classification").fit(X, LATE).best_score_


@pytest.mark.parametrize("types", [None, ["q", "c", "q"]])
def test_bins_of_columns_are_those_of_the_matrix(types: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "_LEAST_NUMBERS", 1)
    rows = np.column_stack([X[:, 0], np.arange(300) % 7, X[:, 1]]).astype(np.float32)
    rows[5, 0] = np.nan
    assert isinstance(matrix.by_columns(rows), pd.DataFrame)
    ours = matrix.Matrices({"max_bin": 16}, feature_types=types).of(Rows(rows, Y))
    theirs = xgboost.QuantileDMatrix(rows, Y, max_bin=16, feature_types=types)
    assert (ours.feature_names, ours.feature_types) == (None, types)
    logs: list[dict[str, Any]] = [{}, {}]
    for mine, other in zip(ours.get_quantile_cut(), theirs.get_quantile_cut(), strict=True):
        np.testing.assert_array_equal(mine, other)
    held_out = matrix.Matrices({"max_bin": 16}, feature_types=types).of(Rows(rows[:50], Y[:50]), ours)
    others = xgboost.QuantileDMatrix(rows[:50], Y[:50], max_bin=16, feature_types=types, ref=theirs)
    one, other = (
        xgboost.train({"max_bin": 16}, train, 5, evals=[(valid, "valid")], evals_result=log, verbose_eval=False)
        for train, valid, log in ((ours, held_out, logs[0]), (theirs, others, logs[1]))
    )
    assert one.save_raw("ubj") == other.save_raw("ubj") and logs[0] == logs[1] and logs[0]["valid"]


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_the_best_round_of_other_boosters_is_kept(booster: str) -> None:
    held_out, settings = (X[:100], Y[:100]), {"rate_drop": 0.3} if booster == "dart" else {}
    about = {"booster": booster, "task": "regression", "eta": 0.9, "num_boost_round": 60, "early_stopping_rounds": 3}
    est = trees(**about, **settings, max_depth=None, validation=held_out).fit(X[100:], Y[100:])
    errors = [entry["valid_rmse"] for entry in est.history_]
    assert est.best_iteration_ == int(np.argmin(errors)) and len(errors) < 60
    found = metrics.root_mean_squared_error(Y[:100], est.predict(X[:100]))
    assert found == pytest.approx(min(errors), rel=1e-4) and found == pytest.approx(est.best_score_, rel=1e-4)


def test_importances_are_drawn_by_the_names_of_the_columns() -> None:
    est = trees(task="regression", label_column="y", feature_columns=["a", "b", "c"]).fit(FRAME)
    ax = xgboost.plot_importance(est.get_booster(), importance_type="gain", show_values=False)
    drawn = dict(
        zip([label.get_text() for label in ax.get_yticklabels()], [bar.get_width() for bar in ax.patches], strict=True)
    )
    found = dict(zip("abc", est.feature_importances_, strict=True))
    assert {name: width / sum(drawn.values()) for name, width in drawn.items()} == pytest.approx(
        {name: share for name, share in found.items() if share}, rel=1e-4
    )


@pytest.mark.parametrize(
    ("task", "y", "kind"), [("classification", CLASSES, "XGBClassifier"), ("regression", Y, "XGBRegressor")]
)
def test_to_sklearn(task: str, y: np.ndarray, kind: str) -> None:
    est = trees(task=task, eta=0.2).fit(X, y)
    theirs = est.to_sklearn()
    assert type(theirs).__name__ == kind and theirs.learning_rate == 0.2 and theirs.n_estimators == 6
    np.testing.assert_allclose(theirs.predict(X), est.predict(X))
    if task == "classification":
        np.testing.assert_allclose(theirs.predict_proba(X), est.predict_proba(X), atol=1e-6)
    theirs.get_booster().set_attr(mine="1")
    assert est.get_booster().attr("mine") is None  # a copy


def test_to_sklearn_of_a_ranking() -> None:
    frame = FRAME[["a", "b", "c"]].assign(grade=CLASSES, query=np.repeat(np.arange(60), 5))
    est = trees(task="ranking", label_column="grade", qid_column="query").fit(frame)
    theirs = est.to_sklearn()
    assert type(theirs).__name__ == "XGBRanker"
    np.testing.assert_array_equal(theirs.predict(frame[["a", "b", "c"]]), est.predict(frame).astype("float32"))


# -- objectives --------------------------------------------------------------------------------------------------------


def test_survival_with_two_bounds() -> None:
    lower = np.exp(Y)
    upper = np.where(RNG.random(300) < 0.3, np.inf, lower)
    about = {"objective": "survival:aft", "aft_loss_distribution": "normal", "aft_loss_distribution_scale": 0.8}
    booster = plain(about, label_lower_bound=lower, label_upper_bound=upper)
    frame = FRAME[["a", "b", "c"]].assign(lower=lower, upper=upper)
    expected = booster.predict(ROWS).astype(float)
    for kind in (frame, pa.Table.from_pandas(frame)):
        est = trees(label_column=["lower", "upper"], **about).fit(kind)
        np.testing.assert_array_equal(est.predict(frame), expected)
    on_arrays = trees(**about, validation=(X[:50], np.column_stack([lower, upper])[:50]))
    on_arrays.fit(X, np.column_stack([lower, upper]))
    np.testing.assert_array_equal(on_arrays.predict(X), expected)
    assert {"train_aft-nloglik", "valid_aft-nloglik"} < set(on_arrays.history_[-1])
    with pytest.raises(InvalidValueError, match=r"2 label\(s\) and 1 prediction\(s\)"):
        on_arrays.score(X, np.column_stack([lower, upper]))
    with pytest.raises(InvalidValueError, match="needs two labels for each row"):
        trees(objective="survival:aft").fit(X, lower)
    with pytest.raises(InvalidValueError, match="300 of 300 rows have a lower bound below 0 or above the upper"):
        trees(objective="survival:aft").fit(X, np.column_stack([lower, lower - 1]))


def test_cox_trains_on_one_worker() -> None:
    time = np.where(RNG.random(300) < 0.3, -np.exp(-Y), np.exp(-Y))  # negative: not known to have ended
    est = trees(objective="survival:cox").fit(X, time)
    np.testing.assert_array_equal(
        est.predict(X), plain({"objective": "survival:cox"}, label=time).predict(ROWS).astype(float)
    )
    with pytest.raises(InvalidValueError, match="survival:cox' trains on one worker"):
        trees(objective="survival:cox", num_workers=2).fit(X, time)


def test_quantiles() -> None:
    about = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    est = trees(**about).fit(X, Y)
    np.testing.assert_array_equal(est.predict(X), plain(about, label=Y).predict(ROWS).astype(float))
    table = (
        trees(**about, label_column="y", feature_columns=["a", "b", "c"])
        .fit(FRAME)
        .predict(pa.Table.from_pandas(FRAME))
    )
    np.testing.assert_array_equal(np.array(table["prediction"].to_pylist()), est.predict(X))
    with pytest.raises(InvalidValueError, match=r"1 label\(s\) and 3 prediction\(s\)"):
        est.score(X, Y)
    with pytest.raises(InvalidValueError, match="xgboost refuses to train: Unknown objective function"):
        trees(objective="reg:nothing").fit(X, Y)


def test_expectiles() -> None:
    about = {"objective": "reg:expectileerror", "expectile_alpha": [0.2, 0.8]}
    try:
        booster = plain(about, label=Y)
    except xgboost.core.XGBoostError:
        pytest.skip(f"xgboost {xgboost.__version__} has no expectiles yet")
    np.testing.assert_array_equal(trees(**about).fit(X, Y).predict(X), booster.predict(ROWS).astype(float))


# -- settings ----------------------------------------------------------------------------------------------------------


def test_feature_weights_by_name_and_by_position() -> None:
    about = {"colsample_bynode": 0.4, "num_boost_round": 20}
    matrix = xgboost.QuantileDMatrix(X, Y, feature_weights=[0.0, 1.0, 0.5])
    booster = xgboost.train(
        {"objective": "reg:squarederror", "max_depth": 3, "seed": 1, "colsample_bynode": 0.4}, matrix, 20
    )
    by_place = trees(task="regression", feature_weights=[0.0, 1.0, 0.5], **about).fit(X, Y)
    np.testing.assert_array_equal(by_place.predict(X), booster.predict(ROWS).astype(float))
    named = trees(
        task="regression",
        label_column="y",
        feature_columns=["a", "b", "c"],
        feature_weights={"a": 0, "c": 0.5},
        **about,
    )
    np.testing.assert_array_equal(named.fit(FRAME).predict(X), by_place.predict(X))
    for wrong, message in ([[1.0], "there are 3 features"], [{"z": 1}, "no feature 'z'"], [[1, -1, 1], "at least 0"]):
        with pytest.raises(InvalidValueError, match=message):
            trees(task="regression", feature_weights=wrong).fit(X, Y)


def test_training_goes_on_from_a_given_model(tmp_path: Any) -> None:
    first = trees(task="regression").fit(X[:150], Y[:150])
    first.get_booster().save_model(tmp_path / "first.json")
    expected = plain({"objective": "reg:squarederror"}, start=first.get_booster().copy(), label=Y).predict(ROWS)
    for start in (first.get_booster(), first.get_booster().save_raw(), tmp_path / "first.json"):
        est = clone(trees(task="regression", xgb_model=start)).fit(X, Y)
        np.testing.assert_array_equal(est.predict(X), expected.astype(float))
    assert first.get_booster().num_boosted_rounds() == 6
    with pytest.raises(InvalidValueError, match="xgb_model has 3 features, but the data has 2"):
        trees(task="regression", xgb_model=first.get_booster()).fit(X[:, :2], Y)
    with pytest.raises(InvalidValueError, match="2 classes, but the label has 3"):
        trees(task="classification", xgb_model=first.get_booster()).fit(X, CLASSES)
    with pytest.raises(InvalidValueError, match="is no file"):
        trees(task="regression", xgb_model=str(tmp_path / "none.json")).fit(X, Y)
    with pytest.raises(InvalidTypeError, match=r"xgb_model is a XGBEstimator; give a Booster \(est.get_booster"):
        trees(task="regression", xgb_model=first).fit(X, Y)


def test_metrics_of_scikit_learn() -> None:
    weight = np.linspace(0.5, 2.0, 300)
    given = [metrics.roc_auc_score, "logloss", metrics.accuracy_score, metrics.brier_score_loss]
    est = trees(task="classification", eval_metric=given, validation=(X[:90], LATE[:90], weight[:90])).fit(X, LATE)
    last, expected = est.history_[-1], est.evaluate(X[:90], LATE[:90], weight[:90])
    assert last["valid_roc_auc_score"] == pytest.approx(expected["roc_auc"], abs=1e-6)
    assert last["valid_accuracy_score"] == pytest.approx(expected["accuracy"], abs=1e-6)
    assert last["valid_logloss"] == pytest.approx(expected["log_loss"], abs=1e-5)
    assert "train_brier_score_loss" in last
    # Their direction is known.
    stopping = {"num_boost_round": 60, "early_stopping_rounds": 4, "validation": 0.3, "eta": 0.7}
    est = trees(task="classification", eval_metric=metrics.roc_auc_score, **stopping).fit(X, LATE)
    assert est.best_score_ == pytest.approx(max(entry["valid_roc_auc_score"] for entry in est.history_), abs=1e-5)


def test_metrics_by_the_names_of_evaluate() -> None:
    weight, held_out = np.linspace(0.5, 2.0, 300), slice(0, 90)
    for task, label, more in [
        ("classification", LATE, ["balanced_accuracy", "average_precision"]),
        ("classification", CLASSES, []),
        ("regression", Y, ["explained_variance", "mean_absolute_percentage_error", "median_absolute_error"]),
    ]:
        sides = (X[held_out], label[held_out], weight[held_out])
        names = list(trees(task=task).fit(X, label).evaluate(*sides))
        est = trees(
            task=task, eval_metric=[*more, *names, "auc" if task == "classification" else "mae"], validation=sides
        )
        last = est.fit(X, label).history_[-1]
        assert len(names) == 3 and {f"valid_{name}" for name in more} < set(last)
        for name, value in est.evaluate(*sides).items():
            assert last[f"valid_{name}"] == pytest.approx(value, abs=1e-5), name
    stopping = {"num_boost_round": 60, "early_stopping_rounds": 4, "validation": 0.3, "eta": 0.7}
    est = trees(task="classification", eval_metric="roc_auc", **stopping).fit(X, LATE)
    assert est.best_score_ == pytest.approx(max(entry["valid_roc_auc"] for entry in est.history_), abs=1e-5)
    # Rows that lack a class have a value, too.
    few = (X[CLASSES < 2][:40], CLASSES[CLASSES < 2][:40])
    est = trees(task="classification", eval_metric=["log_loss"], validation=few).fit(X, CLASSES)
    expected = metrics.log_loss(few[1], est.predict_proba(few[0]), labels=[0, 1, 2])
    assert est.history_[-1]["valid_log_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_table_of_parameters_knows_all_that_xgboost_has() -> None:
    names = set(inspect.signature(xgboost.XGBModel.__init__).parameters) - {"self", "kwargs"}
    names |= set(inspect.signature(xgboost.DMatrix.__init__).parameters) - {"self", "data"}
    names |= set(inspect.signature(xgboost.QuantileDMatrix.__init__).parameters) - {"self", "data", "ref"}
    names |= set(inspect.signature(xgboost.train).parameters) - {"params", "dtrain"}

    def settings(node: dict[str, Any]) -> Any:
        for name, value in node.items():
            if not isinstance(value, dict):
                yield name
            else:
                yield from settings(value)

    for params in (
        {},
        {"booster": "gblinear"},
        {"booster": "dart"},
        {"objective": "rank:ndcg"},
        {"objective": "survival:aft"},
    ):
        about = {"label_lower_bound": [1.0] * 300, "label_upper_bound": [2.0] * 300} if "aft" in str(params) else {}
        about = about or {"label": LATE, **({"qid": np.arange(300)} if "rank" in str(params) else {})}
        booster = xgboost.train({"verbosity": 0, **params}, xgboost.DMatrix(X, **about), 1)
        names |= set(settings(json.loads(booster.save_config())["learner"])) - {"name", "metrics", "updater"}
    assert names - set(TABLE) == set()
    estimator = set(inspect.signature(XGBEstimator).parameters)
    assert {fate.name for fate in TABLE.values() if isinstance(fate, Ours)} <= estimator
    for name, fate in TABLE.items():
        if isinstance(fate, Refused):
            with pytest.raises(InvalidValueError, match=f"'{name}' cannot be given"):
                XGBEstimator(**{name: 1})


# -- ranking -----------------------------------------------------------------------------------------------------------


def test_queries_stay_together_on_workers_and_in_validation() -> None:
    names = np.array(
        [f"q{number}" for number in RNG.permutation(np.repeat(np.arange(40), RNG.integers(2, 15, 40)))], object
    )
    arrays = Arrays(np.zeros((len(names), 1), np.float32), np.zeros(len(names)), qid=names)
    side = look_here(arrays, classify=False, drop_nulls=False)
    queries = [set(shard.load().qid) for shard in side.shards(3, None)]
    assert sum(map(len, queries)) == 40 and set.union(*queries) == set(names)
    assert max(shard.rows for shard in side.shards(3, None)) < 1.3 * len(names) / 3

    grades = np.digitize(Y, [-1.0, 0.0, 1.0])
    query = np.repeat(np.arange(60), 5)
    frame = FRAME[["a", "b", "c"]].assign(grade=grades, query=query)
    est = trees(task="ranking", label_column="grade", qid_column="query", validation=0.25, eval_metric="ndcg").fit(
        frame
    )
    chosen = np.zeros(60, bool)
    chosen[np.random.default_rng(1).permutation(60)[:15]] = True
    rows = chosen[query]
    matrix = xgboost.QuantileDMatrix(X[~rows], grades[~rows], qid=query[~rows])
    booster = xgboost.train({"objective": "rank:ndcg", "max_depth": 3, "seed": 1}, matrix, 6)
    np.testing.assert_array_equal(est.predict(frame), booster.predict(ROWS).astype(float))
    named = frame.assign(query=[f"{number:02d}" for number in query])
    named = trees(task="ranking", label_column="grade", qid_column="query", validation=0.25).fit(named)
    np.testing.assert_array_equal(named.predict(frame), est.predict(frame))
    with pytest.raises(InvalidValueError, match="1 nulls; it says which query"):
        est.fit(frame.astype({"query": object}).assign(query=lambda rows: rows["query"].where(rows.index > 0, None)))
