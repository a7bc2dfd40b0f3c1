"""Values, nulls and types through from_spark and to_spark, in one Spark session."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
import ray.data

import raydp_ml
from raydp_ml.cluster.jar import spark_home
from raydp_ml.exchange.ray_seam import blocks_of
from tests.waiting import until, until_free

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark35
has_intervals = pytest.mark.skipif(
    spark_home().line == "3.5", reason="PySpark 3.5 cannot describe a frame with an interval of months, days and time"
)

SCHEMA = """
    flag boolean, tiny tinyint, small smallint, num int, big bigint, real float, dbl double, word string, raw binary,
    day date, at timestamp, at_ntz timestamp_ntz, price decimal(20, 4), many array<bigint>, rec struct<a: int, b: string>,
    table map<string, double>, deep array<struct<k: string, v: array<float>>>
"""
FULL = (
    True, -128, -(2**15), 2**31 - 1, 2**63 - 1, 1.5, 0.1, "grün", b"\x00\xff", dt.date(1969, 12, 31),
    dt.datetime(2013, 7, 4, 12, 30, 15, 123456), dt.datetime(1900, 1, 1, 0, 0, 0, 1), decimal.Decimal("-1234567890123456.7891"),
    [1, None, 2**62], (7, None), {"x": 1.0, "y": None}, [{"k": "a", "v": [0.5, None]}, None],
)  # fmt: skip
EMPTY = (
    False, 0, 0, 0, 0, -0.0, 5e-324, "", b"", dt.date(9999, 12, 31), dt.datetime(1970, 1, 1), dt.datetime(1970, 1, 1),
    decimal.Decimal("0.0001"), [], (None, ""), {}, [],
)  # fmt: skip
NULLS = (None,) * len(FULL)


def rows_of(frame: DataFrame) -> list[tuple]:
    return [tuple(row) for row in frame.collect()]


@pytest.fixture(scope="module")
def mixed(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([FULL, NULLS, EMPTY], SCHEMA).coalesce(1)


def test_types_and_values_arrive_in_ray(mixed: DataFrame) -> None:
    table = pa.concat_tables(ray.get(raydp_ml.from_spark(mixed).to_arrow_refs()))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["many"] == "list<element: int64>"
    assert kinds["price"] == "decimal128(20, 4)"
    assert kinds["at_ntz"] == "timestamp[us]"
    assert table.schema.field("at").type.unit == "us" and table.schema.field("at").type.tz is not None
    assert table["big"].to_pylist() == [2**63 - 1, None, 0]
    assert table["price"].to_pylist() == [FULL[12], None, EMPTY[12]]
    assert table["table"].to_pylist() == [[("x", 1.0), ("y", None)], None, []]
    assert table["deep"].to_pylist() == [FULL[16], None, []]
    assert table["raw"].to_pylist() == [b"\x00\xff", None, b""]
    assert math.copysign(1, table["real"].to_pylist()[2]) == -1
    assert table["at"].to_pylist()[2] == mixed.collect()[2]["at"].astimezone(dt.UTC)


def test_everything_comes_back_as_it_was(mixed: DataFrame) -> None:
    back = raydp_ml.to_spark(raydp_ml.from_spark(mixed))
    assert [f.dataType.simpleString() for f in back.schema] == [f.dataType.simpleString() for f in mixed.schema]
    assert rows_of(back) == rows_of(mixed)


# An interval is written by Spark's writer, which wants arrays; alone, vectors are encoded as they are.
@pytest.mark.parametrize("beside", [None, pytest.param("make_interval(1) as m", marks=has_intervals)])
def test_ml_vectors_become_fixed_size_lists(spark: SparkSession, beside: str | None) -> None:
    from pyspark.ml.linalg import Vectors

    rows = [(Vectors.dense([1.0, 2.0, 3.0]),), (Vectors.sparse(3, {1: 5.0}),), (None,)]
    frame = spark.createDataFrame(rows, ["v"])
    if beside:
        frame = frame.selectExpr("v", beside)
    dataset = raydp_ml.from_spark(frame)
    assert dataset.schema().base_schema.field("v").type == pa.list_(pa.float64(), 3)
    assert [row["v"] if row["v"] is None else list(row["v"]) for row in dataset.take_all()] == [
        [1.0, 2.0, 3.0],
        [0.0, 5.0, 0.0],
        None,
    ]
    back = raydp_ml.to_spark(dataset.select_columns(["v"])).collect()
    assert [row["v"] for row in back] == [[1.0, 2.0, 3.0], [0.0, 5.0, 0.0], None]


def test_vectors_of_two_lengths_name_the_column(spark: SparkSession) -> None:
    from pyspark.ml.linalg import Vectors

    frame = spark.createDataFrame([(Vectors.dense([1.0]),), (Vectors.dense([1.0, 2.0]),)], ["v"])
    with pytest.raises(raydp_ml.RaydpMLError, match="'v' holds vectors of"):
        raydp_ml.from_spark(frame)


@has_intervals
def test_the_two_encoders_agree_over_block_boundaries(spark: SparkSession) -> None:
    """Types of our encoder, with and without an interval beside them, which hands the whole schema to Spark's writer."""
    rows = 2 * 1024 + 333
    columns = [
        "if(id % 3 = 0, null, id % 2 = 0) as flag", "cast(if(id % 5 = 0, null, id % 100) as tinyint) as tiny",
        "cast(id as smallint) as small", "cast(id * 7 as int) as num", "if(id % 1000 = 999, null, id) as big",
        "cast(id / 7 as float) as real", "id / 3.0D as dbl", "if(id % 4 = 1, null, repeat('ä', cast(id % 11 as int))) as word",
        "cast(concat(id, 'x') as binary) as raw", "date_add(date'1950-01-01', cast(id as int)) as day",
        "timestamp_micros(id * 1000003) as at", "cast(timestamp_micros(id * 1000003) as timestamp_ntz) as ntz",
        "if(id % 6 = 2, null, cast(id as decimal(12, 3))) as small_price",
        "if(id % 6 = 3, null, cast(-id as decimal(20, 0)) * 12345678901.23BD) as large_price",
        "if(id % 9 = 0, null, transform(sequence(0, id % 5), x -> if(x = 2, null, cast(x as float)))) as many",
    ]  # fmt: skip
    frame = spark.range(0, rows, 1, 2).selectExpr(*columns)
    ours = pa.concat_tables(ray.get(raydp_ml.from_spark(frame).to_arrow_refs()))
    theirs = pa.concat_tables(
        ray.get(raydp_ml.from_spark(frame.selectExpr("*", "make_interval(1) as m")).to_arrow_refs())
    )
    assert ours.num_rows == rows
    for name in ours.column_names:
        assert ours[name].type == theirs[name].type, name
        assert ours[name].to_pylist() == theirs[name].to_pylist(), name
    expected = frame.toPandas()
    assert ours["word"].to_pylist() == expected["word"].tolist()
    assert ours["large_price"].to_pylist() == expected["large_price"].tolist()


def test_a_block_has_one_chunk_which_numpy_reads_without_a_copy(spark: SparkSession) -> None:
    frame = spark.range(0, 300_000, 1, 3).selectExpr("id * 1.0D as x", "array(float(id), float(1)) as v")
    dataset = raydp_ml.from_spark(frame, vector_sizes={"v": 2})
    refs = [ref for bundle in dataset.iter_internal_ref_bundles() for ref, _ in blocks_of(bundle)]
    tables = ray.get(refs)
    assert {table["x"].num_chunks for table in tables} == {1}
    x = np.concatenate([table["x"].chunk(0).to_numpy(zero_copy_only=True) for table in tables])
    assert np.array_equal(x, np.arange(300_000.0))
    flat = tables[0]["v"].chunk(0).flatten().to_numpy(zero_copy_only=True).reshape(-1, 2)
    assert np.array_equal(flat[:3], [[0, 1], [1, 1], [2, 1]])


def test_empty_frames_partitions_and_single_rows(spark: SparkSession) -> None:
    empty = raydp_ml.from_spark(spark.createDataFrame([], "a int, b string"))
    assert empty.count() == 0
    assert empty.schema().names == ["a", "b"]
    assert raydp_ml.to_spark(empty).schema.simpleString() == "struct<a:int,b:string>"
    assert raydp_ml.to_spark(empty).count() == 0
    gaps = spark.range(0, 8, 1, 8).where("id in (3, 6)")
    assert raydp_ml.from_spark(gaps).take_all() == [{"id": 3}, {"id": 6}]
    assert raydp_ml.from_spark(spark.range(1)).take_all() == [{"id": 0}]


def test_rows_keep_their_order(spark: SparkSession) -> None:
    frame = spark.range(0, 20_000, 1, 4).orderBy("id", ascending=False)
    assert [row["id"] for row in raydp_ml.from_spark(frame).take_all()] == list(range(19_999, -1, -1))


def test_parallelism(spark: SparkSession) -> None:
    assert raydp_ml.from_spark(spark.range(0, 100, 1, 4), parallelism=2).num_blocks() == 2
    # Ray 2.60's from_spark does not pass override_num_blocks on, only the older name.
    assert ray.data.from_spark(spark.range(0, 100, 1, 2), parallelism=4).num_blocks() == 4
    assert raydp_ml.from_spark(spark.range(0, 100, 1, 50)).num_blocks() == 1


def test_many_small_partitions_share_few_blocks(spark: SparkSession) -> None:
    """3.2 MB in 200 partitions; runs of neighbours that are still open when the job ends may stay below 1 MB."""
    dataset = raydp_ml.from_spark(spark.range(0, 200_000, 1, 200).selectExpr("id", "id * 0.5D AS x"))
    assert dataset.num_blocks() <= 6
    table = pa.concat_tables(ray.get(dataset.to_arrow_refs()))
    assert table["id"].to_pylist() == list(range(200_000))
    assert np.array_equal(table["x"].to_numpy(), np.arange(200_000) * 0.5)


def test_columns_are_pruned_and_counted_without_being_read(spark: SparkSession) -> None:
    dataset = ray.data.from_arrow(pa.table({"a": list(range(1000)), "t": pa.array([None] * 1000, pa.int8())}))
    back = raydp_ml.to_spark(dataset)
    assert back.count() == 1000
    # What needs no column is one task, however many blocks there are.
    many = raydp_ml.to_spark(dataset.repartition(40)).select()
    assert (many.rdd.getNumPartitions(), many.count()) == (1, 1000)
    assert back.select("a").where("a >= 990").count() == 10
    scan = back.select("a")._jdf.queryExecution().executedPlan().toString()
    assert "a#" in scan and "t#" not in scan


def blocks_of_tasks(spark: SparkSession, sizes: list[int], nodes: list[list[str]]) -> list[tuple[list[int], list[str]]]:
    """Which blocks each task would read, and where it would rather run; sizes in MiB, negative: not known."""
    blocks = [{"rows": 1, "bytes": int(mb * 2**20), "nodes": held} for mb, held in zip(sizes, nodes, strict=True)]
    source = spark.read.format("org.apache.spark.sql.raydpml.RayBlockSource").schema("a int")
    frame = source.option("lease", "never lent").option("blocks", json.dumps(blocks)).load()
    tasks = frame._jdf.queryExecution().optimizedPlan().scan().toBatch().planInputPartitions()
    return [
        ([task.indices().apply(i) for i in range(task.indices().length())], list(task.preferredLocations()))
        for task in tasks
    ]


def test_neighbouring_blocks_share_a_task(spark: SparkSession) -> None:
    assert spark.sparkContext.defaultParallelism == 2
    here: list[list[str]] = [[]]
    assert [task for task, _ in blocks_of_tasks(spark, [57] * 5, here * 5)] == [[0, 1], [2, 3], [4]]
    assert [task for task, _ in blocks_of_tasks(spark, [200, 1, -1, 1], here * 4)] == [[0], [1], [2], [3]]
    # Each core gets a part of the little that there is.
    assert [task for task, _ in blocks_of_tasks(spark, [0.01] * 8, here * 8)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # Blocks stay where they lie, unless they are small.
    assert blocks_of_tasks(spark, [30, 30, 30, 1, 1, 30, 30], [["a"], ["a"], ["b"], ["a"], ["b"], ["b"], ["a", "b"]]) == [
        ([0, 1], ["a"]), ([2, 3, 4, 5], ["b"]), ([6], ["a", "b"])
    ]  # fmt: skip


def test_blocks_that_share_a_task_keep_their_order(spark: SparkSession) -> None:
    dataset = ray.data.from_arrow([pa.table({"a": list(range(start, start + 100))}) for start in range(0, 4000, 100)])
    back = raydp_ml.to_spark(dataset)
    assert back.rdd.getNumPartitions() < 5
    assert [row["a"] for row in back.collect()] == list(range(4000))
    spark.conf.set("spark.sql.files.maxPartitionBytes", 1)
    try:
        alone = raydp_ml.to_spark(dataset)
        assert alone.rdd.getNumPartitions() == 40
        assert [row["a"] for row in alone.collect()] == list(range(4000))
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")


def test_a_limit_reaches_the_blocks(spark: SparkSession) -> None:
    from raydp_ml.exchange.inbound import frame_over_blocks

    tables = [pa.table({"a": list(range(start, start + 1000))}) for start in range(0, 4000, 1000)]
    dataset = ray.data.from_arrow(tables)
    back = raydp_ml.to_spark(dataset)
    limited = back.limit(1500)
    assert "2 blocks" in limited._jdf.queryExecution().executedPlan().toString()
    assert [row["a"] for row in limited.collect()] == list(range(1500))
    assert limited.count() == 1500
    # A filter has to see all rows.
    assert [row["a"] for row in back.where("a >= 3000").limit(2).collect()] == [3000, 3001]
    unknown = frame_over_blocks(spark, tables[0].schema, dataset.to_arrow_refs()).limit(2500)
    assert "4 blocks" in unknown._jdf.queryExecution().executedPlan().toString()
    assert [row["a"] for row in unknown.collect()] == list(range(2500))
    assert unknown.count() == 2500


def test_any_block_kind(spark: SparkSession) -> None:
    pandas = ray.data.from_pandas(pd.DataFrame({"n": [1, 2], "s": ["x", None], "f": [0.5, np.nan]}))
    back = raydp_ml.to_spark(pandas.map_batches(lambda batch: batch, batch_format="pandas"))
    assert [(r["n"], r["s"]) for r in back.collect()] == [(1, "x"), (2, None)]
    images = ray.data.from_numpy(np.arange(12.0).reshape(2, 2, 3))
    assert [r["data"] for r in raydp_ml.to_spark(images).collect()] == np.arange(12.0).reshape(2, 2, 3).tolist()


BIG = 2**62 + 1


def through_spark(spark: SparkSession, dataset: ray.data.Dataset) -> tuple[str, list[tuple]]:
    frame = raydp_ml.to_spark(dataset, spark)
    return frame.schema.simpleString(), sorted(rows_of(frame), key=str)


def blocks(*tables: pa.Table) -> ray.data.Dataset:
    return ray.data.from_arrow(list(tables))


def test_integers_beside_nulls_are_exact(spark: SparkSession) -> None:
    column = [BIG, None, -BIG]
    expected = "struct<n:bigint>", [(-BIG,), (BIG,), (None,)]
    for frame in (
        pd.DataFrame({"n": pd.array(column, dtype="Int64")}),
        pd.DataFrame({"n": pd.Series(column, dtype=object)}),
    ):
        dataset = ray.data.from_pandas(frame).map_batches(lambda batch: batch, batch_format="pandas", batch_size=None)
        assert through_spark(spark, dataset) == expected
    # Each row in a block of its own: the first has no type yet.
    assert (
        through_spark(spark, ray.data.from_items([{"n": n} for n in (None, BIG, -BIG)], override_num_blocks=3))
        == expected
    )


def test_blocks_of_different_schemas_lose_neither_columns_nor_values(spark: SparkSession) -> None:
    a = pa.table({"a": [1, 2]})
    for dataset in (
        blocks(a, pa.table({"a": [3], "b": ["q"]})),
        blocks(a).union(blocks(pa.table({"b": ["q"], "a": [3]}))),
    ):
        assert through_spark(spark, dataset) == ("struct<a:bigint,b:string>", [(1, None), (2, None), (3, "q")])
    assert through_spark(spark, blocks(a, pa.table({"a": [1.5]}))) == ("struct<a:double>", [(1.0,), (1.5,), (2.0,)])
    assert through_spark(spark, blocks(pa.table({"a": pa.array([1], pa.int32())}), pa.table({"a": [BIG]})))[1] == [
        (1,),
        (BIG,),
    ]
    pandas = ray.data.from_pandas(pd.DataFrame({"a": [7]})).map_batches(lambda batch: batch, batch_format="pandas")
    assert (
        through_spark(spark, pandas.union(blocks(a)))[1]
        == through_spark(spark, blocks(a).union(pandas))[1]
        == [(1,), (2,), (7,)]
    )
    squares = [ray.data.from_numpy(np.full((1, size, size), float(size))) for size in (1, 2)]
    assert through_spark(spark, squares[0].union(squares[1]))[1] == [([[1.0]],), ([[2.0, 2.0], [2.0, 2.0]],)]
    # Executed before, without the schemas: what Spark cannot know of is refused.
    executed = blocks(a, pa.table({"a": [3], "b": ["q"]})).materialize()
    with pytest.raises(Exception, match=r"has the columns \['b'\], which its first block lacks"):
        raydp_ml.to_spark(executed).collect()
    with pytest.raises(raydp_ml.InvalidTypeError, match=r"do not fit together: .*\ba\b.*int64 vs string"):
        raydp_ml.to_spark(blocks(a, pa.table({"a": ["word"]})))
    with pytest.raises(Exception, match="column 'a' of type int64 cannot become double"):
        raydp_ml.to_spark(blocks(pa.table({"a": [BIG]}), pa.table({"a": [1.5]}))).collect()


def test_only_the_rows_of_the_dataset_come(spark: SparkSession) -> None:
    """Ray Data may refer to a part of a block."""
    numbers = ray.data.range(100, override_num_blocks=3)
    assert through_spark(spark, numbers.limit(40))[1] == sorted([(i,) for i in range(40)], key=str)
    first, second = numbers.split_at_indices([35])
    assert [through_spark(spark, part)[1] for part in (first, second)] == [
        sorted([(i,) for i in range(*ends)], key=str) for ends in ((0, 35), (35, 100))
    ]
    cut = numbers.repartition(target_num_rows_per_block=7)
    assert through_spark(spark, cut)[1] == sorted([(i,) for i in range(100)], key=str)


def test_derived_frames_keep_the_blocks_and_the_last_one_frees_them(spark: SparkSession) -> None:
    import gc

    from raydp_ml.exchange import context as contexts

    owner = contexts.of_session(spark).owner
    gc.collect()
    before = set(ray.get(owner.leases.remote()))
    dataset = ray.data.from_arrow(pa.table({"a": np.arange(200_000)}))
    derived = raydp_ml.to_spark(dataset).selectExpr("a * 2 as b")
    del dataset
    gc.collect()
    spark._jvm.System.gc()
    assert derived.selectExpr("sum(b)").first()[0] == 199_999 * 200_000
    assert len(set(ray.get(owner.leases.remote())) - before) == 1
    del derived
    for _ in range(100):
        gc.collect()
        spark._jvm.System.gc()
        if set(ray.get(owner.leases.remote())) <= before:
            break
        spark.range(1).count()  # a job: Spark drops references of the last query
    assert set(ray.get(owner.leases.remote())) <= before


def test_no_cpu_slot_is_needed(spark: SparkSession) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    until_free(4)
    group = placement_group([{"CPU": 1}] * 4)
    try:
        ray.get(group.ready(), timeout=60)
        until_free(0)
        frame = spark.range(0, 400_000, 1, 4).selectExpr("id", "id * 0.5D as x", "string(id) s")
        dataset = raydp_ml.from_spark(frame)
        assert dataset.count() == 400_000
        assert raydp_ml.to_spark(dataset).selectExpr("sum(x)").first()[0] == 0.5 * 400_000 * 399_999 / 2
    finally:
        remove_placement_group(group)


def test_recoverable_reads_the_cache(spark: SparkSession) -> None:
    frame = spark.range(0, 1000, 1, 2).selectExpr("id", "rand() as r")
    dataset = raydp_ml.from_spark_recoverable(frame)
    assert frame.storageLevel.useMemory
    assert sum(r["r"] for r in dataset.take_all()) == pytest.approx(frame.selectExpr("sum(r)").first()[0])
    raydp_ml.release_spark_recoverable(dataset)
    assert not frame.storageLevel.useMemory
    with pytest.raises(raydp_ml.InvalidValueError, match="released before"):
        raydp_ml.release_spark_recoverable(dataset)


def test_the_staging_folder_is_empty_afterwards(spark: SparkSession) -> None:
    from pathlib import Path

    raydp_ml.from_spark(spark.range(0, 100_000, 1, 4))
    with pytest.raises(raydp_ml.RaydpMLError, match="half way"):
        raydp_ml.from_spark(spark.range(0, 8, 1, 8).selectExpr("if(id = 7, raise_error('half way'), id) as x"))
    folder = Path("/dev/shm", raydp_ml.spark_info()["app_id"])
    until(lambda: not list(folder.rglob("*.arrow")), 10, lambda: list(folder.rglob("*.arrow")))
    assert folder.is_dir()


def test_bad_input(spark: SparkSession) -> None:
    with pytest.raises(raydp_ml.InvalidTypeError, match=r"pandas.*DataFrame, but a pyspark.sql.DataFrame is needed"):
        raydp_ml.from_spark(pd.DataFrame({"a": [1]}))
    with pytest.raises(raydp_ml.InvalidValueError, match="no columns"):
        raydp_ml.from_spark(spark.range(3).select())
    with pytest.raises(raydp_ml.InvalidValueError, match=r"several columns named \['id'\]"):
        raydp_ml.from_spark(spark.range(3).selectExpr("id", "id"))
    with pytest.raises(raydp_ml.InvalidValueError, match="parallelism=0"):
        raydp_ml.from_spark(spark.range(3), parallelism=0)
    with pytest.raises(raydp_ml.InvalidTypeError, match=r"takes a ray\.data\.Dataset"):
        raydp_ml.to_spark(pd.DataFrame({"a": [1]}))
    with pytest.raises(raydp_ml.InvalidTypeError, match=r"column 't' has the type decimal256\(50, 2\)"):
        raydp_ml.to_spark(ray.data.from_arrow(pa.table({"t": pa.array([1], pa.decimal256(50, 2))})))
    with pytest.raises(raydp_ml.RaydpMLError, match="wrong row 1"):
        raydp_ml.from_spark(spark.range(3).selectExpr("if(id = 1, raise_error('wrong row 1'), id) as x"))
    assert raydp_ml.from_spark(spark.range(3)).count() == 3
