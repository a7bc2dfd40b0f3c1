"""Features in the sparse layout: one matrix of compressed rows, in which zero and absent are one value.

The layout is chosen for a whole fit and kept for its predictions. However a row was stored, as a dense or as a sparse vector, its
matrix row is the same: only what is not zero is set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.exchange.sparse import to_csr
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.memory import available_memory

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["WIDE", "assemble_sparse", "canonical", "check_fits", "dense_pieces", "is_vector_struct", "vector_rows"]

# ML vectors with more elements than this are read in the sparse layout, unless the parameter ``sparse`` says otherwise.
WIDE = 4096
# How many numbers rows may have that are made dense at once (64 MiB of float32).
_DENSE_NUMBERS = 1 << 24
_STRUCT = ["size", "indices", "values"]


def canonical(matrix: Any) -> csr_matrix:
    """A matrix as compressed rows of float32 that hold no zeros; what is given is not changed.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array, or numpy.ndarray of two dimensions
        Numbers.

    Examples
    --------
    >>> canonical(np.array([[0.0, 2.0], [0.0, 0.0]])).nnz
    1
    """
    from scipy import sparse

    rows = sparse.csr_matrix(matrix)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    values = rows.data.astype(np.float32, copy=False)
    there = values != 0  # NaN is there
    if there.all():
        return sparse.csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape)
    starts = np.concatenate([[0], np.cumsum(there)])[rows.indptr]
    return sparse.csr_matrix((values[there], rows.indices[there], starts), shape=rows.shape)


def is_vector_struct(kind: pa.DataType) -> bool:
    """Whether an Arrow type is that of sparse vectors as raydp_ml.exchange has them."""
    return pa.types.is_struct(kind) and [field.name for field in kind] == _STRUCT


def vector_rows(chunk: pa.Array, feature: Feature) -> csr_matrix:
    """A column of sparse vectors, or of Spark's own vectors, as compressed rows; a vector that is null has a NaN.

    Parameters
    ----------
    chunk : pyarrow.StructArray
        Structs of size, indices and values; in Spark's own form there is a type, which is 1 for dense vectors.
    feature : Feature
        How long the vectors must be.
    """
    present = np.asarray(chunk.is_valid()) if chunk.null_count else None
    if present is not None:
        chunk = chunk.drop_null()
    names = [field.name for field in chunk.type]
    rows = _spark_rows(chunk, feature) if "type" in names else _struct_rows(chunk, feature)
    if present is None:
        return rows
    from scipy import sparse

    counts = np.ones(len(present), np.int64)
    counts[present] = np.diff(rows.indptr)
    starts = np.concatenate([[0], np.cumsum(counts)])
    values = np.full(starts[-1], np.nan, np.float32)
    indices = np.zeros(starts[-1], rows.indices.dtype)
    known = np.repeat(present, counts)
    values[known], indices[known] = rows.data, rows.indices
    return sparse.csr_matrix((values, indices, starts), shape=(len(present), feature.width))


def _struct_rows(chunk: pa.StructArray, feature: Feature) -> csr_matrix:
    if not len(chunk):
        return canonical(np.empty((0, feature.width), np.float32))
    try:
        return canonical(to_csr(chunk, feature.width))
    except InvalidValueError as error:
        raise InvalidValueError(f"column {feature.name!r}: {error}") from error


def _spark_rows(chunk: pa.StructArray, feature: Feature) -> csr_matrix:
    """Rows of Spark's VectorUDT, in which dense vectors have neither a size nor indices."""
    from scipy import sparse

    dense = np.asarray(chunk.field("type")) == 1
    values = chunk.field("values")
    counts = np.asarray(values.value_lengths().fill_null(0))
    sizes = np.where(dense, counts, np.asarray(chunk.field("size").fill_null(0)))
    if (sizes != feature.width).any():
        other = int(sizes[sizes != feature.width][0])
        raise InvalidValueError(
            f"column {feature.name!r} holds vectors of length {other} where {feature.width} is expected"
        )
    starts = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)  # the index of an element in a dense vector
    of_dense = np.repeat(dense, counts)
    indices = within.astype(np.int32)
    indices[~of_dense] = np.asarray(chunk.field("indices").flatten())
    return canonical(
        sparse.csr_matrix((np.asarray(values.flatten()), indices, starts), shape=(len(chunk), feature.width))
    )


def assemble_sparse(features: Sequence[Feature], rows: int, read: Callable[[Feature], Any]) -> csr_matrix:
    """One matrix of all features.

    Parameters
    ----------
    features : sequence of Feature
        The features.
    rows : int
        How many rows there are.
    read : callable
        Gives the values of a feature as a matrix, compressed or not.
    """
    from scipy import sparse

    parts = [canonical(read(feature)) for feature in features]
    if not parts:
        return canonical(np.empty((rows, 0), np.float32))
    return parts[0] if len(parts) == 1 else sparse.csr_matrix(sparse.hstack(parts, format="csr"))


def dense_pieces(rows: int, width: int, most: int | None = None) -> list[slice]:
    """Pieces of rows that can be made dense one after another, at most ``most`` rows each.

    Examples
    --------
    >>> dense_pieces(100, 1 << 18)[:2]
    [slice(0, 64, None), slice(64, 100, None)]
    """
    step = max(1, _DENSE_NUMBERS // max(1, width))
    step = step if most is None else min(step, most)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def check_fits(rows: int, width: int) -> None:
    """Raise when a dense matrix of float32 cannot be held in this machine's memory.

    Parameters
    ----------
    rows, width : int
        Of the matrix.
    """
    wanted, there = 4 * rows * width, available_memory()
    if wanted > there:
        raise InvalidValueError(
            f"{rows:,} rows of {width:,} features are {wanted:,} bytes as a dense matrix, and {there:,} are available here; set "
            'sparse=True (or "auto"), in which only what is not zero takes memory, or make fewer features'
        )
