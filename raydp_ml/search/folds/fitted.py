"""Steps that Spark fitted on the training rows of a fold: prefixes that begin alike share them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from raydp_ml.pipeline.steps import NamedStep, feature_step, fit_steps

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["FittedSteps", "same"]


class FittedSteps:
    """The steps of all prefixes that were fitted on the same rows."""

    def __init__(self) -> None:
        self._chains: list[tuple[list[NamedStep], list[NamedStep]]] = []
        # Two prefixes are made at the same time, and the second one waits for what the first one fits.
        self._lock = threading.Lock()

    def learning(self, steps: Sequence[NamedStep]) -> int:
        """How many of these steps have to learn from the rows yet."""
        known = len(self._known(steps))
        return sum(feature_step(name, value).learns for name, value in steps[known:])

    def fit(self, steps: Sequence[NamedStep], rows: DataFrame) -> tuple[list[NamedStep], DataFrame, str | None]:
        """Fit steps, except the first ones where those were fitted in another prefix.

        Parameters
        ----------
        steps : sequence of (name, step)
            Steps of a prefix.
        rows : pyspark.sql.DataFrame
            The training rows.

        Returns
        -------
        fitted, frame, vector_column
            As of :func:`~raydp_ml.pipeline.steps.fit_steps`.
        """
        with self._lock:
            fitted, after, vector = fit_steps(steps, rows, self._known(steps))
            self._chains.append((list(steps), fitted))
        return fitted, after, vector

    def _known(self, steps: Sequence[NamedStep]) -> list[NamedStep]:
        known: list[NamedStep] = []
        for chain, fitted in list(self._chains):
            pairs = zip(chain, steps, strict=False)
            alike = sum(
                1 for _ in takewhile(lambda pair: pair[0][0] == pair[1][0] and same(pair[0][1], pair[1][1]), pairs)
            )
            if alike > len(known):
                known = fitted[:alike]
        return known


def same(left: Any, right: Any) -> bool:
    """Whether two steps, or values of their parameters, are the same.

    Examples
    --------
    >>> same([1], [1]), same(1, 1.0)
    (True, False)
    """
    if left is right:
        return True
    try:
        return type(left) is type(right) and bool(left == right)
    except ValueError:  # arrays have no single answer
        return False
