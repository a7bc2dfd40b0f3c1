"""backend="xgboost-ray": trains in its actors where the versions allow it, and says which do where they do not."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import xgboost

import raydp_ml
from raydp_ml import InvalidValueError, XGBEstimator
from raydp_ml.errors import MissingDependencyError

RNG = np.random.default_rng(3)
X = RNG.normal(size=(1000, 4)).astype(np.float32)
Y = X[:, 0] + X[:, 1] * X[:, 2] > 0
AVAILABLE = find_spec("xgboost_ray") is not None


def trees(**settings: Any) -> XGBEstimator:
    given = {
        "task": "classification",
        "backend": "xgboost-ray",
        "num_workers": 2,
        "num_boost_round": 10,
        "verbose": False,
    }
    return XGBEstimator(**{**given, **settings})


@pytest.mark.skipif(AVAILABLE, reason="xgboost-ray is installed here")
def test_elsewhere_the_error_names_versions_and_the_extra() -> None:
    said = r"xgboost-ray 0\.1\.19 with xgboost 2\.0\.3 or older.*raydp-ml\[xgboost-ray\].*; xgboost .* is installed"
    with pytest.raises(MissingDependencyError, match=said):
        trees().fit(X, Y)
    with pytest.raises(InvalidValueError, match="backend='dask' must be 'xgboost' or 'xgboost-ray'"):
        trees(backend="dask").fit(X, Y)


@pytest.mark.skipif(not AVAILABLE, reason="make test-xgboost-ray has it")
def test_its_actors_grow_the_trees_of_xgboost(ray_cluster: None) -> None:
    params = {"max_depth": 3, "tree_method": "hist", "eval_metric": "logloss"}
    est = trees(**params).fit(X, Y)
    booster = xgboost.train({**params, "objective": "binary:logistic"}, xgboost.DMatrix(X, Y), 10)
    expected = booster.inplace_predict(X)
    np.testing.assert_allclose(
        est.predict_proba(X)[:, 1], expected, atol=0.02
    )  # two actors cut features a little elsewhere
    assert [entry["epoch"] for entry in est.history_] == list(range(1, 11))
    assert est.history_[-1]["train_logloss"] == pytest.approx(
        float(booster.eval(xgboost.DMatrix(X, Y)).split(":")[1]), abs=0.01
    )
    weighted = trees(num_workers=1, **params).fit(X, Y, sample_weight=np.arange(1000))
    plain = xgboost.train({**params, "objective": "binary:logistic"}, xgboost.DMatrix(X, Y, weight=np.arange(1000)), 10)
    np.testing.assert_allclose(weighted.predict_proba(X)[:, 1], plain.inplace_predict(X), atol=1e-5)
    stopped = trees(num_boost_round=60, eta=1.0, validation=0.3, early_stopping_rounds=3, random_state=1).fit(X, Y)
    assert stopped.get_booster().num_boosted_rounds() == stopped.best_iteration_ + 1 < 60
    for refused in (
        {"use_gpu": True},
        {"enable_categorical": True},
        {"objective": lambda p, d: (p, p), "task": "regression"},
    ):
        with pytest.raises(InvalidValueError, match="backend='xgboost-ray'"):
            trees(**refused).fit(X, Y)


@pytest.mark.skipif(not AVAILABLE, reason="make test-xgboost-ray has it")
def test_rows_of_spark_and_predictions_in_it(spark: Any, tmp_path: Any) -> None:
    import pandas as pd

    rows = spark.createDataFrame(pd.DataFrame(X, columns=list("abcd")).assign(y=Y.astype(int)))
    est = trees(label_column="y").fit(rows)
    assert est.score(rows) > 0.9
    est.save(tmp_path / "saved")
    np.testing.assert_array_equal(raydp_ml.load(tmp_path / "saved").predict(X), est.predict(X))
