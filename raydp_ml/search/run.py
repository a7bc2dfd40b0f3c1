"""A search while it runs: its candidates, what their fits gave, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from raydp_ml.search.folds.fold import Folds
from raydp_ml.search.folds.splits import Splits
from raydp_ml.search.journal import Journal
from raydp_ml.search.progress import Progress
from raydp_ml.search.trial import Outcome

__all__ = ["SearchRows", "SearchRun", "nothing"]


def nothing(*subject: Any) -> None:
    """Does nothing, where nobody has to be told."""


def _no_steps(params: Mapping[str, Any]) -> int:
    return 0


@dataclass(frozen=True)
class SearchRows:
    """The rows of a search, divided.

    Parameters
    ----------
    folds : Folds
        Where trials get them.
    splits : Splits
        Which rows are in which fold.
    y : numpy.ndarray
        Labels, or codes of them.
    estimator : estimator
        What trials fit: behind a pipeline its last step.
    name : str or None
        The name of that step.
    prefix : callable
        Gives the number of the Spark steps of a candidate's parameters.
    expect : callable
        Told of each candidate and its prefix before it runs.
    finished : callable
        Told of each candidate that needs no folds any more.
    """

    folds: Folds
    splits: Splits
    y: Any
    estimator: Any
    name: str | None = None
    prefix: Callable[[Mapping[str, Any]], int] = _no_steps
    expect: Callable[[int, int], None] = nothing
    finished: Callable[[int], None] = nothing


@dataclass
class SearchRun:
    """Hears of trials, and keeps what they gave.

    Parameters
    ----------
    rows : SearchRows
        The rows.
    progress : Progress or None
        Shows how far it is.
    journal : Journal or None
        Where fits are written down.
    """

    rows: SearchRows
    progress: Progress | None = None
    journal: Journal | None = None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    prefixes: list[int] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    exception: BaseException | None = None

    def add(self, params: dict[str, Any]) -> tuple[int, int]:
        """Take one more candidate; its number and that of its Spark steps."""
        number, prefix = len(self.candidates), self.rows.prefix(params)
        self.candidates.append(params)
        self.prefixes.append(prefix)
        self.rows.expect(number, prefix)
        return number, prefix

    @property
    def failed(self) -> bool:
        """Whether an exception is to end the search."""
        return self.exception is not None

    def started(self, candidate: int) -> None:
        """The trial of a candidate has a process."""
        if self.progress is not None:
            self.progress.started(candidate)

    def advanced(self, candidate: int, outcome: Outcome) -> None:
        """A candidate has one more fit."""
        if outcome.exception is not None:
            self.exception = cloudpickle.loads(bytes.fromhex(outcome.exception))
            return
        before = self.outcomes.get(candidate, Outcome())
        # A trial that goes on behind stored fits, or whose process died, tells again of fits that are known.
        joined = before.joined(outcome)
        if len(joined.results) > len(before.results):
            self.outcomes[candidate] = joined
            if self.journal is not None:
                self.journal.keep(candidate, joined)
        if self.progress is not None:
            self.progress.advanced(candidate, len(joined.results))

    def forget(self, candidate: int, after: int) -> None:
        """Leave out what a candidate gave at later steps than this one, which is of no account."""
        outcome = self.outcomes.get(candidate)
        if outcome is not None:
            outcome.results = [result for result in outcome.results if result.step <= after]

    def ended(self, candidate: int, problem: str | None) -> None:
        """A trial is through, or died for good."""
        outcome = self.outcomes.setdefault(candidate, Outcome())
        outcome.problem = problem
        self.rows.finished(candidate)
        if self.progress is not None and not self.failed:
            self.progress.ended(candidate, self.candidates[candidate], outcome)

    def all_outcomes(self) -> list[Outcome]:
        """What each candidate gave, those included that had no turn."""
        stopped = Outcome(problem="the search was stopped before the candidate was tried")
        return [self.outcomes.get(number, stopped) for number in range(len(self.candidates))]
