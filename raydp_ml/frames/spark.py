"""Spark DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.cluster.python_daemon import PREDICTS
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.exchange.connect import is_connect
from raydp_ml.frames.arrays import Blocks, feature_values
from raydp_ml.frames.categories import Nominal, are_text, some
from raydp_ml.frames.columns import Column, Feature, Selection, column_slices
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.layouts import Matrix, assemble, null_rows, type_groups
from raydp_ml.frames.payload import Payload
from raydp_ml.frames.sparse import WIDE, assemble_sparse, vector_rows
from raydp_ml.frames.table import TableFrame, collect
from raydp_ml.names import quoted
from raydp_ml.session import warm_predictions

if TYPE_CHECKING:
    import pyspark.sql

    from raydp_ml.frames.prediction import Predictor

__all__ = ["SparkFrame", "spark_type"]

_FEATURES = "features"


class SparkFrame(Frame):
    """A Spark DataFrame."""

    kind: ClassVar[str] = "Spark DataFrame"
    distributed: ClassVar[bool] = True

    def __init__(self, frame: pyspark.sql.DataFrame) -> None:
        self.frame = frame

    def columns(self) -> list[Column]:
        """Describe the columns; ML vectors carry their length and the columns they were assembled from."""
        self.require_distinct(self.frame.columns)
        return [_describe(field) for field in self.frame.schema.fields]

    def count(self) -> int:
        """How many rows there are, which Spark computes."""
        return self.frame.count()

    def drop(self, names: Sequence[str]) -> Any:
        """The Spark DataFrame without some columns."""
        return self.frame.drop(*names)

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        import pyspark.sql.functions as F
        from pyspark.ml.linalg import VectorUDT

        column = _column(name)
        # A vector comes as it is, because a sparse one may be too long for an array.
        is_vector = isinstance(self.frame.schema[name].dataType, VectorUDT)
        wanted = column if is_vector else F.size(column)
        row = self.frame.select(wanted.alias("found")).where(column.isNotNull()).first()
        if row is None:
            raise InvalidValueError(
                f"the vector column {name!r} holds no vector; the frame is empty or the column all null"
            )
        return int(row["found"].size if is_vector else row["found"])

    def load(self, selection: Selection) -> Blocks:
        """Assemble the features in Spark and move them, with the label and the like, into Ray's object store."""

        from raydp_ml.exchange import from_spark

        crossed = crossed_features(selection)
        arrays = _feature_arrays(self.frame, selection)
        columns = [array.alias(group.name) for array, group in zip(arrays, crossed, strict=True)]
        label = tuple(f"label_{index}" for index in range(len(selection.label)))
        columns += [_label(self.frame, name).alias(new) for name, new in zip(selection.label, label, strict=True)]
        for role, name in selection.roles.items():
            column = _column(name)
            if role != "qid":  # names of queries are strings
                column = column.cast("boolean" if role == "validation" else "float")
            columns.append(column.alias(role))
        if selection.sparse:
            lists = [column.name for column in map(_describe, self.frame.schema.fields) if _is_list(column)]
            sizes = {
                group.name: group.width
                for group, feature in zip(crossed, selection.features, strict=True)
                if feature.name in lists
            }
            dataset = from_spark(self.frame.select(*columns), vectors="sparse", vector_sizes=sizes)
        else:
            sizes = {group.name: group.width for group in crossed}
            dataset = from_spark(self.frame.select(*columns), vector_sizes=sizes)
        from raydp_ml.frames.dataset import DatasetFrame

        roles = {role: role for role in selection.roles}
        return DatasetFrame(dataset).load(Selection(crossed, label, roles, selection.sparse))

    def with_predictions(
        self, predictor: Predictor, selection: Selection, output: str, name: str
    ) -> pyspark.sql.DataFrame:
        """The frame with a column of predictions, computed inside Spark's executors when it is read."""
        import pyspark.sql.functions as F

        arrays: Any = _feature_arrays(self.frame, selection)
        crossed, frame = crossed_features(selection), self.frame
        if predictor.nulls == "skip" and (selection.sparse or any(group.nominal for group in crossed)):
            complete = _from_warm_workers(_complete_column(crossed, selection.sparse), frame, predictor)
            frame = frame.where(complete(*arrays))
        elif predictor.nulls == "skip":
            for array, group in zip(arrays, crossed, strict=True):
                null = _is_null if group.dtype == "int64" else _is_nan
                frame = frame.where(~F.exists(array, null))
        scored = _prediction_column(frame, predictor, crossed, selection.sparse, output)
        return frame.withColumn(name, scored(*arrays))

    def warm_predictions(self, modules: tuple[str, ...]) -> None:
        """Have executors of this process's session import what predictions need."""
        warm_predictions((__name__, *modules))

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        return TableFrame(collect(self.frame.select(*[_column(name) for name in names]))).pull(names)

    def to_spark(self, session: Callable[[], pyspark.sql.SparkSession]) -> pyspark.sql.DataFrame:
        """The frame itself."""
        return self.frame


# -- describing ----------------------------------------------------------------------------------------------------


def _describe(field: Any) -> Column:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import ArrayType, BooleanType, IntegralType, NumericType

    kind, width, parts = "other", None, ()
    about: dict[str, Any] = field.metadata.get("ml_attr", {})
    attributes: list[Any] = []
    nominal: tuple[Nominal, ...] = ()
    if isinstance(field.dataType, BooleanType):
        kind = "boolean"
    elif isinstance(field.dataType, NumericType):
        kind = "number"
        nominal = _nominal([{**about, "idx": 0}])
    elif isinstance(field.dataType, VectorUDT):
        kind = "vector"
        width = about.get("num_attrs")
        attributes = [{"type": kind, **item} for kind, group in about.get("attrs", {}).items() for item in group]
        width = width if width is not None else len(attributes) or None
        parts = tuple(item["name"] for item in attributes if "name" in item)
        nominal = _nominal(attributes)
    elif isinstance(field.dataType, ArrayType) and isinstance(field.dataType.elementType, NumericType):
        kind = "vector"
    sparse = isinstance(field.dataType, VectorUDT)
    by_place = {item["idx"]: item["name"] for item in attributes if "name" in item and "idx" in item}
    elements = ()
    if width is not None and width <= WIDE and len(by_place) == width == len(set(by_place.values())):
        elements = tuple(by_place[place] for place in sorted(by_place))
    inner = field.dataType.elementType if isinstance(field.dataType, ArrayType) else field.dataType
    whole = isinstance(inner, IntegralType | BooleanType)
    return Column(field.name, kind, field.dataType.simpleString(), width, parts, sparse, elements, nominal, whole)


def _nominal(attributes: Sequence[dict[str, Any]]) -> tuple[Nominal, ...]:
    """The categories in Spark ML's metadata; a Bucketizer's, which have an order, are numbers."""
    return tuple(
        Nominal(tuple(item["vals"]), item["idx"])
        for item in attributes
        if item.get("type", "nominal") == "nominal" and item.get("vals") and "idx" in item and not item.get("ord")
    )


def _is_list(column: Column) -> bool:
    return column.kind == "vector" and not column.sparse


def _column(name: str) -> Any:
    """A column of this very name, dots and all."""
    import pyspark.sql.functions as F

    return F.col(quoted(name))


def _label(frame: pyspark.sql.DataFrame, name: str) -> Any:
    from pyspark.sql.types import DecimalType

    column = _column(name)
    return column.cast("double") if isinstance(frame.schema[name].dataType, DecimalType) else column


# -- assembling ----------------------------------------------------------------------------------------------------


def crossed_features(selection: Selection) -> tuple[Feature, ...]:
    """The columns that features travel in: an array for each type of number, or each its own in the sparse layout."""
    features = selection.features
    if selection.sparse:
        return tuple(Feature(f"{_FEATURES}_{number}", feature.width) for number, feature in enumerate(features))
    groups = type_groups(features).items()
    return tuple(
        Feature(
            f"{_FEATURES}_{number}" if number else _FEATURES,
            sum(feature.width for feature in group),
            dtype,
            nominal=tuple(
                each.of_codes(part.start)
                for feature, (_, part) in zip(group, column_slices(group), strict=True)
                for each in feature.nominal
            ),
        )
        for number, (dtype, group) in enumerate(groups)
    )


# The types of array elements and numbers in Spark's SQL that features of a type travel as.
_SQL_TYPES = {"float32": "float", "float64": "double", "int64": "bigint"}


def _is_null(item: Any) -> Any:
    return item.isNull()


def _is_nan(item: Any) -> Any:
    import pyspark.sql.functions as F

    return item.isNull() | F.isnan(item)


def _as_array(frame: pyspark.sql.DataFrame, name: str, dtype: str = "float32") -> Any:
    """A column of vectors or arrays as an array; a number that is to be an integer and cannot be one is null."""
    import pyspark.sql.functions as F
    from pyspark.ml.functions import vector_to_array
    from pyspark.ml.linalg import VectorUDT

    kind: Any = frame.schema[name].dataType
    if isinstance(kind, VectorUDT):
        array = vector_to_array(_column(name), dtype="float32" if dtype == "float32" else "float64")
        fractional = True
    else:
        array, fractional = _column(name), not _is_integral(kind.elementType)
    if dtype != "int64":
        return array if isinstance(kind, VectorUDT) else array.cast(f"array<{_SQL_TYPES[dtype]}>")
    return F.transform(array, lambda item: _as_integer(item, name)) if fractional else array.cast("array<bigint>")


def _is_integral(kind: Any) -> bool:
    from pyspark.sql.types import BooleanType, DecimalType, IntegralType

    return isinstance(kind, IntegralType | BooleanType | DecimalType)


def _as_integer(number: Any, name: str) -> Any:
    """A floating-point number as a bigint, NaN as null; Spark's own cast fails on NaN, or gives 0, by its settings."""
    import pyspark.sql.functions as F

    beyond = F.format_string(
        f"column {name!r} is given to the model as integers of 64 bits, which cannot hold ".replace("%", "%%") + "%s",
        number.cast("string"),
    )
    value = F.when(number.isNull() | F.isnan(number), F.lit(None).cast("bigint"))
    return value.when(F.abs(number) < F.lit(2.0**63), number.cast("bigint")).otherwise(F.raise_error(beyond))


def _feature_arrays(frame: pyspark.sql.DataFrame, selection: Selection) -> list[Any]:
    """The columns of :func:`crossed_features`."""
    if selection.sparse:
        columns = {column.name: column for column in map(_describe, frame.schema.fields)}
        return [_sparse_column(columns[feature.name]) for feature in selection.features]
    return [_feature_array(frame, group, dtype) for dtype, group in type_groups(selection.features).items()]


def _sparse_column(column: Column) -> Any:
    """A feature in the sparse layout: vectors as they are."""
    if column.kind == "vector":
        return _column(column.name) if column.sparse else _column(column.name).cast("array<float>")
    return _column(column.name).cast("float")


def _feature_array(frame: pyspark.sql.DataFrame, features: Sequence[Feature], dtype: str) -> Any:
    """One array column of features of one type; nulls become NaN where the type has one, and a vector of the wrong length is an
    error.
    """
    import pyspark.sql.functions as F

    columns = {column.name: column for column in map(_describe, frame.schema.fields)}
    null = F.lit(None if dtype == "int64" else float("nan")).cast(_SQL_TYPES[dtype])
    parts: list[Any] = []
    numbers: list[Any] = []

    def flush() -> None:
        if numbers:
            parts.append(F.array(*numbers))
            numbers.clear()

    for feature in features:
        if columns[feature.name].kind == "vector":
            flush()
            array = _with_codes(_as_array(frame, feature.name, dtype), columns[feature.name], feature)
            problem = F.format_string(
                f"column {feature.name!r} holds a vector of length %d where {feature.width} is expected".replace(
                    "%", "%%"
                ).replace("%%d", "%d"),
                F.size(array),
            )
            nulls = F.array_repeat(null, feature.width)
            right = F.when(array.isNull(), nulls).when(F.size(array) == feature.width, array)
            parts.append(right.otherwise(F.raise_error(problem)))
        elif feature.nominal:
            numbers.append(F.coalesce(_code(frame, columns[feature.name], feature).cast("float"), null))
        elif dtype != "int64":
            numbers.append(F.coalesce(_column(feature.name).cast(_SQL_TYPES[dtype]), null))
        elif _is_integral(frame.schema[feature.name].dataType):
            numbers.append(_column(feature.name).cast("bigint"))
        else:
            numbers.append(_as_integer(_column(feature.name), feature.name))
    flush()
    return parts[0] if len(parts) == 1 else reduce(lambda left, right: F.concat(left, right), parts)


# -- categories ----------------------------------------------------------------------------------------------------


def _code(frame: pyspark.sql.DataFrame, column: Column, feature: Feature) -> Any:
    """The code of a cell among the categories that the model knows; something else than a code for others.

    That codes are among those that there are is looked at where the features are read.
    """
    import pyspark.sql.functions as F
    from pyspark.sql.types import StringType

    cell, known = _column(column.name), feature.nominal[0].values
    if column.nominal:  # the cells are codes of the frame's own
        return _translated(cell, column, column.nominal[0].values, known)
    of_text = are_text(known)
    text = isinstance(frame.schema[column.name].dataType, StringType)
    if not (of_text if text else column.kind == "number" or (column.kind == "boolean" and not of_text)):
        raise _other_type(column, known)
    if text:
        return F.array_position(F.lit(list(known)), cell) - 1
    if of_text:
        return cell
    return F.array_position(F.lit([float(each) for each in known]), cell.cast("double")) - 1


def _with_codes(array: Any, column: Column, feature: Feature) -> Any:
    """An array of numbers in which the codes of the frame's own categories are those that the model knows."""
    import pyspark.sql.functions as F

    own = {each.place: each.values for each in column.nominal}
    other = [each for each in feature.nominal if each.place in own and tuple(own[each.place]) != tuple(each.values)]
    if not other:
        return array

    def code(number: Any, place: Any) -> Any:
        for each in other:
            translated = _translated(number, column, own[each.place], each.values)
            number = F.when(place == each.place, translated.cast("float")).otherwise(number)
        return number

    return F.transform(array, code)


def _translated(number: Any, column: Column, own: Sequence[Any], known: Sequence[Any]) -> Any:
    """The codes of a column's categories as those that the model knows; -1, which is no code, for others."""
    import pyspark.sql.functions as F

    if tuple(own) == tuple(known):
        return number
    if are_text(own) != are_text(known):
        raise _other_type(column, known)
    code_of = {category: code for code, category in enumerate(known)}
    codes = F.lit([code_of.get(category, -1) for category in own])
    # Comparisons first: Spark's NaN is larger than all numbers, and is no integer.
    return F.when((number >= 0) & (number < len(own)), F.get(codes, number.cast("int")))


def _other_type(column: Column, known: Sequence[Any]) -> InvalidTypeError:
    has = f"the categories {some(column.nominal[0].values)}" if column.nominal else f"the type {column.type}"
    return InvalidTypeError(
        f"column {column.name!r} has {has}, but the model was trained on the categories {some(known)}"
    )


# -- scoring inside the executors ----------------------------------------------------------------------------------


def _prediction_column(
    frame: pyspark.sql.DataFrame, predictor: Predictor, crossed: Sequence[Feature], sparse: bool, output: str
) -> Any:
    """A scalar UDF from the features to scores. Only its arguments travel to Python, not the frame's other columns."""
    payload = Payload(frame, predictor.to_bytes())

    def score(*arrays: pa.Array) -> pa.Array:
        sent: Predictor = payload.value()
        return sent.to_arrow(_rows_of(arrays, crossed, sparse), output)

    returns = spark_type(predictor.arrow_type(output))
    return _from_warm_workers(_arrow_function(score, crossed, returns), frame, predictor)


def _complete_column(crossed: Sequence[Feature], sparse: bool) -> Any:
    """A scalar UDF that says of rows whether they have all features, where Spark's SQL cannot."""

    def complete(*arrays: pa.Array) -> pa.Array:
        nulls = null_rows(_rows_of(arrays, crossed, sparse))
        return pa.array(np.ones(len(arrays[0]), bool) if nulls is None else ~nulls)

    return _arrow_function(complete, crossed, "boolean")


def _rows_of(arrays: Sequence[pa.Array], crossed: Sequence[Feature], sparse: bool) -> Matrix:
    """The rows of a batch that Spark hands to a UDF."""
    by_name = {group.name: array for group, array in zip(crossed, arrays, strict=True)}
    if not sparse:
        return assemble(crossed, len(arrays[0]), lambda group: feature_values(by_name[group.name], group))

    def read(group: Feature) -> Any:
        array = by_name[group.name]
        return vector_rows(array, group) if pa.types.is_struct(array.type) else feature_values(array, group)[0]

    return assemble_sparse(crossed, len(arrays[0]), read)


def _arrow_function(function: Callable[..., pa.Array], crossed: Sequence[Feature], returns: Any) -> Any:
    """A scalar UDF of Arrow arrays, one for each column that features travel in."""
    import pyspark.sql.functions as F

    functions: Any = F  # its stubs know no type of a column that is found out here
    if hasattr(functions, "arrow_udf"):

        def score_arrow(*arrays: pa.Array) -> pa.Array:
            return function(*arrays)

        return functions.arrow_udf(score_arrow, returnType=returns)

    import pandas as pd

    def arrow_of(array: Any, group: Feature) -> pa.Array:
        if isinstance(array, pd.DataFrame):  # a vector's struct
            fields, null = [pa.array(array[name]) for name in array.columns], pa.array(array["type"].isna())
            return pa.StructArray.from_arrays(fields, list(array.columns), mask=null)
        return pa.array(array, pa.list_(pa.from_numpy_dtype(np.dtype(group.dtype))) if array.dtype == object else None)

    def score_pandas(*arrays: Any) -> Any:
        return function(*(arrow_of(array, group) for array, group in zip(arrays, crossed, strict=True))).to_pandas()

    # Set by hand: pandas is imported here only, and Spark resolves written hints at module level.
    score_pandas.__annotations__ = {"arrays": pd.Series, "return": pd.Series}
    return functions.pandas_udf(score_pandas, returnType=returns)


def _from_warm_workers(udf: Any, frame: pyspark.sql.DataFrame, predictor: Predictor) -> Any:
    """Have the workers of a UDF forked from the daemon for predictions, which has the model's library imported.

    The environment of one UDF has no public name: this one is that of pyspark 3.5 to 4.3. With Spark Connect the UDF is made in the
    server, and the workers are Spark's own, as they are in sessions that are not ours.
    """
    modules = (__name__, *predictor.modules)
    if not is_connect(frame) and warm_predictions(modules):
        udf._unwrapped._judf.func().envVars().put(PREDICTS, ",".join(modules))
    return udf


def spark_type(kind: pa.DataType) -> Any:
    """The type of Spark's column that holds predictions of this Arrow type."""
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import ArrayType

    return ArrayType(spark_type(kind.value_type)) if pa.types.is_list(kind) else from_arrow_type(kind)
