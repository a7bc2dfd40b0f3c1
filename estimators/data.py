"""Training data on its way to the workers: arrays, what is known of them, and who gets which rows.

No row is lost on the way. The rows that train are divided among the workers in the order of the data, so that worker
counts differ by at most one; blocks are cut where needed. Ray Data's own equal split drops remainders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.columns import Selection

__all__ = ["Arrays", "Blocks", "Piece", "Shard", "Survey", "arrays_of_table", "split", "survey"]


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
    >>> from raydp_ml.estimators.protocol import Feature
    >>> arrays_of_table(pa.table({"a": [1, 2]}), Selection((Feature("a"),))).X.tolist()
    [[1.0], [2.0]]
    """
    labels = [plain_values(table[name]) for name in selection.label]
    label = None if not labels else labels[0] if len(labels) == 1 else np.column_stack(labels)
    roles = {
        role: _numbers(table[name], bool if role == "validation" else np.int64 if role == "qid" else np.float32, name)
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
            return np.ascontiguousarray(chunk.to_numpy_ndarray().reshape(len(chunk), -1), np.float32)
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
        return values.to_numpy()
    return values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


def plain_values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A label column as numpy: dictionaries decoded, decimals as doubles, nulls as None or NaN."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.to_numpy(zero_copy_only=False)


def _numbers(column: pa.ChunkedArray, dtype: Any, name: str) -> np.ndarray:
    if column.null_count:
        raise InvalidValueError(f"column {name!r} has {column.null_count} nulls; it may have none in its role")
    return column.combine_chunks().to_numpy(zero_copy_only=False).astype(dtype, copy=False)


# -- what is known of the data -------------------------------------------------------------------------------------


@dataclass
class Survey:
    """What a look at every row told: counts, classes, problems, and which rows may train."""

    rows: int
    null_rows: int = 0
    infinite_rows: int = 0
    label_nulls: int = 0
    bad_weights: int = 0
    classes: np.ndarray | None = None
    class_counts: np.ndarray | None = None
    usable: np.ndarray | None = None
    validation: np.ndarray | None = None


def survey(arrays: Arrays, classify: bool, drop_nulls: bool) -> Survey:
    """Look at every row.

    Examples
    --------
    >>> survey(Arrays(np.array([[1.0], [np.nan]]), np.array(["a", "b"])), classify=True, drop_nulls=False).null_rows
    1
    """
    found = Survey(len(arrays), validation=arrays.validation)
    if not np.isfinite(arrays.X.sum(dtype=np.float64)):  # one pass; the masks below only when something is there
        nulls = np.isnan(arrays.X).any(axis=1)
        found.null_rows = int(nulls.sum())
        found.infinite_rows = int(np.isinf(arrays.X).any(axis=1).sum())
        if drop_nulls and found.null_rows:
            found.usable = ~nulls
    label = arrays.label
    if label is not None:
        missing = null_mask(label)
        found.label_nulls = int(missing.sum()) if found.usable is None else int((missing & found.usable).sum())
        if classify and label.ndim == 1 and not found.label_nulls:
            seen = label if found.usable is None else label[found.usable]
            try:
                found.classes, found.class_counts = np.unique(seen, return_counts=True)
            except TypeError as error:
                raise InvalidTypeError(f"the labels have types that cannot be ordered together: {error}") from error
    if arrays.weight is not None:
        found.bad_weights = int((~np.isfinite(arrays.weight) | (arrays.weight < 0)).sum())
    return found


def null_mask(label: np.ndarray) -> np.ndarray:
    """Which rows of a label are None or NaN."""
    if label.dtype.kind == "f":
        nulls = np.isnan(label)
    elif label.dtype.kind == "O":
        nulls = np.frompyfunc(lambda item: item is None or item != item, 1, 1)(label).astype(bool)
    elif label.dtype.kind in "mM":
        nulls = np.isnat(label)
    else:
        nulls = np.zeros(label.shape, bool)
    return nulls.any(axis=1) if nulls.ndim == 2 else nulls


def merge(parts: Sequence[Survey]) -> Survey:
    """What is known of all blocks together."""
    total = Survey(sum(part.rows for part in parts))
    for name in ("null_rows", "infinite_rows", "label_nulls", "bad_weights"):
        setattr(total, name, sum(getattr(part, name) for part in parts))
    counted = [part for part in parts if part.classes is not None and len(part.classes)]
    if counted:
        total.classes, places = np.unique(np.concatenate([part.classes for part in counted]), return_inverse=True)
        counts = np.concatenate([part.class_counts for part in counted])
        total.class_counts = np.bincount(places, weights=counts).astype(np.int64)
    if any(part.usable is not None for part in parts):
        total.usable = np.concatenate(
            [np.ones(part.rows, bool) if part.usable is None else part.usable for part in parts]
        )
    if any(part.validation is not None for part in parts):
        total.validation = np.concatenate(
            [np.zeros(0, bool) if part.validation is None else part.validation for part in parts]
        )
    return total


# -- who gets which rows -------------------------------------------------------------------------------------------


@dataclass
class Piece:
    """A range of rows of one block (a reference, or arrays), of which ``keep`` may choose some."""

    block: Any
    start: int
    stop: int
    keep: np.ndarray | None = None


@dataclass
class Shard:
    """The rows of one worker."""

    pieces: list[Piece]
    rows: int
    selection: Selection | None = None

    def load(self) -> Arrays:
        """Bring the rows into this process, as one contiguous matrix."""
        parts = []
        for piece in self.pieces:
            arrays = fetch(piece.block, self.selection)
            if piece.start or piece.stop != len(arrays):
                arrays = arrays.take(slice(piece.start, piece.stop))
            parts.append(arrays if piece.keep is None else arrays.take(piece.keep))
        return Arrays.concat(parts)


def fetch(block: Any, selection: Selection | None) -> Arrays:
    """The rows of a block: a reference into Ray's object store, an Arrow table, a block of Ray Data, or arrays."""
    if type(block).__name__ == "ObjectRef":
        import ray

        block = ray.get(block)
    if isinstance(block, Arrays):
        return block
    if not isinstance(block, pa.Table):
        from ray.data.block import BlockAccessor

        block = BlockAccessor.for_block(block).to_arrow()
    return arrays_of_table(block, selection or Selection(()))


def split(
    blocks: Sequence[Any], sizes: Sequence[int], chosen: np.ndarray | None, workers: int, selection: Selection | None
) -> list[Shard]:
    """Divide the rows of blocks among workers, in order, so that their counts differ by at most one.

    Parameters
    ----------
    blocks : sequence
        Blocks as :func:`fetch` takes them.
    sizes : sequence of int
        Rows of each block.
    chosen : numpy.ndarray of bool, optional
        Which rows to divide; None: all of them.
    workers : int
        Number of workers.
    selection : Selection, optional
        How to read the blocks.

    Examples
    --------
    >>> [shard.rows for shard in split(["first", "second"], [3, 4], None, 2, None)]
    [3, 4]
    """
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positions = None if chosen is None else np.flatnonzero(chosen)
    total = int(starts[-1]) if positions is None else len(positions)
    shards = []
    for rank in range(workers):
        low, high = total * rank // workers, total * (rank + 1) // workers
        pieces = []
        if high > low:
            first, end = (low, high) if positions is None else (int(positions[low]), int(positions[high - 1]) + 1)
            for index, block in enumerate(blocks):
                start, stop = max(first, int(starts[index])), min(end, int(starts[index + 1]))
                if start >= stop:
                    continue
                keep = None if chosen is None else chosen[start:stop]
                if keep is not None and keep.all():
                    keep = None
                if keep is None or keep.any():
                    offset = int(starts[index])
                    pieces.append(Piece(block, start - offset, stop - offset, keep))
        shards.append(Shard(pieces, high - low, selection))
    return shards
