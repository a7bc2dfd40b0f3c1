"""Runs candidates in alternation and says how they compare.

A candidate is a program with an environment of its own. It reads one JSON line per request, ``{"run": name}``, from its
standard input, and answers with one line ``ANSWER {...}`` of numbers. The harness asks the candidates in turn, round after round,
so that whatever else the machine does hits all of them; it compares medians and gives the spread (smallest and largest).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER_VENV = ROOT / ".venv-raydp"
# RayDP 1.6.5 runs with this Spark and pandas; on Java 17 Spark 3.5 and its Ray Java worker need the packages opened.
PEER_PACKAGES = [
    "raydp==1.6.5",
    "ray[data]==2.60.0",
    "pyspark==3.5.7",
    "pandas==2.3.*",
    "numpy<2",
    "pyarrow<21",
    "setuptools<81",
]


def peer_python() -> str:
    """The Python of RayDP's environment, which is made when it is not there."""
    python = PEER_VENV / "bin" / "python"
    if not (PEER_VENV / ".ready").exists():
        print("making RayDP's environment in .venv-raydp", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
        (PEER_VENV / ".ready").touch()
    return str(python)


class Candidate:
    """A running program that answers requests."""

    def __init__(self, name: str, python: str, script: str, arguments: list[str]) -> None:
        self.name = name
        self._log = open(ROOT / "out" / f"bench-{name}.log", "w")  # noqa: SIM115 - closed with the candidate
        self._process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / "candidates" / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # Ray's workers import from the working directory too, and the package raydp here is not the peer's.
            cwd=ROOT / "out",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def ask(self, **request: Any) -> dict[str, float]:
        """Send a request and wait for its answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError(f"{self.name} has no pipes")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
            self._log.write(line)
        raise RuntimeError(f"{self.name} ended with {self._process.wait()}; see {self._log.name}")

    def close(self) -> None:
        """End it by closing its input."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


@dataclass
class Series:
    """Measurements of one candidate for one measure."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:8.2f} ({min(self.values):.2f} to {max(self.values):.2f})"


@dataclass(frozen=True)
class Target:
    """What a benchmark must reach: ``measured`` against ``against``, as a ratio or a difference of medians."""

    text: str
    measured: str
    against: str
    at_least_times: float | None = None
    at_most_times: float | None = None
    at_most_more: float | None = None

    def judge(self, series: dict[str, Series]) -> tuple[str, bool]:
        """The figure, and whether it is reached."""
        ours, theirs = series[self.measured].median, series[self.against].median
        if self.at_least_times is not None:
            return f"{theirs / ours:.2f} times faster", theirs / ours >= self.at_least_times
        if self.at_most_times is not None:
            return f"{ours / theirs:.2f} times", ours / theirs <= self.at_most_times
        if self.at_most_more is None:
            raise ValueError(f"the target {self.text!r} has no bound")
        return f"{ours - theirs:+.2f}", ours - theirs <= self.at_most_more


def report(name: str, series: dict[str, Series], targets: list[Target]) -> bool:
    """Print the table, write it to out/bench-NAME.json, and say whether all targets are reached."""
    print(f"\n{'measure':<44}median (smallest to largest)")
    for measure, values in sorted(series.items()):
        print(f"{measure:<44}{values}")
    print(f"\n{'target':<64}{'measured':>20}")
    reached = True
    judged = []
    for target in targets:
        figure, good = target.judge(series)
        reached = reached and good
        judged.append({"target": target.text, "measured": figure, "reached": good})
        print(f"{target.text:<64}{figure:>20}  {'pass' if good else 'FAIL'}")
    path = ROOT / "out" / f"bench-{name}.json"
    told = {
        "when": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "series": {measure: values.values for measure, values in series.items()},
        "targets": judged,
    }
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"\nwritten to {path.relative_to(ROOT)}")
    return reached
