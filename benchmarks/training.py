"""What a fit costs before its first step: one boosting round, or one epoch of a linear layer, on 2,000 rows that Spark has cached.

Run it with ``make bench-training``.
"""

from __future__ import annotations

import argparse
import sys

from harness import ROOT, Candidate, Series, Target, report

TARGETS = [
    Target(f"{measure} of a later fit, {name}", f"{library} {measure}", at_most=limit)
    for library, name in (("xgb", "XGBEstimator"), ("torch", "TorchEstimator"))
    for measure, limit in (("seconds", 1.0), ("cpu", 1.5))
] + [
    Target("first predict of a session against the second, torch", "first predict", "second predict", at_most_more=1.5)
]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    (ROOT / "out").mkdir(exist_ok=True)
    series: dict[str, Series] = {}
    candidate = Candidate("training", sys.executable, "training.py", [])
    try:
        candidate.ask(limit=300, run="begin", rows=options.rows)
        for number in range(options.rounds + 1):
            for library in ("xgb", "torch"):
                answer = candidate.ask(limit=300, run="fit", library=library)
                when = "" if number else "first "  # it starts the worker
                for measure in ("seconds", "cpu"):
                    series.setdefault(f"{when}{library} {measure}", Series()).values.append(answer[measure])
                print(f"round {number}: {library} {answer['seconds']:.2f} s, {answer['cpu']:.2f} s of CPU", flush=True)
        answer = candidate.ask(limit=300, run="predict")
        for name in ("first", "second"):
            series[f"{name} predict"] = Series([answer[name]])
    finally:
        candidate.close()
    return 0 if report("training", series, TARGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
