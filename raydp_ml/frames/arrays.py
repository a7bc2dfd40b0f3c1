"""Rows in memory: arrays, the readers that make them from Arrow, and blocks in Ray's object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.columns import Selection

__all__ = [
    "Arrays",
    "Blocks",
    "arrays_of_table",
    "fetch",
    "is_reference",
    "matrix_of_table",
    "null_mask",
    "plain_values",
    "vector_values",
]


@dataclass
class Arrays:
    """Rows in memory: a float32 feature matrix and the columns with a role, labels as they came."""

    X: np.ndarray
    label: np.ndarray | None = None
    weight: np.ndarray | None = None
    qid: np.ndarray | None = None
    base_margin: np.ndarray | None = None
    validation: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X)

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
            item.name: None
            if getattr(parts[0], item.name) is None
            else np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(Arrays)
        }
        return Arrays(**whole)


@dataclass
class Blocks:
    """Rows in Ray's object store: references to Arrow tables and how to read them.

    ``keep_alive`` holds whatever frees the blocks when it goes.
    """

    refs: list[Any]
    selection: Selection
    keep_alive: Any = None


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


def matrix_of_table(table: pa.Table, selection: Selection) -> np.ndarray:
    """The features as one float32 matrix, nulls as NaN."""
    columns = [vector_values(table[feature.name], feature.width, feature.name) for feature in selection.features]
    if len(columns) == 1:
        return np.ascontiguousarray(columns[0])
    matrix = np.empty((table.num_rows, selection.width), np.float32)
    start = 0
    for values in columns:
        matrix[:, start : start + values.shape[1]] = values
        start += values.shape[1]
    return matrix


def vector_values(column: pa.ChunkedArray | pa.Array, width: int, name: str) -> np.ndarray:
    """A column of numbers or vectors as a float32 matrix of this width."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_vector_chunk(chunk, width, name) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)


def _vector_chunk(chunk: pa.Array, width: int, name: str) -> np.ndarray:
    kind = chunk.type
    if isinstance(kind, pa.BaseExtensionType):
        if hasattr(chunk, "to_numpy_ndarray"):  # Arrow's own tensors
            tensors = chunk.to_numpy_ndarray()
            matrix = tensors.reshape(len(tensors), int(np.prod(tensors.shape[1:])))
            return _of_width(np.ascontiguousarray(matrix, np.float32), width, name)
        values = chunk.to_numpy(zero_copy_only=False)  # Ray's tensors
        if values.dtype == object:
            values = np.stack(list(values)) if len(values) else np.empty((0, width))
        return _of_width(np.asarray(values, np.float32).reshape(len(chunk), -1), width, name)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _float32(chunk).reshape(-1, 1)
    if chunk.null_count:
        matrix = np.full((len(chunk), width), np.nan, np.float32)
        matrix[np.asarray(chunk.is_valid())] = _vector_chunk(chunk.drop_null(), width, name)
        return matrix
    flat = chunk.flatten()
    if len(flat) != len(chunk) * width or not pa.types.is_fixed_size_list(kind):
        lengths = np.asarray(chunk.value_lengths())
        if (lengths != width).any():
            other = int(lengths[lengths != width][0])
            raise InvalidValueError(f"column {name!r} holds vectors of length {other} where {width} is expected")
    return _float32(flat).reshape(-1, width)


def _of_width(values: np.ndarray, width: int, name: str) -> np.ndarray:
    if len(values) and values.shape[1] != width:
        raise InvalidValueError(f"column {name!r} holds vectors of length {values.shape[1]} where {width} is expected")
    return values.reshape(-1, width)


def _float32(values: pa.Array) -> np.ndarray:
    if values.type == pa.float32() and values.null_count == 0:
        plain: np.ndarray = values.to_numpy()
    else:
        plain = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return plain


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
