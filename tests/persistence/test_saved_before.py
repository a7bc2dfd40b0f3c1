"""What was saved with format version 1, before files of this package moved, loads and predicts as it did then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import raydp_ml

if TYPE_CHECKING:
    import pyspark.sql

SAVED = Path(__file__).parent / "saved_by_format_1"
EXPECTED: dict[str, Any] = json.loads((SAVED / "expected.json").read_text())
needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="this environment has no TensorFlow")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(SAVED / "rows.csv")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("xgb_classifier", "XGBEstimator"),
        ("torch_classifier", "TorchEstimator"),
        pytest.param("tf_classifier", "TFEstimator", marks=needs_keras),
    ],
)
def test_classifiers_predict_what_they_predicted(name: str, kind: str, rows: pd.DataFrame) -> None:
    loaded = raydp_ml.load(SAVED / name)
    assert type(loaded) is getattr(raydp_ml, kind)
    assert loaded.classes_.tolist() == ["no", "yes"]
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(loaded.predict_proba(rows), EXPECTED[name], atol=1e-6)


@pytest.mark.parametrize("name", ["xgb_regressor", "torch_regressor"])
def test_regressors_predict_what_they_predicted(name: str, rows: pd.DataFrame) -> None:
    loaded = raydp_ml.load(SAVED / name)
    np.testing.assert_allclose(loaded.predict(rows[["a", "b", "c"]].to_numpy()), EXPECTED[name], atol=1e-5)


def test_a_ranker_predicts_what_it_predicted(rows: pd.DataFrame) -> None:
    loaded = raydp_ml.load(SAVED / "xgb_ranker")
    assert loaded.qid_column == "qid"
    np.testing.assert_allclose(loaded.predict(rows), EXPECTED["xgb_ranker"], atol=1e-5)


def test_an_unfitted_estimator_has_its_parameters() -> None:
    loaded = raydp_ml.load(SAVED / "xgb_unfitted")
    assert not loaded.__sklearn_is_fitted__()
    assert (loaded.objective, loaded.max_depth, loaded.feature_columns) == ("reg:squarederror", 2, ["a"])


class TestPipelines:
    @pytest.fixture(scope="class")
    def spark(self, ray_cluster: None) -> Iterator[pyspark.sql.SparkSession]:
        yield raydp_ml.init_spark("saved-before", 1, 1, "512m")
        raydp_ml.stop_spark()

    @pytest.fixture(scope="class")
    def df(self, spark: pyspark.sql.SparkSession, rows: pd.DataFrame) -> pyspark.sql.DataFrame:
        return spark.createDataFrame(rows).coalesce(1)

    def test_a_whole_pipeline_predicts_what_it_predicted(self, df: pyspark.sql.DataFrame) -> None:
        loaded = raydp_ml.load(SAVED / "pipeline", trusted=["sql"])
        assert [name for name, _ in loaded.steps] == ["sum", "index", "vector", "nothing", "model"]
        assert loaded.spark == {"num_executors": 1}
        found = [row[0] for row in loaded.predict_proba(df).select("probability").collect()]
        np.testing.assert_allclose(found, EXPECTED["pipeline"], atol=1e-6)

    def test_stages_without_an_estimator_transform_as_they_did(self, df: pyspark.sql.DataFrame) -> None:
        loaded = raydp_ml.load(SAVED / "pipeline_without_estimator", trusted=["sql"])
        found = [row[0].toArray().tolist() for row in loaded.transform(df).select("features").collect()]
        assert found == EXPECTED["pipeline_without_estimator"]

    def test_an_unfitted_pipeline_can_be_fitted(self, df: pyspark.sql.DataFrame) -> None:
        loaded = raydp_ml.load(SAVED / "pipeline_unfitted", trusted=["sql"])
        assert not hasattr(loaded, "steps_")
        found = [row[0] for row in loaded.fit(df).predict_proba(df).select("probability").collect()]
        np.testing.assert_allclose(found, EXPECTED["pipeline"], atol=1e-6)
