"""The map from Arrow to Spark types, without Spark running."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest
from ray.data.extensions import ArrowTensorArray, ArrowVariableShapedTensorArray

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.exchange.types import readable_schema, readable_table, spark_schema


@pytest.mark.parametrize(
    ("kind", "spark"),
    [
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "decimal(20,0)"),
        (pa.float16(), "float"),
        (pa.float64(), "double"),
        (pa.decimal128(12, 3), "decimal(12,3)"),
        (pa.large_string(), "string"),
        (pa.binary(4), "binary"),
        (pa.date64(), "date"),
        (pa.timestamp("ns"), "timestamp_ntz"),
        (pa.timestamp("ms", tz="Europe/Berlin"), "timestamp"),
        (pa.duration("s"), "interval day to second"),
        (pa.time32("s"), "time(6)"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.list_(pa.float32(), 3), "array<float>"),
        (pa.map_(pa.string(), pa.uint16()), "map<string,int>"),
        (pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), "struct<a:tinyint,b:array<string>>"),
    ],
)
def test_spark_type(kind: pa.DataType, spark: str) -> None:
    assert spark_schema(pa.schema([("c", kind)])).simpleString() == f"struct<c:{spark}>"


@pytest.mark.parametrize("kind", [pa.month_day_nano_interval(), pa.decimal256(50, 2)])
def test_a_type_without_counterpart_is_named(kind: pa.DataType) -> None:
    with pytest.raises(InvalidTypeError, match=r"column 'c' has the type"):
        spark_schema(pa.schema([("c", kind)]))


def test_repeated_names_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"\['a'\]"):
        spark_schema(pa.schema([("a", pa.int8()), ("a", pa.int8())]))


def test_casts_keep_values() -> None:
    table = pa.table(
        {
            "u64": pa.array([2**64 - 1, None], pa.uint64()),
            "when": pa.array([dt.datetime(2013, 1, 1, 5), None], pa.timestamp("ns")),
            "word": pa.array(["a", None]).dictionary_encode(),
            "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)),
            "deep": pa.array([{"x": [1]}, None], pa.struct([("x", pa.large_list(pa.uint8()))])),
        }
    )
    out = readable_table(table, readable_schema(table.schema))
    assert out["u64"].to_pylist() == [decimal.Decimal(2**64 - 1), None]
    assert out["when"].to_pylist() == [dt.datetime(2013, 1, 1, 5), None]
    assert out["word"].to_pylist() == ["a", None]
    assert out["vector"].to_pylist() == [[1.0, 2.0], None]
    assert out["deep"].to_pylist() == [{"x": [1]}, None]
    assert out.schema.field("vector").type == pa.list_(pa.float64())


def test_nanoseconds_that_would_be_lost_are_an_error() -> None:
    table = pa.table({"t": pa.array([1_000_000_001], pa.timestamp("ns"))})
    with pytest.raises(InvalidTypeError, match="column 't'"):
        readable_table(table, readable_schema(table.schema))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_tensors_become_nested_lists(shape: tuple[int, ...]) -> None:
    values = np.arange(4 * int(np.prod(shape)), dtype=np.float32).reshape(4, *shape)
    table = pa.table({"t": ArrowTensorArray.from_numpy(values)})
    out = readable_table(table, readable_schema(table.schema))
    assert out["t"].to_pylist() == values.tolist()
    # A slice of a tensor column shows its own rows.
    cut = readable_table(table.slice(1, 2), readable_schema(table.schema))
    assert cut["t"].to_pylist() == values[1:3].tolist()


def test_tensors_of_several_shapes_become_nested_lists() -> None:
    values = np.empty(4, dtype=object)
    for i, shape in enumerate([(2, 1, 3), (1, 2, 2), (0, 2, 2), (1, 1, 1)]):
        values[i] = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) + 10 * i
    table = pa.table({"t": ArrowVariableShapedTensorArray.from_numpy(values)})
    assert spark_schema(table.schema).simpleString() == "struct<t:array<array<array<int>>>>"
    target = readable_schema(table.schema)
    assert readable_table(table, target)["t"].to_pylist() == [value.tolist() for value in values]
    assert readable_table(table.slice(1, 3), target)["t"].to_pylist() == [value.tolist() for value in values[1:]]
    assert readable_table(table.slice(4), target).num_rows == 0


def test_a_column_that_a_block_lacks_is_null() -> None:
    target = pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert readable_table(pa.table({"a": [1, 2]}), target).to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": None}]
