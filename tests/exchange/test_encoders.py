"""Any rows come out of all encoders as they come out of Spark's own toArrow, wherever blocks and partitions are cut."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import ray
import ray.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import raydp_ml

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

INSTANTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
CENTS = st.integers(-(10**9), 10**9).map(lambda n: Decimal(n).scaleb(-2))
LONG_DECIMALS = st.integers(-(10**37), 10**37).map(lambda n: Decimal(n).scaleb(-10))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.string(), st.text(max_size=12)),
    (pa.binary(), st.binary(max_size=12)),
    (pa.decimal128(11, 2), CENTS),
    (pa.decimal128(38, 10), LONG_DECIMALS),
    (pa.date32(), st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1))),
    (pa.timestamp("us", "UTC"), INSTANTS),
]


def kinds(depth: int) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """A type of up to so many levels, and its values, nulls at every level among them."""
    leaf = st.sampled_from(KINDS)
    if depth == 0:
        return leaf
    inner = kinds(depth - 1)
    lists = inner.map(lambda kind: (pa.list_(kind[0]), st.lists(st.none() | kind[1], max_size=3)))
    maps = inner.map(
        lambda kind: (
            pa.map_(pa.string(), kind[0]),
            st.dictionaries(st.text(max_size=3), st.none() | kind[1], max_size=3).map(lambda made: list(made.items())),
        )
    )
    structs = st.lists(inner, min_size=1, max_size=3).map(
        lambda parts: (
            pa.struct([(f"p{i}", kind) for i, (kind, _) in enumerate(parts)]),
            st.fixed_dictionaries({f"p{i}": st.none() | values for i, (_, values) in enumerate(parts)}),
        )
    )
    return leaf | lists | maps | structs


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """One to five columns of random types; a short random piece repeated up to a length near the encoder's 1,024 rows."""
    length = draw(st.sampled_from([1, 2, 7, 63, 64, 65, 1023, 1024, 1025, 2500]))
    columns = {}
    for number in range(draw(st.integers(1, 5))):
        kind, values = draw(kinds(4))
        piece = draw(st.lists(st.none() | values, min_size=1, max_size=9))
        columns[f"c{number}"] = pa.array((piece * (length // len(piece) + 1))[:length], kind)
    return pa.table(columns)


@pytest.fixture(scope="module")
def small_blocks(spark: SparkSession) -> Iterator[None]:
    """Blocks of a few kilobytes, so that partitions are cut into several; and the time zone that toArrow writes."""
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    context = ray.data.DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, 6_000
    yield
    context.target_max_block_size = before


def rows_of(dataset: ray.data.Dataset) -> pa.Table:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


def told(table: pa.Table) -> list[str]:
    # As text, because no NaN equals another.
    return [repr(row) for row in table.to_pylist()]


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(table=tables(), partitions=st.integers(1, 4))
def test_all_encoders_and_to_arrow_agree(
    spark: SparkSession, small_blocks: None, table: pa.Table, partitions: int
) -> None:
    frame = spark.createDataFrame(table).coalesce(partitions)
    expected = frame.toArrow()
    ours = rows_of(raydp_ml.from_spark(frame))
    assert ours.schema.types == expected.schema.types
    assert told(ours) == told(expected)
    # From the cache they cross as columns.
    cached = frame.persist()
    try:
        assert told(rows_of(raydp_ml.from_spark(cached))) == told(expected)
    finally:
        cached.unpersist()
    # A column of a type that only Spark's writer knows sends all of them its way.
    beside = rows_of(raydp_ml.from_spark(frame.selectExpr("*", "make_interval(1) AS other")))
    assert told(beside.drop_columns("other")) == told(expected)
    back = raydp_ml.to_spark(ray.data.from_arrow(ours))
    assert told(back.toArrow()) == told(expected)
    # So they do from blocks of Ray, and from files.
    assert told(rows_of(raydp_ml.from_spark(back))) == told(expected)
    with tempfile.TemporaryDirectory() as folder:
        frame.coalesce(1).write.mode("overwrite").parquet(folder)
        assert told(rows_of(raydp_ml.from_spark(spark.read.parquet(folder)))) == told(expected)
