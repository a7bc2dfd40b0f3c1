"""Columns in this process: Arrow arrays for values and lists, and two layouts of vectors; a frame is columns of the same length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "SPARK_VECTOR",
    "Column",
    "DenseVectors",
    "LocalFrame",
    "SparseVectors",
    "Vectors",
    "arrow_of",
    "row_numbers",
    "sparse_from_entries",
]

# Spark's vectors as Arrow has them: a struct whose type is 0 for sparse and 1 for dense.
SPARK_VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)
_VECTOR_FIELDS = [field.name for field in SPARK_VECTOR]


@dataclass(frozen=True)
class DenseVectors:
    """A column of vectors as one matrix.

    Attributes
    ----------
    matrix : numpy.ndarray
        float64, a row for each vector.
    present : numpy.ndarray or None
        False where a vector is null, whose numbers mean nothing; None when none is.
    """

    matrix: np.ndarray
    present: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        return len(self.matrix)

    @property
    def size(self) -> int:
        """The length of each vector."""
        return self.matrix.shape[1]

    def where(self, keep: np.ndarray) -> DenseVectors:
        """The vectors for which ``keep`` is true."""
        return DenseVectors(self.matrix[keep], None if self.present is None else self.present[keep])

    def dense(self) -> DenseVectors:
        """These vectors."""
        return self

    def scaled(self, factors: np.ndarray) -> DenseVectors:
        """Each vector times the factors, element by element."""
        return replace(self, matrix=self.matrix * factors)

    def selected(self, indices: np.ndarray) -> DenseVectors:
        """The elements at these positions."""
        return replace(self, matrix=self.matrix[:, indices])

    def times(self, matrix: np.ndarray) -> DenseVectors:
        """Each vector, a row, times a matrix."""
        return replace(self, matrix=self.matrix @ matrix)


@dataclass(frozen=True)
class SparseVectors:
    """A column of vectors by their elements that are not zero, row after row (CSR).

    Attributes
    ----------
    size : int
        The length of each vector.
    starts : numpy.ndarray
        Where the elements of each row begin, and the number of all at the end.
    indices : numpy.ndarray
        Positions of the elements, ascending in each row.
    values : numpy.ndarray
        float64, the elements.
    present : numpy.ndarray or None
        False where a vector is null; None when none is.
    """

    size: int
    starts: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    present: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        return len(self.starts) - 1

    def row_of_each(self) -> np.ndarray:
        """The number of the row of each element."""
        return row_numbers(self.starts)

    def where(self, keep: np.ndarray) -> SparseVectors:
        """The vectors for which ``keep`` is true."""
        elements = np.repeat(keep, np.diff(self.starts))
        starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[keep])])
        present = None if self.present is None else self.present[keep]
        return SparseVectors(self.size, starts, self.indices[elements], self.values[elements], present)

    def dense(self) -> DenseVectors:
        """The same vectors as a matrix."""
        matrix = np.zeros((self.rows, self.size))
        matrix[self.row_of_each(), self.indices] = self.values
        return DenseVectors(matrix, self.present)

    def scaled(self, factors: np.ndarray) -> SparseVectors:
        """Each vector times the factors, element by element."""
        return replace(self, values=self.values * factors[self.indices])

    def selected(self, indices: np.ndarray) -> SparseVectors:
        """The elements at these positions."""
        position = np.full(self.size, -1)
        position[indices] = np.arange(len(indices))
        moved = position[self.indices]
        keep = moved >= 0
        return sparse_from_entries(
            self.rows, len(indices), self.row_of_each()[keep], moved[keep], self.values[keep], self.present
        )

    def times(self, matrix: np.ndarray) -> DenseVectors:
        """Each vector, a row, times a matrix."""
        product = np.zeros((self.rows, matrix.shape[1]))
        np.add.at(product, self.row_of_each(), self.values[:, None] * matrix[self.indices])
        return DenseVectors(product, self.present)


Vectors: TypeAlias = DenseVectors | SparseVectors
Column: TypeAlias = pa.Array | DenseVectors | SparseVectors


def arrow_of(column: Column) -> pa.Array:
    """A column as Arrow has it: a matrix as lists of numbers, sparse vectors as Spark's own structs.

    Examples
    --------
    >>> arrow_of(DenseVectors(np.array([[1.0, 2.0]]))).to_pylist()
    [[1.0, 2.0]]
    """
    if isinstance(column, pa.Array):
        return column
    null = None if column.present is None else pa.array(~column.present)
    if isinstance(column, DenseVectors):
        starts = np.arange(column.rows + 1) * column.size
        return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(column.matrix.ravel()), mask=null)
    starts = pa.array(column.starts, pa.int32())
    return pa.StructArray.from_arrays(
        [
            pa.array(np.zeros(column.rows, np.int8)),
            pa.array(np.full(column.rows, column.size, np.int32)),
            pa.ListArray.from_arrays(starts, pa.array(column.indices, pa.int32())),
            pa.ListArray.from_arrays(starts, pa.array(column.values)),
        ],
        fields=list(SPARK_VECTOR),
        mask=null,
    )


def row_numbers(starts: np.ndarray) -> np.ndarray:
    """The number of the row of each element, from where the rows begin.

    Examples
    --------
    >>> row_numbers(np.array([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def sparse_from_entries(
    rows: int,
    size: int,
    row: np.ndarray,
    index: np.ndarray,
    value: np.ndarray,
    present: np.ndarray | None = None,
) -> SparseVectors:
    """Sparse vectors from entries in any order; entries of the same place are added.

    Parameters
    ----------
    rows, size : int
        How many vectors, and their length.
    row, index, value : numpy.ndarray
        Where each entry is, and its number.
    present : numpy.ndarray, optional
        False where a vector is null.

    Returns
    -------
    SparseVectors
        Indices ascend in each row.
    """
    place, which = np.unique(row.astype(np.int64) * size + index, return_inverse=True)
    values = np.bincount(which, weights=value, minlength=len(place)).astype(float)
    starts = np.searchsorted(place, np.arange(rows + 1, dtype=np.int64) * size)
    return SparseVectors(size, starts, place % size, values, present)


@dataclass(frozen=True)
class LocalFrame:
    """Columns of the same length.

    Attributes
    ----------
    columns : mapping of str to pyarrow.Array, DenseVectors or SparseVectors
        By name.
    positions : numpy.ndarray
        For each row its number in the frame that all began with: stages with ``handleInvalid="skip"`` drop rows.
    """

    columns: Mapping[str, Column]
    positions: np.ndarray

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> LocalFrame:
        """The columns of an Arrow table.

        Examples
        --------
        >>> frame = LocalFrame.from_arrow(pa.table({"a": [1, None]}))
        >>> frame.numbers("a")[0].tolist()
        [1.0, nan]
        """
        columns = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            columns[name] = _vectors_of_spark(array) if _is_spark_vector(array.type) else array
        return cls(columns, np.arange(table.num_rows))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.positions)

    def column(self, name: str) -> Column:
        """A column, or an error that lists those that are there."""
        try:
            return self.columns[name]
        except KeyError:
            raise InvalidValueError(
                f"there is no column {name!r}; there are {', '.join(map(repr, self.columns))}"
            ) from None

    def array(self, name: str) -> pa.Array:
        """A column that is not of vectors."""
        column = self.column(name)
        if isinstance(column, DenseVectors | SparseVectors):
            raise InvalidTypeError(f"column {name!r} has vectors, and a column of values is needed")
        return column

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A column of numbers as float64, as Spark casts them to double.

        Returns
        -------
        values : numpy.ndarray
            Not-a-number where the column is null.
        null : numpy.ndarray or None
            Where it is null; None when it is nowhere.
        """
        array = self.array(name)
        kind = array.type
        if pa.types.is_boolean(kind):
            array = array.cast(pa.uint8())
        elif pa.types.is_null(kind):
            array = array.cast(pa.float64())
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise InvalidTypeError(f"column {name!r} must have numbers, it has {kind}")
        null = None if array.null_count == 0 else array.is_null().to_numpy(zero_copy_only=False)
        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, null

    def vectors(self, name: str) -> Vectors:
        """A column of vectors; lists of numbers of equal length are vectors, too."""
        column = self.column(name)
        if isinstance(column, DenseVectors | SparseVectors):
            return column
        if isinstance(column.type, pa.FixedShapeTensorType):
            column = column.storage
        if not (
            pa.types.is_list(column.type)
            or pa.types.is_fixed_size_list(column.type)
            or pa.types.is_large_list(column.type)
        ):
            raise InvalidTypeError(f"column {name!r} must have vectors, it has {column.type}")
        return _vectors_of_lists(name, column)

    def tokens(self, name: str) -> tuple[np.ndarray, pa.Array]:
        """A column of lists of strings: where each row's begin, with the number of all at the end, and all strings.

        Raises
        ------
        InvalidValueError
            When a list is null: Spark's stages fail on it, too.
        """
        array = self.array(name)
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            raise InvalidTypeError(f"column {name!r} must have lists of strings, it has {array.type}")
        if array.null_count:
            raise InvalidValueError(
                f"column {name!r} is null in row {_first(array.is_null())}, where a list of words is needed"
            )
        starts = array.offsets.to_numpy()
        return starts - starts[0], array.flatten()

    def strings(self, name: str) -> list[str]:
        """A column of strings.

        Raises
        ------
        InvalidValueError
            When one is null: Spark's stages fail on it, too.
        """
        array = self.array(name)
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            raise InvalidTypeError(f"column {name!r} must have strings, it has {array.type}")
        if array.null_count:
            raise InvalidValueError(f"column {name!r} is null in row {_first(array.is_null())}, where a text is needed")
        return array.to_pylist()

    def with_columns(self, columns: Mapping[str, Column]) -> LocalFrame:
        """The frame with columns added, or put in place of others of their names."""
        return replace(self, columns={**self.columns, **columns})

    def without(self, names: Iterable[str]) -> LocalFrame:
        """The frame without some columns."""
        dropped = set(names)
        return replace(self, columns={name: column for name, column in self.columns.items() if name not in dropped})

    def where(self, keep: np.ndarray) -> LocalFrame:
        """The rows for which ``keep`` is true."""
        if keep.all():
            return self
        mask = pa.array(keep)
        columns = {
            name: column.where(keep) if isinstance(column, DenseVectors | SparseVectors) else column.filter(mask)
            for name, column in self.columns.items()
        }
        return LocalFrame(columns, self.positions[keep])


def _first(mask: pa.Array) -> int:
    return pc.index(mask, True).as_py()


def _is_spark_vector(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and [kind.field(index).name for index in range(kind.num_fields)] == _VECTOR_FIELDS


def _vectors_of_spark(array: pa.StructArray) -> Vectors:
    """Vectors of Spark: a matrix when all are dense, otherwise by elements."""
    kinds = array.field("type").to_numpy(zero_copy_only=False)
    values, indices = array.field("values"), array.field("indices")
    present = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    there = np.ones(len(array), dtype=bool) if present is None else present
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False) * there
    starts = np.concatenate([[0], np.cumsum(lengths)])
    flat = pc.list_flatten(values.filter(pa.array(there))).to_numpy(zero_copy_only=False).astype(float)
    dense = there & (kinds == 1)
    sizes = np.where(dense, lengths, pc.fill_null(array.field("size"), 0).to_numpy(zero_copy_only=False))
    different = np.unique(sizes[there])
    if len(different) > 1:
        raise InvalidValueError(
            f"the vectors of a column must have one length, these have {', '.join(map(str, different))}"
        )
    size = int(different[0]) if len(different) else 0
    if (dense == there).all():
        matrix = np.zeros((len(array), size))
        matrix[there] = flat.reshape(-1, size)
        return DenseVectors(matrix, present)
    positions = np.concatenate(
        [
            np.arange(length) if is_dense else np.asarray(where if where is not None else [])
            for is_dense, length, where in zip(dense, lengths, indices.to_pylist(), strict=True)
        ]
    ).astype(np.int64)
    return SparseVectors(size, starts, positions, flat, present)


def _vectors_of_lists(name: str, array: pa.Array) -> DenseVectors:
    present = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.unique(pc.list_value_length(array).drop_null()).to_pylist()
    if len(lengths) > 1:
        raise InvalidValueError(f"the vectors of column {name!r} must have one length, these have {lengths}")
    size = lengths[0] if lengths else 0
    flat = pc.list_flatten(array.drop_null()).to_numpy(zero_copy_only=False).astype(float)
    if present is None:
        return DenseVectors(flat.reshape(len(array), size))
    matrix = np.zeros((len(array), size))
    matrix[present] = flat.reshape(-1, size)
    return DenseVectors(matrix, present)
