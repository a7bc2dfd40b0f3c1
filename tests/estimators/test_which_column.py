"""Which column is which: by name wherever there are names, and what a column cannot be is said."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raydp_ml import InvalidValueError, XGBEstimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
FRAME = pd.DataFrame(X, columns=list("abc")).assign(y=X[:, 0] - X[:, 1], fold=np.arange(300) % 5)


def trees(**settings: object) -> XGBEstimator:
    given = {"objective": "reg:squarederror", "label_column": "y", "num_boost_round": 5, "verbose": False, **settings}
    return XGBEstimator(**given)


@pytest.mark.parametrize("frame", [FRAME, pa.Table.from_pandas(FRAME)], ids=["pandas", "arrow"])
def test_constraints_name_features(frame: object) -> None:
    named = trees(feature_columns=list("abc"), monotone_constraints={"b": -1}, interaction_constraints=[["a", "b"]])
    placed = trees(feature_columns=list("abc"), monotone_constraints=(0, -1, 0), interaction_constraints=[[0, 1]])
    free = trees(feature_columns=list("abc")).fit(frame)
    expected = placed.fit(frame).predict(FRAME)
    np.testing.assert_array_equal(named.fit(frame).predict(FRAME), expected)
    assert not np.array_equal(free.predict(FRAME), expected)
    with pytest.raises(
        InvalidValueError, match="monotone_constraints: there is no feature 'd'; the features are a, b, c"
    ):
        trees(feature_columns=list("abc"), monotone_constraints={"d": 1}).fit(frame)


def test_a_column_of_folds_does_not_say_what_is_held_out() -> None:
    with pytest.raises(InvalidValueError, match=r"'fold' says which rows to validate on.*\[2, 3, 4\]"):
        trees(validation="fold").fit(FRAME)
    held_out = FRAME.assign(fold=(FRAME["fold"] == 2).astype(int))
    assert "valid_rmse" in trees(validation="fold").fit(held_out).history_[0]
    with pytest.raises(InvalidValueError, match="is true in all 300 rows, which leaves none to train on"):
        trees(validation="fold").fit(FRAME.assign(fold=True))
    with pytest.raises(InvalidValueError, match="is false in all 300 rows, which leaves none to validate on"):
        trees(validation="fold").fit(FRAME.assign(fold=False))


def test_columns_that_are_no_features_are_listed() -> None:
    frame = FRAME.assign(name="x", kind=pd.Categorical(["u"] * 300)).drop(columns="fold")
    with pytest.warns(UserWarning, match="no features, because they are not numeric: name, kind"):
        est = trees().fit(frame)
    assert est.feature_names_in_.tolist() == list("abc")


def test_a_continuous_label_is_no_class() -> None:
    with pytest.raises(InvalidValueError, match="the label has 300 different values that are not whole"):
        trees(objective="multi:softprob", feature_columns=["a"]).fit(FRAME)
    halves = FRAME.assign(y=np.arange(300) % 3 * 1.0)
    assert trees(objective="multi:softprob", feature_columns=["a"]).fit(halves).classes_.tolist() == [0.0, 1.0, 2.0]


def test_what_fit_refuses_predict_refuses_too() -> None:
    est = trees(feature_columns=list("abc")).fit(FRAME)
    endless = FRAME.assign(a=np.where(np.arange(300) == 7, np.inf, FRAME["a"]))
    with pytest.raises(InvalidValueError, match="1 of 300 rows have an infinite feature"):
        est.predict(pa.Table.from_pandas(endless))
    with pytest.raises(InvalidValueError, match="every one of the 300 rows of the training data has the weight 0"):
        trees(feature_columns=["a"], weight_column="w").fit(FRAME.assign(w=0.0))


def test_decimals_are_features_in_pandas_as_in_arrow() -> None:
    rows = pd.DataFrame({"a": [Decimal("1.5"), None, Decimal("-2.25"), Decimal(4)] * 20, "y": np.arange(80.0)})
    rows.index = [0] * 80
    fits = [
        XGBEstimator(task="regression", label_column="y", null_features="null", num_boost_round=3, verbose=False).fit(
            kind
        )
        for kind in (rows, pa.Table.from_pandas(rows, preserve_index=False))
    ]
    assert [est.feature_names_in_.tolist() for est in fits] == [["a"], ["a"]]
    np.testing.assert_array_equal(fits[0].predict(rows), fits[1].predict(rows))
    assert fits[0].score(rows) > 0
