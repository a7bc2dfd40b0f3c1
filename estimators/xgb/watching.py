"""What is reported of each round: metrics of the validation rows always, and of the training rows as often as that costs little."""

from __future__ import annotations

from typing import Any

from raydp_ml.estimators.protocol import Reporter
from raydp_ml.estimators.reporter import is_milestone

__all__ = ["watching"]

# Evaluating so many rows, over all rounds, takes about a tenth of a second on two cores.
_CHEAP_ROWS = 10_000_000


def watching(reporter: Reporter, train: Any, rows: int, rounds: int) -> Any:
    """A callback of xgboost that tells the reporter the metrics of each round.

    Evaluating a million rows after each of a hundred rounds takes half as long as growing the trees, so many rows are
    evaluated ten times.

    Parameters
    ----------
    reporter : Reporter
        Is told.
    train : xgboost.DMatrix
        The training rows; where xgboost itself evaluates them in each round, they are not evaluated here.
    rows : int
        Rows that train, of all workers.
    rounds : int
        Boosting rounds.
    """
    from xgboost.callback import TrainingCallback

    class Watch(TrainingCallback):
        def __init__(self) -> None:
            self.round = 0

        def after_iteration(self, model: Any, epoch: int, evals_log: dict) -> bool:
            self.round += 1
            values = {
                f"{side}_{name}": float(log[-1]) for side, logs in evals_log.items() for name, log in logs.items()
            }
            due = rows * rounds <= _CHEAP_ROWS or is_milestone(self.round, rounds)
            if due and "train" not in evals_log:
                values = {**_metrics(model.eval_set([(train, "train")], epoch)), **values}
            reporter.report({"epoch": self.round, **values})
            return False

    return Watch()


def _metrics(told: str) -> dict[str, float]:
    """Names and values of ``Booster.eval_set``'s answer, which is a number in brackets and ``name-metric:value`` after tabs."""
    _, *parts = told.split("\t")
    pairs = [part.rsplit(":", 1) for part in parts]
    return {name.replace("-", "_", 1): float(value) for name, value in pairs}
