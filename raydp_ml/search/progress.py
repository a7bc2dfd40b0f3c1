"""Progress of a search on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from raydp_ml.search.results import metric_names
from raydp_ml.search.trial import Outcome

__all__ = ["Progress"]


class Progress:
    """Prints a line for each candidate that is through: how many are done and running, the best so far, and the time left.

    In a terminal the present state stands in a line of its own below, which is written over.

    Parameters
    ----------
    label : str
        What stands before each line.
    candidates : int
        How many there are.
    n_splits : int
        How many fits each makes; the time that is left is estimated from the fits.
    metric : str or None
        The score that the best is chosen by; None: the first.
    """

    def __init__(self, label: str, candidates: int, n_splits: int, metric: str | None) -> None:
        self._label, self._candidates, self._n_splits, self._metric = label, candidates, n_splits, metric
        self._start = time.monotonic()
        self._fits: dict[int, int] = {}
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._best: float | None = None
        self._live = sys.stdout.isatty()

    def started(self, candidate: int) -> None:
        """A candidate has a process."""
        self._running.add(candidate)
        self._show()

    def advanced(self, candidate: int, fits: int) -> None:
        """A candidate has this many fits."""
        self._fits[candidate] = fits
        self._show()

    def ended(self, candidate: int, params: Mapping[str, Any], outcome: Outcome) -> None:
        """A candidate is through."""
        self._running.discard(candidate)
        self._done.add(candidate)
        self._fits[candidate] = self._n_splits
        scores = []
        for metric in metric_names([outcome]):
            values = self._values(outcome, metric)
            if values:
                mean = sum(values) / len(values)
                spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
                scores.append(f"{metric} {mean:.4f} ± {spread:.4f}")
                if metric == (self._metric or metric_names([outcome])[0]):
                    self._best = mean if self._best is None else max(self._best, mean)
        seconds = sum(result.fit_time for result in outcome.results)
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        self._print(f"{self.state()}: {'  '.join(scores) or 'failed'}  {seconds:.1f} s  {shown}")

    def _values(self, outcome: Outcome, metric: str) -> list[float]:
        step = outcome.last_step(self._n_splits)
        found = [r.scores.get(metric) for r in outcome.of_step(step).values() if r.scores is not None]
        return [value for value in found if value is not None and value == value]

    def state(self) -> str:
        """How far the search is."""
        parts = [f"{len(self._done)}/{self._candidates} done"]
        if self._running:
            parts.append(f"{len(self._running)} running")
        if self._best is not None:
            parts.append(f"best {self._best:.4f}")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"about {left:.0f} s left")
        return f"[{self._label}] {', '.join(parts)}"

    def _seconds_left(self) -> float | None:
        fits, every = sum(min(n, self._n_splits) for n in self._fits.values()), self._candidates * self._n_splits
        if not fits or fits >= every:
            return None
        return (time.monotonic() - self._start) / fits * (every - fits)

    def close(self) -> None:
        """End the line that is written over."""
        if self._live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def _print(self, line: str) -> None:
        sys.stdout.write(f"\r\x1b[K{line}\n" if self._live else f"{line}\n")
        sys.stdout.flush()
        self._show()

    def _show(self) -> None:
        if self._live:
            sys.stdout.write(f"\r\x1b[K{self.state()}")
            sys.stdout.flush()
