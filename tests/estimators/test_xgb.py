"""XGBEstimator in this process: the same trees as xgboost itself, and every parameter counts."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import clone, is_classifier, is_regressor

from raydp_ml import InvalidTypeError, InvalidValueError, XGBEstimator

FEATURES = list("abcd")


def trees(**kwargs):
    return XGBEstimator(**{"num_boost_round": 12, "max_depth": 3, "random_state": 1, "verbose": False, **kwargs})


def plain(params, X, y, rounds=12, **about):
    matrix = xgboost.DMatrix(X, label=y, **about)
    return xgboost.train({"max_depth": 3, "seed": 1, **params}, matrix, num_boost_round=rounds).predict(
        xgboost.DMatrix(X)
    )


@pytest.fixture
def Xy(small):
    return small[FEATURES].to_numpy(), small["label"].to_numpy()


def test_binary_model_is_that_of_xgboost(Xy):
    X, y = Xy
    est = trees(task="classification", subsample=0.7).fit(X, y)
    expected = plain({"objective": "binary:logistic", "subsample": 0.7}, X, (y == "yes").astype(float))
    assert np.array_equal(est.predict_proba(X)[:, 1], expected)
    assert est.classes_.tolist() == ["no", "yes"]
    assert np.array_equal(est.predict(X), np.where(expected > 0.5, "yes", "no"))


@pytest.mark.parametrize("method", ["hist", "approx", "exact"])
def test_weighted_regression_is_that_of_xgboost(small, method):
    X, y = small[FEATURES].to_numpy(), small["amount"].to_numpy()
    weight = np.linspace(0.1, 2.0, len(X)).astype(np.float32)
    est = trees(task="regression", tree_method=method).fit(X, y, sample_weight=weight)
    expected = plain({"objective": "reg:squarederror", "tree_method": method}, X, y, weight=weight)
    assert np.array_equal(est.predict(X), expected.astype(np.float64))
    assert est.predict(X).dtype == np.float64


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_several_classes(small, objective):
    X = small[FEATURES].to_numpy()
    y = np.digitize(small["amount"], [-1.0, 1.0]) * 10
    est = trees(objective=objective).fit(X, y)
    expected = plain({"objective": "multi:softprob", "num_class": 3}, X, y // 10)
    assert np.allclose(est.predict_proba(X), expected, atol=1e-6)
    assert set(est.predict(X)) == {0, 10, 20}


def test_hinge_and_raw_logit_predict_the_labels(Xy):
    X, y = Xy
    assert trees(objective="binary:hinge").fit(X, y).score(X, y) > 0.8
    margin = plain({"objective": "binary:logitraw"}, X, (y == "yes").astype(float))
    raw = trees(objective="binary:logitraw").fit(X, y)
    assert np.allclose(raw.predict_proba(X)[:, 1], 1 / (1 + np.exp(-margin)), atol=1e-6)


def test_linear_booster(small):
    X, y = small[FEATURES].to_numpy(), small["amount"].to_numpy()
    est = XGBEstimator(task="regression", booster="gblinear", num_boost_round=60, verbose=False).fit(X, y)
    assert est.score(X, y) > 0.99


def test_class_weight_balanced_equals_weights_by_hand(Xy):
    X, y = Xy
    counts = pd.Series(y).value_counts()
    weight = (len(y) / (2 * counts.loc[y])).to_numpy()
    balanced = trees(task="classification", class_weight="balanced").fit(X, y)
    by_hand = trees(task="classification").fit(X, y, sample_weight=weight)
    unweighted = trees(task="classification").fit(X, y)
    assert np.allclose(balanced.predict_proba(X), by_hand.predict_proba(X), atol=1e-6)
    assert not np.allclose(balanced.predict_proba(X), unweighted.predict_proba(X), atol=1e-4)


def test_keyword_wins_over_params(Xy):
    X, y = Xy
    est = trees(objective="binary:logistic", params={"max_depth": 1, "eta": 0.9, "objective": "binary:hinge"}).fit(X, y)
    expected = plain({"objective": "binary:logistic", "eta": 0.9}, X, (y == "yes").astype(float))
    assert np.array_equal(est.predict_proba(X)[:, 1], expected)


def test_params_reach_clone_set_params_and_copies():
    est = XGBEstimator(eta=0.2, **{"lambda": 3.0})
    assert est.get_params()["eta"] == 0.2 and est.get_params()["reg_lambda"] == 3.0
    assert est.get_params()["max_depth"] is None
    copy = clone(est).set_params(max_depth=5, num_boost_round=7, alpha=1.0)
    assert copy._xgboost_params() == {"eta": 0.2, "reg_lambda": 3.0, "max_depth": 5, "reg_alpha": 1.0}
    assert copy.num_boost_round == 7 and est.max_depth is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_estimators": 5}, "num_boost_round"),
        ({"num_class": 3}, "number of different labels"),
        ({"missing": -1}, "null_features"),
    ],
)
def test_refused_parameters_say_what_to_use(given, message):
    with pytest.raises(InvalidValueError, match=message):
        XGBEstimator(**given)
    with pytest.raises(InvalidValueError, match=message):
        XGBEstimator().set_params(**given)
    with pytest.raises(InvalidValueError, match=message):
        XGBEstimator(task="regression", params=given).fit([[1.0], [2.0]], [1.0, 2.0])


def test_misspelt_parameter_names_the_right_one():
    with pytest.raises(TypeError, match="did you mean 'max_depth'"):
        XGBEstimator(max_dept=3)
    with pytest.raises(ValueError, match="did you mean 'subsample'"):
        XGBEstimator().set_params(subsampel=0.5)


def test_task_is_inferred_or_asked_for(Xy):
    assert is_classifier(XGBEstimator(objective="binary:logistic"))
    assert is_regressor(XGBEstimator(params={"objective": "reg:absoluteerror"}))
    with pytest.raises(InvalidValueError, match="task='classification'"):
        XGBEstimator().fit(*Xy)
    with pytest.raises(InvalidValueError, match="contradict"):
        XGBEstimator(task="regression", objective="binary:logistic").fit(*Xy)
    with pytest.raises(InvalidValueError, match="is for 2 classes, but the label has 3"):
        XGBEstimator(objective="binary:logistic").fit(Xy[0], np.arange(600) % 3)
    assert not hasattr(XGBEstimator(task="regression"), "predict_proba")


def test_early_stopping_keeps_the_best_round(flights):
    train, test = flights
    est = trees(
        objective="binary:logistic",
        label_column="late",
        validation=test,
        early_stopping_rounds=3,
        num_boost_round=300,
        max_depth=8,
        eta=0.5,
        eval_metric=["auc", "logloss"],
    ).fit(train)
    losses = [entry["valid_logloss"] for entry in est.history_]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 300
    assert est.model_.num_boosted_rounds() == best + 1
    assert est.evaluate(test)["log_loss"] == pytest.approx(min(losses), abs=1e-5)
    assert {"epoch", "train_auc", "valid_auc", "train_logloss", "valid_logloss", "seconds"} == set(est.history_[0])


@pytest.mark.parametrize("kind", ["fraction", "indicator", "arrays"])
def test_validation_rows_do_not_train(small, kind):
    frame = small[[*FEATURES, "amount"]].assign(held=np.arange(600) >= 450)
    kwargs = {"task": "regression", "label_column": "amount", "feature_columns": FEATURES}
    if kind == "fraction":
        est = trees(**kwargs, validation=0.25).fit(frame)
        used = np.ones(600, bool)
        used[np.random.default_rng(1).permutation(600)[:150]] = False
    else:
        held = frame[frame.held]
        validation = "held" if kind == "indicator" else (held[FEATURES], held["amount"])
        est = trees(**kwargs, validation=validation).fit(frame if kind == "indicator" else frame[~frame.held])
        used = ~frame["held"].to_numpy()
    X, y = frame[FEATURES].to_numpy(), frame["amount"].to_numpy()
    params = {"objective": "reg:squarederror", "max_depth": 3, "seed": 1}
    booster = xgboost.train(params, xgboost.DMatrix(X[used], label=y[used]), num_boost_round=12)
    assert np.array_equal(est.predict(X), booster.predict(xgboost.DMatrix(X)).astype(float))
    rmse = np.sqrt(np.mean((booster.predict(xgboost.DMatrix(X[~used])) - y[~used]) ** 2))
    assert est.history_[-1]["valid_rmse"] == pytest.approx(rmse, rel=1e-5)


def test_own_metric_and_objective(small):
    def twice_mae(predicted, matrix):
        return "twice_mae", 2 * float(np.mean(np.abs(predicted - matrix.get_label())))

    def squared(predicted, matrix):
        return predicted - matrix.get_label(), np.ones_like(predicted)

    X, y = small[FEATURES].to_numpy(), small["amount"].to_numpy()
    own = trees(task="regression", objective=squared, eval_metric=["mae", twice_mae], base_score=0.0).fit(X, y)
    usual = trees(task="regression", base_score=0.0).fit(X, y)
    assert np.allclose(own.predict(X), usual.predict(X), atol=1e-5)
    assert own.history_[-1]["train_twice_mae"] == pytest.approx(2 * own.history_[-1]["train_mae"], rel=1e-5)


def test_ranking_sorts_rows_by_query():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "z": rng.normal(size=300), "query": np.arange(300) % 20})
    frame["relevance"] = pd.qcut(frame["x"] + 0.1 * frame["z"], 4, labels=False)
    est = trees(task="ranking", label_column="relevance", qid_column="query").fit(frame)
    assert est.feature_names_in_.tolist() == ["x", "z"]
    ordered = frame.sort_values("query", kind="stable")
    params = {"objective": "rank:ndcg", "max_depth": 3, "seed": 1}
    matrix = xgboost.DMatrix(ordered[["x", "z"]].to_numpy(), label=ordered["relevance"], qid=ordered["query"])
    booster = xgboost.train(params, matrix, num_boost_round=12)
    assert np.array_equal(
        est.predict(frame), booster.predict(xgboost.DMatrix(frame[["x", "z"]].to_numpy())).astype(float)
    )
    with pytest.raises(InvalidValueError, match="qid_column"):
        trees(task="ranking", label_column="relevance").fit(frame)


def test_base_margin_starts_training(small):
    frame = small[[*FEATURES, "amount"]].assign(start=small["amount"] * 0.9)
    est = trees(task="regression", label_column="amount", base_margin_column="start").fit(frame)
    assert "start" not in est.feature_names_in_
    X, y = small[FEATURES].to_numpy(), small["amount"].to_numpy()
    matrix = xgboost.DMatrix(X, label=y, base_margin=frame["start"])
    booster = xgboost.train({"max_depth": 3, "seed": 1}, matrix, num_boost_round=12)
    assert np.array_equal(est.predict(frame), booster.predict(matrix).astype(float))


def test_several_label_columns(small):
    frame = small[[*FEATURES, "amount"]].assign(double=small["amount"] * 2)
    est = trees(task="regression", label_column=["amount", "double"]).fit(frame)
    predicted = est.predict(frame)
    assert predicted.shape == (600, 2)
    assert np.corrcoef(predicted[:, 1], frame["double"])[0, 1] > 0.9
    assert est.score(frame) > 0.8


def test_warm_start_and_partial_fit_add_rounds(Xy):
    X, y = Xy
    whole = trees(task="classification", num_boost_round=10).fit(X, y)
    parts = trees(task="classification", num_boost_round=5, warm_start=True).fit(X, y).fit(X, y)
    assert np.array_equal(whole.predict_proba(X), parts.predict_proba(X))
    partial = trees(task="classification", num_boost_round=5).partial_fit(X, y).partial_fit(X, y)
    assert np.array_equal(whole.predict_proba(X), partial.predict_proba(X))
    again = trees(task="classification", num_boost_round=5).fit(X, y).fit(X, y)
    assert again.model_.num_boosted_rounds() == 5


def test_null_features_are_an_error_left_out_or_missing_values(small):
    frame = small[[*FEATURES, "amount"]].copy()
    frame.loc[::10, "a"] = np.nan
    kwargs = {"task": "regression", "label_column": "amount"}
    with pytest.raises(InvalidValueError, match="60 of 600 rows"):
        trees(**kwargs).fit(frame)
    whole = frame.dropna()
    skipped = trees(**kwargs, null_features="skip").fit(frame)
    assert np.array_equal(skipped.predict(whole), trees(**kwargs).fit(whole).predict(whole))
    assert np.isnan(skipped.predict(frame)[::10]).all() and not np.isnan(skipped.predict(frame)[1:10]).any()
    missing = trees(**kwargs, null_features="null").fit(frame)
    expected = plain({}, frame[FEATURES].to_numpy(), frame["amount"])
    assert np.array_equal(missing.predict(frame), expected.astype(float))


def test_joblib_pickle_and_directory_round_trips(Xy, tmp_path):
    import raydp_ml

    X, y = Xy
    est = trees(task="classification").fit(X, y)
    file = io.BytesIO()
    joblib.dump(est, file)
    file.seek(0)
    est.save(tmp_path / "model")
    for again in (joblib.load(file), pickle.loads(pickle.dumps(est)), raydp_ml.load(tmp_path / "model")):
        assert np.array_equal(again.predict_proba(X), est.predict_proba(X))
        assert again.history_ == est.history_ and again.get_params() == est.get_params()
        assert again.classes_.tolist() == ["no", "yes"]


def test_booster_knows_the_column_names(small):
    est = trees(task="regression", label_column="amount", feature_columns=["a", "b"]).fit(small)
    assert set(est.model_.get_score()) == {"a", "b"}


def test_verbose_prints_few_lines(Xy, capsys):
    XGBEstimator(task="classification", num_boost_round=200, max_depth=2).fit(*Xy)
    lines = capsys.readouterr().out.splitlines()
    assert 5 <= len(lines) <= 12
    assert lines[-1].startswith("[XGBEstimator] 200/200  train_logloss 0.")


def test_fit_in_this_process_imports_no_ray():
    program = (
        "import sys, numpy as np; from raydp_ml import XGBEstimator; "
        "X = np.arange(20.).reshape(-1, 1); XGBEstimator(task='regression', verbose=False).fit(X, X[:, 0]).predict(X); "
        "print([name for name in ('ray', 'pyspark', 'torch', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_bad_values_are_named():
    X, y = [[1.0], [2.0], [3.0]], [0, 1, 0]
    for kwargs, error, message in [
        ({"num_boost_round": 0}, InvalidValueError, "num_boost_round=0"),
        ({"num_workers": -1}, InvalidValueError, "num_workers=-1"),
        ({"num_workers": "two"}, InvalidTypeError, "num_workers='two'"),
        ({"null_features": "drop"}, InvalidValueError, "'error', 'skip' or 'null'"),
        ({"validation": 1.5}, InvalidValueError, "between 0 and 1"),
        ({"early_stopping_rounds": 3}, InvalidValueError, "needs validation"),
        ({"external_memory": True, "streaming": False}, InvalidValueError, "external_memory"),
        ({"class_weight": {5: 1.0}}, InvalidValueError, r"class_weight names \[5\]"),
        ({"task": "clustering"}, InvalidValueError, "must be one of"),
    ]:
        with pytest.raises(error, match=message):
            XGBEstimator(**{"task": "classification", "verbose": False, **kwargs}).fit(X, y)
    with pytest.raises(InvalidValueError, match="resume=True"):
        trees(task="classification").fit(X, y, resume=True)


def test_kept_matrices_are_those_of_the_same_rows_and_the_oldest_go() -> None:
    from raydp_ml.estimators.xgb.kept import KeptMatrices

    kept = KeptMatrices(most_bytes=100)
    rows, labels = np.zeros((5, 3), np.float32), np.arange(5.0)
    first = kept.get([rows, labels], (256,), object)
    assert kept.get([rows.copy(), labels.copy()], (256,), object) is first
    for arrays, settings in (([rows, labels + 1], (256,)), ([rows.T, labels], (256,)), ([rows, None], (256,))):
        assert kept.get(arrays, settings, object) is not first
    assert kept.get([rows, labels], (256,), object) is not first  # of 100 bytes one matrix of 60 and 40 is kept
    assert kept.get([rows, labels], (16,), object) is not kept.get([rows, labels], (256,), object)
