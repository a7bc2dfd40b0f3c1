"""A pipeline of descriptions is written down, changed, copied and stored before Spark runs, and then fits as one of real stages."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone

import raydp_ml
from raydp_ml import GridSearch, SparkRayPipeline, feature
from tests.people import make_model

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

WRITTEN = """
import pickle, sys
from sklearn.base import clone
from raydp_ml import SparkRayPipeline, XGBEstimator, feature
import raydp_ml

pipe = SparkRayPipeline(
    [
        ("index", feature.StringIndexer(inputCol="city", outputCol="n", handleInvalid="keep")),
        ("vec", feature.VectorAssembler(inputCols=["n", "age"], outputCol="features")),
        ("model", XGBEstimator(objective="binary:logistic", num_boost_round=6, num_workers=0, label_column="label",
                               max_depth=3, random_state=0, verbose=False)),
    ],
    spark={},
)
pipe.set_params(vec__inputCols=["n", "age", "pay"])
pipe = pickle.loads(pickle.dumps(clone(pipe)))
pipe.save(sys.argv[1])
assert raydp_ml.load(sys.argv[1])["vec"] == pipe["vec"]
from pyspark import SparkContext
assert SparkContext._gateway is None and "ray" not in sys.modules
print(pipe.get_params()["vec__inputCols"])
"""


def described() -> SparkRayPipeline:
    return SparkRayPipeline(
        [
            ("index", feature.StringIndexer(inputCol="city", outputCol="n", handleInvalid="keep")),
            ("vec", feature.VectorAssembler(inputCols=["n", "age", "pay"], outputCol="features")),
            ("model", make_model()),
        ]
    )


def probabilities(pipe: SparkRayPipeline, df: DataFrame) -> np.ndarray:
    return np.array([row[0] for row in pipe.predict_proba(df).select("probability").collect()])


def test_written_without_spark_and_fitted_with_it(people_df: DataFrame, tmp_path: Path) -> None:
    folder = str(tmp_path / "written")
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN, folder],
        env={name: value for name, value in os.environ.items() if name != "JAVA_HOME"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['n', 'age', 'pay']"

    from pyspark.ml.feature import StringIndexer, VectorAssembler

    real = SparkRayPipeline(
        [
            ("index", StringIndexer(inputCol="city", outputCol="n", handleInvalid="keep")),
            ("vec", VectorAssembler(inputCols=["n", "age", "pay"], outputCol="features")),
            ("model", make_model()),
        ]
    ).fit(people_df)
    expected = probabilities(real, people_df)
    np.testing.assert_array_equal(probabilities(raydp_ml.load(folder).fit(people_df), people_df), expected)

    fitted = described().fit(people_df)
    np.testing.assert_array_equal(probabilities(fitted, people_df), expected)
    assert fitted["index"].labels == ["Oslo", "Rome", "Lima"]
    assert fitted.steps[0][1] == feature.StringIndexer(inputCol="city", outputCol="n", handleInvalid="keep")
    fitted.save(tmp_path / "fitted")
    for again in (raydp_ml.load(tmp_path / "fitted"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(probabilities(again, people_df), expected)
        assert again.steps[1][1] == fitted.steps[1][1]
    assert "VectorAssembler" in clone(fitted)._repr_html_()


def test_a_search_reaches_into_descriptions(people_df: DataFrame, people: pd.DataFrame) -> None:
    search = GridSearch(described(), {"vec__inputCols": [["n"], ["n", "age", "pay"]]}, cv=2, scoring="roc_auc")
    search.fit(people_df)
    assert search.best_params_ == {"vec__inputCols": ["n", "age", "pay"]}
    assert search.cv_results_["mean_test_score"][1] > search.cv_results_["mean_test_score"][0]
    assert search.best_estimator_["vec"].getInputCols() == ["n", "age", "pay"]
