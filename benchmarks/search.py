"""Searches over XGBoost on the flights: against the training seconds in them, against scikit-learn, over Spark stages, and ASHA.

Run it with ``make bench-search``. ``--rows 2000 --rounds 4 --repeats 1`` only shows that it works.
"""

from __future__ import annotations

import argparse
import sys

from harness import ROOT, Candidate, Series, Target, report

# In this order in every round, so that whatever else the machine does hits what is compared.
RUNS = ("ours", "scikit_learn", "stages", "fixed", "all", "asha")

TARGETS = [
    Target(
        "12 XGB candidates x 3 folds, against their training / concurrency", "ours", "ours wanted", at_most_times=1.2
    ),
    Target(
        "the same against scikit-learn's GridSearchCV with joblib: faster", "ours", "scikit_learn", at_least_times=1.0
    ),
    Target("4 Spark stages x 3 estimators: crossings (4 x 3 folds)", "stages crossings", at_most=12),
    Target("the same against what Spark or training needs", "stages", "stages minimum", at_most_times=1.25),
    Target("fixed cost of a search (1 candidate, 2 folds, 2,000 rows)", "fixed", at_most=8),
    Target("24 candidates with asha, against without", "asha", "all", at_least_times=3.0),
    Target("best score with asha, below that without", "asha loss", at_most=0.003),
]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of the flights (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=120, help="of boosting (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of every search (default: %(default)s)")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=RUNS, help="which searches (default: all)")
    options = parser.parse_args()
    (ROOT / "out").mkdir(exist_ok=True)
    series: dict[str, Series] = {}
    candidate = Candidate("search", sys.executable, "search.py", [])
    about = {"rows": options.rows, "rounds": options.rounds}
    try:
        candidate.ask(limit=900, run="fixed", **about)  # warms the session, the rows and a first process
        for number in range(options.repeats):
            best: dict[str, float] = {}
            for run in options.runs:
                answer = candidate.ask(limit=3600, run=run, **about)
                best[run] = answer.pop("best")
                for measure, value in answer.items():
                    name = run if measure == "seconds" else f"{run} {measure}"
                    series.setdefault(name, Series()).values.append(value)
                print(
                    f"round {number}: {run} {answer['seconds']:.1f} s, {answer['training']:.1f} s of training",
                    flush=True,
                )
            if {"all", "asha"} <= best.keys():
                series.setdefault("asha loss", Series()).values.append(best["all"] - best["asha"])
        if len(options.runs) == len(RUNS):
            divided = candidate.ask(limit=900, run="folds", **about)
            series["folds, driver bytes per row"] = Series([divided["bytes_per_row"]])
    finally:
        candidate.close()
    return 0 if report("search", series, TARGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
