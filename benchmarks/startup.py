"""From init_spark to the end of a first job: raydp_ml, RayDP 1.6.5 and Spark's local[2], each in a fresh process with Ray running.

Run it with ``make bench-startup``.
"""

from __future__ import annotations

import argparse
import sys

from harness import ROOT, Candidate, Series, Target, peer_python, report


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    (ROOT / "out").mkdir(exist_ok=True)
    pythons = {"raydp_ml": sys.executable, "raydp": peer_python(), "local": sys.executable}
    series = {name: Series() for name in pythons}
    for number in range(rounds + 1):
        for name, python in pythons.items():
            candidate = Candidate(name, python, "startup.py", [name])
            try:
                seconds = candidate.ask(run="start")["seconds"]
            finally:
                candidate.close()
            if number:  # the first round warms the file cache
                series[name].values.append(seconds)
                print(f"round {number}: {name} {seconds:.2f} s", flush=True)
    targets = [
        Target("init_spark to the end of a first job, against RayDP: faster", "raydp_ml", "raydp", at_least_times=1.0),
        Target("the same against local[2]: at most 4 s more", "raydp_ml", "local", at_most_more=4.0),
    ]
    return 0 if report("startup", series, targets) else 1


if __name__ == "__main__":
    sys.exit(main())
