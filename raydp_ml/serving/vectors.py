"""Stages that make vectors of columns or of other vectors: assembler, slices, products of a matrix, interactions, polynomials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.serving.columns import DenseVectors, LocalFrame, SparseVectors, Vectors, sparse_from_entries
from raydp_ml.serving.stage import ColumnStage, JoiningStage, LocalStage, fail_where

__all__ = ["Assemble", "CheckSize", "CosineTransform", "Expand", "Interact", "MultiplyMatrix", "Slice"]

# Up to this length an assembled vector is dense even when a part of it is sparse: one matrix is quicker to work with.
_SHORT = 1000


@dataclass(frozen=True)
class Assemble(JoiningStage):
    """Numbers and vectors, one after another, as one vector.

    Attributes
    ----------
    input_columns : tuple of str
        Columns of numbers, booleans or vectors.
    output_column : str
        A column of vectors.
    invalid : {"error", "skip", "keep"}
        What becomes of null and, in columns of numbers, not-a-number; kept ones are not-a-number.
    """

    invalid: str

    @property
    def drops_rows(self) -> bool:
        return self.invalid == "skip"

    def transform(self, frame: LocalFrame) -> LocalFrame:
        parts = [self._part(frame, name) for name in self.input_columns]
        if self.invalid == "skip":
            keep = np.ones(frame.rows, dtype=bool)
            for _, missing in parts:
                keep &= ~missing
            if not keep.all():
                return self.transform(frame.where(keep))
        for name, (_, missing) in zip(self.input_columns, parts, strict=True):
            if self.invalid == "error":
                fail_where(missing, f"column {name!r} is null or not a number, and handleInvalid is 'error'")
        vectors = [part for part, _ in parts]
        size = sum(part.size for part in vectors)
        if size > _SHORT and any(isinstance(part, SparseVectors) for part in vectors):
            assembled: Vectors = _side_by_side(frame.rows, size, vectors)
        else:
            assembled = DenseVectors(np.hstack([part.dense().matrix for part in vectors]))
        return frame.with_columns({self.output_column: assembled})

    @staticmethod
    def _part(frame: LocalFrame, name: str) -> tuple[Vectors, np.ndarray]:
        """A column as vectors, not-a-number where it is null, and where Spark finds it invalid."""
        column = frame.column(name)
        if not isinstance(column, DenseVectors | SparseVectors) and not hasattr(column.type, "value_type"):
            values, _ = frame.numbers(name)
            return DenseVectors(values[:, None]), np.isnan(values)
        vectors = frame.vectors(name)
        if vectors.present is None:
            return vectors, np.zeros(frame.rows, dtype=bool)
        dense = vectors.dense()
        matrix = np.where(dense.present[:, None], dense.matrix, np.nan)  # type: ignore[index]
        return DenseVectors(matrix), ~vectors.present


def _side_by_side(rows: int, size: int, parts: list[Vectors]) -> SparseVectors:
    row, index, value = [], [], []
    before = 0
    for part in parts:
        if isinstance(part, SparseVectors):
            row.append(part.row_of_each())
            index.append(part.indices + before)
            value.append(part.values)
        else:
            # Not-a-number is not zero, so that it is kept.
            at_row, at_index = np.nonzero(part.matrix)
            row.append(at_row)
            index.append(at_index + before)
            value.append(part.matrix[at_row, at_index])
        before += part.size
    return sparse_from_entries(rows, size, np.concatenate(row), np.concatenate(index), np.concatenate(value))


@dataclass(frozen=True)
class Slice(ColumnStage):
    """Some elements of vectors: what a VectorSlicer and the fitted selectors do."""

    elements: np.ndarray

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column)
        if vectors.rows and len(self.elements) and self.elements.max() >= vectors.size:
            raise InvalidValueError(
                f"column {self.input_column!r} has vectors of length {vectors.size}, and element {self.elements.max()} is needed"
            )
        return frame.with_columns({self.output_column: vectors.selected(self.elements)})


@dataclass(frozen=True)
class MultiplyMatrix(ColumnStage):
    """Each vector, as a row, times a matrix: principal components and cosine transforms."""

    matrix: np.ndarray

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column)
        if vectors.rows and vectors.size != len(self.matrix):
            raise InvalidValueError(
                f"column {self.input_column!r} has vectors of length {vectors.size}, the stage was fitted on {len(self.matrix)}"
            )
        return frame.with_columns({self.output_column: vectors.times(self.matrix)})


@dataclass(frozen=True)
class CosineTransform(ColumnStage):
    """The discrete cosine transform (DCT-II, orthonormal) of each vector, or its inverse."""

    inverse: bool

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column)
        size = vectors.size
        places = np.arange(size)
        matrix = np.cos(np.pi * (places[:, None] + 0.5) * places / size) * np.sqrt(2 / max(size, 1))
        matrix[:, :1] /= np.sqrt(2)
        return frame.with_columns({self.output_column: vectors.times(matrix.T if self.inverse else matrix)})


@dataclass(frozen=True)
class Expand(ColumnStage):
    """All products of elements of a vector up to a degree, in Spark's order."""

    degree: int

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column).dense()
        products: list[np.ndarray] = []
        self._products(vectors.matrix, vectors.size - 1, self.degree, np.ones(vectors.rows), products)
        # The first product is the empty one.
        expanded = np.stack(products[1:], axis=1) if len(products) > 1 else np.zeros((vectors.rows, 0))
        return frame.with_columns({self.output_column: replace(vectors, matrix=expanded)})

    def _products(
        self, matrix: np.ndarray, last: int, degree: int, so_far: np.ndarray, products: list[np.ndarray]
    ) -> None:
        """Products of the elements up to ``last``: those without it first, then with it, with its square, and so on."""
        if degree == 0 or last < 0:
            products.append(so_far)
            return
        for power in range(degree + 1):
            self._products(matrix, last - 1, degree - power, so_far, products)
            so_far = so_far * matrix[:, last]


@dataclass(frozen=True)
class Interact(JoiningStage):
    """The products of one element of each column, for all choices of these; elements that are categories count as one-hot.

    Attributes
    ----------
    input_columns : tuple of str
        Columns of numbers or vectors.
    output_column : str
        A column of vectors.
    categories : tuple of tuple of int
        For each element of each column how many categories it has, 0 for one that is a number.
    """

    categories: tuple[tuple[int, ...], ...]

    def transform(self, frame: LocalFrame) -> LocalFrame:
        product = np.ones((frame.rows, 1))
        for name, categories in reversed(list(zip(self.input_columns, self.categories, strict=True))):
            encoded = self._encoded(frame, name, categories)
            size = encoded.shape[1] * product.shape[1]
            product = (encoded[:, :, None] * product[:, None, :]).reshape(frame.rows, size)
        return frame.with_columns({self.output_column: DenseVectors(product)})

    @staticmethod
    def _encoded(frame: LocalFrame, name: str, categories: tuple[int, ...]) -> np.ndarray:
        column = frame.column(name)
        if isinstance(column, DenseVectors | SparseVectors) or hasattr(column.type, "value_type"):
            vectors = frame.vectors(name)
            fail_where(None if vectors.present is None else ~vectors.present, f"column {name!r} is null")
            matrix = vectors.dense().matrix
        else:
            values, null = frame.numbers(name)
            fail_where(null, f"column {name!r} is null")
            matrix = values[:, None]
        if matrix.shape[1] != len(categories):
            raise InvalidValueError(
                f"column {name!r} has vectors of length {matrix.shape[1]}, {len(categories)} is needed"
            )
        parts = []
        for element, count in zip(matrix.T, categories, strict=True):
            if count == 0:
                parts.append(element[:, None])
                continue
            fail_where(
                ~np.isin(element, np.arange(count)), f"column {name!r} has a number that is none of {count} categories"
            )
            parts.append((element[:, None] == np.arange(count)).astype(float))
        return np.hstack(parts)


@dataclass(frozen=True)
class CheckSize(LocalStage):
    """Vectors of a length; others are an error, or their rows are skipped, or they pass."""

    column: str
    size: int
    invalid: str

    @property
    def drops_rows(self) -> bool:
        return self.invalid == "skip"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.column,)

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.column)
        frame = frame.with_columns({self.column: vectors})
        if self.invalid == "optimistic":
            return frame
        there = np.ones(frame.rows, dtype=bool) if vectors.present is None else vectors.present
        right = there & (vectors.size == self.size)
        if self.invalid == "skip":
            return frame.where(right)
        fail_where(~there, f"column {self.column!r} is null")
        fail_where(~right, f"column {self.column!r} must have vectors of length {self.size}, they have {vectors.size}")
        return frame
