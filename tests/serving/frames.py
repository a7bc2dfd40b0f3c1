"""Spark frames as local ones and back, by way of rows, so that every version of Spark can be compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.ml.linalg import DenseVector, SparseVector, Vector, VectorUDT
from pyspark.sql.pandas.types import to_arrow_type

from raydp_ml.serving.columns import DenseVectors, LocalFrame, SparseVectors

VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)

# Frames that were collected already; each is kept, so that no other gets its id.
_LOCAL: dict[int, tuple[Any, LocalFrame]] = {}


def to_local(df: Any) -> LocalFrame:
    """The rows of a Spark frame as Arrow has them, vectors as Spark's own structs."""
    found = _LOCAL.get(id(df))
    if found is not None:
        return found[1]
    rows = df.collect()
    arrays: list[pa.Array] = []
    for position, field in enumerate(df.schema.fields):
        values = [row[position] for row in rows]
        if isinstance(field.dataType, VectorUDT):
            arrays.append(pa.array([_struct(value) for value in values], type=VECTOR))
        else:
            arrays.append(pa.array(values, type=to_arrow_type(field.dataType), from_pandas=False))
    frame = LocalFrame.from_arrow(pa.table(arrays, names=df.columns))
    _LOCAL[id(df)] = (df, frame)
    return frame


def _struct(vector: Vector | None) -> dict[str, Any] | None:
    if vector is None:
        return None
    if isinstance(vector, SparseVector):
        return {"type": 0, "size": vector.size, "indices": vector.indices.tolist(), "values": vector.values.tolist()}
    return {"type": 1, "size": None, "indices": None, "values": vector.values.tolist()}


def values_of(frame: LocalFrame, name: str) -> list[Any]:
    """A local column as Python values, vectors as lists."""
    column = frame.column(name)
    if not isinstance(column, DenseVectors | SparseVectors):
        return column.to_pylist()
    present = np.ones(frame.rows, dtype=bool) if column.present is None else column.present
    return [_listed(row) if there else None for row, there in zip(column.dense().matrix, present, strict=True)]


def spark_values(df: Any, name: str) -> list[Any]:
    """A column of a Spark frame as Python values, vectors as lists."""
    values = [row[0] for row in df.select(f"`{name}`").collect()]
    return [_listed(value.toArray()) if isinstance(value, DenseVector | SparseVector) else value for value in values]


def _listed(vector: np.ndarray) -> list[Any]:
    """A vector's numbers, of a long one its length and the places and numbers that are not zero."""
    if len(vector) <= 1000:
        return vector.tolist()
    places = np.flatnonzero(vector)
    return [len(vector), places.tolist(), vector[places].tolist()]


def same(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether two columns are equal, numbers to a relative error of 1e-12."""
    if len(ours) != len(theirs):
        return False
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, list) and isinstance(other, list):
            if not same(one, other):
                return False
        elif isinstance(one, float) and isinstance(other, float):
            if not np.isclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True):
                return False
        elif one != other or type(one) is not type(other):
            return False
    return True
