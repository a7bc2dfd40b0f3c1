"""What is told of each round: metrics of the validation rows always, and of the training rows as often as that costs little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raydp_ml.estimators.reporter import is_milestone

__all__ = ["Watch"]

# Evaluating so many rows, over all rounds, takes about a tenth of a second on two cores.
_CHEAP_ROWS = 10_000_000


@dataclass(frozen=True)
class Watch:
    """The metrics that are told of a training.

    Evaluating a million rows after each of a hundred rounds takes half as long as growing the trees, so many rows are
    evaluated ten times. ``train`` is the matrix of the training rows, ``rows`` how many rows train on all workers.
    """

    train: Any
    rows: int
    rounds: int

    def metrics(self, model: Any, number: int, evals_log: dict) -> dict[str, float]:
        """The metrics of a round, which counts from 1.

        Parameters
        ----------
        model : xgboost.Booster
            After that round.
        number : int
            The round.
        evals_log : dict
            What xgboost has evaluated; training rows that are there are not evaluated again.
        """
        values = {f"{side}_{name}": float(log[-1]) for side, logs in evals_log.items() for name, log in logs.items()}
        due = self.rows * self.rounds <= _CHEAP_ROWS or is_milestone(number, self.rounds)
        if due and "train" not in evals_log:
            values = {**_metrics(model.eval_set([(self.train, "train")], number - 1)), **values}
        return values


def _metrics(told: str) -> dict[str, float]:
    """Names and values of ``Booster.eval_set``'s answer, which is a number in brackets and ``name-metric:value`` after tabs."""
    _, *parts = told.split("\t")
    pairs = [part.rsplit(":", 1) for part in parts]
    return {name.replace("-", "_", 1): float(value) for name, value in pairs}
