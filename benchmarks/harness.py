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
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
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


def peer_python(*, trains: bool = False) -> str:
    """The Python of RayDP's environment, which is made when it is not there.

    Parameters
    ----------
    trains : bool, default=False
        Whether what its TorchEstimator needs is to be there too, in the versions of this environment.
    """
    python = PEER_VENV / "bin" / "python"
    if not (PEER_VENV / ".ready").exists():
        print("making RayDP's environment in .venv-raydp", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
        (PEER_VENV / ".ready").touch()
    if trains and not (PEER_VENV / ".trains").exists():
        print("adding torch to RayDP's environment", flush=True)
        # Without what follows a plus sign: pip takes the build for CPUs where it is at hand.
        libraries = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchmetrics")]
        packages = [*PEER_PACKAGES, "ray[train]", *libraries]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        (PEER_VENV / ".trains").touch()
    return str(python)


class Failed(Exception):
    """What a candidate could not do; the text says why."""


class Died(Failed):
    """The candidate has ended, or was ended because it did not answer."""


class Candidate:
    """A running program that answers requests."""

    def __init__(self, name: str, python: str, script: str, arguments: list[str]) -> None:
        self.name = name
        self._log = open(ROOT / "out" / f"bench-{name}.log", "a")  # noqa: SIM115 - closed with the candidate
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # the package raydp of this repository would hide the peer's
        self._process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / "candidates" / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # Ray's workers import from the working directory too, and the package raydp here is not the peer's.
            cwd=ROOT / "out",
            env=environment,
        )

    def ask(self, limit: float = 300, **request: Any) -> dict[str, float]:
        """Send a request and wait for its answer, ``limit`` seconds at most."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError(f"{self.name} has no pipes")
        timer = threading.Timer(limit, self._process.kill)
        timer.start()
        began = time.monotonic()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("ANSWER "):
                    return self._checked(json.loads(line.removeprefix("ANSWER ")))
                self._log.write(line)
        except BrokenPipeError:
            pass
        finally:
            timer.cancel()
        code = self._process.wait()
        late = time.monotonic() - began >= limit
        raise Died(f"no answer in {limit:.0f} s" if late else f"it ended with {code}")

    @staticmethod
    def _checked(answer: dict[str, Any] | None) -> dict[str, float]:
        if answer is not None and "fails" in answer:
            raise Failed(answer["fails"])
        return answer or {}

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
    """What a benchmark must reach: ``measured`` against ``against``, as a ratio or a difference of medians, or by itself."""

    text: str
    measured: str
    against: str | None = None
    at_least_times: float | None = None
    at_most_times: float | None = None
    at_most_more: float | None = None
    at_most: float | None = None

    def judge(self, series: dict[str, Series]) -> tuple[str, bool]:
        """The figure, and whether it is reached."""
        if any(name is not None and name not in series for name in (self.measured, self.against)):
            return "not measured", False
        ours = series[self.measured].median
        if self.at_most is not None:
            return f"{ours:.2f}", ours <= self.at_most
        if self.against is None:
            raise ValueError(f"the target {self.text!r} has nothing to compare with")
        theirs = series[self.against].median
        if self.at_least_times is not None:
            return f"{theirs / ours:.2f} times faster", theirs / ours >= self.at_least_times
        if self.at_most_times is not None:
            return f"{ours / theirs:.2f} times", ours / theirs <= self.at_most_times
        if self.at_most_more is None:
            raise ValueError(f"the target {self.text!r} has no bound")
        return f"{ours - theirs:+.2f}", ours - theirs <= self.at_most_more


def judge_all(series: dict[str, Series], targets: list[Target]) -> tuple[list[dict[str, Any]], bool]:
    """Print for each target what was measured, and say whether all are reached."""
    print(f"\n{'target':<72}{'measured':>20}")
    judged = []
    for target in targets:
        figure, reached = target.judge(series)
        judged.append({"target": target.text, "measured": figure, "reached": reached})
        print(f"{target.text:<72}{figure:>20}  {'pass' if reached else 'FAIL'}")
    return judged, all(told["reached"] for told in judged)


def free_memory() -> int:
    """Bytes of memory that this machine can give to what starts now."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with open("/proc/meminfo") as lines:
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), free)


def circumstances() -> dict[str, Any]:
    """When and on what it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "when": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "versions": {name: version(name) for name in ("pyspark", "ray")},
        "peer": PEER_PACKAGES[:3],
    }


def values_of(series: dict[str, Series]) -> dict[str, list[float]]:
    """All measurements, for a file; four digits are more than they are worth."""
    return {name: [float(f"{value:.4g}") for value in one.values] for name, one in series.items()}


def report(name: str, series: dict[str, Series], targets: list[Target]) -> bool:
    """Print the table, write it to out/bench-NAME.json, and say whether all targets are reached."""
    print(f"\n{'measure':<44}median (smallest to largest)")
    for measure, values in sorted(series.items()):
        print(f"{measure:<44}{values}")
    judged, reached = judge_all(series, targets)
    path = ROOT / "out" / f"bench-{name}.json"
    told = {**circumstances(), "series": values_of(series), "targets": judged}
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"\nwritten to {path.relative_to(ROOT)}")
    return reached
