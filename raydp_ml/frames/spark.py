"""Spark DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.arrays import Blocks, vector_values
from raydp_ml.frames.columns import Column, Feature, Selection
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.payload import Payload
from raydp_ml.frames.table import TableFrame, collect
from raydp_ml.names import quoted

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

    def drop(self, names: Sequence[str]) -> Any:
        """The Spark DataFrame without some columns."""
        return self.frame.drop(*names)

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        import pyspark.sql.functions as F

        array = _as_array(self.frame, name)
        row = self.frame.select(F.size(array).alias("n")).where(array.isNotNull()).first()
        if row is None:
            raise InvalidValueError(
                f"the vector column {name!r} holds no vector; the frame is empty or the column all null"
            )
        return int(row["n"])

    def load(self, selection: Selection) -> Blocks:
        """Assemble the features in Spark and move them, with the label and the like, into Ray's object store."""

        from raydp_ml.exchange import from_spark

        columns = [_features(self.frame, selection).alias(_FEATURES)]
        label = tuple(f"label_{index}" for index in range(len(selection.label)))
        columns += [_label(self.frame, name).alias(new) for name, new in zip(selection.label, label, strict=True)]
        for role, name in selection.roles.items():
            column = _column(name)
            if role != "qid":  # names of queries are strings
                column = column.cast("boolean" if role == "validation" else "float")
            columns.append(column.alias(role))
        width = selection.width
        dataset = from_spark(self.frame.select(*columns), vector_sizes={_FEATURES: width})
        from raydp_ml.frames.dataset import DatasetFrame

        roles = {role: role for role in selection.roles}
        return DatasetFrame(dataset).load(Selection((Feature(_FEATURES, width),), label, roles))

    def with_predictions(
        self, predictor: Predictor, selection: Selection, output: str, name: str
    ) -> pyspark.sql.DataFrame:
        """The frame with a column of predictions, computed inside Spark's executors when it is read."""
        import pyspark.sql.functions as F

        features: Any = _features(self.frame, selection)
        frame = self.frame
        if predictor.nulls == "skip":
            frame = frame.where(~F.exists(features, lambda item: item.isNull() | F.isnan(item)))
        return frame.withColumn(name, _prediction_column(frame, predictor, output)(features))

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        return TableFrame(collect(self.frame.select(*[_column(name) for name in names]))).pull(names)

    def to_spark(self, session: Callable[[], pyspark.sql.SparkSession]) -> pyspark.sql.DataFrame:
        """The frame itself."""
        return self.frame


# -- describing ----------------------------------------------------------------------------------------------------


def _describe(field: Any) -> Column:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import ArrayType, BooleanType, NumericType

    kind, width, parts = "other", None, ()
    if isinstance(field.dataType, BooleanType):
        kind = "boolean"
    elif isinstance(field.dataType, NumericType):
        kind = "number"
    elif isinstance(field.dataType, VectorUDT):
        kind = "vector"
        about = field.metadata.get("ml_attr", {})
        width = about.get("num_attrs")
        attributes = [item for group in about.get("attrs", {}).values() for item in group]
        width = width if width is not None else len(attributes) or None
        parts = tuple(item["name"] for item in attributes if "name" in item)
    elif isinstance(field.dataType, ArrayType) and isinstance(field.dataType.elementType, NumericType):
        kind = "vector"
    return Column(field.name, kind, field.dataType.simpleString(), width, parts)


def _column(name: str) -> Any:
    """A column of this very name, dots and all."""
    import pyspark.sql.functions as F

    return F.col(quoted(name))


def _label(frame: pyspark.sql.DataFrame, name: str) -> Any:
    from pyspark.sql.types import DecimalType

    column = _column(name)
    return column.cast("double") if isinstance(frame.schema[name].dataType, DecimalType) else column


# -- assembling ----------------------------------------------------------------------------------------------------


def _as_array(frame: pyspark.sql.DataFrame, name: str) -> Any:
    from pyspark.ml.functions import vector_to_array
    from pyspark.ml.linalg import VectorUDT

    if isinstance(frame.schema[name].dataType, VectorUDT):
        return vector_to_array(_column(name), dtype="float32")
    return _column(name).cast("array<float>")


def _features(frame: pyspark.sql.DataFrame, selection: Selection) -> Any:
    """One array<float> column of all features; nulls become NaN, and a vector of the wrong length is an error."""
    import pyspark.sql.functions as F

    kinds = {column.name: column.kind for column in map(_describe, frame.schema.fields)}
    nan = F.lit(float("nan")).cast("float")
    parts: list[Any] = []
    numbers: list[Any] = []

    def flush() -> None:
        if numbers:
            parts.append(F.array(*numbers))
            numbers.clear()

    for feature in selection.features:
        if kinds[feature.name] == "vector":
            flush()
            array = _as_array(frame, feature.name)
            problem = F.format_string(
                f"column {feature.name!r} holds a vector of length %d where {feature.width} is expected".replace(
                    "%", "%%"
                ).replace("%%d", "%d"),
                F.size(array),
            )
            nulls = F.array_repeat(nan, feature.width)
            right = F.when(array.isNull(), nulls).when(F.size(array) == feature.width, array)
            parts.append(right.otherwise(F.raise_error(problem)))
        else:
            numbers.append(F.coalesce(_column(feature.name).cast("float"), nan))
    flush()
    return parts[0] if len(parts) == 1 else reduce(lambda left, right: F.concat(left, right), parts)


# -- scoring inside the executors ----------------------------------------------------------------------------------


def _prediction_column(frame: pyspark.sql.DataFrame, predictor: Predictor, output: str) -> Any:
    """A scalar UDF from the features to scores. Only its argument travels to Python, not the frame's other columns."""
    import pyspark.sql.functions as F

    payload = Payload(frame, predictor.to_bytes())
    functions: Any = F  # its stubs know no type of a column that is found out here
    width = predictor.width
    returns = spark_type(predictor.arrow_type(output))

    def score(features: pa.Array) -> pa.Array:
        sent: Predictor = payload.value()
        return sent.to_arrow(vector_values(features, width, _FEATURES), output)

    if hasattr(functions, "arrow_udf"):

        def score_arrow(features: pa.Array) -> pa.Array:
            return score(features)

        return functions.arrow_udf(score_arrow, returnType=returns)

    import pandas as pd

    def score_pandas(features: Any) -> Any:
        return score(pa.array(features, pa.list_(pa.float32()))).to_pandas()

    # Set by hand: pandas is imported here only, and Spark resolves written hints at module level.
    score_pandas.__annotations__ = {"features": pd.Series, "return": pd.Series}
    return functions.pandas_udf(score_pandas, returnType=returns)


def spark_type(kind: pa.DataType) -> Any:
    """The type of Spark's column that holds predictions of this Arrow type."""
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import ArrayType

    return ArrayType(spark_type(kind.value_type)) if pa.types.is_list(kind) else from_arrow_type(kind)
