"""DataFrame to Dataset and back: raydp_ml, RayDP 1.6.5, a local parquet round trip, toPandas, toArrow, and Spark reading its rows.

Run it with ``make bench-exchange``. Every candidate holds the same frame in Spark's cache: ``--rows`` rows of 10 doubles, an
integer and a string.
"""

from __future__ import annotations

import argparse
import sys

from harness import ROOT, Candidate, Series, Target, peer_python, report

MEASURES = {
    "raydp_ml": ["floor", "from_spark", "read_numpy", "to_spark_count", "to_spark_sum", "small_blocks"],
    "raydp": ["from_spark", "read_numpy", "to_spark_count", "to_spark_sum"],
    "files": ["parquet", "to_pandas", "to_arrow"],
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-peer", action="store_true", help="leave RayDP out, for a quick look")
    options = parser.parse_args()
    (ROOT / "out").mkdir(exist_ok=True)
    pythons = {"raydp_ml": sys.executable, "files": sys.executable}
    if not options.without_peer:
        pythons["raydp"] = peer_python()
    series: dict[str, Series] = {}
    candidates = {}
    try:
        for name, python in pythons.items():
            candidates[name] = Candidate(name, python, "exchange.py", [name, str(options.rows)])
            candidates[name].ask(run="prepare")
            print(f"{name} holds its rows", flush=True)
        for number in range(options.rounds + 1):
            for name, candidate in candidates.items():
                for measure in MEASURES[name]:
                    told = candidate.ask(run=measure)
                    if number == 0:  # warms JIT compilers, workers and caches
                        continue
                    for what, value in told.items():
                        series.setdefault(f"{name} {measure} {what}", Series()).values.append(value)
            print(f"round {number} of {options.rounds} done", flush=True)
    finally:
        for candidate in candidates.values():
            candidate.close()
    return 0 if report("exchange", series, targets(not options.without_peer)) else 1


def targets(with_peer: bool) -> list[Target]:
    """What has to be reached."""
    against_files = [
        Target(
            "from_spark against parquet write and read: 3 times faster",
            *wall("from_spark", "files parquet"),
            at_least_times=3,
        ),
        Target(
            "from_spark CPU against Spark reading the rows: at most 2.5 times",
            "raydp_ml from_spark cpu_s",
            "raydp_ml floor cpu_s",
            at_most_times=2.5,
        ),
    ]
    against_peer = [
        Target("from_spark against RayDP: 10 times faster", *wall("from_spark", "raydp from_spark"), at_least_times=10),
        Target("all blocks as numpy: 10 times faster", *wall("read_numpy", "raydp read_numpy"), at_least_times=10),
        Target(
            "to_spark and count: 10 times faster", *wall("to_spark_count", "raydp to_spark_count"), at_least_times=10
        ),
        Target(
            "to_spark and sum of all columns: 5 times faster",
            *wall("to_spark_sum", "raydp to_spark_sum"),
            at_least_times=5,
        ),
    ]
    return (against_peer if with_peer else []) + against_files


def wall(measure: str, against: str) -> tuple[str, str]:
    """Names of two series of wall seconds."""
    return f"raydp_ml {measure} wall_s", f"{against} wall_s"


if __name__ == "__main__":
    sys.exit(main())
