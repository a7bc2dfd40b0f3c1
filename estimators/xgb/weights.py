"""Weights of rows where xgboost itself does not look at them, or wants others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Rows

__all__ = ["Weighing", "weights_of_queries"]


class Weighing:
    """An objective function whose gradients have the weights of the rows.

    xgboost leaves weights to a function. One that looks at them, by ``dtrain.get_weight()``, is used as it is; gradients and
    hessians of another are multiplied by them. The first round tells: the function is tried with other weights, too.

    Parameters
    ----------
    objective : callable
        Of raw predictions and the DMatrix, as xgboost takes it.
    rows : Rows
        The training rows of this worker.
    """

    def __init__(self, objective: Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]], rows: Rows) -> None:
        self._objective = objective
        self._weighs: bool | None = False if rows.weight is None else None

    def __call__(self, predicted: np.ndarray, matrix: Any) -> tuple[np.ndarray, np.ndarray]:
        """Gradients and hessians."""
        gradient, hessian = self._objective(predicted, matrix)
        if self._weighs is False:
            return gradient, hessian
        weight = matrix.get_weight()
        if self._weighs is None:
            self._weighs = self._ignores_weights(predicted, matrix, weight, gradient)
            if not self._weighs:
                return gradient, hessian
        by_row = weight.reshape(-1, *[1] * (np.ndim(gradient) - 1))
        return gradient * by_row, hessian * by_row

    def _ignores_weights(self, predicted: np.ndarray, matrix: Any, weight: np.ndarray, gradient: Any) -> bool:
        # Not a constant factor, which a function might divide out.
        matrix.set_weight(weight * np.linspace(1.0, 2.0, len(weight)) + 1.0)
        try:
            other, _ = self._objective(predicted, matrix)
        finally:
            matrix.set_weight(weight)
        return bool(np.array_equal(other, gradient))


def weights_of_queries(weight: np.ndarray, qid: np.ndarray) -> np.ndarray:
    """The weight of each query, from the weights of its rows.

    Parameters
    ----------
    weight, qid : numpy.ndarray
        Weights and queries of rows, in the order of the queries.

    Examples
    --------
    >>> weights_of_queries(np.array([2.0, 2.0, 1.0]), np.array([3, 3, 8])).tolist()
    [2.0, 1.0]
    """
    queries, starts, counts = np.unique(qid, return_index=True, return_counts=True)
    found = weight[starts]
    differing = np.repeat(found, counts) != weight
    if differing.any():
        query = queries[np.searchsorted(starts, np.flatnonzero(differing)[0], side="right") - 1]
        raise InvalidValueError(
            f"ranking weighs queries, not rows, but the rows of query {query} have different weights; give all rows of a query one"
        )
    return found
