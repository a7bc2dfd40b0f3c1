"""The parts of ``make bench-training`` with trees: beside plain xgboost and xgboost.spark, their memory, and what a row costs."""

from __future__ import annotations

import sys
import tempfile

from harness import Candidate, Target, free_memory
from training_parts import Measured, Part, Size, training

__all__ = ["PARTS"]

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


def beside_spark(size: Size, measured: Measured) -> None:
    """Fits of dense rows, ours and those of xgboost's own estimator for Spark."""
    spark = Candidate("training-xgb-spark", sys.executable, "spark_xgb.py", [])
    try:
        with training("training-xgb", "plain_xgb.py") as ours:
            ours.ask(limit=600, run="begin", rows=size.large_rows)
            spark.ask(limit=600, run="begin", rows=size.large_rows)
            for number in range(size.rounds + 1):
                for workers in (1, 2):
                    answers = {
                        "ours": ours.ask(limit=1800, run="fit_ours", rounds=ROUNDS, threads=workers),
                        "SparkXGBClassifier": spark.ask(limit=1800, run="fit", rounds=ROUNDS, workers=workers),
                    }
                    for name, answer in answers.items():
                        if number:
                            measured.add(f"xgb on {workers} core(s), {name}", answer["seconds"])
                        print(f"xgb_spark {number}: {name}, {workers} core(s) {answer['seconds']:.2f} s", flush=True)
    finally:
        spark.close()


# Rounds of boosting for the peaks of memory, which do not depend on them.
_FEW_ROUNDS = 10


def memory(size: Size, measured: Measured) -> None:
    """What a worker grows by in a fit, beside a process that trains on the same matrix, the matrix included on both sides."""
    with tempfile.TemporaryDirectory() as folder, training("training-xgb", "plain_xgb.py") as ours:
        ours.ask(limit=600, run="begin", rows=size.large_rows)
        ours.ask(limit=600, run="begin_sparse", rows=size.large_rows // 5)
        ours.ask(limit=600, run="write_matrices", folder=folder)
        for number in range(size.rounds):
            for kind in ("dense", "sparse"):
                peak = ours.ask(limit=1800, run="memory_ours", kind=kind, rounds=_FEW_ROUNDS)["peak_mb"]
                with training("training-xgb-memory", "xgb_memory.py") as plain:
                    answer = plain.ask(limit=1800, run="peak", file=f"{folder}/{kind}.npz", rounds=_FEW_ROUNDS)
                most = 1.15 * answer["peak_mb"] + (answer["matrix_mb"] if kind == "sparse" else 0)
                measured.add(f"xgb memory, {kind}, worker MB", peak)
                measured.add(f"xgb memory, {kind}, plain MB", answer["peak_mb"])
                measured.add(f"xgb memory, {kind}, most MB", most)
                print(
                    f"xgb_memory {number}: {kind} {peak:.0f} MB, plain {answer['peak_mb']:.0f} MB of which the matrix "
                    f"{answer['matrix_mb']:.0f} MB",
                    flush=True,
                )


# Bytes that a row of ten numbers takes on its way: in the object store, as the worker's matrix, as bins, and twice a label.
_BYTES_OF_ROW = 200


def cost_of_rows(size: Size, measured: Measured) -> None:
    """What each row costs to cross and to become a matrix, from a million of them to thirty, or as many as memory holds."""
    held = free_memory() // 2 // _BYTES_OF_ROW
    counts = [size.large_rows * times for times in (1, 3, 10, 30)]
    counts = [counts[0], *(rows for rows in counts[1:] if rows <= held)]
    with training("training-xgb", "plain_xgb.py") as candidate:
        candidate.ask(limit=600, run="begin_rows")
        for rows in (1000, counts[0], counts[0]):
            candidate.ask(limit=600, run="cross", rows=rows)  # warms up
        for number in range(size.rounds):
            fixed = candidate.ask(limit=600, run="cross", rows=1000)["seconds"]
            costs = {}
            for rows in counts:
                seconds = candidate.ask(limit=1800, run="cross", rows=rows)["seconds"]
                costs[rows] = (seconds - fixed) / rows * 1e9
                measured.add(f"xgb rows, ns each of {rows:,}", costs[rows])
                print(f"xgb_rows {number}: {rows:,} rows {costs[rows]:.0f} ns each, {fixed:.2f} s besides", flush=True)
            measured.add("xgb rows, most against least", max(costs.values()) / min(costs.values()))


PARTS = {
    "xgb": Part(
        measure,
        [
            Target("fit against xgboost.train on the matrix", "xgb, fit, ours", "xgb, fit, plain", at_most_times=1.15),
            Target("the same, sparse rows against scipy's", "xgb, sparse, ours", "xgb, sparse, plain", at_most_times=1.25),
            Target("predict against an identity UDF and Booster.predict", "xgb, predict, ours", "xgb, predict, plain",
                   at_most_times=0.9),
            Target("predict beside ten unused columns of strings", "xgb, predict, ten more columns", "xgb, predict, ours",
                   at_most_times=1.05),
        ],
    ),
    "xgb_spark": Part(
        beside_spark,
        [
            Target(f"fit against SparkXGBClassifier on local[2], {workers} core(s)", f"xgb on {workers} core(s), ours",
                   f"xgb on {workers} core(s), SparkXGBClassifier", at_least_times=1.0)
            for workers in (1, 2)
        ],
    ),
    "xgb_memory": Part(
        memory,
        [
            Target("peak memory of the worker against 1.15 times xgboost.train's", "xgb memory, dense, worker MB",
                   "xgb memory, dense, most MB", at_most_times=1.0),
            Target("the same, sparse rows, and one copy of them more", "xgb memory, sparse, worker MB",
                   "xgb memory, sparse, most MB", at_most_times=1.0),
        ],
    ),
    "xgb_rows": Part(
        cost_of_rows,
        [Target("cost of a row to cross and to become a matrix: most against least", "xgb rows, most against least",
                at_most=1.15)],
    ),
}  # fmt: skip
