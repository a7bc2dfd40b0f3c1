"""What fits cost besides training: before the first step, against plain libraries, and beside Spark on the same CPUs.

Run it with ``make bench-training``. ``--parts fixed,first`` measures some parts only; ``--rows 500 --large-rows 4000 --rounds 1
--job-seconds 1 --pairs 2`` only shows that it works.
"""

from __future__ import annotations

import argparse
import sys

import training_torch
import training_xgb
from harness import ROOT, report
from training_parts import PARTS as SMALL_PARTS
from training_parts import Measured, Size

PARTS = {**SMALL_PARTS, "torch": training_torch.PART, "raydp": training_torch.PEER_PART, **training_xgb.PARTS}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between them (default: all, %(default)s)")
    parser.add_argument("--rows", type=int, default=2000, help="of fits with nothing to train (default: %(default)s)")
    parser.add_argument(
        "--large-rows",
        type=int,
        default=1_000_000,
        help="of parts defaults, torch, raydp and xgb... (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each measure (default: %(default)s)")
    parser.add_argument(
        "--job-seconds", type=float, default=10.0, help="of a job of part lending (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=10, help="of jobs of part lending (default: %(default)s)")
    options = parser.parse_args()
    names = [name for name in options.parts.split(",") if name]
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        parser.error(f"--parts has {', '.join(unknown)}; there are {', '.join(PARTS)}")
    (ROOT / "out").mkdir(exist_ok=True)
    size = Size(options.rows, options.large_rows, options.rounds, options.job_seconds, options.pairs)
    measured = Measured()
    for name in names:
        PARTS[name].measure(size, measured)
    targets = [target for name in names for target in PARTS[name].targets]
    return 0 if report("training", measured.series, targets) else 1


if __name__ == "__main__":
    sys.exit(main())
