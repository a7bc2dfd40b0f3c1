"""Sparse vectors as a column of Arrow: what ``from_spark(df, vectors="sparse")`` gives, and scipy matrices of it.

A column of sparse vectors is a struct, and its field has the metadata ``raydp_ml.vector: sparse``:

* ``size: int32`` - length of the vector,
* ``indices: list<int32>`` - places that are set, ascending,
* ``values: list<double>`` - the value at each of these places.

A dense vector of a mixed column has all its places in ``indices``. ``jvm/.../SparseEncoder.scala`` writes such columns,
``SparseVectors.scala`` reads them for :func:`raydp_ml.to_spark`, where they are Spark ML vectors again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["from_csr", "is_sparse", "sparse_field", "to_csr"]

_KEY, _SPARSE = b"raydp_ml.vector", b"sparse"


def sparse_field(name: str) -> pa.Field:
    """The Arrow field of a column of sparse vectors.

    Parameters
    ----------
    name : str
        Name of the column.

    Returns
    -------
    pyarrow.Field
        Nullable, with the metadata by which :func:`is_sparse` and :func:`raydp_ml.to_spark` know the column.

    Examples
    --------
    >>> [str(part.type) for part in sparse_field("v").type]
    ['int32', 'list<element: int32 not null>', 'list<element: double not null>']
    """
    parts = [
        pa.field("size", pa.int32(), nullable=False),
        pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False)), nullable=False),
    ]
    return pa.field(name, pa.struct(parts), metadata={_KEY: _SPARSE})


def is_sparse(field: pa.Field) -> bool:
    """Whether a column holds sparse vectors.

    Parameters
    ----------
    field : pyarrow.Field
        Field of the column.

    Examples
    --------
    >>> is_sparse(sparse_field("v")), is_sparse(pa.field("v", pa.float64()))
    (True, False)
    """
    return (field.metadata or {}).get(_KEY) == _SPARSE


def to_csr(column: pa.ChunkedArray | pa.Array, size: int | None = None) -> Any:
    """A column of sparse vectors as a matrix; no row is looked at by itself, and one chunk is not copied.

    Parameters
    ----------
    column : pyarrow.ChunkedArray or pyarrow.Array
        Structs of size, indices and values, without nulls.
    size : int, optional
        Length that the vectors must have. None: that of the vectors themselves, 0 where there are none.

    Returns
    -------
    scipy.sparse.csr_matrix
        Of float64, a row for each vector. What a dense vector holds is set, zeros included.

    Raises
    ------
    InvalidTypeError
        When the column is none of sparse vectors.
    InvalidValueError
        When a vector is null, or the vectors do not all have the same length.

    Examples
    --------
    >>> rows = [{"size": 3, "indices": [1], "values": [5.0]}, {"size": 3, "indices": [0, 2], "values": [1.0, 2.0]}]
    >>> to_csr(pa.array(rows, sparse_field("v").type)).toarray()
    array([[0., 5., 0.],
           [1., 0., 2.]])
    """
    from scipy import sparse

    if not pa.types.is_struct(column.type) or [part.name for part in column.type] != ["size", "indices", "values"]:
        raise InvalidTypeError(
            f"a column of type {column.type} is none of sparse vectors, which are structs of size, "
            "indices and values; from_spark(df, vectors='sparse') makes them"
        )
    if column.null_count:
        raise InvalidValueError(f"{column.null_count} of {len(column)} sparse vectors are null; drop these rows first")
    chunks = [chunk for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column]) if len(chunk)]
    ends = [pc.min_max(chunk.field("size")).as_py() for chunk in chunks]
    sizes = {end[side] for end in ends for side in ("min", "max")} | ({size} if size is not None else set())
    if len(sizes) > 1:
        expected = "one length" if size is None else f"the length {size}"
        raise InvalidValueError(f"the vectors have lengths from {min(sizes)} to {max(sizes)}, and {expected} is needed")
    width = next(iter(sizes), 0)
    parts = []
    for chunk in chunks:
        starts, indices = _list(chunk.field("indices"))
        value_starts, values = _list(chunk.field("values"))
        if not np.array_equal(starts, value_starts):
            raise InvalidValueError("a sparse vector has other numbers of indices and of values")
        parts.append(sparse.csr_matrix((values, indices, starts), shape=(len(chunk), width)))
    if not parts:
        return sparse.csr_matrix((0, width), dtype=np.float64)
    return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


def _list(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each list starts, and the elements of all. Of a slice, only its own."""
    offsets = lists.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    elements = lists.values.slice(first, last - first).to_numpy()
    return offsets - first if first else offsets, elements


def from_csr(matrix: Any) -> pa.StructArray:
    """The rows of a sparse matrix as a column of sparse vectors.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array
        Of numbers.

    Returns
    -------
    pyarrow.StructArray
        Give its column the field of :func:`sparse_field`, so that Spark reads vectors.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> column = from_csr(csr_matrix([[0.0, 5.0, 0.0]]))
    >>> column.to_pylist()
    [{'size': 3, 'indices': [1], 'values': [5.0]}]
    >>> table = pa.Table.from_arrays([column], schema=pa.schema([sparse_field("v")]))
    """
    from scipy import sparse

    rows = sparse.csr_matrix(matrix)
    if not rows.has_canonical_format:
        rows = rows.copy()  # the caller's own is not changed
        rows.sum_duplicates()
    kind = sparse_field("").type
    starts = pa.array(rows.indptr, pa.int32())
    sizes = pa.array(np.full(rows.shape[0], rows.shape[1], np.int32))
    indices = pa.ListArray.from_arrays(starts, pa.array(rows.indices, pa.int32()), kind.field("indices").type)
    values = pa.ListArray.from_arrays(starts, pa.array(rows.data, pa.float64()), kind.field("values").type)
    return pa.StructArray.from_arrays([sizes, indices, values], fields=list(kind))
