"""``scheduler="asha"``: successive halving as Ray Tune runs it, one trial for each share of a candidate's fits.

Tune's own ASHAScheduler stops running trials: the first ones go through to the end whatever they are worth, and at the end a few
candidates run on many processes. Here trials end by themselves, and what the next one makes is decided when a process is free, so
that every process has work until the last fits. What decides is a searcher to Tune, and the limit on concurrent trials counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from raydp_ml.search.budget import Budget
from raydp_ml.search.run import SearchRun
from raydp_ml.search.rungs import Rungs
from raydp_ml.search.trainable import METRIC, with_share
from raydp_ml.search.trial import Outcome

__all__ = ["Halving", "InOrder"]


class InOrder(Searcher):
    """Gives candidates that are known before the search starts.

    Parameters
    ----------
    order : list of int
        Their numbers.
    """

    def __init__(self, order: list[int]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._order = list(order)

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a new trial."""
        return {"candidate": self._order.pop(0)} if self._order else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A candidate is through, which changes nothing."""


class Halving(Searcher):
    """Gives trials their shares, hears what they made, and says which candidates are through.

    Parameters
    ----------
    inner : Searcher
        Where candidates come from.
    run : SearchRun
        Is told of fits and of the ends of candidates; fits that it has already are not made again.
    budget : callable
        Gives the steps of a candidate by its number.
    count, n_splits : int
        How many candidates and folds there are.
    metric : str
        The score that decides.
    """

    def __init__(
        self, inner: Searcher, run: SearchRun, budget: Callable[[int], Budget], count: int, n_splits: int, metric: str
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._inner, self._run, self._budget, self._metric = inner, run, budget, metric
        self._rungs = Rungs(count, n_splits)
        self._configs: dict[int, dict[str, Any]] = {}
        self._budgets: dict[int, Budget] = {}
        self._first_trials: dict[int, str] = {}  # by which the inner one knows candidates
        self._told: set[tuple[int, int]] = set()

    # ---- as a searcher ---------------------------------------------------------------------------------------------

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """It has the score already, and needs no space."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a new trial; None: there is nothing to do before a fit ends."""
        share = self._rungs.first_share()
        while share is None and self._rungs.coming and self._begin(trial_id):
            share = self._rungs.first_share()
        share = share or self._rungs.next_share()
        if share is not None:
            return with_share(self._configs[share.candidate], share)
        return Searcher.FINISHED if self._rungs.over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A share was made, which the search tells by itself."""

    def save(self, checkpoint_path: str) -> None:
        """Write nothing down: a search goes on behind the fits of its journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""

    def _begin(self, trial_id: str) -> bool:
        """Let one more candidate begin; False when there is none now."""
        config = self._inner.suggest(trial_id)
        if config == Searcher.FINISHED:
            self._rungs.no_more()
            self._tell_decided()
            return False
        if config is None:
            return False
        number = config["candidate"]
        self._configs[number], self._first_trials[number] = config, trial_id
        self._budgets[number] = self._budget(number)
        self._rungs.enter(number, len(self._budgets[number]))
        if number in self._run.outcomes:
            self._record(number, self._run.outcomes[number])
        return True

    # ---- as an observer of trials ----------------------------------------------------------------------------------

    def started(self, candidate: int) -> None:
        """A trial of a candidate has a process."""
        self._run.started(candidate)

    def advanced(self, candidate: int, outcome: Outcome) -> None:
        """A candidate has one more fit."""
        if not self._rungs.decided(candidate):  # else it was begun in vain
            self._run.advanced(candidate, outcome)
            self._record(candidate, outcome)

    def ended(self, candidate: int, problem: str | None) -> None:
        """A trial is through, or died for good and its candidate with it."""
        if problem is not None and not self._rungs.decided(candidate):
            self._run.ended(candidate, problem)
            self._rungs.fail(candidate)
            self._tell_decided()

    def _record(self, candidate: int, outcome: Outcome) -> None:
        for result in outcome.results:
            score = None if result.scores is None else result.scores.get(self._metric)
            if score is not None and score != score:  # NaN
                score = None
            self._rungs.record(candidate, result.step, result.fold, score, result.fit_time + result.score_time)
            mean = self._rungs.mean(candidate, result.step)
            if mean is not None and (candidate, result.step) not in self._told:
                self._told.add((candidate, result.step))
                self._inner.on_trial_result(self._first_trials[candidate], self._result(candidate, result.step, mean))
        self._tell_decided()

    def _tell_decided(self) -> None:
        for candidate in self._rungs.take_decided():
            reached = self._rungs.reached(candidate)
            # What was begun before its place was sure would be there or not as processes were quick.
            self._run.forget(candidate, after=reached)
            steps = range(reached + 1)
            means = [(step, mean) for step in steps if (mean := self._rungs.mean(candidate, step)) is not None]
            result = self._result(candidate, *means[-1]) if means else None
            self._inner.on_trial_complete(self._first_trials[candidate], result, error=result is None)
            if candidate not in self._run.outcomes or self._run.outcomes[candidate].problem is None:
                self._run.ended(candidate, None)

    def _result(self, candidate: int, step: int, mean: float) -> dict[str, Any]:
        return {METRIC: mean, "training_iteration": self._budgets[candidate].amount(step)}
