"""The kinds of rows that a LocalPipeline takes, and how its results go back: a class for each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["LocalRows", "open_rows"]


class LocalRows(ABC):
    """Rows in this process.

    Parameters
    ----------
    given : object
        What the user gave.
    """

    def __init__(self, given: Any) -> None:
        self.given = given

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The names of the columns."""

    @abstractmethod
    def table(self, names: Sequence[str] | None, schema: pa.Schema) -> pa.Table:
        """Columns as Arrow has them.

        Parameters
        ----------
        names : sequence of str or None
            Columns that are read, of which some may be missing; None: all.
        schema : pyarrow.Schema
            The columns that the pipeline was fitted on, for types that the rows do not tell.
        """

    @abstractmethod
    def with_predictions(self, predictions: pa.Array, positions: np.ndarray, name: str) -> Any:
        """The result of a prediction.

        Parameters
        ----------
        predictions : pyarrow.Array
            For the rows that are left.
        positions : numpy.ndarray
            The numbers of these rows.
        name : str
            How a column of them is called.
        """

    @abstractmethod
    def with_columns(self, names: Sequence[str], made: Mapping[str, pa.Array], positions: np.ndarray) -> Any:
        """The result of a transformation, of the kind that was given.

        Parameters
        ----------
        names : sequence of str
            All columns in their order.
        made : mapping of str to pyarrow.Array
            Those that steps made; the others are as they came.
        positions : numpy.ndarray
            The numbers of the rows that are left.
        """


class TableRows(LocalRows):
    """A pyarrow Table or RecordBatch."""

    @property
    def names(self) -> list[str]:
        return list(self.given.schema.names)

    def table(self, names: Sequence[str] | None, schema: pa.Schema) -> pa.Table:
        given = pa.Table.from_batches([self.given]) if isinstance(self.given, pa.RecordBatch) else self.given
        repeated = sorted({name for name in given.column_names if given.column_names.count(name) > 1})
        if repeated:
            raise InvalidValueError(f"the pyarrow Table has several columns named {repeated}; rename them first")
        return typed(
            given if names is None else given.select([name for name in names if name in given.schema.names]), schema
        )

    def with_predictions(self, predictions: pa.Array, positions: np.ndarray, name: str) -> Any:
        return self.with_columns([*(each for each in self.names if each != name), name], {name: predictions}, positions)

    def with_columns(self, names: Sequence[str], made: Mapping[str, pa.Array], positions: np.ndarray) -> Any:
        given = self.given if len(positions) == self.given.num_rows else self.given.take(pa.array(positions))
        columns = {name: made[name] if name in made else given.column(name) for name in names}
        return pa.RecordBatch.from_pydict(columns) if isinstance(given, pa.RecordBatch) else pa.table(columns)


class PandasRows(LocalRows):
    """A pandas frame; predictions of it are numpy, as in scikit-learn."""

    @property
    def names(self) -> list[str]:
        return list(self.given.columns)

    def table(self, names: Sequence[str] | None, schema: pa.Schema) -> pa.Table:
        from raydp_ml.frames.pandas_frame import arrow_of_pandas

        columns = self.names if names is None else [name for name in names if name in self.given.columns]
        return typed(_whole_again(arrow_of_pandas(self.given[columns]), schema), schema)

    def with_predictions(self, predictions: pa.Array, positions: np.ndarray, name: str) -> Any:
        require_all(positions, len(self.given), "a pandas frame")
        return numpy_of(predictions)

    def with_columns(self, names: Sequence[str], made: Mapping[str, pa.Array], positions: np.ndarray) -> Any:
        given = self.given.iloc[positions]
        kept = given[[name for name in names if name in given.columns and name not in made]]
        whole = kept.assign(**{name: _pandas_of(column) for name, column in made.items()})
        return whole[list(names)]


class DictRows(LocalRows):
    """A list with a dict for each row; predictions of it are a list of Python's own values, as JSON takes them."""

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.given for name in row))

    def table(self, names: Sequence[str] | None, schema: pa.Schema) -> pa.Table:
        kinds = {field.name: field.type for field in schema}
        if not self.given:
            wanted = kinds if names is None else [name for name in names if name in kinds]
            return pa.table({name: pa.array([], kinds[name]) for name in wanted})
        there = self.names
        wanted = there if names is None else [name for name in names if name in there]
        # A table without columns would have no rows, so the rows get one that no step reads.
        return pa.table(
            {name: self._column(name, kinds.get(name)) for name in wanted} or {"": pa.nulls(len(self.given))}
        )

    def _column(self, name: str, kind: pa.DataType | None) -> pa.Array:
        try:
            values = [row[name] for row in self.given]
            if kind is not None and pa.types.is_integer(kind) and any(type(value) is float for value in values):
                # Arrow would cut off the fraction of a number that it is told to take as a whole one.
                return pa.array(values, type=pa.float64(), from_pandas=False).cast(kind)
            return pa.array(values, type=kind, from_pandas=False)
        except KeyError:
            lacking = next(number for number, row in enumerate(self.given) if name not in row)
            raise InvalidValueError(
                f"row {lacking} has no {name!r}, which other rows have; write {name!r}: None where a value is missing"
            ) from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            wanted = "values of one type" if kind is None else f"{kind}, as the pipeline was fitted on"
            raise InvalidTypeError(f"{name!r} must hold {wanted}: {error}") from error

    def with_predictions(self, predictions: pa.Array, positions: np.ndarray, name: str) -> Any:
        require_all(positions, len(self.given), "a list of rows")
        return predictions.to_pylist()

    def with_columns(self, names: Sequence[str], made: Mapping[str, pa.Array], positions: np.ndarray) -> Any:
        values = {name: column.to_pylist() for name, column in made.items()}
        return [
            {
                name: values[name][number] if name in values else self.given[position][name]
                for name in names
                if name in values or name in self.given[position]
            }
            for number, position in enumerate(positions.tolist())
        ]


def open_rows(X: Any) -> LocalRows:
    """The rows that a user gave.

    Parameters
    ----------
    X : pandas frame, pyarrow Table or RecordBatch, or list of dict
        The rows.

    Raises
    ------
    InvalidTypeError
        For anything else.

    Examples
    --------
    >>> open_rows([{"a": 1}]).table(None, pa.schema([])).to_pylist()
    [{'a': 1}]
    """
    if isinstance(X, pa.Table | pa.RecordBatch):
        return TableRows(X)
    if any(base.__name__ == "DataFrame" and base.__module__.startswith("pandas.") for base in type(X).__mro__):
        return PandasRows(X)
    if isinstance(X, Sequence) and not isinstance(X, str | bytes) and all(isinstance(row, Mapping) for row in X):
        return DictRows(X)
    hint = "; put a single row into a list" if isinstance(X, Mapping) else ""
    raise InvalidTypeError(
        "a LocalPipeline takes a pandas frame, a pyarrow Table or RecordBatch, or a list with a dict for each row; got "
        f"{type(X).__module__}.{type(X).__name__}{hint}"
    )


def typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table whose columns of nothing but nulls, which Arrow gives no type, have the type that was fitted on."""
    for position, field in enumerate(table.schema):
        if pa.types.is_null(field.type) and field.name in schema.names:
            kind = schema.field(field.name).type
            table = table.set_column(position, field.name, pa.nulls(table.num_rows, kind))
    return table


def _whole_again(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Whole numbers that pandas made floating point numbers, because some are missing, as whole numbers with nulls."""
    for position, field in enumerate(table.schema):
        if not pa.types.is_floating(field.type) or field.name not in schema.names:
            continue
        kind = schema.field(field.name).type
        if not pa.types.is_integer(kind):
            continue
        column = table.column(position).combine_chunks()
        whole = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if pc.all(pc.equal(whole, pc.trunc(whole)), skip_nulls=True).as_py() is not False:
            table = table.set_column(position, field.name, whole.cast(kind))
    return table


def require_all(positions: np.ndarray, rows: int, what: str) -> None:
    """Raise when rows were skipped where each needs a prediction."""
    if len(positions) != rows:
        raise InvalidValueError(
            f"{rows - len(positions)} of {rows} rows are skipped, by handleInvalid='skip' or null_features='skip', so the "
            f"predictions of {what} would not be in the order of its rows; give a pyarrow Table"
        )


def numpy_of(predictions: pa.Array) -> np.ndarray:
    """Predictions as numpy: a matrix for lists, NaN for null numbers and None for null labels."""
    kind = predictions.type
    if pa.types.is_list(kind):
        width = pc.max(pc.list_value_length(predictions)).as_py() or 0
        matrix = np.full((len(predictions), width), np.nan)
        matrix[predictions.is_valid().to_numpy(zero_copy_only=False)] = (
            predictions.flatten().to_numpy().reshape(-1, width)
        )
        return matrix
    if predictions.null_count and not pa.types.is_floating(kind):
        values = np.empty(len(predictions), object)
        values[:] = predictions.to_pylist()
        return values
    plain: np.ndarray = predictions.to_numpy(zero_copy_only=False)
    return plain


def _pandas_of(column: pa.Array) -> Any:
    """The cells of a column of a pandas frame; vectors are arrays of numpy, sparse ones dicts of Spark's fields."""
    return column.to_pandas().to_numpy()
