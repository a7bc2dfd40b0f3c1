"""DataFrame to Dataset and back: raydp_ml, RayDP 1.6.5, a local parquet round trip, toPandas, toArrow, and Spark reading its rows.

Run it with ``make bench-exchange``, or this file with ``--parts`` for some of it. Each part replaces its own results in
``out/bench-exchange.json``. ``--publish`` copies that file to the documentation, where ``make docs`` makes the chart and the
tables of it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from exchange_parts import PARTS, Measured
from harness import ROOT, circumstances, judge_all, values_of

RESULTS = ROOT / "out" / "bench-exchange.json"
PUBLISHED = ROOT / "docs" / "pictures" / "exchange.json"
# What a measure answers, and its column in the table.
COLUMNS = {
    "cpu_s": "CPU s",
    "driver_mb": "driver MB",
    "driver_jvm_mb": "its JVM",
    "jvms_mb": "all JVMs",
    "store_mb": "store",
    "shm_mb": "/dev/shm",
}


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="which of %(default)s; targets is short for peer,files"
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the targets; the other parts grow with it")
    parser.add_argument("--rounds", type=int, help="instead of each part's own number")
    parser.add_argument("--without-peer", action="store_true", help="leave RayDP out, for a quick look")
    parser.add_argument(
        "--publish", action="store_true", help="copy the results to docs/pictures; --parts '' does only that"
    )
    options = parser.parse_args()
    names = [name for name in options.parts.replace("targets", "peer,files").split(",") if name]
    unknown = set(names) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    (ROOT / "out").mkdir(exist_ok=True)
    # What a time limit sends is an interruption too: what was measured until then is told and written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reached = True
    for name in names:
        if name == "peer" and options.without_peer:
            continue
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        measured = Measured()
        try:
            PARTS[name](options, measured)
        except KeyboardInterrupt:
            measured.failures["the part"] = "interrupted"
        show(measured)
        judged, good = judge_all(measured.series, measured.targets)
        reached = reached and good
        told = {
            **circumstances(),
            "seconds": round(time.monotonic() - began),
            **measured.about,
            "series": values_of(measured.series),
            "failures": measured.failures,
            "targets": judged,
        }
        write(name, told)
        if "the part" in measured.failures:
            return 1
    if options.publish:
        merge(json.loads(RESULTS.read_text()), PUBLISHED)
        print(f"copied to {PUBLISHED.relative_to(ROOT)}; make docs shows it")
    return 0 if reached else 1


def show(measured: Measured) -> None:
    """Print a table: a line for each measure."""
    print(
        f"\n{'measure':<36}{'seconds (smallest to largest)':<34}" + "".join(f"{name:>11}" for name in COLUMNS.values())
    )
    for name in dict.fromkeys(name.rpartition(" ")[0] for name in measured.series):
        cells = [measured.series.get(f"{name} {column}") for column in COLUMNS]
        texts = ["" if cell is None else f"{cell.median:.1f}" for cell in cells]
        wall = measured.series.get(f"{name} wall_s")
        print(f"{name:<36}{'' if wall is None else str(wall):<34}" + "".join(f"{text:>11}" for text in texts))
    others = {name: one for name, one in measured.series.items() if name.rpartition(" ")[2] not in {"wall_s", *COLUMNS}}
    for name, one in others.items():
        print(f"{name:<60}{one}")
    for name, why in measured.failures.items():
        print(f"{name:<36}fails: {why}")


def merge(parts: dict[str, Any], file: Path) -> None:
    """Put parts into a file of results, in order; it keeps those that are not among them."""
    results = (json.loads(file.read_text()) if file.exists() else {}) | parts
    file.write_text(json.dumps({part: results[part] for part in PARTS if part in results}, indent=1) + "\n")


def write(name: str, told: dict[str, Any]) -> None:
    """Put a part's results beside those of the others."""
    merge({name: told}, RESULTS)
    print(f"\n{name} took {told['seconds']} s; written to {RESULTS.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
