"""Fits, each timed with the CPU of all processes below this one, and what they are compared with; run by benchmarks/training.py."""

import os
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
from answering import serve, start_ray
from meter import EVERY, MB, Meter, anonymous, processes_below

QUIET = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": 4,
}
FEATURES = 10
WIDE = 100
MODULES = {"xgb": "import xgboost", "torch": "import torch._dynamo"}


def seconds_of(work):
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


class Fits:
    """The rows in a session, and fits on them."""

    def __init__(self):
        self._meter = Meter()
        self._spark = self._df = self._local = self._last = None

    # -- sessions --------------------------------------------------------------------------------------------------

    def begin(self, rows):
        """Start Spark on Ray, one executor on four CPUs, and have the rows in its cache."""
        return self._begin(rows, 1, 1)

    def begin_program(self, rows, library):
        """The same, after the imports that stand at the top of a program."""
        import raydp_ml

        if library == "xgb":
            raydp_ml.XGBEstimator  # noqa: B018 - loaded on demand
        else:
            import torch  # noqa: F401

            raydp_ml.TorchEstimator  # noqa: B018 - loaded on demand
        return self._begin(rows, 1, 1)

    def begin_four(self, rows):
        """Four executors, which hold all CPUs while they have tasks."""
        return self._begin(rows, 4, 1)

    def begin_ray(self, rows):
        """Ray alone."""
        start_ray()
        return {}

    def begin_lending(self, lends):
        """Two executors that lend their CPUs, or keep them."""
        import raydp_ml

        start_ray(cpus=2)
        settings = {**QUIET, "spark.ray.executor.lendCpus": str(lends).lower()}
        self._spark = raydp_ml.init_spark("bench", 2, 1, "1g", configs=settings)
        return {}

    def _begin(self, rows, executors, cores):
        import pandas as pd

        import raydp_ml

        start_ray()
        self._spark = raydp_ml.init_spark("bench", executors, cores, "1g", configs=QUIET)
        X = np.random.default_rng(0).normal(size=(rows, FEATURES)).astype("float32")
        frame = pd.DataFrame({f"x{n}": X[:, n] for n in range(FEATURES)} | {"y": (X[:, 0] > 0).astype("int64")})
        self._local = frame
        self._df = self._spark.createDataFrame(frame).repartition(2).cache()
        return {"rows": float(self._df.count())}

    # -- fixed cost ------------------------------------------------------------------------------------------------

    def imports(self, library):
        """The imports of a training, in a Python of its own."""
        import subprocess

        return seconds_of(lambda: subprocess.run([sys.executable, "-c", MODULES[library]], check=True))

    def crossing(self):
        """The Spark job and the crossing of the rows, without a fit."""
        import raydp_ml

        return seconds_of(lambda: raydp_ml.from_spark(self._df))

    def fit(self, library):
        """One fit of one round or epoch."""
        estimator = self._estimator(library)
        measured = self._meter.measure(lambda: estimator.fit(self._df))
        self._last = estimator
        return {"seconds": measured["wall_s"], "cpu": measured["cpu_s"]}

    def predict(self):
        """A prediction of a network in Spark's executors."""
        self._last = self._estimator("torch").fit(self._df)
        return self.predict_again()

    def predict_again(self):
        """Two predictions of the last fit, one after the other."""

        def predict():
            self._last.predict(self._df).agg({"prediction": "sum"}).collect()

        return {name: seconds_of(predict)["seconds"] for name in ("first", "second")}

    def _estimator(self, library, **settings):
        import raydp_ml

        about = {"label_column": "y", "verbose": False, **settings}
        if library == "xgb":
            return raydp_ml.XGBEstimator(task="classification", num_boost_round=1, **about)
        import torch

        return raydp_ml.TorchEstimator(torch.nn.Linear(FEATURES, 2), loss="cross_entropy", num_epochs=1, **about)

    # -- Ray Train -------------------------------------------------------------------------------------------------

    def two_workers_ours(self, library):
        """A fit on two workers of Ray Train."""
        return seconds_of(lambda: self._estimator(library, num_workers=2).fit(self._df))

    def two_workers_plain(self, library):
        """The same training in a plain trainer, on rows that lie in the object store."""
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.xgboost import XGBoostTrainer

        X = self._local[[f"x{n}" for n in range(FEATURES)]].to_numpy()
        halves = [ray.put((X[n::2], self._local["y"].to_numpy()[n::2])) for n in range(2)]
        kind, train = (XGBoostTrainer, train_xgb) if library == "xgb" else (TorchTrainer, train_torch)
        trainer = kind(
            train,
            train_loop_config={"halves": halves},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=self._storage()),
        )
        return seconds_of(trainer.fit)

    @staticmethod
    def _storage():
        import atexit
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    # -- streaming -------------------------------------------------------------------------------------------------

    def begin_wide(self, rows, store):
        """Rows of 100 numbers that Spark computes, and an object store of so many bytes."""
        import pyspark.sql.functions as F

        import raydp_ml

        start_ray(object_store=int(store))
        self._spark = raydp_ml.init_spark("bench", 1, 1, "1g", configs=QUIET)
        numbers = F.transform(
            F.sequence(F.lit(1), F.lit(WIDE)), lambda n: (F.hash("id", n) / float(1 << 31)).cast("float")
        )
        wide = self._spark.range(0, int(rows), 1, 16).select(numbers.alias("x"))
        self._df = wide.select("x", (F.col("x")[0] + F.col("x")[1] > 0).cast("long").alias("y"))
        return {}

    def fit_wide(self, streaming):
        """Seconds of an epoch, and the most memory that this process and any one of the workers had of their own, in MB."""
        import torch

        import raydp_ml

        network = torch.nn.Sequential(torch.nn.Linear(WIDE, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
        model = raydp_ml.TorchEstimator(
            network, loss="cross_entropy", num_epochs=3, batch_size=1024, num_workers=1, label_column="y", verbose=False
        )
        peaks = {}
        model.set_params(streaming=streaming).fit(self._df.limit(1000))
        with highest_memory(peaks, "before"):
            model.fit(self._df.limit(1000))
        with highest_memory(peaks, "after"):
            model.fit(self._df)
        grown = {f"{side}_mb": peaks[side, "after"] - peaks[side, "before"] for side in ("driver", "worker")}
        return {"seconds": min(epoch["seconds"] for epoch in model.history_), **grown}

    # -- searches, jobs, defaults ----------------------------------------------------------------------------------

    def grid(self, rows):
        """8 candidates x 3 folds of XGBoost on arrays."""
        import raydp_ml

        rng = np.random.default_rng(0)
        X = rng.normal(size=(rows, FEATURES)).astype("float32")
        y = (X[:, 0] + rng.normal(size=rows) > 0).astype("int64")
        model = raydp_ml.XGBEstimator(task="classification", num_boost_round=50, verbose=False)
        grid = {"max_depth": [2, 4, 6, 8], "eta": [0.1, 0.3]}
        return seconds_of(lambda: raydp_ml.GridSearch(model, grid, cv=3, refit=False).fit(X, y))

    def calibrate(self, seconds):
        """How many numbers Spark hashes in so many seconds; the second job, which is warm, says it."""
        numbers = 1 << 26
        self._hash(numbers)
        return {"numbers": numbers * seconds / seconds_of(lambda: self._hash(numbers))["seconds"]}

    def job(self, numbers):
        """A Spark job; in front of it a pause that is longer than spark.ray.executor.lendAfter, in which executors lend."""
        time.sleep(2.5)
        return seconds_of(lambda: self._hash(numbers))

    def _hash(self, numbers):
        self._spark.range(0, int(numbers), 1, 8).selectExpr("sum(hash(id, id + 1) % 7)").collect()

    def defaults_ours(self):
        """XGBEstimator with all defaults but the label's name."""
        import raydp_ml

        model = raydp_ml.XGBEstimator(task="classification", label_column="y", verbose=False)
        return seconds_of(lambda: model.fit(self._df))

    def defaults_plain(self):
        """XGBClassifier with all defaults, on the matrix."""
        import xgboost

        X, y = self._local[[f"x{n}" for n in range(FEATURES)]].to_numpy(), self._local["y"].to_numpy()
        return seconds_of(lambda: xgboost.XGBClassifier().fit(X, y))


@contextmanager
def highest_memory(peaks, name):
    """The most memory of this process, and of the largest other Python process below it, while the context lasts."""
    stop = threading.Event()

    def sample():
        while not stop.wait(EVERY):
            others = [pid for pid, _, program, _ in processes_below() if program != "java" and pid != os.getpid()]
            now = {"driver": anonymous(os.getpid()), "worker": max(map(anonymous, others), default=0)}
            for side, size in now.items():
                peaks[side, name] = max(peaks.get((side, name), 0.0), size / MB)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        stop.set()
        sampler.join()
    for side in ("driver", "worker"):
        peaks.setdefault((side, name), 0.0)


def identity_seconds(df):
    """How long Spark takes to send the features through a UDF of Arrow arrays that gives them back."""
    import pyspark.sql.functions as F

    features = F.array(*[F.col(f"x{n}").cast("float") for n in range(FEATURES)])
    same = F.arrow_udf(lambda rows: rows, returnType="array<float>")
    return seconds_of(lambda: df.select(F.sum(same(features)[0])).collect())["seconds"]


def train_torch(config):
    """One epoch of a linear layer on this worker's half."""
    import ray
    import ray.train
    import torch
    from ray.train.torch import prepare_model

    X, y = ray.get(config["halves"][ray.train.get_context().get_world_rank()])
    model = prepare_model(torch.nn.Linear(FEATURES, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for begin in range(0, len(X), 128):
        loss = torch.nn.functional.cross_entropy(
            model(torch.tensor(X[begin : begin + 128])), torch.tensor(y[begin : begin + 128])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_xgb(config):
    """One round on this worker's half."""
    import ray
    import ray.train
    import xgboost

    X, y = ray.get(config["halves"][ray.train.get_context().get_world_rank()])
    xgboost.train({"objective": "binary:logistic"}, xgboost.QuantileDMatrix(X, y), num_boost_round=1)


if __name__ == "__main__":
    sys.stderr.flush()
    fits = Fits()
    runs = (
        "begin", "begin_program", "begin_four", "begin_ray", "begin_lending", "imports", "crossing", "fit", "predict",
        "predict_again", "two_workers_ours", "two_workers_plain", "grid", "calibrate", "job", "defaults_ours", "defaults_plain",
        "begin_wide", "fit_wide",
    )  # fmt: skip
    serve({run: getattr(fits, run) for run in runs})
