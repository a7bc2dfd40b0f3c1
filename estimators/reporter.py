"""Where the metrics of each epoch go: into the history and onto the screen."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping

from raydp_ml.errors import RaydpMLError
from raydp_ml.estimators.directions import greater_is_better
from raydp_ml.progress import Pending

__all__ = ["MemoryReporter", "is_milestone"]

# A long training prints about this many lines, not one per boosting round.
_LINES = 10


class MemoryReporter:
    """Keeps the history and, when ``verbose``, prints a line now and then, and says that the first epoch is under way.

    Training runs in its ``with`` block, at whose end nothing is said any more.

    It serves in this process and on Ray Train workers alike: ``ray.train.report`` waits for the controller's next poll
    (two seconds by default), so workers bring their history back with the model instead.

    Parameters
    ----------
    label : str
        What stands before each line.
    verbose : bool
        Whether to print.
    total : int, optional
        Number of epochs that are planned; long runs print every n-th of them.

    Examples
    --------
    >>> with MemoryReporter("XGBEstimator", verbose=False) as reporter:
    ...     reporter.report({"epoch": 1, "train_loss": 0.5})
    >>> reporter.history[0]["train_loss"]
    0.5
    """

    def __init__(self, label: str, verbose: bool = True, total: int | None = None) -> None:
        self.history: list[dict[str, float]] = []
        self._label, self._verbose, self._total = label, verbose, total
        self._last = time.perf_counter()
        self._first = Pending(label, f"epoch 1 of {total}" if total else "epoch 1") if verbose else None

    def __enter__(self) -> MemoryReporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._first is not None:
            self._first.cancel()

    def report(self, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one epoch."""
        if self._first is not None:
            self._first.cancel()
        nan = [name for name, value in metrics.items() if name.startswith("train_") and math.isnan(value)]
        # Others, an AUC say, may have no value for some rows.
        if any(greater_is_better(name) is False for name in nan):
            what = "the loss" if nan[0] == "train_loss" else nan[0]
            raise RaydpMLError(
                f"training diverged: {what} is NaN in epoch {int(metrics['epoch'])}; take a smaller learning rate, scale the "
                "features, or look for labels that the loss cannot take"
            )
        now = time.perf_counter()
        entry = {**metrics, "seconds": now - self._last}
        self._last = now
        self.history.append(entry)
        if self._verbose and is_milestone(int(entry["epoch"]), self._total):
            of = f"/{self._total}" if self._total else ""
            values = "  ".join(
                f"{name} {value:.5g}" for name, value in entry.items() if name not in ("epoch", "seconds")
            )
            # Not print: Ray Train turns that into log records, which are switched off with its own.
            sys.stdout.write(f"[{self._label}] {int(entry['epoch'])}{of}  {values}\n")
            sys.stdout.flush()


def is_milestone(epoch: int, total: int | None) -> bool:
    """Whether an epoch, or a boosting round, is one of the ten or so of a training that are spoken of.

    Parameters
    ----------
    epoch : int
        Counts from 1.
    total : int or None
        How many are planned; None: all are spoken of.

    Examples
    --------
    >>> [epoch for epoch in range(1, 36) if is_milestone(epoch, 35)]
    [1, 4, 8, 12, 16, 20, 24, 28, 32, 35]
    """
    if not total or total <= _LINES:
        return True
    return epoch in (1, total) or epoch % -(-total // _LINES) == 0
