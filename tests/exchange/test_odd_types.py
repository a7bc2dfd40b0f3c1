"""Types that are seldom seen, and sessions that are not the first one: values are right both ways, or an error says what is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
import ray
import ray.data

import raydp_ml

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def table_of(dataset: ray.data.Dataset) -> pa.Table:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


@contextmanager
def setting(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    before = spark.conf.get(name)
    spark.conf.set(name, value)
    yield
    spark.conf.set(name, before)


def blocks_of_two() -> ray.data.Dataset:
    return ray.data.from_arrow([pa.table({"a": [1], "b": ["x"]}), pa.table({"a": [2], "b": ["y"]})])


def test_void_columns_and_elements(spark: SparkSession) -> None:
    frame = spark.range(2).selectExpr(
        "id", "null as n", "array() as a", "map() as m", "array(null, null) as b", "struct(null) as s"
    )
    dataset = raydp_ml.from_spark(frame)
    rows = [{"id": i, "n": None, "a": [], "m": [], "b": [None, None], "s": {"col1": None}} for i in range(2)]
    assert table_of(dataset).to_pylist() == rows
    back = raydp_ml.to_spark(dataset)
    assert [row.asDict(recursive=True) for row in back.collect()] == [{**row, "m": {}} for row in rows]


def test_vectors_inside_arrays_structs_and_maps(spark: SparkSession) -> None:
    from pyspark.ml.linalg import Vectors, VectorUDT
    from pyspark.sql.types import ArrayType, IntegerType, MapType, StringType, StructField, StructType

    kind = StructType(
        [
            StructField("many", ArrayType(VectorUDT())),
            StructField("part", StructType([StructField("v", VectorUDT()), StructField("i", IntegerType())])),
            StructField("named", MapType(StringType(), VectorUDT())),
        ]
    )
    dense, sparse = Vectors.dense([1.0, 2.0]), Vectors.sparse(3, {1: 5.0})
    frame = spark.createDataFrame([([dense, None, sparse], (sparse, 1), {"a": dense}), (None, None, None)], kind)
    table = table_of(raydp_ml.from_spark(frame.coalesce(1)))
    assert table.to_pylist() == [
        {
            "many": [[1.0, 2.0], None, [0.0, 5.0, 0.0]],
            "part": {"v": [0.0, 5.0, 0.0], "i": 1},
            "named": [("a", [1.0, 2.0])],
        },
        {"many": None, "part": None, "named": None},
    ]
    held = table_of(raydp_ml.from_spark(frame.coalesce(1), vectors="sparse"))
    assert held["part"][0].as_py()["v"] == {"size": 3, "indices": [1], "values": [5.0]}
    assert held["many"][0].as_py()[0] == {"size": 2, "indices": [0, 1], "values": [1.0, 2.0]}
    with pytest.raises(raydp_ml.InvalidTypeError, match="column 'many' has vectors inside"):
        raydp_ml.from_spark(frame.selectExpr("*", "make_interval(1) as x"))


def test_a_dataset_that_is_filtered_to_nothing_keeps_its_columns(spark: SparkSession) -> None:
    back = raydp_ml.to_spark(blocks_of_two().filter(lambda row: row["a"] > 5))
    assert back.schema.simpleString() == "struct<a:bigint,b:string>"
    assert back.collect() == []
    # Blocks without rows beside others.
    some = raydp_ml.to_spark(blocks_of_two().filter(lambda row: row["a"] == 2))
    assert [tuple(row) for row in some.collect()] == [(2, "y")]


def test_time_of_day_comes_back(spark: SparkSession) -> None:
    with setting(spark, "spark.sql.timeType.enabled", "true"):
        frame = spark.sql("SELECT if(id = 0, TIME'12:01:02.123456', NULL) AS t FROM range(0, 2, 1, 1)")
        dataset = raydp_ml.from_spark(frame)
        assert table_of(dataset)["t"].to_pylist() == [dt.time(12, 1, 2, 123456), None]
        back = raydp_ml.to_spark(dataset)
        assert back.schema.simpleString() == "struct<t:time(6)>"
        assert [row.t for row in back.collect()] == [dt.time(12, 1, 2, 123456), None]
        cached = frame.persist()
        assert table_of(raydp_ml.from_spark(cached)).equals(table_of(dataset))
        cached.unpersist()
        seconds = pa.table({"t": pa.array([61], pa.time32("s"))})
        assert raydp_ml.to_spark(ray.data.from_arrow(seconds)).first().t == dt.time(0, 1, 1)


def test_intervals(spark: SparkSession) -> None:
    with pytest.raises(
        raydp_ml.InvalidTypeError, match=r"'s\.i' has the type interval year to month, which pyarrow cannot"
    ):
        raydp_ml.from_spark(spark.sql("SELECT struct(INTERVAL '1-2' YEAR TO MONTH AS i) AS s"))
    frame = spark.sql("SELECT array(INTERVAL '1 02:03' DAY TO MINUTE, NULL) AS many, INTERVAL '-1' DAY AS i")
    values = ([dt.timedelta(1, 7380), None], dt.timedelta(-1))
    for given in (frame, frame.persist()):
        dataset = raydp_ml.from_spark(given)
        assert tuple(table_of(dataset).to_pylist()[0].values()) == values
        assert tuple(raydp_ml.to_spark(dataset).first()) == values
    frame.unpersist()


@pytest.mark.parametrize(("zone", "known"), [("GMT+8", "+08:00"), ("UTC-3:30", "-03:30"), ("America/New_York", None)])
def test_time_zones_of_the_session(spark: SparkSession, zone: str, known: str | None) -> None:
    frame = spark.sql("SELECT timestamp_seconds(1577808000) AS at, array(timestamp_seconds(0)) AS many")
    with setting(spark, "spark.sql.session.timeZone", zone):
        dataset = raydp_ml.from_spark(frame)
        table = table_of(dataset)
        assert table.schema.field("at").type == pa.timestamp("us", known or zone)
        assert table["at"][0].as_py() == dt.datetime(2019, 12, 31, 16, tzinfo=dt.UTC)
        assert table["many"][0].as_py() == [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]
        assert raydp_ml.to_spark(dataset).selectExpr("unix_seconds(at)").first()[0] == 1577808000


def test_the_session_that_is_given_is_used(spark: SparkSession) -> None:
    other = spark.newSession()
    other.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    spark.range(1).createOrReplaceTempView("first")
    table = table_of(raydp_ml.from_spark(other.sql("SELECT timestamp_seconds(0) AS at")))
    assert table.schema.field("at").type.tz == "Asia/Tokyo"
    back = raydp_ml.to_spark(ray.data.from_arrow(table), other)
    assert back.sparkSession.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    assert back.selectExpr("string(at)").first()[0] == "1970-01-01 09:00:00"
    back.createOrReplaceTempView("second")
    assert [view.name for view in other.catalog.listTables()] == ["second"]
    assert "second" not in [view.name for view in spark.catalog.listTables()]
    # Ray's own method too.
    assert ray.data.from_arrow(table).to_spark(other).selectExpr("string(at)").first()[0] == "1970-01-01 09:00:00"


def test_columns_that_differ_in_case(spark: SparkSession) -> None:
    from pyspark.ml.linalg import Vectors

    table = pa.table({"a": [1, 2], "A": ["x", "y"], "s": [{"k": 1, "K": 2.0}, None]})
    frame = raydp_ml.to_spark(ray.data.from_arrow(table))
    assert frame.columns == ["a", "A", "s"]
    assert table_of(raydp_ml.from_spark(frame)).to_pylist() == table.to_pylist()
    with setting(spark, "spark.sql.caseSensitive", "true"):
        frame = raydp_ml.to_spark(ray.data.from_arrow(table))
        assert [row.A for row in frame.select("A").collect()] == ["x", "y"]
        assert frame.selectExpr("s.K").first()[0] == 2.0
        assert table_of(raydp_ml.from_spark(frame.select("A", "a"))).column_names == ["A", "a"]
    # The interval sends the vectors through an expression of their own.
    vectors = spark.createDataFrame([(Vectors.dense([1.0]), Vectors.dense([2.0, 3.0]))], ["v", "V"])
    for given in (vectors, vectors.selectExpr("*", "make_interval(1) as x")):
        row = raydp_ml.from_spark(given).take(1)[0]
        assert [list(row["v"]), list(row["V"])] == [[1.0], [2.0, 3.0]]


def test_one_field_of_a_struct_is_the_one_that_was_asked_for(spark: SparkSession) -> None:
    table = pa.table({"s": [{"a": 1, "b": 2, "c": {"d": 3, "e": 4}}]})
    frame = raydp_ml.to_spark(ray.data.from_arrow(table))
    assert tuple(frame.select("s.b", "s.c.e").first()) == (2, 4)
    assert frame.select("s.c.d").where("s.b = 2").first()[0] == 3
