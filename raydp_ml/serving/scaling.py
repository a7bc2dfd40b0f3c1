"""Stages that scale vectors: the standard, min-max, max-abs and robust scalers, the normaliser, products and IDF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.serving.columns import LocalFrame, SparseVectors, Vectors
from raydp_ml.serving.stage import ColumnStage

__all__ = ["Normalize", "Scale"]


@dataclass(frozen=True)
class Scale(ColumnStage):
    """``(vector - shift) * factor + offset``, element by element. Without shift and offset, sparse vectors stay sparse.

    Attributes
    ----------
    input_column, output_column : str
        Columns of vectors.
    factor, shift, offset : numpy.ndarray or None
        One number for each element; None leaves that part out.
    """

    factor: np.ndarray | None = None
    shift: np.ndarray | None = None
    offset: np.ndarray | None = None

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors: Vectors = frame.vectors(self.input_column)
        for part in (self.factor, self.shift, self.offset):
            if part is not None and vectors.rows and len(part) != vectors.size:
                raise InvalidValueError(
                    f"column {self.input_column!r} has vectors of length {vectors.size}, the stage was fitted on {len(part)}"
                )
        if self.shift is not None:
            dense = vectors.dense()
            vectors = replace(dense, matrix=dense.matrix - self.shift)
        if self.factor is not None:
            vectors = vectors.scaled(self.factor)
        if self.offset is not None:
            dense = vectors.dense()
            vectors = replace(dense, matrix=dense.matrix + self.offset)
        return frame.with_columns({self.output_column: vectors})


@dataclass(frozen=True)
class Normalize(ColumnStage):
    """Each vector divided by its p-norm; a vector of zeros stays."""

    p: float

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column)
        if isinstance(vectors, SparseVectors):
            row = vectors.row_of_each()
            norm = self._norms(vectors.rows, row, np.abs(vectors.values))
            result: Vectors = replace(vectors, values=vectors.values / norm[row])
        else:
            row = np.repeat(np.arange(vectors.rows), vectors.size)
            norm = self._norms(vectors.rows, row, np.abs(vectors.matrix).ravel())
            result = replace(vectors, matrix=vectors.matrix / norm[:, None])
        return frame.with_columns({self.output_column: result})

    def _norms(self, rows: int, row: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        if np.isinf(self.p):
            norm: np.ndarray = np.zeros(rows)
            np.maximum.at(norm, row, sizes)
        else:
            norm = np.bincount(row, weights=sizes**self.p, minlength=rows) ** (1 / self.p)
        return np.where(norm == 0, 1.0, norm)
