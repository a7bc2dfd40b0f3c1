"""xgboost.spark on Spark's local[2], with the rows of the other candidates in its cache; run by benchmarks/training.py."""

import os
import sys
import time

import numpy as np
from answering import serve

FEATURES = 10


class SparkTrees:
    """A session without us, and xgboost's own estimator for Spark."""

    def begin(self, rows):
        """Start local[2] and have the rows in its cache."""
        import pandas as pd
        from pyspark.sql import SparkSession

        os.environ["PYSPARK_PYTHON"] = sys.executable
        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        self._spark = session.config("spark.driver.memory", "2g").getOrCreate()
        self._spark.sparkContext.setLogLevel("ERROR")
        X = np.random.default_rng(0).normal(size=(int(rows), FEATURES)).astype("float32")
        frame = pd.DataFrame({f"x{n}": X[:, n] for n in range(FEATURES)} | {"y": (X[:, 0] > 0).astype("int64")})
        self._df = self._spark.createDataFrame(frame).repartition(2).cache()
        return {"rows": float(self._df.count())}

    def fit(self, rounds, workers):
        """A whole fit with one thread for each worker."""
        from xgboost.spark import SparkXGBClassifier

        model = SparkXGBClassifier(
            features_col=[f"x{n}" for n in range(FEATURES)], label_col="y", num_workers=int(workers), max_depth=6,
            n_estimators=int(rounds), tree_method="hist",
        )  # fmt: skip
        began = time.perf_counter()
        model.fit(self._df)
        return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    sys.stderr.flush()
    trees = SparkTrees()
    serve({"begin": trees.begin, "fit": trees.fit})
