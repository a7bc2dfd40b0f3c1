"""Fits with nothing to train, each timed with the CPU of all processes below this one; run by benchmarks/training.py."""

import sys

import numpy as np
from answering import serve, start_ray
from meter import Meter

QUIET = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": 4}


class Fits:
    """The rows in a session of one executor, and a fit of each library on them."""

    def __init__(self):
        self._meter = Meter()
        self._df = self._local = None

    def begin(self, rows):
        """Start Spark on Ray, and have the rows in its cache."""
        import pandas as pd

        import raydp_ml

        start_ray()
        spark = raydp_ml.init_spark("bench", 1, 1, "1g", configs=QUIET)
        X = np.random.default_rng(0).normal(size=(rows, 10)).astype("float32")
        frame = pd.DataFrame({f"x{n}": X[:, n] for n in range(10)} | {"y": (X[:, 0] > 0).astype("int64")})
        self._local = frame
        self._df = spark.createDataFrame(frame).repartition(2).cache()
        return {"rows": float(self._df.count())}

    def fit(self, library):
        """One fit of one round or epoch."""
        estimator = self._estimator(library)
        measured = self._meter.measure(lambda: estimator.fit(self._df))
        return {"seconds": measured["wall_s"], "cpu": measured["cpu_s"], "accuracy": estimator.score(self._local)}

    def predict(self):
        """A prediction of a network in Spark's executors."""
        estimator = self._estimator("torch").fit(self._df)
        first = self._meter.measure(lambda: estimator.predict(self._df).agg({"prediction": "sum"}).collect())
        second = self._meter.measure(lambda: estimator.predict(self._df).agg({"prediction": "sum"}).collect())
        return {"first": first["wall_s"], "second": second["wall_s"]}

    def _estimator(self, library):
        import raydp_ml

        about = {"label_column": "y", "verbose": False}
        if library == "xgb":
            return raydp_ml.XGBEstimator(task="classification", num_boost_round=1, **about)
        import torch

        return raydp_ml.TorchEstimator(torch.nn.Linear(10, 2), loss="cross_entropy", num_epochs=1, **about)


if __name__ == "__main__":
    sys.stderr.flush()
    fits = Fits()
    serve({"begin": fits.begin, "fit": fits.fit, "predict": fits.predict})
