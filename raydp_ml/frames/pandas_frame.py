"""pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.exchange.sparse import sparse_field
from raydp_ml.frames.arrays import Arrays, arrays_of_table, matrix_of_table
from raydp_ml.frames.categories import Category, Nominal, codes_of_array, known_categories
from raydp_ml.frames.columns import Column, Selection
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.layouts import Matrix
from raydp_ml.frames.table import TableFrame, column_of_field, spark_frame_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.prediction import Predictor

__all__ = ["ROW", "PandasFrame", "arrow_of_pandas"]

# Numbers the rows of a pandas frame on their way through Spark.
ROW = "__raydp_ml_row__"


class PandasFrame(Frame):
    """A pandas frame with named columns."""

    kind: ClassVar[str] = "pandas frame"

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def columns(self) -> list[Column]:
        """Describe the columns; cells that hold lists or arrays make a vector column."""
        self.require_distinct([str(name) for name in self.frame.columns])
        return [self._describe(name) for name in self.frame.columns]

    def _describe(self, name: Any) -> Column:
        from pandas.api import types

        if not isinstance(name, str):
            raise InvalidTypeError(
                f"the pandas frame has a column named {name!r}; columns are chosen by name here, so all names must be strings "
                "(or give X without feature columns to choose, and y)"
            )
        dtype = self.frame[name].dtype
        kind, width = "other", None
        if isinstance(dtype, _categorical()):
            kind = "category"
        elif types.is_bool_dtype(dtype):
            kind = "boolean"
        elif types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
            kind = "number"
        elif isinstance(dtype, np.dtype) and dtype.kind == "O":
            cells = self.frame[name].dropna()  # by position, because an index may repeat
            cell: Any = cells.iloc[0] if len(cells) else None
            if _is_spark_vector(cell):
                return Column(name, "vector", type(cell).__name__, int(cell.size), sparse=True)
            if isinstance(cell, Decimal):
                kind = "number"
            elif isinstance(cell, np.ndarray | list | tuple) and np.asarray(cell).dtype.kind in "iufb":
                kind, width = "vector", int(np.size(cell))
        elif hasattr(dtype, "pyarrow_dtype"):
            described = column_of_field(pa.field(name, dtype.pyarrow_dtype))
            kind, width = described.kind, described.width
        return Column(name, kind, str(dtype), width)

    def categories(self, names: Sequence[str]) -> dict[str, tuple[Category, ...]]:
        """The categories as pandas orders them, those included that no row has."""
        return {name: _categories_of(self.frame[name]) for name in names}

    def nominal_by_place(self) -> list[tuple[Nominal, ...]]:
        """The categories of each column, whatever its name is; nothing for other columns."""
        columns = [self.frame.iloc[:, place] for place in range(self.frame.shape[1])]
        return [(Nominal(_categories_of(column)),) if _has_categories(column) else () for column in columns]

    def codes(self, nominal: Sequence[tuple[Nominal, ...]]) -> dict[int, np.ndarray]:
        """The codes of the columns that hold categories, by the place of the column; NaN for what is none of them.

        Parameters
        ----------
        nominal : sequence of tuple of Nominal
            What each column holds.
        """
        return {
            place: codes_of_array(_array_of(self.frame.iloc[:, place]), str(name), each[0].values)[:, 0]
            for place, (name, each) in enumerate(zip(self.frame.columns, nominal, strict=False))
            if each
        }

    def with_numbers(self, columns: Mapping[int, np.ndarray]) -> Any:
        """The pandas frame with numbers in some columns, 0 for NaN.

        Parameters
        ----------
        columns : mapping of int to numpy.ndarray
            By the place of the column.
        """
        frame = self.frame.copy(deep=False)
        for place, numbers in columns.items():
            frame.isetitem(place, np.nan_to_num(numbers))
        return frame

    def drop(self, names: Sequence[str]) -> Any:
        """The pandas frame without some columns."""
        return self.frame.drop(columns=list(names))

    def take(self, positions: Sequence[int] | np.ndarray) -> Any:
        """Rows by position, with their index."""
        return self.frame.iloc[positions]

    def count(self) -> int:
        """How many rows there are."""
        return len(self.frame)

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        return TableFrame(self._table([name])).vector_width(name)

    def _table(self, names: list[str]) -> pa.Table:
        vectors = [column.name for column in map(self._describe, names) if column.sparse]
        rest = pa.Table.from_pandas(self.frame[[name for name in names if name not in vectors]], preserve_index=False)
        fields = [sparse_field(name) if name in vectors else rest.schema.field(name) for name in names]
        columns = [_sparse_column(self.frame[name]) if name in vectors else rest[name] for name in names]
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def load(self, selection: Selection) -> Arrays:
        """Read the selected columns."""
        rest = Selection((), selection.label, selection.roles)
        arrays = arrays_of_table(self._table(rest.columns), rest) if rest.columns else Arrays(np.empty((0, 0)))
        if len(selection.label) == 1:
            # As pandas gives it, so that classes_ have the type that scikit-learn would find.
            arrays.label = self.frame[selection.label[0]].to_numpy()
        arrays.X = self.matrix(selection)
        return arrays

    def matrix(self, selection: Selection) -> Matrix:
        """The features in their types, nulls as NaN where the type has one."""
        names = [feature.name for feature in selection.features]
        types = {feature.dtype for feature in selection.features}
        plain = (
            not selection.sparse
            and not any(feature.nominal for feature in selection.features)
            and types in ({"float32"}, {"float64"})
            and all(
                isinstance(self.frame[name].dtype, np.dtype) and self.frame[name].dtype.kind != "O" for name in names
            )
        )
        if plain:
            return np.ascontiguousarray(self.frame[names].to_numpy(dtype=types.pop()))
        return matrix_of_table(self._table(names), selection)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> np.ndarray:
        """Predictions as numpy, as scikit-learn's estimators give them."""
        return predictor.to_numpy(self.matrix(selection), output)

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        return {name: self.frame[name].to_numpy() for name in names}

    def to_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows as a Spark DataFrame."""
        return spark_frame_of(arrow_of_pandas(self.frame), session())

    def to_numbered_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows as a Spark DataFrame, with the column ``ROW`` that numbers them."""
        return PandasFrame(self.frame.assign(**{ROW: np.arange(len(self.frame))})).to_spark(session)

    def give_back(self, result: DataFrame) -> Any:
        """All rows of a Spark DataFrame as a pandas frame."""
        return result.toPandas()


def arrow_of_pandas(frame: Any) -> pa.Table:
    """A pandas frame as an Arrow table in which NaN stays NaN: Spark and the libraries tell a missing number from a null.

    Raises
    ------
    InvalidValueError
        When names of columns are no strings, or not distinct.
    """
    columns = {}
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if not isinstance(name, str) or name in columns:
            raise InvalidValueError(f"columns of a pandas frame need distinct names that are strings, got {name!r}")
        numpy_float = isinstance(column.dtype, np.dtype) and column.dtype.kind == "f"
        columns[name] = pa.array(column.to_numpy() if numpy_float else column, from_pandas=not numpy_float)
    return pa.table(columns)


def _has_categories(column: Any) -> bool:
    """Whether a column is one of categories: pandas's own, or a dictionary of Arrow."""
    arrow = getattr(column.dtype, "pyarrow_dtype", None)
    return isinstance(column.dtype, _categorical()) or (arrow is not None and pa.types.is_dictionary(arrow))


def _categories_of(column: Any) -> tuple[Category, ...]:
    if isinstance(column.dtype, _categorical()):
        return known_categories(column.cat.categories.tolist(), str(column.name))
    return known_categories(_array_of(column).dictionary.to_pylist(), str(column.name))


def _array_of(column: Any) -> pa.Array:
    array = pa.array(column, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_spark_vector(cell: Any) -> bool:
    """Whether a cell is a vector of pyspark.ml; asked without importing it."""
    return type(cell).__module__ == "pyspark.ml.linalg" and hasattr(cell, "toArray")


def _sparse_column(cells: Any) -> pa.StructArray:
    """Cells that are vectors of pyspark.ml, or None, as a column of sparse vectors."""
    kind = sparse_field("").type
    rows: list[dict[str, Any] | None] = []
    for cell in cells:
        if not _is_spark_vector(cell):
            rows.append(None)
            continue
        indices = cell.indices if hasattr(cell, "indices") else np.arange(cell.size)
        rows.append({"size": int(cell.size), "indices": indices, "values": cell.values})
    return pa.array(rows, kind)


def _categorical() -> type:
    import pandas as pd

    return pd.CategoricalDtype
