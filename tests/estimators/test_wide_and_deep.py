"""The example with embeddings of hashed ids: it learns from Spark, and what it learns is in the ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cloudpickle
import numpy as np
import wide_and_deep

# Workers have it as when it runs as a program: by value, because it is no module on their path.
cloudpickle.register_pickle_by_value(wide_and_deep)

if TYPE_CHECKING:
    import pyspark.sql


def test_hashed_ids_reach_the_model_from_spark(spark: pyspark.sql.SparkSession) -> None:
    df = wide_and_deep.clicks(spark, rows=20_000).cache()
    rows = df.toPandas()
    assert rows["user"].max() > 2**24 and rows["user"].nunique() == 400
    assert (
        rows["user"].astype(np.float32).astype(np.int64) != rows["user"]
    ).mean() > 0.3  # what a float32 matrix would hold
    est = wide_and_deep.train(df, num_epochs=3, verbose=False)
    assert est.history_[-1]["valid_roc_auc"] > 0.85
    np.testing.assert_allclose(
        [row[0] for row in est.predict_proba(df.limit(50)).select("probability").collect()],
        est.predict_proba(df.limit(50).toPandas()),
        atol=1e-6,
    )
