"""People who say yes or no: one small frame, the Spark session that holds it, and steps of every kind for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.shared_session import leave

if TYPE_CHECKING:
    import pyspark.sql


@pytest.fixture(scope="module")
def spark(ray_cluster: None, request: pytest.FixtureRequest) -> Iterator[pyspark.sql.SparkSession]:
    """A session of one executor, so that CPUs are left for trials."""
    import raydp_ml

    session = raydp_ml.init_spark("pipeline-tests", 1, 1, "512m", configs={"spark.sql.shuffle.partitions": 2})
    yield session
    leave(session, request)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Rows whose label depends on a name, a number and noise."""
    rng = np.random.default_rng(7)
    rows = 180
    frame = pd.DataFrame(
        {
            "city": rng.choice(["Oslo", "Rome", "Lima"], rows, p=[0.5, 0.3, 0.2]),
            "age": rng.normal(40, 10, rows).round(1),
            "pay": rng.normal(3, 1, rows).round(2),
        }
    )
    lean = (frame["city"] == "Rome") * 1.5 + (frame["age"] - 40) / 10 - frame["pay"] / 3 + rng.normal(0, 0.6, rows)
    return frame.assign(label=(lean > lean.median()).astype(int))


@pytest.fixture(scope="module")
def people_df(spark: pyspark.sql.SparkSession, people: pd.DataFrame) -> pyspark.sql.DataFrame:
    """The same rows in two partitions, in the same order."""
    return spark.createDataFrame(people).coalesce(2).cache()


def make_model(**params: Any) -> Any:
    """An XGBEstimator that trains in a moment, in this process."""
    from raydp_ml import XGBEstimator

    given = {"objective": "binary:logistic", "num_boost_round": 6, "max_depth": 3, "label_column": "label"}
    return XGBEstimator(**{**given, "num_workers": 0, "random_state": 0, "verbose": False, **params})


@pytest.fixture
def make_steps() -> Callable[[], list[tuple[str, Any]]]:
    """Steps of every kind: SQL, a function, an Estimator, a Transformer, and an estimator of ours."""

    def make() -> list[tuple[str, Any]]:
        from pyspark.ml.feature import StringIndexer, VectorAssembler

        return [
            ("older", "SELECT *, age + 1 AS age1 FROM __THIS__"),
            ("halve", halve_pay),
            ("index", StringIndexer(inputCol="city", outputCol="city_index")),
            ("vec", VectorAssembler(inputCols=["city_index", "age1", "half"], outputCol="features")),
            ("model", make_model()),
        ]

    return make


def halve_pay(df: pyspark.sql.DataFrame) -> pyspark.sql.DataFrame:
    """Add a column, as a function step."""
    return df.withColumn("half", df["pay"] / 2)
