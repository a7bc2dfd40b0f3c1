"""A pipeline that Spark and Ray trained answers single requests, where there is neither Spark nor Java.

    python examples/serving.py

Spark and Ray fit a small pipeline; ``to_local()`` makes of it what needs numpy, pyarrow and xgboost alone, and it is saved.
Then two services load the directory: plain Python functions of the kind that FastAPI takes, and a deployment of Ray Serve, which
puts requests that come at the same time into one batch. The second is left out, with a line that says so, where Ray Serve is not
installed (``pip install "ray[serve]"``, some 40 packages).
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import raydp_ml
from raydp_ml import SparkRayPipeline, XGBEstimator, init_spark, stop_spark
from raydp_ml.feature import OneHotEncoder, StringIndexer, VectorAssembler

Row = dict[str, Any]


def flights(rows: int = 2000) -> pd.DataFrame:
    """Flights that are late more often from one airport, and late in the day."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"origin": rng.choice(["EWR", "JFK", "LGA"], rows), "hour": rng.integers(5, 23, rows)})
    odds = (frame["hour"] - 14) / 4 + (frame["origin"] == "EWR") + rng.normal(0, 1, rows)
    return frame.assign(late=(odds > 0).astype(int))


def train(frame: pd.DataFrame, **params: Any) -> SparkRayPipeline:
    """The pipeline, fitted in Spark and Ray; a session runs. More parameters go to the estimator."""
    model = XGBEstimator(objective="binary:logistic", num_boost_round=20, label_column="late", **params)
    steps = [
        ("index", StringIndexer(inputCol="origin", outputCol="origin_index", handleInvalid="keep")),
        ("hot", OneHotEncoder(inputCols=["origin_index"], outputCols=["origin_hot"])),
        ("vec", VectorAssembler(inputCols=["origin_hot", "hour"], outputCol="features")),
        ("model", model),
    ]
    return SparkRayPipeline(steps).fit(frame)


def make_service(path: Path) -> Callable[[list[Row]], dict[str, list[float]]]:
    """The body of a service: a function from the JSON of a request to the JSON of its answer.

    With FastAPI, ``app.post("/late")(make_service(path))`` is the whole service.
    """
    local = raydp_ml.load(path)

    def late(rows: list[Row]) -> dict[str, list[float]]:
        return {"probability": [row[1] for row in local.predict_proba(rows)]}

    return late


def make_deployment(path: Path) -> Any:
    """The same as a deployment of Ray Serve, which answers requests in batches."""
    from ray import serve

    @serve.deployment
    class Late:
        def __init__(self, path: str) -> None:
            self.local = raydp_ml.load(path)

        @serve.batch(max_batch_size=256, batch_wait_timeout_s=0.002)
        async def probability(self, rows: list[Row]) -> list[float]:
            return [row[1] for row in self.local.predict_proba(rows)]

        async def __call__(self, request: Any) -> float:
            return await self.probability(await request.json())

    return Late.bind(str(path))


def main() -> None:
    frame = flights()
    requests: list[Row] = [{"origin": "EWR", "hour": 21}, {"origin": "LGA", "hour": 6}, {"origin": "BOS", "hour": 14}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "late"
        init_spark("serving", num_executors=1, executor_cores=1, executor_memory="512m")
        train(frame).to_local().save(path)
        stop_spark()

        late = make_service(path)
        answer = late(requests)
        start = time.perf_counter()
        late(requests[:1])
        print(f"plain Python: {answer}, one row in {1000 * (time.perf_counter() - start):.1f} ms")

        if importlib.util.find_spec("fastapi") is None:
            print('Ray Serve is not installed, so its part is left out: pip install "ray[serve]"')
            return
        from ray import serve

        handle = serve.run(make_deployment(path), name="late", route_prefix="/late")
        answers = [handle.probability.remote(row) for row in requests]
        print(f"Ray Serve: {[answer.result() for answer in answers]}")
        serve.shutdown()


if __name__ == "__main__":
    main()
