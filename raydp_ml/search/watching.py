"""What the driver sees of running trials: a callback of Ray Tune, and the rule that ends a search."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.stopper import NoopStopper

from raydp_ml.search.trial import Outcome

__all__ = ["EndOfSearch", "Observer", "Watch"]


class Observer(Protocol):
    """Is told what trials do, in the thread that called ``fit``."""

    def started(self, candidate: int) -> None:
        """The trial of a candidate has a process."""

    def advanced(self, candidate: int, outcome: Outcome) -> None:
        """A candidate has one more fit."""

    def ended(self, candidate: int, problem: str | None) -> None:
        """A trial is through, or died for good: ``problem`` then says how."""


class Watch(tune.Callback):
    """Tells an observer, and knows the trials that run."""

    def __init__(self, observer: Observer, end: EndOfSearch) -> None:
        self._observer, self._end = observer, end
        self.trials: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        # Tune writes its configuration down to go on from; what watches lives in this process only.
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a process."""
        self._end.start_clock()
        self.trials[trial.trial_id] = trial
        self._observer.started(trial.config["candidate"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial made a fit."""
        self._observer.advanced(trial.config["candidate"], Outcome.from_dict(result["outcome"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended, by itself or because it was stopped."""
        self.trials.pop(trial.trial_id, None)
        self._observer.ended(trial.config["candidate"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial died, and is not tried again."""
        self.trials.pop(trial.trial_id, None)
        self._observer.ended(trial.config["candidate"], f"the trial's process failed: {_error_of(trial)}")


def _error_of(trial: Any) -> str:
    """What Ray says of a trial that failed; the file lies here, whatever the storage is."""
    path = trial.error_file
    return Path(path).read_text(encoding="utf-8") if path and Path(path).exists() else "it died"


class EndOfSearch(tune.Stopper):
    """Ends all trials after an exception that is to be raised, or when time is up.

    Parameters
    ----------
    failed : callable
        Whether there is such an exception.
    seconds : float or None
        For how long trials may run; their time begins with the first of them, not with the start of its process.
    """

    def __init__(self, failed: Callable[[], bool], seconds: float | None) -> None:
        self._failed, self._seconds = failed, seconds
        self._deadline: float | None = None

    def start_clock(self) -> None:
        """A trial runs; only the first one counts."""
        if self._seconds is not None and self._deadline is None:
            self._deadline = time.monotonic() + self._seconds

    def __deepcopy__(self, memo: Any) -> EndOfSearch:
        return self  # Tune copies its specification; what ends the search is one

    def __reduce__(self) -> Any:
        return NoopStopper, ()  # Tune writes its configuration down, and the end of this search is no part of it

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._failed() or (self._deadline is not None and time.monotonic() >= self._deadline)
