"""Stages on columns of numbers: the imputer, the bucketizer and the binarizer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raydp_ml.serving.columns import Column, LocalFrame, SparseVectors
from raydp_ml.serving.stage import PairsStage, fail_where

__all__ = ["Binarize", "Bucketize", "Impute"]


@dataclass(frozen=True)
class Impute(PairsStage):
    """Missing numbers replaced by those that were learnt.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs.
    surrogates : tuple of float
        What each column's missing numbers become.
    missing : float
        What counts as missing beside null.
    """

    surrogates: tuple[float, ...]
    missing: float

    def transform(self, frame: LocalFrame) -> LocalFrame:
        made: dict[str, Column] = {}
        for name, output, surrogate in zip(self.input_columns, self.output_columns, self.surrogates, strict=True):
            values, null = frame.numbers(name)
            missing = np.isnan(values) if np.isnan(self.missing) else values == self.missing
            if null is not None:
                missing = missing | null
            # Spark casts the result to the type of the input: surrogates of whole numbers lose their fraction.
            kind = frame.array(name).type
            made[output] = pa.array(np.where(missing, surrogate, values)).cast(kind, safe=False)
        return frame.with_columns(made)


@dataclass(frozen=True)
class Bucketize(PairsStage):
    """Numbers to the numbers of their buckets, also what a fitted QuantileDiscretizer does.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs.
    splits : tuple of numpy.ndarray
        The ascending ends of each column's buckets; the last bucket includes its upper end.
    invalid : {"error", "skip", "keep"}
        What becomes of not-a-number; kept ones get a bucket of their own, after the others. Null stays null, as in Spark, unless
        its row is skipped.
    """

    splits: tuple[np.ndarray, ...]
    invalid: str

    @property
    def drops_rows(self) -> bool:
        return self.invalid == "skip"

    def transform(self, frame: LocalFrame) -> LocalFrame:
        if self.invalid == "skip":
            keep = np.ones(frame.rows, dtype=bool)
            for name in self.input_columns:
                keep &= ~np.isnan(frame.numbers(name)[0])
            frame = frame.where(keep)
        made: dict[str, Column] = {}
        for name, output, splits in zip(self.input_columns, self.output_columns, self.splits, strict=True):
            values, null = frame.numbers(name)
            missing = np.isnan(values)
            if self.invalid == "error":
                fail_where(
                    missing if null is None else missing & ~null,
                    f"column {name!r} is not a number, and handleInvalid is 'error'",
                )
            outside = ~missing & ((values < splits[0]) | (values > splits[-1]))
            fail_where(outside, f"column {name!r} lies outside the buckets, which end at {splits[0]} and {splits[-1]}")
            bucket = np.searchsorted(splits, values, side="right") - 1.0
            bucket = np.where(values == splits[-1], len(splits) - 2.0, bucket)
            made[output] = pa.array(np.where(missing, len(splits) - 1.0, bucket), mask=null)
        return frame.with_columns(made)


@dataclass(frozen=True)
class Binarize(PairsStage):
    """1 where a number, or an element of a vector, is above the threshold; 0 elsewhere, also for not-a-number.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs; columns of floating point numbers, or of vectors.
    thresholds : tuple of float
        One for each column.
    null_is_zero : bool
        Whether a null number becomes 0, as in Spark 4, or stays null, as in Spark 3.
    """

    thresholds: tuple[float, ...]
    null_is_zero: bool

    def transform(self, frame: LocalFrame) -> LocalFrame:
        made: dict[str, Column] = {}
        for name, output, threshold in zip(self.input_columns, self.output_columns, self.thresholds, strict=True):
            column = frame.column(name)
            if isinstance(column, pa.Array) and pa.types.is_floating(column.type):
                values, null = frame.numbers(name)
                made[output] = pa.array((values > threshold).astype(float), mask=None if self.null_is_zero else null)
                continue
            vectors = frame.vectors(name)
            if isinstance(vectors, SparseVectors) and threshold >= 0:
                made[output] = replace(vectors, values=(vectors.values > threshold).astype(float))
                continue
            dense = vectors.dense()
            above = dense.matrix > threshold
            if threshold < 0:
                # Spark looks for elements that are not above it, and not-a-number is not one of them.
                above |= np.isnan(dense.matrix)
            made[output] = replace(dense, matrix=above.astype(float))
        return frame.with_columns(made)
