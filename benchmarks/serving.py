"""How long a LocalPipeline takes for one row and for 100,000 rows of ten features, after a linear model and after XGBoost.

Run it with ``make bench-serving``. Spark fits the pipelines; what is measured runs in a fresh process that loads them and has
neither Spark nor Ray.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from harness import ROOT, Series, Target, report

FEATURES = [f"x{number}" for number in range(10)]


def frame(rows: int) -> pd.DataFrame:
    """Ten numbers and a label that depends on them."""
    values = np.random.default_rng(0).normal(size=(rows, len(FEATURES)))
    made = pd.DataFrame(values, columns=FEATURES)
    return made.assign(label=(values.sum(axis=1) > 0).astype(float))


def fit(folder: Path) -> None:
    """Fit and save the pipelines."""
    from raydp_ml import SparkRayPipeline, XGBEstimator, init_spark, stop_spark
    from raydp_ml.feature import StandardScaler, VectorAssembler
    from raydp_ml.feature.ml import LogisticRegression

    init_spark("serving", 1, 1, "512m")
    finals = {
        "linear": LogisticRegression(featuresCol="features", labelCol="label"),
        "xgboost": XGBEstimator(objective="binary:logistic", label_column="label", verbose=False),
    }
    for name, final in finals.items():
        steps = [
            ("vec", VectorAssembler(inputCols=FEATURES, outputCol="numbers")),
            ("scale", StandardScaler(inputCol="numbers", outputCol="features", withMean=True)),
            ("model", final),
        ]
        SparkRayPipeline(steps).fit(frame(5000)).to_local().save(folder / name)
    stop_spark()


def measure(path: str) -> None:
    """Print the milliseconds for one dict, and for the rows as a pandas frame, of the pipeline in a directory."""
    import raydp_ml

    local = raydp_ml.load(path)
    many = frame(100_000).drop(columns="label")
    one = many.head(1).to_dict("records")
    for rows, times in ((one, 200), (many, 3)):
        local.predict(rows)
        start = time.perf_counter()
        for _ in range(times):
            local.predict(rows)
        print(1000 * (time.perf_counter() - start) / times)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    (ROOT / "out").mkdir(exist_ok=True)
    series: dict[str, Series] = {}
    targets = []
    with tempfile.TemporaryDirectory() as folder:
        fit(Path(folder))
        for _ in range(rounds):
            for name in ("linear", "xgboost"):
                command = [sys.executable, __file__, "measure", str(Path(folder) / name)]
                found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                for size, value in zip(("one row", "100,000 rows"), found, strict=True):
                    series.setdefault(f"{name}, {size}, ms", Series()).values.append(float(value))
    for name in ("linear", "xgboost"):
        targets += [
            Target(f"{name}: one row in under 2 ms", f"{name}, one row, ms", at_most=2.0),
            Target(f"{name}: 100,000 rows in under 1 s", f"{name}, 100,000 rows, ms", at_most=1000.0),
        ]
    return 0 if report("serving", series, targets) else 1


if __name__ == "__main__":
    sys.exit(measure(sys.argv[2]) if sys.argv[1:2] == ["measure"] else main())
