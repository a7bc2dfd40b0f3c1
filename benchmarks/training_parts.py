"""The parts of ``make bench-training``: each asks programs of its own, and has its targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness import Candidate, Series, Target

__all__ = ["PARTS", "Measured", "Part", "Size", "training"]


@dataclass(frozen=True)
class Size:
    """How much is measured: rows of the small and of the large frame, repeats, seconds of a job, and pairs of them."""

    rows: int
    large_rows: int
    rounds: int
    job_seconds: float
    pairs: int


class Measured:
    """Series by name."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}

    def add(self, name: str, value: float) -> None:
        self.series.setdefault(name, Series()).values.append(value)


@contextmanager
def training(name: str = "training", script: str = "training.py", *arguments: str) -> Iterator[Candidate]:
    """A program with a session of its own."""
    candidate = Candidate(name, sys.executable, script, list(arguments))
    try:
        yield candidate
    finally:
        candidate.close()


def fixed(size: Size, measured: Measured) -> None:
    """Later fits with nothing to train, and the first prediction of a session."""
    with training() as candidate:
        candidate.ask(run="begin", rows=size.rows)
        for number in range(size.rounds + 1):
            for library in ("xgb", "torch"):
                answer = candidate.ask(run="fit", library=library)
                when = "" if number else "first "  # it starts the worker
                for measure in ("seconds", "cpu"):
                    measured.add(f"{when}{library} {measure}", answer[measure])
                print(f"fit {number}: {library} {answer['seconds']:.2f} s, {answer['cpu']:.2f} s of CPU", flush=True)
        answer = candidate.ask(run="predict")
        for name in ("first", "second"):
            measured.add(f"{name} predict", answer[name])


def first(size: Size, measured: Measured) -> None:
    """The first fit of a session against the job with the crossing and the imports alone, and predictions right behind it."""
    for number in range(size.rounds):
        for library in ("xgb", "torch"):
            with training() as candidate:
                imports = candidate.ask(run="imports", library=library)["seconds"]
                candidate.ask(run="begin_program", rows=size.rows, library=library)
                crossing = candidate.ask(run="crossing")["seconds"]
                fit = candidate.ask(run="fit", library=library)["seconds"]
                predict = candidate.ask(run="predict_again")
            measured.add(f"first fit {library}", fit)
            measured.add(f"first fit {library}, longest part", max(imports, crossing))
            for name in ("first", "second"):
                measured.add(f"{name} predict at once, {library}", predict[name])
            print(
                f"session {number}: {library} {fit:.2f} s; imports {imports:.2f} s, crossing {crossing:.2f} s",
                flush=True,
            )


def ray_train(size: Size, measured: Measured) -> None:
    """Two workers of Ray Train, through an estimator and plainly, with the same training in them."""
    with training() as candidate:
        candidate.ask(run="begin", rows=size.rows)
        for number in range(size.rounds + 1):
            for library in ("xgb", "torch"):
                for name in ("ours", "plain"):
                    seconds = candidate.ask(run=f"two_workers_{name}", library=library)["seconds"]
                    if number:  # the first round warms up
                        measured.add(f"two workers {library}, {name}", seconds)
                    print(f"two workers {number}: {library} {name} {seconds:.2f} s", flush=True)


def search(size: Size, measured: Measured) -> None:
    """A search on arrays, beside a session whose executors hold all CPUs, and without any."""
    sides = {"with": ["session"], "without": []}
    opened = {side: Candidate(f"training-{side}", sys.executable, "training.py", []) for side in sides}
    try:
        for side, candidate in opened.items():
            candidate.ask(run="begin_four" if sides[side] else "begin_ray", rows=size.rows)
        for number in range(size.rounds + 1):
            for side, candidate in opened.items():
                seconds = candidate.ask(limit=900, run="grid", rows=size.large_rows // 20)["seconds"]
                if number:
                    measured.add(f"grid {side} session", seconds)
                print(f"grid {number}: {side} a session {seconds:.2f} s", flush=True)
    finally:
        for candidate in opened.values():
            candidate.close()


def lending(size: Size, measured: Measured) -> None:
    """Spark jobs with pauses in which executors lend, against executors that keep their CPUs, in pairs."""
    sides = {"lends": True, "keeps": False}
    opened = {side: Candidate(f"training-{side}", sys.executable, "training.py", []) for side in sides}
    try:
        for side, candidate in opened.items():
            candidate.ask(run="begin_lending", lends=sides[side])
        numbers = opened["keeps"].ask(run="calibrate", seconds=size.job_seconds)["numbers"]
        opened["lends"].ask(run="calibrate", seconds=size.job_seconds)  # as warm as the other
        for number in range(size.pairs + 1):
            seconds = {}
            for side in sides if number % 2 else reversed(list(sides)):
                seconds[side] = opened[side].ask(limit=900, run="job", numbers=numbers)["seconds"]
            if number:  # the first pair warms up
                measured.add("lending, job", seconds["lends"])
                measured.add("keeping, job", seconds["keeps"])
                measured.add("lending ratio", seconds["lends"] / seconds["keeps"])
            print(f"pair {number}: lends {seconds['lends']:.2f} s, keeps {seconds['keeps']:.2f} s", flush=True)
    finally:
        for candidate in opened.values():
            candidate.close()
    low, high = interval_of_ratio(measured.series["lending ratio"].values)
    measured.add("lending ratio, distance of its interval from 1", max(0.0, low - 1, 1 - high))
    print(f"ratio of lending to keeping: {low:.3f} to {high:.3f} with 95 % confidence")


# Rows of part streamed have 100 numbers; less than 80 MB is no object store for Ray.
_WIDE_BYTES = 400
_SMALLEST_STORE = 80_000_000
# MB of the two buffers of a fit on rows on disk (estimators/streamed.py), and what driver and worker may grow by besides.
_BUFFERS_MB = 2 * (64 << 20) / 1e6
_GROWTH_MB = 500


def streamed(size: Size, measured: Measured) -> None:
    """A network on data five times the object store, from disk, against the same in memory with a store that holds it."""
    data = size.large_rows * _WIDE_BYTES
    for number in range(size.rounds):
        for name, streaming, store in (
            ("from disk", True, max(data // 5, _SMALLEST_STORE)),
            ("in memory", False, max(4 * data, _SMALLEST_STORE)),
        ):
            with training() as candidate:
                candidate.ask(limit=600, run="begin_wide", rows=size.large_rows, store=store)
                answer = candidate.ask(limit=1200, run="fit_wide", streaming=streaming)
            measured.add(f"epoch {name}", answer["seconds"])
            if streaming:
                for side in ("driver", "worker"):
                    measured.add(f"{side} grows by MB", answer[f"{side}_mb"])
            rate = size.large_rows / answer["seconds"]
            print(
                f"streamed {number}: {name} {rate:,.0f} rows/s, driver {answer['driver_mb']:+.0f} MB, worker "
                f"{answer['worker_mb']:+.0f} MB",
                flush=True,
            )


def defaults(size: Size, measured: Measured) -> None:
    """XGBEstimator with its defaults on a cached Spark frame, against XGBClassifier with its defaults on the matrix."""
    with training() as candidate:
        candidate.ask(limit=600, run="begin", rows=size.large_rows)
        for number in range(size.rounds + 1):
            for name in ("ours", "plain"):
                seconds = candidate.ask(limit=1200, run=f"defaults_{name}")["seconds"]
                if number:
                    measured.add(f"all defaults, {name}", seconds)
                print(f"defaults {number}: {name} {seconds:.2f} s", flush=True)


def interval_of_ratio(ratios: list[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the geometric mean of ratios."""
    import numpy as np
    from scipy import stats

    logs = np.log(ratios)
    if len(logs) < 2:
        return float(ratios[0]), float(ratios[0])
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


@dataclass(frozen=True)
class Part:
    """How a part measures, and what it must reach."""

    measure: Callable[[Size, Measured], Any]
    targets: list[Target]


PARTS: dict[str, Part] = {
    "fixed": Part(
        fixed,
        [
            Target(f"{measure} of a later fit, {name}", f"{library} {measure}", at_most=limit)
            for library, name in (("xgb", "XGBEstimator"), ("torch", "TorchEstimator"))
            for measure, limit in (("seconds", 1.0), ("cpu", 1.5))
        ]
        + [Target("first predict of a session, torch, against the second", "first predict", "second predict", at_most_more=1.5)],
    ),
    "first": Part(
        first,
        [
            Target(f"first fit of a session against its longest part, {library}", f"first fit {library}",
                   f"first fit {library}, longest part", at_most_more=1.5)
            for library in ("xgb", "torch")
        ]
        + [Target("first predict right after the first fit, against the second, torch", "first predict at once, torch",
                  "second predict at once, torch", at_most_more=1.5)],
    ),
    "ray_train": Part(
        ray_train,
        [
            Target(f"two workers through an estimator against a plain trainer, {library}", f"two workers {library}, ours",
                   f"two workers {library}, plain", at_most_times=1.1)
            for library in ("xgb", "torch")
        ],
    ),
    "search": Part(
        search,
        [Target("GridSearch beside a session that holds all CPUs, against none", "grid with session", "grid without session",
                at_most_times=1.1)],
    ),
    "lending": Part(
        lending,
        [Target("95 % interval of the ratio lending / keeping: distance from 1", "lending ratio, distance of its interval from 1",
                at_most=0.0)],
    ),
    "streamed": Part(
        streamed,
        [Target("an epoch from disk, data 5 times the object store, against memory", "epoch from disk", "epoch in memory",
                at_most_times=1.25)]
        + [
            Target(f"MB that the {side} grows by, two buffers of 64 MiB included", f"{side} grows by MB",
                   at_most=_GROWTH_MB + _BUFFERS_MB)
            for side in ("driver", "worker")
        ],
    ),
    "defaults": Part(
        defaults,
        [Target("XGBEstimator() on a Spark frame against XGBClassifier() on the matrix", "all defaults, ours",
                "all defaults, plain", at_most_times=1.2)],
    ),
}  # fmt: skip
