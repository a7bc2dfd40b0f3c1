"""Frames whose plan ends in columns cross without becoming rows: the same values, and the same guarantees."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path

import pyarrow as pa
import pytest
import ray

import raydp_ml
from raydp_ml.exchange.exportable import ExportableFrame

COLUMNS = {
    "flag": "id % 3 = 0",
    "tiny": "cast(id % 100 as tinyint)",
    "small": "cast(id % 1000 as smallint)",
    "whole": "cast(id as int)",
    "long": "id * 1000000007",
    "single": "cast(id as float) / 7",
    "double": "cast(id as double) / 7",
    "few": "cast(id % 5 as double)",
    "word": "concat('w', id % 50)",
    "same_word": "concat('same', floor(id / 900))",
    "long_word": "repeat(concat('x', id), 5)",
    "bytes": "cast(concat('b', id % 11) as binary)",
    "price": "cast(id * 1.01 as decimal(12, 2))",
    "large": "cast(id as decimal(38, 10)) * -123456789012345678",
    "day": "date_add(date'1969-12-30', cast(id % 4000 as int))",
    "moment": "timestamp_micros(id * 1000001 - 5000000)",
    "local": "cast(timestamp_micros(id * 1000003) as timestamp_ntz)",
}


def rows_of(spark, nulls: bool, count: int = 12_345):
    """All types without nesting, in three partitions; with nulls at every seventh place, other ones in each column."""
    frame = spark.range(0, count, 1, 3)
    made = []
    for number, (name, expression) in enumerate(COLUMNS.items()):
        value = f"if((id + {number}) % 7 = 0, null, {expression})" if nulls else expression
        made.append(f"{value} as {name}")
    return frame.selectExpr("id", *made)


@pytest.fixture(scope="module", autouse=True)
def no_staged_files_are_left(spark):
    """Partitions that a test has computed by itself belong to nobody; modules behind this one count such files."""
    yield
    for file in Path("/dev/shm", raydp_ml.spark_info()["app_id"]).rglob("hashed-*.arrow"):
        file.unlink()


def is_columnar(df) -> bool:
    return ExportableFrame.of(df, None).exporter("looked-at").isColumnar()


def table_of(dataset) -> pa.Table:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs())).combine_chunks()


@pytest.mark.parametrize("nulls", [False, True])
def test_a_cached_frame_crosses_as_columns(spark, nulls: bool) -> None:
    made = rows_of(spark, nulls)
    expected = table_of(raydp_ml.from_spark(made))
    assert not is_columnar(made)
    cached = made.persist()
    try:
        assert is_columnar(cached)
        crossed = table_of(raydp_ml.from_spark(cached))
    finally:
        cached.unpersist()
    assert crossed.equals(expected, check_metadata=True)
    assert crossed["long_word"].null_count == (sum((i + 10) % 7 == 0 for i in range(12_345)) if nulls else 0)


NESTED = {
    "rec": "named_struct('a', id, 'b', concat('b', id % 3), 'c', named_struct('d', if(id % 4 = 0, null, id)))",
    "recs": "transform(sequence(1, cast(id % 4 as int)), i -> if(i = 2, null, named_struct('i', i, 't', repeat('t', i))))",
    "longs": "if(id % 3 = 0, array(), array(id, null, id + 1))",
    "lists": "array(array('a', null), null, array(cast(id as string)))",
    "map": "map_from_arrays(array('k', concat('key', id)), array(array(id), null))",
    "price": "array(cast(id as decimal(38, 10)) * -123456789)",
    "void": "null",
}


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("vectors", ["tensor", "sparse"])
def test_nested_columns_and_vectors_of_a_cached_frame_cross_as_columns(spark, nulls: bool, vectors: str) -> None:
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions as F

    frame = spark.range(0, 12_345, 1, 3)
    made = frame.select("id", array_to_vector(F.array(F.col("id").cast("double"), F.col("id") / 2)).alias("dense"))
    made = made.selectExpr("id", "dense", *[f"{text} as {name}" for name, text in NESTED.items()])
    if nulls:
        made = made.selectExpr(
            "id",
            "if(id % 5 = 0, null, dense) as dense",
            *[f"if((id + {i}) % 7 = 0, null, {name}) as {name}" for i, name in enumerate(NESTED)],
        )
    expected = table_of(raydp_ml.from_spark(made, vectors=vectors))
    cached = made.persist()
    try:
        assert is_columnar(cached)
        crossed = table_of(raydp_ml.from_spark(cached, vectors=vectors))
    finally:
        cached.unpersist()
    assert crossed.equals(expected, check_metadata=True)
    assert crossed["recs"].null_count == (sum((i + 1) % 7 == 0 for i in range(12_345)) if nulls else 0)
    assert crossed["rec"][6].as_py() == {"a": 6, "b": "b0", "c": {"d": 6}}


def test_vectors_of_two_lengths_in_a_cached_frame_are_refused(spark) -> None:
    from pyspark.ml.linalg import Vectors

    rows = [(Vectors.dense([1.0] * (2 + (i == 70))),) for i in range(100)]
    cached = spark.createDataFrame(rows, ["v"]).coalesce(1).persist()
    try:
        with pytest.raises(raydp_ml.RaydpMLError, match="column 'v' holds vectors of 2 and of 3 elements"):
            raydp_ml.from_spark(cached)
        assert raydp_ml.from_spark(cached, vectors="sparse").count() == 100
    finally:
        cached.unpersist()


def test_a_cached_frame_with_a_shuffle_crosses_as_columns(spark) -> None:
    counted = spark.range(0, 1000, 1, 2).selectExpr("id % 10 as key").groupBy("key").count().persist()
    try:
        assert is_columnar(counted)
        rows = sorted(raydp_ml.from_spark(counted).take_all(), key=lambda row: row["key"])
    finally:
        counted.unpersist()
    assert rows == [{"key": key, "count": 100} for key in range(10)]


@pytest.mark.parametrize("nulls", [False, True])
def test_a_parquet_scan_crosses_as_columns(spark, nulls: bool, tmp_path: Path) -> None:
    made = rows_of(spark, nulls)
    made.write.parquet(str(tmp_path / "rows"))
    read = spark.read.parquet(str(tmp_path / "rows"))
    assert is_columnar(read)
    expected = table_of(raydp_ml.from_spark(made))
    crossed = table_of(raydp_ml.from_spark(read)).sort_by("id")
    # Columns of files may always be null.
    assert crossed.cast(expected.schema).equals(expected)


def test_columns_and_partition_columns_of_parquet_files_in_the_order_asked_for(spark, tmp_path: Path) -> None:
    spark.range(10).selectExpr("id", "id * 2 as twice", "id % 2 as part").write.partitionBy("part").parquet(
        str(tmp_path / "rows")
    )
    read = spark.read.parquet(str(tmp_path / "rows")).selectExpr("part", "id as number")
    assert is_columnar(read)
    rows = sorted(raydp_ml.from_spark(read).take_all(), key=lambda row: row["number"])
    assert rows == [{"part": i % 2, "number": i} for i in range(10)]
    assert not is_columnar(read.selectExpr("number + 1 as next"))


def test_columns_of_a_cached_frame_in_the_order_asked_for(spark) -> None:
    cached = spark.range(0, 100, 1, 2).selectExpr("id", "cast(id as string) as text", "id / 2 as half").persist()
    try:
        assert cached.count() == 100
        chosen = cached.select("text", "id")
        assert is_columnar(chosen)
        assert raydp_ml.from_spark(chosen).take(2) == [{"text": "0", "id": 0}, {"text": "1", "id": 1}]
        few = cached.where("half >= 49")
        assert raydp_ml.from_spark(few).take_all() == [
            {"id": 98, "text": "98", "half": 49.0},
            {"id": 99, "text": "99", "half": 49.5},
        ]
    finally:
        cached.unpersist()


def test_a_dataset_crosses_to_spark_and_back_as_columns(spark) -> None:
    table = pa.table(
        {
            "n": pa.array([1, None, 3], pa.int64()),
            "t": ["a", "bc", None],
            "d": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-2.5")], pa.decimal128(20, 1)),
            "at": pa.array([datetime.date(2020, 1, 1), None, datetime.date(1969, 1, 1)]),
            "f": pa.array([1.5, float("nan"), -0.0], pa.float32()),
        }
    )
    frame = raydp_ml.to_spark(ray.data.from_arrow(table))
    assert is_columnar(frame)
    back = table_of(raydp_ml.from_spark(frame))
    assert back.drop(["f"]).equals(table.drop(["f"]))
    assert [str(value) for value in back["f"].to_pylist()] == ["1.5", "nan", "-0.0"]


@pytest.mark.parametrize("nulls", [False, True])
def test_nested_columns_of_files_and_of_datasets_cross_as_columns(spark, nulls: bool, tmp_path: Path) -> None:
    names = [name for name in NESTED if name != "void"]  # Parquet has no such type
    value = "if((id + {0}) % 7 = 0, null, {1}) as {2}" if nulls else "{1} as {2}"
    made = spark.range(0, 12_345, 1, 1).selectExpr(
        "id", *[value.format(i, NESTED[name], name) for i, name in enumerate(names)]
    )
    made.write.parquet(str(tmp_path / "rows"))
    expected = table_of(raydp_ml.from_spark(made))
    assert expected["recs"].null_count == (sum((i + 1) % 7 == 0 for i in range(12_345)) if nulls else 0)
    read = spark.read.parquet(str(tmp_path / "rows"))
    back = raydp_ml.to_spark(raydp_ml.from_spark(made))
    for given in (read, back, read.selectExpr("map as m", "recs", "id")):
        assert is_columnar(given)
        crossed = table_of(raydp_ml.from_spark(given))
        chosen = expected.select(["map" if name == "m" else name for name in crossed.column_names])
        assert crossed.to_pylist() == chosen.rename_columns(crossed.column_names).to_pylist()
        # Files and Datasets may have nulls anywhere; but for that the types are the same.
        assert [str(kind).replace(" not null", "") for kind in crossed.schema.types] == [
            str(kind).replace(" not null", "") for kind in chosen.schema.types
        ]
        crossed.validate(full=True)


def test_what_lies_under_a_struct_that_is_null_does_not_count(spark) -> None:
    """Arrow leaves open what the parts of such a struct hold."""

    def frame(hidden: int):
        parts = [pa.array([1, hidden, 3]), pa.array([["a"], ["b"] * hidden, None])]
        column = pa.StructArray.from_arrays(parts, ["n", "l"], mask=pa.array([False, True, False]))
        return raydp_ml.to_spark(ray.data.from_arrow(pa.table({"s": column})))

    def told(hidden: int) -> dict:
        return json.loads(ExportableFrame.of(frame(hidden), None).exporter("hashed").compute(0))

    table = table_of(raydp_ml.from_spark(frame(2)))
    assert table["s"].to_pylist() == [{"n": 1, "l": ["a"]}, None, {"n": 3, "l": None}]
    parts = table["s"].combine_chunks()
    assert [parts.field("n").to_pylist(), parts.field("l").to_pylist()] == [[1, None, 3], [["a"], None, None]]
    assert told(2)["unordered"] == told(1)["unordered"]


def test_hashes_of_nested_columns_tell_other_rows(spark) -> None:
    kind = pa.struct(
        [("l", pa.list_(pa.struct([("k", pa.int64()), ("t", pa.string())]))), ("m", pa.map_(pa.string(), pa.int64()))]
    )
    row = {"l": [{"k": 1, "t": "a"}, {"k": 2, "t": "b"}], "m": [("x", 1), ("y", None)]}

    def hashed(*rows: dict | None) -> str:
        frame = raydp_ml.to_spark(ray.data.from_arrow(pa.table({"s": pa.array(rows, kind)})))
        assert is_columnar(frame)
        return json.loads(ExportableFrame.of(frame, None).exporter("hashed").compute(0))["unordered"]

    others = [
        None,
        {"l": None, "m": row["m"]},
        {"l": [], "m": row["m"]},
        {"l": row["l"][::-1], "m": row["m"]},
        {"l": [*row["l"], None], "m": row["m"]},
        {"l": [{"k": 1, "t": "a"}, {"k": 2, "t": None}], "m": row["m"]},
        {"l": row["l"], "m": [("x", 1), ("y", 0)]},
        {"l": row["l"], "m": [("x", 1), ("z", None)]},
    ]
    hashes = [hashed(row, row), *[hashed(row, other) for other in others]]
    assert len(set(hashes)) == len(hashes)
    # Elements that belong to other rows.
    first, second = {"l": [{"k": 1, "t": "a"}], "m": []}, {"l": [{"k": 2, "t": "b"}], "m": []}
    assert hashed(first, second) != hashed({"l": first["l"] + second["l"], "m": []}, {"l": [], "m": []})
    assert hashed(first, second) == hashed(second, first)


@pytest.mark.parametrize("vectors", ["tensor", "sparse"])
def test_arrays_and_vectors_of_files_cross_as_columns(spark, vectors: str, tmp_path: Path) -> None:
    from pyspark.ml.linalg import Vectors

    rows = [
        (
            i,
            None if i % 7 == 3 else [i * 1.5, None, -1.0][: i % 4],
            [i] * (i % 3),
            None if i % 5 == 2 and vectors == "sparse" else Vectors.dense([i, 2.0, 0.0]),
            Vectors.sparse(3, [0, 2], [1.0, float(i)]) if i % 2 else Vectors.dense([float(i), 0.0, 4.0]),
        )
        for i in range(9_000)
    ]
    kinds = "id long, halves array<double>, longs array<long>"
    made = spark.createDataFrame(rows, ["id", "halves", "longs", "dense", "mixed"])
    made = made.selectExpr(
        *[f"cast({kind.split()[0]} as {kind.split()[1]})" for kind in kinds.split(", ")], "dense", "mixed"
    )
    made.coalesce(1).write.parquet(str(tmp_path / "rows"))
    read = spark.read.parquet(str(tmp_path / "rows"))
    assert is_columnar(read)
    expected = table_of(raydp_ml.from_spark(made, vectors=vectors)).sort_by("id")
    crossed = table_of(raydp_ml.from_spark(read, vectors=vectors)).sort_by("id")
    assert crossed.schema.types == expected.schema.types
    assert crossed.to_pylist() == expected.to_pylist()


def test_lists_of_a_dataset_cross_back_as_columns_with_hashes_of_their_own(spark) -> None:
    def back(lists: list) -> tuple[pa.Table, str]:
        table = pa.table(
            {
                "l": pa.array(lists, pa.list_(pa.int64())),
                "f": pa.array([[1.0, 2.0]] * len(lists), pa.list_(pa.float64(), 2)),
            }
        )
        frame = raydp_ml.to_spark(ray.data.from_arrow(table))
        assert is_columnar(frame)
        told = json.loads(ExportableFrame.of(frame, None).exporter("hashed").compute(0))
        return table_of(raydp_ml.from_spark(frame)), told["unordered"]

    lists = [[i, i + 1][: i % 3] if i % 4 else None for i in range(3000)]
    table, base = back(lists)
    assert table["l"].to_pylist() == lists
    assert table["f"].to_pylist() == [[1.0, 2.0]] * 3000
    assert back(lists)[1] == base
    # A null in place of a zero, an element more, a list that is null and not empty.
    for other in ([0, None], [0, 0, 0], None, []):
        assert (
            back([other if i == 5 else row for i, row in enumerate(lists)])[1]
            != back([[0, 0] if i == 5 else row for i, row in enumerate(lists)])[1]
        )
    assert back([None if i == 9 else row for i, row in enumerate(lists)])[1] != base


def test_column_batches_are_cut_where_a_block_is_full(spark) -> None:
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = 1 << 20
    cached = spark.range(0, 300_000, 1, 1).selectExpr("id", "concat('row-', id) as text").persist()
    try:
        dataset = raydp_ml.from_spark(cached)
        sizes = [ray.get(ref).nbytes for ref in dataset.to_arrow_refs()]
        table = table_of(dataset)
    finally:
        context.target_max_block_size = before
        cached.unpersist()
    assert len(sizes) >= 5
    assert max(sizes) < 2 << 20
    assert table["id"].to_pylist() == list(range(300_000))
    assert table["text"][299_999].as_py() == "row-299999"


def test_hashes_of_columns_tell_other_rows_and_another_order(spark) -> None:
    def hashes(expressions: list[str]) -> tuple[str, str]:
        """Of the rows in the order of their key, cached as one partition."""
        frame = spark.range(0, 5000, 1, 1).selectExpr(*expressions).persist()
        try:
            exporter = ExportableFrame.of(frame, None).exporter("hashed")
            assert exporter.isColumnar()
            told = json.loads(exporter.compute(0))
        finally:
            frame.unpersist()
        return told["unordered"], told["ordered"]

    base = hashes(["id", "concat('s', id) as s", "if(id % 2 = 0, null, id) as n"])
    assert hashes(["id", "concat('s', id) as s", "if(id % 2 = 0, null, id) as n"]) == base
    reversed_rows = hashes(
        ["4999 - id as id", "concat('s', 4999 - id) as s", "if((4999 - id) % 2 = 0, null, 4999 - id) as n"]
    )
    assert reversed_rows[0] == base[0]
    assert reversed_rows[1] != base[1]
    # A zero in place of a null, one other string, and strings that belong to other rows.
    for other in (
        ["id", "concat('s', id) as s", "if(id % 2 = 0, 0, id) as n"],
        ["id", "concat(if(id = 77, 't', 's'), id) as s", "if(id % 2 = 0, null, id) as n"],
        ["id", "concat('s', 4999 - id) as s", "if(id % 2 = 0, null, id) as n"],
    ):
        assert hashes(other)[0] != base[0]
