"""Rows in memory: arrays, the readers that make them from Arrow, and blocks in Ray's object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.columns import Feature, Selection
from raydp_ml.frames.layouts import Matrix, assemble, from_leaves, leaves_of, of_type
from raydp_ml.frames.sparse import assemble_sparse, canonical, dense_pieces, is_vector_struct, vector_rows

__all__ = [
    "Arrays",
    "Blocks",
    "arrays_of_table",
    "feature_values",
    "fetch",
    "is_reference",
    "matrix_of_table",
    "null_mask",
    "plain_values",
]


@dataclass
class Arrays:
    """Rows in memory: their features and the columns with a role, labels as they came."""

    X: Matrix
    label: np.ndarray | None = None
    weight: np.ndarray | None = None
    qid: np.ndarray | None = None
    base_margin: np.ndarray | None = None
    validation: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def take(self, rows: Any) -> Arrays:
        """The rows of a slice, a mask or positions."""
        taken: dict[str, Any] = {
            item.name: None if (value := getattr(self, item.name)) is None else value[rows] for item in fields(self)
        }
        return Arrays(**taken)

    @staticmethod
    def concat(parts: Sequence[Arrays]) -> Arrays:
        """All rows of several parts, in one contiguous matrix."""
        if len(parts) == 1:
            return parts[0]
        whole: dict[str, Any] = {
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(Arrays)
            if item.name != "X" and getattr(parts[0], item.name) is not None
        }
        leaves = {name: np.concatenate(pieces) for name, pieces in leaves_of([part.X for part in parts]).items()}
        return Arrays(from_leaves(leaves), **whole)


@dataclass
class Blocks:
    """Rows in Ray's object store: references to Arrow tables and how to read them.

    ``keep_alive`` holds whatever frees the blocks when it goes; ``size_bytes`` is None where it is not known.
    """

    refs: list[Any]
    selection: Selection
    keep_alive: Any = None
    size_bytes: int | None = None


# -- from Arrow to numpy -------------------------------------------------------------------------------------------


def arrays_of_table(table: pa.Table, selection: Selection) -> Arrays:
    """Read the selected columns of an Arrow table; one fixed-size list of float32 is not copied.

    Examples
    --------
    >>> from raydp_ml.frames.columns import Feature
    >>> arrays_of_table(pa.table({"a": [1, 2]}), Selection((Feature("a"),))).X.tolist()
    [[1.0], [2.0]]
    """
    labels = [plain_values(table[name]) for name in selection.label]
    label = None if not labels else labels[0] if len(labels) == 1 else np.column_stack(labels)
    roles = {
        role: _queries(table[name], name)
        if role == "qid"
        else _numbers(table[name], bool if role == "validation" else np.float32, name)
        for role, name in selection.roles.items()
    }
    return Arrays(matrix_of_table(table, selection), label, **roles)


def matrix_of_table(table: pa.Table, selection: Selection) -> Matrix:
    """The features in their layout, nulls as NaN where the type has one."""
    if selection.sparse:
        return assemble_sparse(
            selection.features, table.num_rows, lambda feature: _sparse_values(table[feature.name], feature)
        )
    return assemble(selection.features, table.num_rows, lambda feature: feature_values(table[feature.name], feature))


def _sparse_values(column: pa.ChunkedArray, feature: Feature) -> Any:
    """A column of numbers or vectors as a matrix, compressed where that saves memory."""
    from scipy import sparse

    parts: list[Any] = []
    for chunk in column.chunks:
        if is_vector_struct(chunk.type):
            parts.append(vector_rows(chunk, feature))
        else:  # piece by piece, so that never all of them are dense
            parts += [
                canonical(_chunk_values(chunk.slice(piece.start, piece.stop - piece.start), feature)[0])
                for piece in dense_pieces(len(chunk), feature.width)
            ]
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, format="csr") if parts else np.empty((0, feature.width), np.float32)


def feature_values(column: pa.ChunkedArray | pa.Array, feature: Feature) -> tuple[np.ndarray, np.ndarray | None]:
    """A column of numbers or vectors as a matrix of a feature's type and width.

    Parameters
    ----------
    column : pyarrow.ChunkedArray or pyarrow.Array
        Numbers, lists or tensors.
    feature : Feature
        What they are to be.

    Returns
    -------
    values : numpy.ndarray
        A row for each cell; nulls are NaN, and 0 among integers.
    missing : numpy.ndarray or None
        Which rows have a null, where the feature is of integers.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_chunk_values(chunk, feature) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty((0, feature.width), feature.dtype), None
    masks = [missing for _, missing in parts]
    if all(missing is None for missing in masks):
        return np.concatenate([values for values, _ in parts]), None
    missing = [np.zeros(len(values), bool) if mask is None else mask for values, mask in parts]
    return np.concatenate([values for values, _ in parts]), np.concatenate(missing)


def _chunk_values(chunk: pa.Array, feature: Feature) -> tuple[np.ndarray, np.ndarray | None]:
    kind, width = chunk.type, feature.width
    if isinstance(kind, pa.BaseExtensionType):
        if hasattr(chunk, "to_numpy_ndarray"):  # Arrow's own tensors
            tensors = chunk.to_numpy_ndarray()
        else:
            tensors = chunk.to_numpy(zero_copy_only=False)  # Ray's tensors
            if tensors.dtype == object:
                tensors = np.stack(list(tensors)) if len(tensors) else np.empty((0, width))
        matrix = tensors.reshape(len(tensors), int(np.prod(tensors.shape[1:])))
        if len(matrix) and matrix.shape[1] != width:
            raise _wrong_length(feature, matrix.shape[1])
        return of_type(matrix.reshape(-1, width), feature)
    if is_vector_struct(kind):
        return of_type(vector_rows(chunk, feature).toarray(), feature)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _cells(chunk, feature)
    if chunk.null_count:
        present = np.asarray(chunk.is_valid())
        values, missing = _chunk_values(chunk.drop_null(), feature)
        whole = np.full((len(chunk), width), np.nan if values.dtype.kind == "f" else 0, values.dtype)
        whole[present] = values
        if values.dtype.kind == "f":
            return whole, None
        lacking = ~present
        if missing is not None:
            lacking[present] = missing
        return whole, lacking
    flat = chunk.flatten()
    if len(flat) != len(chunk) * width or not pa.types.is_fixed_size_list(kind):
        lengths = np.asarray(chunk.value_lengths())
        if (lengths != width).any():
            raise _wrong_length(feature, int(lengths[lengths != width][0]))
    return _cells(flat, feature)


def _wrong_length(feature: Feature, length: int) -> InvalidValueError:
    return InvalidValueError(
        f"column {feature.name!r} holds vectors of length {length} where {feature.width} is expected"
    )


def _cells(values: pa.Array, feature: Feature) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers, as many for each row as the feature is wide."""
    if np.dtype(feature.dtype).kind == "f":
        target = pa.from_numpy_dtype(np.dtype(feature.dtype))
        if values.type != target or values.null_count:
            values = values.cast(target, safe=False)
        return values.to_numpy(zero_copy_only=False).reshape(-1, feature.width), None
    lacking: Any = None
    if values.null_count:
        lacking = np.asarray(values.is_null()).reshape(-1, feature.width).any(axis=1)
    if pa.types.is_decimal(values.type):
        values = pc.cast(values, options=pc.CastOptions(pa.int64(), allow_decimal_truncate=True))
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if values.null_count:
        values = values.fill_null(0)
    numbers, nans = of_type(values.to_numpy(zero_copy_only=False).reshape(-1, feature.width), feature)
    if lacking is None or nans is None:
        return numbers, nans if lacking is None else lacking
    return numbers, lacking | nans


def plain_values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A label column as numpy: dictionaries decoded, decimals as doubles, nulls as None or NaN."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values


def _queries(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """The query of each row, a number or a name."""
    values = plain_values(column)
    missing = int(null_mask(values).sum())
    if missing:
        raise InvalidValueError(f"column {name!r} has {missing} nulls; it says which query a row belongs to")
    return values


def _numbers(column: pa.ChunkedArray, dtype: Any, name: str) -> np.ndarray:
    if column.null_count:
        raise InvalidValueError(f"column {name!r} has {column.null_count} nulls; it may have none in its role")
    values: np.ndarray = column.combine_chunks().to_numpy(zero_copy_only=False)
    if dtype is bool and values.dtype != bool:
        other = np.setdiff1d(values, (0, 1))
        if len(other):
            raise InvalidValueError(
                f"column {name!r} says which rows to validate on, but has values that are neither true or 1 nor false or 0: "
                f"{other[:5].tolist()}; compare it with the fold that is to be held out"
            )
    return values.astype(dtype, copy=False)


def null_mask(label: np.ndarray) -> np.ndarray:
    """Which rows of a label are None or NaN."""
    nulls: np.ndarray
    if label.dtype.kind == "f":
        nulls = np.isnan(label)
    elif label.dtype.kind == "O":
        nulls = np.frompyfunc(lambda item: item is None or item != item, 1, 1)(label).astype(bool)
    elif label.dtype.kind in "mM":
        nulls = np.isnat(label)
    else:
        nulls = np.zeros(label.shape, bool)
    return np.asarray(nulls.any(axis=1)) if nulls.ndim == 2 else nulls


def is_reference(block: Any) -> bool:
    """Whether a block lies in Ray's object store; asked without importing Ray."""
    return type(block).__name__ == "ObjectRef"


def fetch(block: Any, selection: Selection | None) -> Arrays:
    """The rows of a block: a reference into Ray's object store, an Arrow table, a block of Ray Data, or arrays."""
    if is_reference(block):
        import ray

        block = ray.get(block)
    if isinstance(block, Arrays):
        return block
    if not isinstance(block, pa.Table):
        from ray.data.block import BlockAccessor

        block = BlockAccessor.for_block(block).to_arrow()
    return arrays_of_table(block, selection or Selection(()))
