"""Rows as matrices of xgboost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import StreamedRows
from raydp_ml.estimators.xgb.kept import kept_matrices
from raydp_ml.estimators.xgb.weights import weights_of_queries

__all__ = ["Matrices", "by_columns", "needs_values"]


def needs_values(params: Mapping[str, Any]) -> bool:
    """Whether the method reads the values themselves, not the bins that they fall into.

    Examples
    --------
    >>> needs_values({"tree_method": "exact"}), needs_values({})
    (True, False)
    """
    return params.get("booster") == "gblinear" or params.get("tree_method") in ("exact", "approx")


# With fewer numbers or more columns than these, the columns of a frame take longer than they save.
_LEAST_NUMBERS, _MOST_COLUMNS = 1 << 20, 1 << 10


def by_columns(X: Any) -> Any:
    """The rows in the form of which xgboost makes bins fastest: many rows as a frame, whose columns are views of the matrix.

    Of columns it takes three quarters of the time that it takes of a matrix (xgboost 3.2), and finds the same bounds.

    Examples
    --------
    >>> rows = np.zeros((1 << 20, 2), np.float32)
    >>> bool(np.shares_memory(by_columns(rows)[1], rows)), by_columns(rows[:9]).shape
    (True, (9, 2))
    """
    if not isinstance(X, np.ndarray) or X.size < _LEAST_NUMBERS or X.shape[1] > _MOST_COLUMNS:
        return X
    import pandas as pd

    return pd.DataFrame(X, copy=False)


@dataclass(frozen=True)
class Matrices:
    """How the rows of a fit become matrices.

    Parameters
    ----------
    params : mapping
        Of xgboost.
    whole : bool
        Whether to keep the values of the features; otherwise they are quantised at once.
    bounds : bool
        Whether the labels are the two bounds of ``survival:aft``.
    feature_weights : numpy.ndarray, optional
        How often each feature is drawn.
    cache : pathlib.Path, optional
        A folder for matrices that xgboost keeps on disk.
    feature_types : list of str, optional
        Which columns hold codes of categories, as xgboost writes it.
    """

    params: Mapping[str, Any]
    whole: bool = False
    bounds: bool = False
    feature_weights: np.ndarray | None = None
    cache: Path | None = None
    feature_types: list[str] | None = None

    def of(self, rows: Rows, like: Any = None) -> Any:
        """A matrix of rows; one to validate on has the bins of the training rows, ``like``."""
        if isinstance(rows, StreamedRows):
            return self._of_chunks(rows, like)
        import xgboost

        weight, X, y, qid, margin = rows.weight, rows.X, rows.y, rows.qid, rows.base_margin
        if qid is not None:
            # xgboost wants numbers, and looks only for which of them are equal.
            numbers = np.unique(qid, return_inverse=True)[1]
            order = np.argsort(numbers, kind="stable")
            weight = None if weight is None else weights_of_queries(weight[order], qid[order])
            X, y, qid = X[order], y[order], numbers[order]
            margin = None if margin is None else margin[order]
        about = {**self._labels(y), "weight": weight, "base_margin": margin, "qid": qid}
        about["feature_types"] = self.feature_types
        if like is None:
            about["feature_weights"] = self.feature_weights
        threads = self.params.get("nthread")
        if self.whole:
            return xgboost.DMatrix(X, nthread=threads, **about)
        bins = self.params.get("max_bin")

        def quantised() -> Any:
            matrix = xgboost.QuantileDMatrix(by_columns(X), max_bin=bins, nthread=threads, ref=like, **about)
            matrix.feature_names, matrix.feature_types = None, self.feature_types  # a frame's are names of places
            return matrix

        kept = kept_matrices()
        # Rows to validate on have the bins of others, and sparse rows are no array.
        if kept is None or like is not None or not isinstance(X, np.ndarray):
            return quantised()
        settings = (bins, self.bounds, self.params.get("device"), self.feature_types)
        return kept.get([X, y, weight, margin, qid, self.feature_weights], settings, quantised)

    def _of_chunks(self, rows: StreamedRows, like: Any) -> Any:
        from raydp_ml.estimators.xgb.chunks import Chunks, matrix_of_chunks

        def about(part: Rows) -> dict[str, Any]:
            labels = self._labels(part.y)
            return {
                **labels,
                "weight": part.weight,
                "base_margin": part.base_margin,
                "feature_types": self.feature_types,
            }

        files = None if self.cache is None else self.cache / ("train" if like is None else "valid")
        return matrix_of_chunks(
            Chunks(rows, about, files),
            whole=self.whole,
            on_disk=files is not None,
            like=like,
            feature_weights=self.feature_weights if like is None else None,
            max_bin=self.params.get("max_bin"),
            threads=self.params.get("nthread"),
        )

    def _labels(self, y: np.ndarray) -> dict[str, Any]:
        if not self.bounds:
            return {"label": y}
        if y.ndim != 2 or y.shape[1] != 2:
            raise InvalidValueError(
                "objective='survival:aft' needs two labels for each row, the lower and the upper bound of its time: label_column="
                f"[lower, upper], or y of shape (rows, 2); got {1 if y.ndim == 1 else y.shape[1]}"
            )
        lower, upper = y.T
        wrong = int((~(lower <= upper) | (lower < 0)).sum())
        if wrong:
            raise InvalidValueError(
                f"{wrong} of {len(y)} rows have a lower bound below 0 or above the upper bound; a time that is not known to "
                "end has the upper bound infinity"
            )
        return {"label_lower_bound": lower, "label_upper_bound": upper}
