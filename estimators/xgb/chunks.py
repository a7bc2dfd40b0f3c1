"""Rows on a worker's disk as matrices of xgboost, a buffer of them at a time. Imports xgboost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import StreamedRows, buffers

__all__ = ["Chunks", "matrix_of_chunks"]


class Chunks(xgboost.DataIter):
    """Gives xgboost the rows as often as it asks for them.

    Parameters
    ----------
    rows : StreamedRows
        The rows.
    about : callable
        Labels, weights and margins of rows, by xgboost's names.
    cache : pathlib.Path, optional
        What the names of xgboost's files begin with, where it is to keep its matrix on disk.
    """

    def __init__(
        self, rows: StreamedRows, about: Callable[[Rows], Mapping[str, Any]], cache: Path | None = None
    ) -> None:
        super().__init__(cache_prefix=None if cache is None else str(cache))
        self._rows, self._about = rows, about
        self._coming: Iterator[tuple[Rows, Any]] = iter(())
        self.reset()

    def next(self, input_data: Callable[..., None]) -> bool:
        """Give the next rows, unless there are no more."""
        part = next(self._coming, None)
        if part is None:
            return False
        input_data(data=part[0].X, **self._about(part[0]))
        return True

    def reset(self) -> None:
        """Begin anew."""
        self._coming = buffers(self._rows)


def matrix_of_chunks(
    chunks: Chunks,
    *,
    whole: bool,
    on_disk: bool,
    like: Any,
    feature_weights: np.ndarray | None,
    max_bin: int | None,
    threads: int | None,
) -> Any:
    """The rows as xgboost keeps them: one byte or two for each number, in memory or on disk, or the values themselves, on disk.

    Parameters
    ----------
    chunks : Chunks
        The rows, with a cache where ``on_disk`` is true.
    whole : bool
        Whether to keep the values; otherwise the bins that they fall into.
    on_disk : bool
        Where they lie.
    like : QuantileDMatrix, optional
        What to take the bounds of the bins from.
    feature_weights : numpy.ndarray, optional
        How often each feature is drawn.
    max_bin : int, optional
        How many bins a feature has.
    threads : int, optional
        How many threads make the matrix.
    """
    if whole:
        matrix = xgboost.DMatrix(chunks, nthread=threads)
    else:
        kind = xgboost.ExtMemQuantileDMatrix if on_disk else xgboost.QuantileDMatrix
        matrix = kind(chunks, max_bin=max_bin, nthread=threads, ref=like)
    if feature_weights is not None:
        matrix.set_info(feature_weights=feature_weights)
    return matrix
