"""RayDP's TorchEstimator on the same rows as in plain_torch.py; runs in RayDP's environment, by benchmarks/training_torch.py."""

import atexit
import os
import shutil
import tempfile
import time

import numpy as np
from answering import peer_settings, serve, start_ray

FEATURES, BATCH, RATE = 10, 1024, 1e-3
COLUMNS = [f"x{n}" for n in range(FEATURES)]


def network(config):
    import torch

    torch.set_num_threads(1)
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )


def optimizer(model, config):
    import torch

    return torch.optim.Adam(model.parameters(), lr=RATE)


class Peer:
    """Fits of the same network."""

    def begin(self, rows):
        """Start RayDP's Spark, one executor on four CPUs, and have the rows in its cache."""
        # RayDP 1.6.5 needs the first version of Ray Train, and leaves results in the home folder.
        os.environ |= {"RAY_TRAIN_V2_ENABLED": "0", "HOME": tempfile.mkdtemp(prefix="rdb_", dir="/tmp")}
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
        import pandas as pd

        import raydp

        start_ray()
        settings = peer_settings()
        settings["spark.sql.execution.arrow.pyspark.enabled"] = "true"
        spark = raydp.init_spark("bench", 1, 1, "1g", configs=settings)
        X = np.random.default_rng(0).normal(size=(rows, FEATURES)).astype("float32")
        frame = pd.DataFrame({name: X[:, n] for n, name in enumerate(COLUMNS)} | {"y": (X[:, 0] > 0).astype("int64")})
        self._df = spark.createDataFrame(frame).repartition(2).cache()
        return {"rows": float(self._df.count())}

    def fit(self, epochs):
        """A whole fit on one worker."""
        import torch

        from raydp.torch import TorchEstimator

        estimator = TorchEstimator(
            num_workers=1, resources_per_worker={"CPU": 1}, model=network, optimizer=optimizer,
            loss=torch.nn.BCEWithLogitsLoss(), feature_columns=COLUMNS, feature_types=torch.float, label_column="y",
            label_type=torch.float, batch_size=BATCH, num_epochs=epochs,
        )  # fmt: skip
        began = time.perf_counter()
        estimator.fit_on_spark(self._df)
        return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    fits = Peer()
    serve({"begin": fits.begin, "fit": fits.fit})
