"""The part ``xgb`` of ``make bench-training``: trees on Spark frames beside plain xgboost on ready matrices."""

from __future__ import annotations

from harness import Target
from training_parts import Measured, Part, Size, training

__all__ = ["PART"]

ROUNDS = 100
RUNS = {
    "fit, ours": {"run": "fit_ours", "rounds": ROUNDS},
    "fit, plain": {"run": "fit_plain", "rounds": ROUNDS},
    "predict, ours": {"run": "predict_ours", "wide": False},
    "predict, ten more columns": {"run": "predict_ours", "wide": True},
    "predict, plain": {"run": "predict_plain"},
    "sparse, ours": {"run": "sparse_ours", "rounds": ROUNDS},
    "sparse, plain": {"run": "sparse_plain", "rounds": ROUNDS},
}


def measure(size: Size, measured: Measured) -> None:
    """Fits of dense and of sparse rows, and predictions, each beside what plain xgboost takes."""
    with training("training-xgb", "plain_xgb.py") as candidate:
        candidate.ask(limit=600, run="begin", rows=size.large_rows)
        candidate.ask(limit=600, run="begin_sparse", rows=size.large_rows // 5)
        for number in range(size.rounds + 1):
            for name, request in RUNS.items():
                seconds = candidate.ask(limit=1800, **request)["seconds"]
                if number:  # the first round warms up
                    measured.add(f"xgb, {name}", seconds)
                print(f"xgb {number}: {name} {seconds:.2f} s", flush=True)


PART = Part(
    measure,
    [
        Target("fit against xgboost.train on the matrix", "xgb, fit, ours", "xgb, fit, plain", at_most_times=1.15),
        Target("the same, sparse rows against scipy's", "xgb, sparse, ours", "xgb, sparse, plain", at_most_times=1.25),
        Target("predict against an identity UDF and Booster.predict", "xgb, predict, ours", "xgb, predict, plain",
               at_most_times=0.9),
        Target("predict beside ten unused columns of strings", "xgb, predict, ten more columns", "xgb, predict, ours",
               at_most_times=1.05),
    ],
)  # fmt: skip
