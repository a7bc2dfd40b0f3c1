"""Successive halving: which candidates go on to more of their epochs or rounds, and which fits are made next.

The steps of candidates are *rungs*, and the last one is that of all their epochs or rounds. Of those that come to a rung the best
quarter goes on to the next, and one at least. Who that is depends on scores alone and not on the order in which fits end: a
candidate goes on, or is out, as soon as the fits that are still missing cannot change that. Processes do not stand still
meanwhile: where nothing certain is left to do, they begin with the candidates that lead so far, fold by fold.

Nothing here knows of Ray.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raydp_ml.search.budget import FACTOR, STEPS

__all__ = ["Rungs", "Share"]


@dataclass(frozen=True)
class Share:
    """The part of a candidate's fits that one trial makes: some folds at one step."""

    candidate: int
    step: int
    folds: tuple[int, ...]


@dataclass
class _Entrant:
    """A candidate that has begun; its first step is at ``first``, and it is sure to have a place at the rung ``rung``."""

    number: int
    first: int
    rung: int
    scores: dict[tuple[int, int], float | None] = field(default_factory=dict)
    given: set[tuple[int, int]] = field(default_factory=set)
    seconds: float = 0.0
    out: bool = False

    def complete(self, rung: int, n_splits: int) -> bool:
        return all((rung, fold) in self.scores for fold in range(n_splits))

    def mean(self, rung: int, n_splits: int) -> float | None:
        """The mean score of a rung; None when a fold has none."""
        scores = [self.scores[rung, fold] for fold in range(n_splits)]
        return None if None in scores else sum(score or 0.0 for score in scores) / n_splits


class Rungs:
    """Decides for a number of candidates.

    Parameters
    ----------
    coming : int
        How many candidates there will be.
    n_splits : int
        How many folds.

    Examples
    --------
    >>> rungs = Rungs(coming=1, n_splits=2)
    >>> rungs.enter(0, steps=2)
    >>> rungs.next_share()
    Share(candidate=0, step=0, folds=(0, 1))
    """

    def __init__(self, coming: int, n_splits: int) -> None:
        self.coming = coming
        self._n_splits = n_splits
        self._entrants: dict[int, _Entrant] = {}
        self._leading: list[list[_Entrant]] = [[] for _ in range(STEPS)]
        self._decided: list[int] = []

    def enter(self, candidate: int, steps: int) -> None:
        """One of the candidates begins.

        Parameters
        ----------
        candidate : int
            Its number.
        steps : int
            How many steps it has.
        """
        self.coming -= 1
        self._entrants[candidate] = _Entrant(candidate, STEPS - steps, STEPS - steps)

    def no_more(self) -> None:
        """No further candidate will begin."""
        self.coming = 0
        self._decide()

    def record(self, candidate: int, step: int, fold: int, score: float | None, seconds: float) -> None:
        """A fit was made.

        Parameters
        ----------
        candidate, step, fold : int
            Which.
        score : float or None
            None where it failed.
        seconds : float
            How long it took.
        """
        entrant = self._entrants[candidate]
        place = (entrant.first + step, fold)
        entrant.given.add(place)
        if place not in entrant.scores:
            entrant.scores[place] = score
            entrant.seconds = max(entrant.seconds, seconds)
            self._decide()

    def fail(self, candidate: int) -> None:
        """A candidate cannot be fitted."""
        entrant = self._entrants[candidate]
        entrant.scores.update({(entrant.rung, fold): None for fold in range(self._n_splits)})
        self._decide()

    def mean(self, candidate: int, step: int) -> float | None:
        """The mean score of a candidate's step; None before it is complete, or when a fold has none."""
        entrant = self._entrants[candidate]
        rung = entrant.first + step
        return entrant.mean(rung, self._n_splits) if entrant.complete(rung, self._n_splits) else None

    def decided(self, candidate: int) -> bool:
        """Whether a candidate is through or out."""
        return self._entrants[candidate].out

    def reached(self, candidate: int) -> int:
        """The last step that a candidate is sure to have come to; fits of later ones were begun in vain when it is out."""
        entrant = self._entrants[candidate]
        return entrant.rung - entrant.first

    def take_decided(self) -> list[int]:
        """The candidates that are through or out since the last call."""
        decided, self._decided = self._decided, []
        return decided

    @property
    def over(self) -> bool:
        """Whether all is decided."""
        return not self.coming and all(entrant.out for entrant in self._entrants.values())

    def first_share(self) -> Share | None:
        """What to fit next at the first rung; None: another candidate may begin."""
        return self._certain(range(1))

    def next_share(self) -> Share | None:
        """What to fit next of the candidates that have begun; None when nothing can be done before fits end."""
        return self._certain(range(STEPS)) or self._speculative()

    # ---- what is next ----------------------------------------------------------------------------------------------

    def _certain(self, rungs: range) -> Share | None:
        for rung in rungs:
            # Those that take long first, so that the last fits of a rung are short.
            for entrant in sorted(self._entrants.values(), key=lambda each: -each.seconds):
                if not entrant.out and entrant.rung == rung and (share := self._share(entrant, rung)):
                    return share
        return None

    def _speculative(self) -> Share | None:
        for rung in reversed(range(STEPS - 1)):
            for entrant in self._leading[rung]:
                if not entrant.out and entrant.rung == rung and (share := self._share(entrant, rung + 1)):
                    return share
        return None

    def _share(self, entrant: _Entrant, rung: int) -> Share | None:
        folds = tuple(fold for fold in range(self._n_splits) if (rung, fold) not in entrant.given)
        if not folds:
            return None
        if rung > entrant.first:
            # Few candidates come so far: a trial for each fold, so that no process waits for another's folds.
            folds = folds[:1]
        entrant.given.update((rung, fold) for fold in folds)
        return Share(entrant.number, rung - entrant.first, folds)

    # ---- who goes on -----------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        entrants = list(self._entrants.values())
        promoted = self.coming  # those that have not begun may begin at the first rung
        for rung in range(STEPS - 1):
            total = promoted + sum(entrant.first == rung for entrant in entrants)
            quota = max(1, total // FACTOR)
            there = [each for each in entrants if each.rung >= rung >= each.first]
            ended = [each for each in there if each.complete(rung, self._n_splits)]
            missing = total - len(ended)
            scored = [(score, each) for each in ended if (score := each.mean(rung, self._n_splits)) is not None]
            scored.sort(key=lambda pair: (-pair[0], pair[1].number))
            for each in ended:
                if each.rung == rung and each.mean(rung, self._n_splits) is None:
                    self._end(each)
            for rank, (_, each) in enumerate(scored, 1):
                if each.out or each.rung > rung:
                    continue
                if rank + missing <= quota:
                    each.rung += 1
                elif rank > quota:
                    self._end(each)
            self._leading[rung] = [each for _, each in scored[:quota]]
            gone_on = sum(each.rung > rung for each in there)
            promoted = max(quota, gone_on) if missing else gone_on
        for each in entrants:
            if each.rung == STEPS - 1 and each.complete(each.rung, self._n_splits):
                self._end(each)

    def _end(self, entrant: _Entrant) -> None:
        if not entrant.out:
            entrant.out = True
            self._decided.append(entrant.number)
