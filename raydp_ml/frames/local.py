"""pandas frames and pyarrow Tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.arrays import Arrays, arrays_of_table, matrix_of_table, plain_values
from raydp_ml.frames.columns import Column, Selection

if TYPE_CHECKING:
    from raydp_ml.frames.prediction import Predictor

__all__ = ["PandasFrame", "TableFrame", "column_of_field"]


def column_of_field(field: pa.Field) -> Column:
    """Describe an Arrow field.

    Examples
    --------
    >>> column_of_field(pa.field("a", pa.int8())).kind
    'number'
    """
    kind = field.type
    word, width = "other", None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        word = "number"
    elif pa.types.is_boolean(kind):
        word = "boolean"
    elif isinstance(kind, pa.BaseExtensionType):
        shape = getattr(kind, "shape", None)
        if shape is not None or "tensor" in str(getattr(kind, "extension_name", "")):
            word, width = "vector", int(np.prod(shape)) if shape is not None else None
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = column_of_field(pa.field("item", kind.value_type)).kind
        word = "vector" if inner in ("number", "boolean") else "other"
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
    return Column(field.name, word, str(kind), width)


class TableFrame:
    """A pyarrow Table."""

    kind: ClassVar[str] = "pyarrow Table"
    distributed: ClassVar[bool] = False

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def columns(self) -> list[Column]:
        """Describe the columns."""
        names = self.table.column_names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidValueError(f"the pyarrow Table has several columns named {repeated}; rename them first")
        return [column_of_field(field) for field in self.table.schema]

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        first = self.table[name].drop_null().slice(0, 1).to_pylist()
        if not first:
            raise InvalidValueError(f"the vector column {name!r} holds no vector")
        return int(np.size(first[0]))

    def load(self, selection: Selection) -> Arrays:
        """Read the selected columns."""
        return arrays_of_table(self.table.select(selection.columns), selection)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> pa.Table:
        """The table with a column of scores at its end."""
        X = matrix_of_table(self.table, selection)
        table, keep = self.table, predictor.rows_to_keep(X)
        if keep is not None:
            table, X = table.filter(pa.array(keep)), X[keep]
        if name in table.column_names:
            table = table.drop_columns([name])
        return table.append_column(name, predictor.to_arrow(X, output))

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        return {name: plain_values(self.table[name]) for name in names}


class PandasFrame:
    """A pandas frame with named columns."""

    kind: ClassVar[str] = "pandas frame"
    distributed: ClassVar[bool] = False

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def columns(self) -> list[Column]:
        """Describe the columns; cells that hold lists or arrays make a vector column."""
        if not self.frame.columns.is_unique:
            repeated = sorted(set(map(str, self.frame.columns[self.frame.columns.duplicated()])))
            raise InvalidValueError(f"the pandas frame has several columns named {repeated}; rename them first")
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
        if types.is_bool_dtype(dtype) and not isinstance(dtype, _categorical()):
            kind = "boolean"
        elif types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
            kind = "number"
        elif isinstance(dtype, np.dtype) and dtype.kind == "O":
            first = self.frame[name].first_valid_index()
            cell = None if first is None else self.frame[name].loc[first]
            if isinstance(cell, np.ndarray | list | tuple) and np.asarray(cell).dtype.kind in "iufb":
                kind, width = "vector", int(np.size(cell))
        elif hasattr(dtype, "pyarrow_dtype"):
            described = column_of_field(pa.field(name, dtype.pyarrow_dtype))
            kind, width = described.kind, described.width
        return Column(name, kind, str(dtype), width)

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        return TableFrame(self._table([name])).vector_width(name)

    def _table(self, names: list[str]) -> pa.Table:
        return pa.Table.from_pandas(self.frame[names], preserve_index=False)

    def load(self, selection: Selection) -> Arrays:
        """Read the selected columns."""
        rest = Selection((), selection.label, selection.roles)
        arrays = arrays_of_table(self._table(rest.columns), rest) if rest.columns else Arrays(np.empty((0, 0)))
        if len(selection.label) == 1:
            # As pandas gives it, so that classes_ have the type that scikit-learn would find.
            arrays.label = self.frame[selection.label[0]].to_numpy()
        arrays.X = self.matrix(selection)
        return arrays

    def matrix(self, selection: Selection) -> np.ndarray:
        """The features as one float32 matrix, nulls as NaN."""
        names = [feature.name for feature in selection.features]
        plain = all(
            isinstance(self.frame[name].dtype, np.dtype) and self.frame[name].dtype.kind != "O" for name in names
        )
        if plain:
            return np.ascontiguousarray(self.frame[names].to_numpy(dtype=np.float32))
        return matrix_of_table(self._table(names), selection)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> np.ndarray:
        """Scores as numpy, as scikit-learn's estimators give them."""
        return predictor.to_numpy(self.matrix(selection), output)

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        return {name: self.frame[name].to_numpy() for name in names}


def _categorical() -> type:
    import pandas as pd

    return pd.CategoricalDtype
