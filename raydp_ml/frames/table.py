"""pyarrow Tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.arrays import Arrays, arrays_of_table, matrix_of_table, plain_values
from raydp_ml.frames.categories import Category, known_categories
from raydp_ml.frames.columns import Column, Selection
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.sparse import is_vector_struct

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.prediction import Predictor

__all__ = ["TableFrame", "collect", "column_of_field", "spark_frame_of"]


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
    elif pa.types.is_dictionary(kind):
        word = "category"
    elif isinstance(kind, pa.BaseExtensionType):
        shape = getattr(kind, "shape", None)
        if shape is not None or "tensor" in str(getattr(kind, "extension_name", "")):
            word, width = "vector", int(np.prod(shape)) if shape is not None else None
    elif is_vector_struct(kind):
        return Column(field.name, "vector", "sparse vector", sparse=True)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = column_of_field(pa.field("item", kind.value_type))
        word = "vector" if inner.kind in ("number", "boolean") else "other"
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        return Column(field.name, word, str(kind), width, whole=inner.whole)
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return Column(field.name, word, str(kind), width, whole=whole)


class TableFrame(Frame):
    """A pyarrow Table."""

    kind: ClassVar[str] = "pyarrow Table"

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def columns(self) -> list[Column]:
        """Describe the columns."""
        self.require_distinct(self.table.column_names)
        return [column_of_field(field) for field in self.table.schema]

    def categories(self, names: Sequence[str]) -> dict[str, tuple[Category, ...]]:
        """What the dictionaries of all chunks hold."""
        return {
            name: known_categories(
                [value for chunk in self.table[name].chunks for value in chunk.dictionary.to_pylist()], name
            )
            for name in names
        }

    def drop(self, names: Sequence[str]) -> pa.Table:
        """The table without some columns."""
        return self.table.drop_columns(list(names))

    def take(self, positions: Sequence[int] | np.ndarray) -> pa.Table:
        """Rows by position."""
        return self.table.take(positions)

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        first = self.table[name].drop_null().slice(0, 1).to_pylist()
        if not first:
            raise InvalidValueError(f"the vector column {name!r} holds no vector")
        return int(first[0]["size"] if is_vector_struct(self.table.schema.field(name).type) else np.size(first[0]))

    def count(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    def load(self, selection: Selection) -> Arrays:
        """Read the selected columns."""
        return arrays_of_table(self.table.select(selection.columns), selection)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> pa.Table:
        """The table with a column of predictions at its end."""
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

    def to_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows as a Spark DataFrame."""
        return spark_frame_of(self.table, session())

    def give_back(self, result: DataFrame) -> pa.Table:
        """All rows of a Spark DataFrame as a table."""
        return collect(result)


def spark_frame_of(table: pa.Table, spark: SparkSession) -> DataFrame:
    """A Spark DataFrame of an Arrow table.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    spark : pyspark.sql.SparkSession
        Its session.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if int(spark.version.split(".")[0]) >= 4:
            return spark.createDataFrame(table)
        return spark.createDataFrame(table.to_pandas())


def collect(df: DataFrame) -> pa.Table:
    """All rows of a Spark DataFrame as an Arrow table in this process."""
    if hasattr(df, "toArrow"):
        return df.toArrow()
    # Spark 3.5 has no public way that keeps nulls and types.
    batches = getattr(df, "_collect_as_arrow")()  # noqa: B009
    return pa.Table.from_batches(batches) if batches else pa.Table.from_pandas(df.limit(0).toPandas())
