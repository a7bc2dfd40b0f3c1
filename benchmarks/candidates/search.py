"""Searches, each timed with the training seconds that it cannot do without; run by benchmarks/search.py."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from answering import serve, start_ray

CPUS = os.cpu_count() or 1
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
QUIET = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": 4}
TWELVE = {"max_depth": [5, 6, 7], "eta": [0.08, 0.1], "subsample": [0.8, 0.9]}  # of similar cost


class Flights:
    """The flights of the example as a Spark frame and as arrays, made at the first use."""

    def __init__(self):
        self._df = self._arrays = None

    def spark(self):
        import raydp_ml

        return raydp_ml.init_spark("bench", 1, 1, "1g", configs=QUIET)

    def df(self, rows):
        from flights_data import CATEGORIES, FLAGS, LABEL, NUMBERS, flight_features, read_tables

        if self._df is None:
            frame = flight_features(read_tables(self.spark(), "data")).select(*CATEGORIES, *NUMBERS, *FLAGS, LABEL)
            self._df = frame.dropna().limit(rows).repartition(4, LABEL).cache()
            self._df.count()
        return self._df

    def arrays(self, rows):
        from flights_data import FLAGS, LABEL, NUMBERS

        if self._arrays is None:
            table = self.df(rows).select(*NUMBERS, *FLAGS, LABEL).toPandas()
            self._arrays = table[NUMBERS + FLAGS].to_numpy(np.float32), table[LABEL].to_numpy()
        return self._arrays


FLIGHTS = Flights()


def model(rounds, **params):
    from raydp_ml import XGBEstimator

    given = {"objective": "binary:logistic", "num_boost_round": rounds, "random_state": 0, "verbose": False, **params}
    return XGBEstimator(**given)


def pipeline(rounds):
    from flights_data import CATEGORIES, FLAGS, LABEL, NUMBERS

    from raydp_ml import SparkRayPipeline
    from raydp_ml.feature import Bucketizer, StringIndexer, VectorAssembler

    codes = [f"{name}_code" for name in CATEGORIES]
    cut = Bucketizer(inputCol=NUMBERS[0], outputCol="cut", splits=[-1e9, 0.0, 1e9])
    return SparkRayPipeline(
        [
            ("codes", StringIndexer(inputCols=CATEGORIES, outputCols=codes, handleInvalid="keep")),
            ("cut", cut),
            ("vector", VectorAssembler(inputCols=[*codes, "cut", *NUMBERS, *FLAGS], outputCol="features")),
            ("model", model(rounds, label_column=LABEL)),
        ]
    )


def timed(search, *rows):
    began = time.perf_counter()
    search.fit(*rows)
    seconds = time.perf_counter() - began
    results = search.cv_results_
    training = float(results["mean_fit_time"].sum()) * search.n_splits_
    best = float(np.nanmax(results["mean_test_score"]))
    return {"seconds": seconds, "training": training, "wanted": training / CPUS, "best": best}


def ours(rows, rounds):
    from raydp_ml import GridSearch

    X, y = FLIGHTS.arrays(rows)
    return timed(GridSearch(model(rounds), TWELVE, cv=3, scoring="roc_auc", refit=False), X, y)


def scikit_learn(rows, rounds):
    from sklearn.model_selection import GridSearchCV
    from xgboost import XGBClassifier

    X, y = FLIGHTS.arrays(rows)
    classifier = XGBClassifier(n_estimators=rounds, n_jobs=1, random_state=0)
    grid = {name.replace("eta", "learning_rate"): values for name, values in TWELVE.items()}
    search = GridSearchCV(classifier, grid, cv=3, scoring="roc_auc", refit=False, n_jobs=CPUS)
    return timed(search, X, y)


def stages(rows, rounds):
    """A grid over a stage of Spark and the estimator, with a count of fits and crossings, and the least that it could take."""
    from flights_data import LABEL
    from pyspark.ml.feature import StringIndexer

    import raydp_ml.exchange
    from raydp_ml import GridSearch

    df, counts = FLIGHTS.df(rows), {"crossings": 0, "fits": 0}
    cross, fit = raydp_ml.exchange.from_spark, StringIndexer._fit

    def counted(name, call):
        def calls(*args, **kwargs):
            counts[name] += 1
            return call(*args, **kwargs)

        return calls

    splits = [[-1e9, cut, 1e9] for cut in (0.0, 5.0, 10.0, 20.0)]
    depths = [4, 5, 6]
    grid = {"cut__splits": splits, "model__max_depth": depths}
    about = {"cv": 3, "scoring": "roc_auc", "refit": False}
    raydp_ml.exchange.from_spark, StringIndexer._fit = counted("crossings", cross), counted("fits", fit)
    try:
        answer = timed(GridSearch(pipeline(rounds), grid, **about), df)
    finally:
        raydp_ml.exchange.from_spark, StringIndexer._fit = cross, fit
    spark = spark_seconds(GridSearch(pipeline(1), grid, **about), df)
    # The same training without Spark beside it, for each of the stages.
    features = pipeline(1)[:-1].fit(df).transform(df).select("features", LABEL).toPandas()
    X = np.stack([vector.toArray() for vector in features["features"]]).astype(np.float32)
    alone = timed(GridSearch(model(rounds), {"max_depth": depths}, **about), X, features[LABEL].to_numpy())
    training = len(splits) * alone["training"]
    # Spark has one core at a time, and all cores together cannot do more than they do when only one of the two computes.
    minimum = max(spark, (spark + training) / CPUS)
    return {**answer, **counts, "spark": spark, "training alone": training, "minimum": minimum}


def spark_seconds(search, df):
    """From the first fit of a step to the end of the last crossing, in a search that trains next to nothing."""
    from raydp_ml.search.folds.pipeline import PipelineSource

    make, begun, ended = PipelineSource.make, [], []

    def watched(self, *key):
        begun.append(time.perf_counter())
        try:
            return make(self, *key)
        finally:
            ended.append(time.perf_counter())

    PipelineSource.make = watched
    try:
        search.fit(df)
    finally:
        PipelineSource.make = make
    return max(ended) - min(begun)


def fixed(rows, rounds):
    """One candidate and two folds of 2,000 rows of which nothing is learnt."""
    from raydp_ml import GridSearch

    X, y = FLIGHTS.arrays(rows)
    search = GridSearch(model(1), {"max_depth": [1]}, cv=2, refit=False)
    return timed(search, X[:2000], y[:2000])


def randomized(rows, rounds, scheduler):
    from scipy.stats import loguniform, randint

    from raydp_ml import RandomizedSearch

    X, y = FLIGHTS.arrays(rows)
    distributions = {"max_depth": randint(2, 9), "eta": loguniform(0.003, 0.5), "min_child_weight": loguniform(1, 300)}
    about = {"n_iter": 24, "cv": 3, "scoring": "roc_auc", "random_state": 0, "refit": False}
    return timed(RandomizedSearch(model(rounds), distributions, scheduler=scheduler, **about), X, y)


def folds(rows, rounds):
    """What dividing a Spark frame of many rows adds to this process at its highest, in bytes per row."""
    import resource

    from raydp_ml.search.folds.pipeline import PipelineSource
    from raydp_ml.search.folds.splits import split_rows

    label = "CASE WHEN id % 3 = 0 THEN 'late' ELSE 'fine' END AS label"
    df = FLIGHTS.spark().range(rows * 100).selectExpr("id", label)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = PipelineSource(df, ("label",), (), as_codes=True)
    try:
        y = source.columns["y"]
        splits = split_rows(3, y, None, source.columns.get, classifies=True, random_state=None)
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"bytes_per_row": (highest - before) * 1024 / len(y), "folds": len(splits)}
    finally:
        source.close()


start_ray(CPUS + 1)
HANDLERS = {
    "ours": ours,
    "scikit_learn": scikit_learn,
    "stages": stages,
    "fixed": fixed,
    "all": lambda **about: randomized(scheduler=None, **about),
    "asha": lambda **about: randomized(scheduler="asha", **about),
    "folds": folds,
}
serve(HANDLERS)
