"""XGBEstimator on Spark frames beside plain xgboost on ready matrices; run by benchmarks/training.py."""

import sys

import numpy as np
import xgboost
from answering import serve, start_ray
from meter import MB, peak_of_worker
from training import FEATURES, QUIET, Fits, identity_seconds, seconds_of

PARAMS = {"objective": "binary:logistic", "max_depth": 6, "tree_method": "hist"}
# Of the sparse rows: places of words, as many as HashingTF has, and words in a row.
PLACES, WORDS = 2**18, 30
# Holds the rows of the longest fit of part xgb_rows: 30 million of 48 bytes.
OBJECT_STORE = 3_000_000_000


class Trees(Fits):
    """Fits of trees, and the same training without us."""

    def begin(self, rows):
        """Start Spark on Ray and have the rows in its cache, also beside ten columns of strings; and here, as a matrix."""
        import pyspark.sql.functions as F

        answer = super().begin(rows)
        self._X = self._local[[f"x{n}" for n in range(FEATURES)]].to_numpy()
        self._y = self._local["y"].to_numpy()
        texts = [F.concat(F.lit(f"text {n} of "), F.col("x0").cast("string")).alias(f"text{n}") for n in range(10)]
        self._wide = self._df.select("*", *texts).cache()
        self._wide.count()
        return answer

    def begin_sparse(self, rows):
        """Rows of term counts, in Spark's cache and as a matrix of scipy; in the session that there is."""
        import pyspark.sql.functions as F
        from pyspark.ml.feature import HashingTF

        import raydp_ml
        from raydp_ml.exchange.sparse import to_csr

        words = F.transform(F.sequence(F.lit(1), F.lit(WORDS)), lambda n: F.hash("id", n).cast("string"))
        named = self._spark.range(0, int(rows), 1, 2).select(
            words.alias("words"), F.pmod(F.hash("id"), F.lit(2)).alias("y")
        )
        hashed = HashingTF(numFeatures=PLACES, inputCol="words", outputCol="features").transform(named)
        self._sparse = hashed.select("features", "y").cache()
        self._sparse.count()
        import ray

        tables = ray.get(raydp_ml.from_spark(self._sparse, vectors="sparse").to_arrow_refs())
        from scipy import sparse

        self._csr = sparse.vstack([to_csr(table["features"], PLACES) for table in tables], format="csr")
        self._csr_y = [label for table in tables for label in table["y"].to_pylist()]
        return {"rows": float(self._csr.shape[0])}

    def _trees(self, rounds, threads=1):
        import raydp_ml

        return raydp_ml.XGBEstimator(
            task="classification", num_boost_round=int(rounds), num_workers=1, resources_per_worker={"CPU": int(threads)},
            max_depth=6, label_column="y", verbose=False,
        )  # fmt: skip

    def fit_ours(self, rounds, threads=1):
        """A whole fit of the dense rows."""
        self._last = self._trees(rounds, threads)
        return seconds_of(lambda: self._last.fit(self._df))

    def fit_plain(self, rounds):
        """xgboost.train on the matrix, which is ready, and xgboost's own of it, which is not."""

        def train():
            xgboost.train({**PARAMS, "nthread": 1}, xgboost.DMatrix(self._X, self._y, nthread=1), int(rounds))

        return seconds_of(train)

    # -- memory ----------------------------------------------------------------------------------------------------

    def write_matrices(self, folder):
        """Write the matrices for the candidate that trains on them alone."""
        np.savez(f"{folder}/dense.npz", X=self._X, y=self._y)
        csr = self._csr
        about = {"values": csr.data, "indices": csr.indices, "ends": csr.indptr, "shape": csr.shape}
        np.savez(f"{folder}/sparse.npz", **about, y=np.array(self._csr_y))
        return {}

    def memory_ours(self, kind, rounds):
        """MB by which the warm worker grows in a fit, over what a fit of a few rows takes."""
        df = self._df if kind == "dense" else self._sparse
        few = df.limit(200).cache()
        self._trees(rounds).fit(few)
        with peak_of_worker() as small:
            self._trees(rounds).fit(few)
        with peak_of_worker() as large:
            self._trees(rounds).fit(df)
        return {"peak_mb": (large.highest - small.highest) / MB}

    # -- cost per row ----------------------------------------------------------------------------------------------

    def begin_rows(self):
        """A session in which Spark computes the rows as they are asked for."""
        import raydp_ml

        start_ray(object_store=OBJECT_STORE)
        self._spark = raydp_ml.init_spark("bench", 1, 1, "1g", configs=QUIET)
        return {}

    def cross(self, rows):
        """A fit of one round of one split: the rows cross and become a matrix, and little else happens."""
        import pyspark.sql.functions as F

        numbers = [(F.hash(F.lit(n), "id") / float(1 << 31)).cast("float").alias(f"x{n}") for n in range(FEATURES)]
        df = self._spark.range(0, int(rows), 1, max(2, int(rows) // 500_000)).select(*numbers)
        df = df.withColumn("y", (F.col("x0") > 0).cast("long"))
        return seconds_of(lambda: self._trees(1).set_params(max_depth=1).fit(df))

    # -- sparse ----------------------------------------------------------------------------------------------------

    def sparse_ours(self, rounds):
        """A whole fit of the sparse rows."""
        return seconds_of(lambda: self._trees(rounds).fit(self._sparse))

    def sparse_plain(self, rounds):
        """xgboost.train on the sparse matrix."""

        def train():
            xgboost.train({**PARAMS, "nthread": 1}, xgboost.DMatrix(self._csr, self._csr_y, nthread=1), int(rounds))

        return seconds_of(train)

    def predict_ours(self, wide):
        """Predictions of the Spark frame, inside Spark."""
        df = self._wide if wide else self._df
        return seconds_of(lambda: self._last.predict(df).agg({"prediction": "sum"}).collect())

    def predict_plain(self):
        """What predictions in Spark cannot do without: the features through a Python worker, and the trees on the matrix."""
        identity, booster = identity_seconds(self._df), self._last.get_booster()
        booster.set_param({"nthread": 1})

        def predict():
            booster.predict(xgboost.DMatrix(self._X, nthread=1, feature_names=booster.feature_names))

        return {"seconds": identity + seconds_of(predict)["seconds"]}


if __name__ == "__main__":
    sys.stderr.flush()
    fits = Trees()
    runs = (
        "begin", "begin_sparse", "fit_ours", "fit_plain", "sparse_ours", "sparse_plain", "predict_ours", "predict_plain",
        "write_matrices", "memory_ours", "begin_rows", "cross",
    )  # fmt: skip
    serve({run: getattr(fits, run) for run in runs})
