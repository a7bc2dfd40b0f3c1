"""The parts of the exchange's benchmark: what is measured, on which rows, and what has to be reached."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import Candidate, Died, Failed, Series, Target, free_memory, peer_python

FULL = 10_000_000
# Two executors of this size hold 10 million rows in either Spark, and what RayDP keeps of them for recovery.
MEMORY, STORE_GB = "5g", 4
SCHEMAS = {"rows": 2_500_000, "floats": 500_000, "vector": 250_000, "strings": 400_000, "nested": 400_000}
# from_spark against Spark only reading the rows, at most so many times.
FLOORS = {"rows": 1.1, "floats": 1.15, "vector": 1.3, "strings": 1.8, "nested": 1.8}
SIZES = [100_000, 1_000_000, 10_000_000, 30_000_000, 100_000_000]
# Rounds that warm JIT compilers, workers and caches, in all candidates alike.
WARM_UPS = 4
ONCE = {("raydp", "small_blocks")}  # half a minute, and no target needs more of it
SPARSE_BYTES_PER_ROW = 30 * (4 + 8) + 2 * 4  # indices and values, size and offset
BYTES_PER_ROW = 96  # of the computed rows: 12 columns of 8 bytes


@dataclass
class Measured:
    """A part's results."""

    about: dict[str, Any] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)


class Alternation:
    """Candidates that are asked in turn. What one of them cannot do is noted, and the others go on."""

    def __init__(self, names: list[str], measured: Measured, script: str = "exchange.py") -> None:
        self._candidates: dict[str, Candidate] = {}
        self._measured = measured
        for name in names:
            python = peer_python() if name == "raydp" else sys.executable
            self._candidates[name] = Candidate(name, python, script, [name])

    def __enter__(self) -> Alternation:
        return self

    def __exit__(self, *problem: object) -> None:
        for candidate in self._candidates.values():
            candidate.close()

    def each(self, run: str, label: str | None = None, **request: Any) -> None:
        """A step of all of them that is not measured."""
        for name in list(self._candidates):
            self.step(name, run, label, **request)

    def start(self, **request: Any) -> None:
        """Start Spark in all of them; one in which it does not start is left out."""
        for name in list(self._candidates):
            self.step(name, "start", **request)
            if f"{name} start" in self._measured.failures and name in self._candidates:
                self._candidates.pop(name).close()

    def step(self, name: str, run: str, label: str | None = None, **request: Any) -> dict[str, float] | None:
        """One request; None when it fails, has failed before, or when the candidate has ended."""
        label = f"{name} {label or run}"
        if name not in self._candidates or label in self._measured.failures:
            return None
        try:
            return self._candidates[name].ask(run=run, **request)
        except Failed as problem:
            self._measured.failures[label] = str(problem)
            print(f"  {label} fails: {problem}", flush=True)
            if isinstance(problem, Died):
                self._candidates.pop(name).close()
            return None

    def note(self, name: str, run: str, label: str) -> None:
        """A request whose numbers are kept, whatever they are."""
        for what, value in (self.step(name, run, label) or {}).items():
            self._measured.series.setdefault(f"{name} {label} {what}", Series()).values.append(value)

    def measure(self, name: str, run: str, label: str | None = None, keep: bool = True, **request: Any) -> bool:
        """One measurement, kept in the series of its label; False when there is none."""
        told = self.step(name, run, label, **request)
        if told is None:
            return False
        if keep:
            for what, value in told.items():
                self._measured.series.setdefault(f"{name} {label or run} {what}", Series()).values.append(value)
        print(f"  {name} {label or run}: {told['wall_s']:.2f} s{'' if keep else ' to warm up'}", flush=True)
        return True


def alternate(names: dict[str, list[str]], rows: int, rounds: int, measured: Measured) -> None:
    """Measures of candidates that hold the same rows, round after round."""
    with Alternation(list(names), measured) as candidates:
        candidates.start(store_gb=STORE_GB, memory=MEMORY)
        candidates.each("hold", schema="rows", rows=rows)
        if any("small_blocks" in measures for measures in names.values()):
            candidates.each("make_small_blocks")
        for number in range(1 - WARM_UPS, rounds + 1):
            print(f" round {number} of {rounds} at {time.strftime('%H:%M:%S')}", flush=True)
            for name, measures in names.items():
                for measure in measures:
                    if (name, measure) in ONCE and number != 1:
                        continue
                    candidates.measure(name, measure, keep=number > 0)
                candidates.step(name, "release")


def peer(options: argparse.Namespace, measured: Measured) -> None:
    """raydp_ml and RayDP in turn."""
    rounds = options.rounds or 3
    measured.about = {"rows": options.rows, "rounds": rounds}
    measures = ["from_spark", "read_numpy", "to_spark_count", "to_spark_sum", "small_blocks"]
    measured.targets = [
        against("from_spark, against RayDP: 10 times faster", "from_spark", "raydp from_spark", at_least_times=10),
        against("all blocks as numpy: 10 times faster", "read_numpy", "raydp read_numpy", at_least_times=10),
        against("to_spark and count: 10 times faster", "to_spark_count", "raydp to_spark_count", at_least_times=10),
        against("to_spark, sum of all columns: 5 times faster", "to_spark_sum", "raydp to_spark_sum", at_least_times=5),
        Target("to_spark and count of 1,000 rows in 200 blocks: under 3 s", "raydp_ml small_blocks wall_s", at_most=3),
    ]
    alternate({"raydp_ml": measures, "raydp": measures}, options.rows, rounds, measured)


def files(options: argparse.Namespace, measured: Measured) -> None:
    """raydp_ml, and ways without it, in turn."""
    rounds = options.rounds or 5
    measured.about = {"rows": options.rows, "rounds": rounds}
    measures = {"raydp_ml": ["floor", "from_spark"], "files": ["parquet", "to_pandas", "to_arrow"]}
    measured.targets = [
        against(
            "from_spark, against parquet write and read: 3 times faster",
            "from_spark",
            "files parquet",
            at_least_times=3,
        ),
        Target(
            "from_spark, CPU against Spark only reading the rows: at most 2.5 times",
            "raydp_ml from_spark cpu_s",
            "raydp_ml floor cpu_s",
            at_most_times=2.5,
        ),
    ]
    alternate(measures, options.rows, rounds, measured)


def schemas(options: argparse.Namespace, measured: Measured) -> None:
    """The five schemas, 200 to 300 MB of each, from Spark."""
    measures = {
        "raydp_ml": ["floor", "from_spark", "to_spark_sum"],
        "raydp": ["from_spark", "to_spark_sum"],
        "files": ["parquet"],
    }
    if options.without_peer:
        measures.pop("raydp")
    measured.targets = [
        target
        for schema, times in FLOORS.items()
        for target in [
            against(
                f"{schema}: from_spark, against Spark only reading the rows: at most {times} times",
                f"{schema} from_spark",
                f"raydp_ml {schema} floor",
                at_most_times=times,
            ),
            *against_peer(options, schema, "from_spark", 7),
            *against_peer(options, schema, "to_spark_sum", 5),
        ]
    ]
    of_each_schema(options, measured, measures)


def back(options: argparse.Namespace, measured: Measured) -> None:
    """The five schemas back in Spark, every column consumed, beside the same query over Spark's own cached frame."""
    measured.targets = [
        against(
            f"{schema}: to_spark and sums, against those of Spark's own cached frame: at most 1.3 times",
            f"{schema} to_spark_sum",
            f"raydp_ml {schema} cached_sum",
            at_most_times=1.3,
        )
        for schema in SCHEMAS
    ]
    of_each_schema(options, measured, {"raydp_ml": ["from_spark", "to_spark_sum", "cached_sum"]})


def of_each_schema(options: argparse.Namespace, measured: Measured, measures: dict[str, list[str]]) -> None:
    """Measures of each schema, round after round."""
    rounds = options.rounds or 5
    rows = scaled(options)
    measured.about = {"rows": rows, "rounds": rounds}
    with Alternation(list(measures), measured) as candidates:
        candidates.start(store_gb=2, memory="2g")
        for schema, number in rows.items():
            print(f" {schema}", flush=True)
            candidates.each("hold", f"{schema} hold", schema=schema, rows=number)
            for turn in range(1 - min(WARM_UPS, rounds), rounds + 1):
                for name, works in measures.items():
                    for work in works:
                        # Without the Dataset of the measure before it, the next would only fail too.
                        if not candidates.measure(name, work, f"{schema} {work}", keep=turn > 0):
                            break
                    candidates.step(name, "release", f"{schema} release")


def scaled(options: argparse.Namespace) -> dict[str, int]:
    """Rows of each schema."""
    return {schema: max(1000, number * options.rows // FULL) for schema, number in SCHEMAS.items()}


def against_peer(options: argparse.Namespace, schema: str, work: str, times: float) -> list[Target]:
    """The target against RayDP, when it takes part."""
    text = f"{schema}: {work}, against RayDP: {times} times faster"
    label = f"{schema} {work}"
    return [] if options.without_peer else [against(text, label, f"raydp {label}", at_least_times=times)]


def heap(options: argparse.Namespace, measured: Measured) -> None:
    """What from_spark takes of the heaps of executors."""
    rounds = options.rounds or 3
    rows = scaled(options)
    measured.about = {"rows": rows, "rounds": rounds}
    measured.targets = [
        Target(
            f"{schema}: heap of an executor above the cached source: at most 300 MB",
            f"raydp_ml {schema} heap peak_mb",
            at_most=300,
        )
        for schema in SCHEMAS
    ]
    with Alternation(["raydp_ml"], measured) as candidates:
        candidates.start(store_gb=2, memory="2g", heaps=True)
        for schema, number in rows.items():
            candidates.each("hold", f"{schema} hold", schema=schema, rows=number)
            for _ in range(rounds):
                candidates.note("raydp_ml", "heap", f"{schema} heap")
                candidates.each("release", f"{schema} release")


def nodes(options: argparse.Namespace, measured: Measured) -> None:
    """Two and five Ray nodes on this machine, each with an executor and staging of its own; the driver is on another."""
    rounds = options.rounds or 5
    rows = max(1000, options.rows // 4)
    measured.about = {"rows": rows, "rounds": rounds, "bytes_per_row": BYTES_PER_ROW}
    for number in (2, 5):
        with Alternation(["nodes"], measured, script="nodes.py") as candidates:
            candidates.start(nodes=number)
            candidates.each("hold", rows=rows)
            for turn in range(1 - min(WARM_UPS, rounds), rounds + 1):
                for work in ("from_spark", "to_spark_sum"):
                    label = f"{number} {work}"
                    if candidates.measure("nodes", work, label, keep=turn > 0) and turn > 0:
                        seconds = measured.series[f"nodes {label} wall_s"].values[-1]
                        rate = measured.series.setdefault(f"nodes {label} mb_per_s", Series())
                        rate.values.append(rows * BYTES_PER_ROW / 1e6 / seconds)
                candidates.each("release")


def sparse(options: argparse.Namespace, measured: Measured) -> None:
    """Sparse vectors of 2**18 places of which 30 are set, beside 12 columns of as many bytes."""
    rounds = options.rounds or 5
    rows = max(1000, options.rows // 10)
    works = {"sparse": ("sparse_matrix", rows), "rows": ("from_spark", rows * SPARSE_BYTES_PER_ROW // BYTES_PER_ROW)}
    measured.about = {"rows": {schema: number for schema, (_, number) in works.items()}, "rounds": rounds}
    measured.targets = [
        against(
            "sparse vectors into scipy matrices, against 12 columns of as many bytes: at most 1.5 times",
            "sparse sparse_matrix",
            "raydp_ml rows from_spark",
            at_most_times=1.5,
        )
    ]
    with Alternation(["raydp_ml"], measured) as candidates:
        candidates.start(store_gb=STORE_GB, memory="3g")
        for schema, (work, number) in works.items():
            candidates.each("hold", f"{schema} hold", schema=schema, rows=number)
            for turn in range(1 - WARM_UPS, rounds + 1):
                candidates.measure("raydp_ml", work, f"{schema} {work}", keep=turn > 0)
                candidates.each("release", f"{schema} release")


def sizes(options: argparse.Namespace, measured: Measured) -> None:
    """How the cost of a row grows with their number, from computed rows: no cache holds the largest."""
    rounds = options.rounds or 3
    fitting = [rows for rows in SIZES if rows <= 10 * options.rows and fits(rows)]
    measured.about = {"rows": fitting, "rounds": rounds}
    if 1_000_000 in fitting and fitting[-1] > 1_000_000:
        measured.targets = [
            Target(
                f"cost per row, {fitting[-1]:,} against 1,000,000 rows: at most 1.15 times",
                f"raydp_ml {fitting[-1]} from_spark us_per_row",
                "raydp_ml 1000000 from_spark us_per_row",
                at_most_times=1.15,
            )
        ]
    with Alternation(["raydp_ml"], measured) as candidates:
        candidates.start(store_gb=max(1, needed(fitting[-1]) / 2**30), memory="1g")
        for turn in range(rounds + 1):
            for rows in fitting:
                if turn == 0 and rows == fitting[-1]:  # what is to warm up is warm without it
                    continue
                # Partitions of one size, as reading files gives them.
                parts = max(2, rows // 500_000)
                candidates.each("hold", schema="computed", rows=rows, partitions=parts, cached=False)
                label = f"{rows} from_spark"
                if candidates.measure("raydp_ml", "from_spark", label, keep=turn > 0) and turn > 0:
                    seconds = measured.series[f"raydp_ml {label} wall_s"].values[-1]
                    each = measured.series.setdefault(f"raydp_ml {label} us_per_row", Series())
                    each.values.append(seconds / rows * 1e6)
                candidates.each("release")


def needed(rows: int) -> int:
    """Bytes of object store for so many computed rows."""
    return int(rows * BYTES_PER_ROW * 1.15)


def fits(rows: int) -> bool:
    """Whether this machine has room for them beside Spark and what is on its way."""
    return needed(rows) <= min(0.55 * free_memory(), shutil.disk_usage("/dev/shm").free - 2**31)


def rounds(options: argparse.Namespace, measured: Measured) -> None:
    """What stays behind: after 50 rounds there and back, and in a driver that moves 5 GB each way."""
    scale = options.rows / FULL
    large = int(10_400_000 * scale)
    measured.about = {"small_rows": 100_000, "large_rows": large}
    measured.targets = [
        Target(
            "object store after 50 dropped rounds: MB more than before",
            "raydp_ml dropped_rounds store_growth_mb",
            at_most=0,
        ),
        Target("driver while moving 5 GB: at most 200 MB more", "raydp_ml moving driver_growth_mb", at_most=200),
        Target("its JVM while moving 5 GB: at most 200 MB more", "raydp_ml moving driver_jvm_growth_mb", at_most=200),
    ]
    with Alternation(["raydp_ml"], measured) as candidates:
        candidates.start(store_gb=STORE_GB, memory="1g")
        candidates.each("hold", schema="computed", rows=100_000, partitions=4, cached=False)
        candidates.measure("raydp_ml", "dropped_rounds", limit=500, times=options.rounds or 50)
        candidates.each("hold", schema="computed", rows=large, partitions=16, cached=False)
        candidates.measure("raydp_ml", "moving", times=5)


def against(text: str, measure: str, other: str, **bound: float) -> Target:
    """A target for wall seconds."""
    return Target(text, f"raydp_ml {measure} wall_s", f"{other} wall_s", **bound)


PARTS: dict[str, Callable[[argparse.Namespace, Measured], None]] = {
    "peer": peer,
    "files": files,
    "schemas": schemas,
    "back": back,
    "sparse": sparse,
    "heap": heap,
    "nodes": nodes,
    "sizes": sizes,
    "rounds": rounds,
}
