"""The one map between Arrow and Spark types, for blocks on their way into Spark.

The way out of Spark needs no map of ours: Spark's own ``ArrowUtils`` makes the Arrow schema there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.exchange.sparse import is_sparse, sparse_field

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructType


def spark_schema(schema: pa.Schema) -> StructType:
    """Spark schema of an Arrow schema.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of a Ray Dataset's blocks.

    Returns
    -------
    pyspark.sql.types.StructType
        All fields nullable.

    Raises
    ------
    InvalidTypeError
        For a type that Spark has no counterpart for; names column and type.

    Examples
    --------
    >>> spark_schema(pa.schema([("x", pa.uint32())])).simpleString()
    'struct<x:bigint>'
    """
    from pyspark.sql.types import StructField, StructType

    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise InvalidValueError(f"the dataset has several columns named {repeated}; rename them first")
    return StructType([StructField(field.name, _spark_field_type(field), True) for field in schema])


def readable_schema(schema: pa.Schema) -> pa.Schema:
    """The Arrow schema that Spark's column vectors read, with the same fields in the same order."""
    return pa.schema(
        [
            sparse_field(field.name) if is_sparse(field) else pa.field(field.name, _readable(field.type, field.name))
            for field in schema
        ]
    )


def readable_table(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Cast a block to what Spark reads, exactly or not at all. A column that it lacks is null.

    Parameters
    ----------
    table : pyarrow.Table
        A block.
    target : pyarrow.Schema
        Part of a :func:`readable_schema`.

    Returns
    -------
    pyarrow.Table
        The columns of ``target``, in its order.

    Raises
    ------
    InvalidTypeError
        When a value has no exact counterpart; names the column.
    """
    columns = []
    for field in target:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = plain_column(table[field.name])
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InvalidTypeError(
                    f"column {field.name!r} of type {column.type} cannot become {field.type} for Spark: {error}"
                ) from error
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=target) if columns else table.select([])


def _tensor_shape(kind: pa.DataType) -> tuple[int | None, ...] | None:
    """Shape of one element of a Ray tensor column, of Nones where each element has its own; None for every other type."""
    if isinstance(kind, pa.BaseExtensionType) and hasattr(kind, "shape") and hasattr(kind, "storage_type"):
        return tuple(kind.shape)
    return None


def is_tensor(kind: pa.DataType) -> bool:
    """Whether a column of Ray or Arrow holds tensors."""
    return _tensor_shape(kind) is not None


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A tensor column as nested lists of its shape; any other column as it is."""
    shape = _tensor_shape(column.type)
    if shape is None:
        if isinstance(column.type, pa.BaseExtensionType):
            return pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
        return column
    chunks = []
    for chunk in column.chunks:
        storage = chunk.storage.drop_null()
        if None in shape:
            nested = _nested(storage, len(shape))
        else:
            nested = storage.flatten()
            for size in reversed(shape):
                nested = pa.FixedSizeListArray.from_arrays(nested, size)
        chunks.append(nested if len(nested) == len(chunk) else _between_nulls(nested, chunk.storage))
    if chunks:
        return pa.chunked_array(chunks)
    kind = _tensor_item(column.type)
    if None in shape:
        return pa.chunked_array([], type=_lists_of(kind, len(shape)))
    for size in reversed(shape):
        kind = pa.list_(kind, size)
    return pa.chunked_array([], type=kind)


def _between_nulls(values: pa.Array, place: pa.Array) -> pa.Array:
    """The values one after the other where ``place`` is not null, and nulls where it is."""
    present = np.asarray(place.is_valid())
    return values.take(pa.array(np.cumsum(present) - 1, mask=~present))


def _tensor_item(kind: pa.DataType) -> pa.DataType:
    storage = kind.storage_type
    return storage.field("data").type.value_type if pa.types.is_struct(storage) else storage.value_type


def _lists_of(kind: pa.DataType, depth: int) -> pa.DataType:
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def _nested(storage: pa.StructArray, depth: int) -> pa.ListArray:
    """Nested lists from the numbers of tensors and their shapes."""
    shapes = storage.field("shape").flatten().to_numpy().reshape(len(storage), depth)
    nested = storage.field("data").flatten()
    for level in reversed(range(depth)):
        lengths = np.repeat(shapes[:, level], np.prod(shapes[:, :level], axis=1))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        nested = pa.ListArray.from_arrays(pa.array(offsets), nested)
    return nested


def known_zone(zone: str) -> str:
    """A time zone of Spark's under a name that Arrow, pandas and Python know.

    Parameters
    ----------
    zone : str
        A setting of ``spark.sql.session.timeZone``.

    Examples
    --------
    >>> known_zone("GMT+8"), known_zone("-03:30"), known_zone("Europe/Berlin")
    ('+08:00', '-03:30', 'Europe/Berlin')
    """
    # The forms that java.time.ZoneId and Spark's DateTimeUtils.getZoneId take for an offset.
    found = re.fullmatch(r"(?:GMT|UTC|UT)?([+-])(\d{1,2})(?::?(\d{1,2}))?", zone)
    return f"{found[1]}{int(found[2]):02}:{int(found[3] or 0):02}" if found else "UTC" if zone == "Z" else zone


def with_known_zones(table: pa.Table) -> pa.Table:
    """The same instants, their time zones named as by :func:`known_zone`."""
    schema = pa.schema([pa.field(f.name, _in_known_zone(f.type), f.nullable, f.metadata) for f in table.schema])
    return table if schema.types == table.schema.types else table.cast(schema)


def _in_known_zone(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp(kind.unit, known_zone(kind.tz))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_known_zone(kind.value_type)))
    if pa.types.is_map(kind):
        key, item = kind.key_field, kind.item_field
        return pa.map_(key.with_type(_in_known_zone(key.type)), item.with_type(_in_known_zone(item.type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_known_zone(field.type)) for field in kind])
    return kind


def _refuse(kind: pa.DataType, name: str) -> InvalidTypeError:
    return InvalidTypeError(
        f"column {name!r} has the type {kind}, which Spark has no counterpart for; cast or drop it first"
    )


def _readable(kind: pa.DataType, name: str) -> pa.DataType:
    """The Arrow type of ``name`` after the cast."""
    shape = _tensor_shape(kind)
    if shape is not None:
        return _lists_of(_readable(_tensor_item(kind), name), len(shape))
    if isinstance(kind, pa.BaseExtensionType):
        raise _refuse(kind, name)
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple
    types = pa.types
    if types.is_boolean(kind) or types.is_decimal128(kind):
        return kind
    if types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_time(kind):
        return pa.time64("ns")
    if types.is_dictionary(kind):
        return _readable(kind.value_type, name)
    if types.is_map(kind):
        return pa.map_(_readable(kind.key_type, name), _readable(kind.item_type, name))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_readable(kind.value_type, name))
    if types.is_struct(kind):
        return pa.struct([pa.field(f.name, _readable(f.type, f"{name}.{f.name}")) for f in kind])
    raise _refuse(kind, name)


_SIMPLE = {
    pa.null(): pa.null(),
    pa.int8(): pa.int8(),
    pa.int16(): pa.int16(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.date32(): pa.date32(),
    pa.date64(): pa.date32(),
    pa.string(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.binary(): pa.binary(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}


def _spark_field_type(field: pa.Field) -> DataType:
    from pyspark.ml.linalg import VectorUDT

    return VectorUDT() if is_sparse(field) else _spark_type(field.type, field.name)


def _spark_type(kind: pa.DataType, name: str) -> DataType:
    from pyspark.sql import types as T

    kind = _readable(kind, name)
    plain = {
        pa.null(): T.NullType,
        pa.bool_(): T.BooleanType,
        pa.int8(): T.ByteType,
        pa.int16(): T.ShortType,
        pa.int32(): T.IntegerType,
        pa.int64(): T.LongType,
        pa.float32(): T.FloatType,
        pa.float64(): T.DoubleType,
        pa.date32(): T.DateType,
        pa.string(): T.StringType,
        pa.binary(): T.BinaryType,
        pa.duration("us"): T.DayTimeIntervalType,
        pa.timestamp("us", tz="UTC"): T.TimestampType,
        pa.timestamp("us"): T.TimestampNTZType,
    }.get(kind)
    if plain is not None:
        return plain()
    if pa.types.is_time64(kind):
        if not hasattr(T, "TimeType"):
            raise InvalidTypeError(
                f"column {name!r} has the type time, which Spark has from 4.1 on; cast or drop it first"
            )
        return T.TimeType()
    if pa.types.is_decimal128(kind):
        return T.DecimalType(kind.precision, kind.scale)
    if pa.types.is_list(kind):
        return T.ArrayType(_spark_type(kind.value_type, name))
    if pa.types.is_map(kind):
        return T.MapType(_spark_type(kind.key_type, name), _spark_type(kind.item_type, name))
    return T.StructType([T.StructField(f.name, _spark_type(f.type, f"{name}.{f.name}")) for f in kind])
