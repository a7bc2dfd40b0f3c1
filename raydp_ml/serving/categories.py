"""Stages on categories: strings to indices and back, one-hot encoding, categories inside vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidValueError
from raydp_ml.serving.columns import Column, LocalFrame, SparseVectors
from raydp_ml.serving.java_text import java_strings
from raydp_ml.serving.stage import ColumnStage, PairsStage, fail_where

__all__ = ["IndexStrings", "IndexVectors", "LabelIndices", "OneHot"]


@dataclass(frozen=True)
class IndexStrings(PairsStage):
    """Strings to the numbers of their labels.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs. As in Spark, a column that a frame does not have is left out: the label, when predictions are made.
    labels : tuple of tuple of str
        The labels of each column by number.
    invalid : {"error", "skip", "keep"}
        What becomes of null and of strings that are no label; kept ones get the number after the last.
    """

    labels: tuple[tuple[str, ...], ...]
    invalid: str

    @property
    def drops_rows(self) -> bool:
        return self.invalid == "skip"

    @cached_property
    def _label_arrays(self) -> tuple[pa.Array, ...]:
        return tuple(pa.array(labels, type=pa.string()) for labels in self.labels)

    def transform(self, frame: LocalFrame) -> LocalFrame:
        made: dict[str, Column] = {}
        keep = np.ones(frame.rows, dtype=bool)
        for name, output, labels in zip(self.input_columns, self.output_columns, self._label_arrays, strict=True):
            if name not in frame.columns:
                continue
            strings = java_strings(name, frame.array(name))
            found = pc.index_in(strings, value_set=labels)
            if found.null_count:
                invalid = found.is_null().to_numpy(zero_copy_only=False)
                if self.invalid == "error":
                    value = strings[int(np.argmax(invalid))].as_py()
                    fail_where(
                        invalid,
                        f"column {name!r} has {value!r}, which is none of its labels, and handleInvalid is 'error'",
                    )
                keep &= ~invalid
                found = pc.fill_null(found, len(labels))
            made[output] = found.cast(pa.float64())
        frame = frame.with_columns(made)
        return frame.where(keep) if self.invalid == "skip" else frame


@dataclass(frozen=True)
class LabelIndices(ColumnStage):
    """Numbers of labels back to the labels."""

    labels: tuple[str, ...]

    def transform(self, frame: LocalFrame) -> LocalFrame:
        values, null = frame.numbers(self.input_column)
        number = np.where(np.isnan(values), -1 if null is None else np.where(null, 0, 0), values).astype(np.int64)
        wrong = (number < 0) | (number >= len(self.labels))
        fail_where(wrong, f"column {self.input_column!r} has a number that is none of {len(self.labels)} labels")
        labels = pa.array(self.labels, type=pa.string()).take(pa.array(number, mask=null))
        return frame.with_columns({self.output_column: labels})


@dataclass(frozen=True)
class OneHot(PairsStage):
    """Numbers of categories to vectors with a 1 at that place.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs.
    sizes : tuple of int
        How many categories each column had.
    drop_last : bool
        The last category is the vector of zeros.
    invalid : {"error", "keep"}
        What becomes of other numbers; kept ones are a category after the others.
    """

    sizes: tuple[int, ...]
    drop_last: bool
    invalid: str

    def transform(self, frame: LocalFrame) -> LocalFrame:
        made: dict[str, Column] = {}
        kept = self.invalid == "keep"
        for name, output, categories in zip(self.input_columns, self.output_columns, self.sizes, strict=True):
            values, null = frame.numbers(name)
            there = np.ones(frame.rows, dtype=bool) if null is None else ~null
            unseen = there & ~((values >= 0) & (values < categories))
            if not kept:
                fail_where(unseen, f"column {name!r} has a number that is none of its {categories} categories")
            number = np.where(unseen | ~there, categories, values).astype(np.int64)
            size = categories + kept - self.drop_last
            set_there = there & (number < size)
            starts = np.concatenate([[0], np.cumsum(set_there)])
            made[output] = SparseVectors(
                size, starts, number[set_there], np.ones(int(starts[-1])), None if null is None else there
            )
        return frame.with_columns(made)


@dataclass(frozen=True)
class IndexVectors(ColumnStage):
    """Elements of vectors that are categories to the numbers of these; the others stay.

    Attributes
    ----------
    input_column, output_column : str
        Columns of vectors.
    size : int
        Their length.
    elements : tuple of int
        Which elements are categories.
    values, numbers : tuple of numpy.ndarray
        For each of them the ascending values that were seen, and the number of each.
    invalid : {"error", "skip", "keep"}
        What becomes of other values; kept ones get the number after the last.
    """

    size: int
    elements: tuple[int, ...]
    values: tuple[np.ndarray, ...]
    numbers: tuple[np.ndarray, ...]
    invalid: str

    @property
    def drops_rows(self) -> bool:
        return self.invalid == "skip"

    def transform(self, frame: LocalFrame) -> LocalFrame:
        vectors = frame.vectors(self.input_column)
        if vectors.rows and vectors.size != self.size:
            raise InvalidValueError(
                f"column {self.input_column!r} has vectors of length {vectors.size}, the stage was fitted on {self.size}"
            )
        sparse = isinstance(vectors, SparseVectors)
        numbers = vectors.values.copy() if isinstance(vectors, SparseVectors) else vectors.matrix.copy()
        keep = np.ones(frame.rows, dtype=bool)
        for element, seen, number in zip(self.elements, self.values, self.numbers, strict=True):
            # An element that a sparse vector leaves out is zero, and Spark numbers zero 0.
            if isinstance(vectors, SparseVectors):
                at = np.flatnonzero(vectors.indices == element)
                found, rows = vectors.values[at], vectors.row_of_each()[at]
            else:
                at = np.arange(vectors.rows)
                found, rows = vectors.matrix[:, element], at
            place = np.minimum(np.searchsorted(seen, found), len(seen) - 1)
            unseen = seen[place] != found
            if self.invalid == "error":
                wrong = np.zeros(frame.rows, dtype=bool)
                wrong[rows[unseen]] = True
                fail_where(wrong, f"element {element} of column {self.input_column!r} is none of its categories")
            keep[rows[unseen]] = False
            result = np.where(unseen, float(len(seen)), number[place])
            if sparse:
                numbers[at] = result
            else:
                numbers[:, element] = result
        changed: Column = (
            replace(vectors, values=numbers) if isinstance(vectors, SparseVectors) else replace(vectors, matrix=numbers)
        )
        frame = frame.with_columns({self.output_column: changed})
        return frame.where(keep) if self.invalid == "skip" else frame
