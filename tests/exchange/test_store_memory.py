"""Spark reads the columns of a block where they lie in Ray's object store."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
import ray.data
from ray.data.extensions import ArrowTensorArray

import raydp_ml
from raydp_ml import session
from raydp_ml.exchange import store_memory
from raydp_ml.exchange.store_memory import places_of
from tests.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark35

ROWS = 20_000
TYPES = {
    "flag": pa.bool_(), "tiny": pa.int8(), "num": pa.int32(), "big": pa.int64(), "dbl": pa.float64(), "word": pa.string(),
    "raw": pa.binary(), "day": pa.date32(), "at": pa.timestamp("us", tz="UTC"), "price": pa.decimal128(20, 4),
    "many": pa.list_(pa.int64()), "rec": pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]),
    "table": pa.map_(pa.string(), pa.float64()),
}  # fmt: skip


def row_of(i: int) -> dict[str, Any]:
    return {
        "flag": i % 3 == 0, "tiny": i % 100, "num": -i, "big": 2**62 + i, "dbl": i / 7, "word": "ä" * (i % 9),
        "raw": bytes([i % 256]), "day": dt.date(2000, 1, 1) + dt.timedelta(i % 5000),
        "at": dt.datetime(2013, 7, 4, tzinfo=dt.UTC) + dt.timedelta(microseconds=i), "price": decimal.Decimal(i).scaleb(-4),
        "many": [i, None, 7][: i % 4], "rec": {"a": i, "b": [str(i)] * (i % 3)}, "table": [(f"k{k}", 1.5) for k in range(i % 3)],
    }  # fmt: skip


def table_of(first: int) -> pa.Table:
    """All types, a null in every seventh row of each column."""
    rows = [row_of(first + i) for i in range(ROWS)]
    columns = [
        pa.array([None if (i + shift) % 7 == 0 else row[name] for i, row in enumerate(rows)], kind)
        for shift, (name, kind) in enumerate(TYPES.items())
    ]
    return pa.table(columns, names=list(TYPES))


@pytest.fixture(scope="module")
def tables() -> list[pa.Table]:
    return [table_of(0), table_of(ROWS)]


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, tables: list[pa.Table]) -> ray.data.Dataset:
    return ray.data.from_arrow(tables)


def told_and_found(table: pa.Table, target: pa.Schema | None = None) -> tuple[dict | None, list[bytes], list[bytes]]:
    """In a worker: what places_of tells, the bytes of the buffers, and those at the places that were told."""
    told = places_of(table, target or table.schema)
    if told is None:
        return None, [], []
    file = os.open(told["file"], os.O_RDONLY)
    found = [
        os.pread(file, length, batch["start"] + start)
        for batch in told["batches"]
        for start, length in batch["buffers"]
    ]
    os.close(file)
    batches = table.to_batches()
    buffers = [buffer for batch in batches for column in batch.columns for buffer in column.buffers()]
    return told, [buffer.to_pybytes() if buffer else b"" for buffer in buffers], found


def in_worker(change: Callable[[pa.Table], Any], table: pa.Table) -> Any:
    return ray.get(ray.remote(num_cpus=0)(change).remote(ray.put(table)))


def test_the_buffers_lie_where_it_is_told(ray_cluster: None, tables: list[pa.Table]) -> None:
    told, buffers, found = in_worker(told_and_found, pa.concat_tables(tables))
    assert told is not None, "Ray keeps its objects in another way than store_memory.py knows"
    assert [batch["rows"] for batch in told["batches"]] == [ROWS, ROWS]
    assert found == buffers
    nulls = [table[name].null_count for table in tables for name in ("flag", "tiny", "num")]
    assert [rows_and_nulls for batch in told["batches"] for rows_and_nulls in batch["nodes"][:3]] == [
        [ROWS, count] for count in nulls
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(8),
        lambda table: table.append_column("none", pa.nulls(ROWS)),
        lambda table: table.set_column(2, "num", pa.chunked_array([pa.array(range(ROWS), pa.int32())])),
        lambda table: table.slice(0, 0),
    ],
    ids=["a slice", "a column without a type", "memory of the process", "no rows"],
)
def test_what_lies_elsewhere_has_no_place(
    ray_cluster: None, tables: list[pa.Table], change: Callable[[pa.Table], pa.Table]
) -> None:
    assert in_worker(lambda table: places_of(change(table), change(table).schema), tables[0]) is None


def test_columns_of_other_types_have_no_place(ray_cluster: None, tables: list[pa.Table]) -> None:
    target = tables[0].schema.set(2, pa.field("num", pa.int64()))
    assert in_worker(lambda table: places_of(table, target), tables[0]) is None


def test_memory_that_another_file_has_taken_is_not_mistaken(tmp_path: Path) -> None:
    """Unmapped memory is mostly the first that is mapped again."""
    for name in ("first", "second"):
        path = tmp_path / name
        path.write_bytes(bytes(1 << 20))
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        start = np.frombuffer(mapped, np.uint8).ctypes.data
        for _ in range(2):
            mapping = store_memory._mapping_of(start, start + (1 << 20))
            assert mapping is not None and mapping.inode == path.stat().st_ino
        mapped.close()
        assert store_memory._mapping_of(start, start + (1 << 20)) is None


@contextmanager
def patched_hosts(name: str, value: object) -> Iterator[None]:
    """Give an attribute of block_server, or of its class, another value in every host."""

    def patch(_: object, undo: bool) -> None:
        from raydp_ml.exchange import block_server

        *inside, attribute = name.split(".")
        place = getattr(block_server, inside[0]) if inside else block_server
        if undo:
            setattr(place, attribute, block_server.__dict__.pop("before_patch"))
        else:
            block_server.before_patch = getattr(place, attribute)
            setattr(place, attribute, value)

    hosts = session._session.master.host_actors()
    ray.get([host.__ray_call__.remote(patch, False) for host in hosts])
    try:
        yield
    finally:
        ray.get([host.__ray_call__.remote(patch, True) for host in hosts])


@pytest.fixture
def no_copies(spark: SparkSession) -> Iterator[None]:
    def refuse(*_: object) -> Path:
        raise RuntimeError("the block was copied")

    with patched_hosts("BlockServer._write", refuse):
        yield


def rows_of(table: pa.Table) -> list[dict]:
    return sorted(table.to_pylist(), key=lambda row: (row["big"] is None, row["big"], row["num"]))


def test_all_types_are_read_without_a_copy(
    spark: SparkSession, dataset: ray.data.Dataset, tables: list[pa.Table], no_copies: None
) -> None:
    read = pa.Table.from_pylist([row.asDict(True) for row in raydp_ml.to_spark(dataset).collect()])
    wanted = pa.concat_tables(tables)
    assert rows_of(read.select(["num", "big"])) == rows_of(wanted.select(["num", "big"]))
    back = pa.concat_tables(ray.get(raydp_ml.from_spark(raydp_ml.to_spark(dataset)).to_arrow_refs()))
    assert rows_of(back) == rows_of(wanted)


def other_types(rows: int) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Types that Spark does not have but reads where they lie, nulls in most of them; and the rows that it reads."""
    words = [None if i % 5 == 3 else f"w{i % 40}" for i in range(rows)]
    lists = [None if i % 4 == 1 else [i / 2, None, 1.0] for i in range(rows)]
    tables = [None if i % 6 == 5 else [str(i), "ä"][: i % 3] for i in range(rows)]
    moments = [None if i % 3 == 2 else dt.datetime(2020, 1, 1) + dt.timedelta(seconds=i) for i in range(rows)]
    numbers = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
    berlin = pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Europe/Berlin"))
    shape = pa.fixed_shape_tensor(pa.float64(), [4])
    vectors = np.arange(rows * 4, dtype=np.float64).reshape(rows, 4)
    table = pa.table(
        {
            "fixed": pa.array(lists, pa.list_(pa.float64(), 3)),
            "large": pa.array(words, pa.large_string()),
            "raw": pa.array([None if word is None else word.encode() for word in words], pa.large_binary()),
            "word": pa.DictionaryArray.from_arrays(
                pa.array([None if i % 7 == 0 else i % 3 for i in range(rows)], pa.int8()), ["a", None, "c"]
            ),
            "many": pa.array(range(rows), pa.int64()).dictionary_encode(),
            "lists": pa.array(tables, pa.large_list(pa.large_string())),
            "at": berlin,
            "rec": pa.StructArray.from_arrays([pa.array(words, pa.large_string()), berlin], names=["w", "t"]),
            "tensor": ArrowTensorArray.from_numpy(numbers),
            "vector": pa.ExtensionArray.from_storage(
                shape, pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
            ),
        }
    )
    rows_read = [
        {
            "fixed": lists[i], "large": words[i], "raw": None if words[i] is None else words[i].encode(),
            "word": None if i % 7 == 0 else ["a", None, "c"][i % 3], "many": i, "lists": tables[i], "at": moments[i],
            "rec": {"w": words[i], "t": moments[i]}, "tensor": numbers[i].tolist(), "vector": vectors[i].tolist(),
        }
        for i in range(rows)
    ]  # fmt: skip
    return table, rows_read


def test_other_types_are_read_without_a_copy(spark: SparkSession, no_copies: None) -> None:
    table, wanted = other_types(ROWS)
    frame = raydp_ml.to_spark(ray.data.from_arrow([table, table]))
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    back = pa.concat_tables(ray.get(raydp_ml.from_spark(frame).to_arrow_refs()))
    read = back.set_column(back.schema.get_field_index("at"), "at", back["at"].cast(pa.timestamp("us"))).to_pylist()
    for row in read:
        row["rec"]["t"] = row["rec"]["t"] and row["rec"]["t"].replace(tzinfo=None)
    assert read == wanted * 2
    # As its queries read them, which look at values one by one.
    sums = frame.selectExpr(
        "sum(tensor[1][2])", "sum(vector[3])", "sum(fixed[0])", "count(fixed[1])", "count(word)", "max(word)", "sum(many)",
        "max(large)", "sum(if(lists is null, null, size(lists)))", "max(rec.w)",
    ).first()  # fmt: skip
    assert list(sums) == [
        2 * sum(row["tensor"][1][2] for row in wanted),
        2 * sum(row["vector"][3] for row in wanted),
        2 * sum(row["fixed"][0] for row in wanted if row["fixed"] is not None),
        0,
        2 * sum(row["word"] is not None for row in wanted),
        "c",
        ROWS * (ROWS - 1),
        "w9",
        2 * sum(len(row["lists"]) for row in wanted if row["lists"] is not None),
        "w9",
    ]


def test_some_columns_of_some_rows_are_read_without_a_copy(
    spark: SparkSession, dataset: ray.data.Dataset, tables: list[pa.Table], no_copies: None
) -> None:
    frame = raydp_ml.to_spark(dataset).select("word", "num").limit(ROWS + 3)
    wanted = [(row["word"], row["num"]) for row in pa.concat_tables(tables).slice(0, ROWS + 3).to_pylist()]
    assert [tuple(row) for row in frame.collect()] == wanted


def test_a_task_fails_whose_block_was_not_held_until_its_end(
    spark: SparkSession, dataset: ray.data.Dataset, tables: list[pa.Table]
) -> None:
    def end(stream: Any, answer: dict) -> None:
        if "held" in answer:
            raise ConnectionError("this host has ended")
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()

    frame = raydp_ml.to_spark(dataset).selectExpr("count(num)")
    with patched_hosts("_say", end), pytest.raises(Exception, match="host closed the connection"):
        frame.collect()
    assert frame.first()[0] == sum(ROWS - table["num"].null_count for table in tables)


def handed_over(host: Any) -> list[str]:
    return [path.name for path in host._staging.glob("in-*")]


def test_copies_go_when_their_reader_ends(spark: SparkSession) -> None:
    """Small and pandas blocks are copied; a task that stops at its first row has asked for the block after that one too."""
    numbers = pd.DataFrame({"a": np.arange(50_000)})
    dataset = ray.data.from_pandas([numbers] * 6)
    frame = raydp_ml.to_spark(dataset)
    assert frame.rdd.getNumPartitions() < 6
    assert frame.selectExpr("sum(a)").first()[0] == 6 * 49_999 * 25_000
    assert frame.where("a >= 20000").first()[0] == 20_000

    def fail(rows: Iterator[Any]) -> Iterator[Any]:
        raise ValueError(f"seen {next(rows)[0]}")

    with pytest.raises(Exception, match="seen 0"):
        frame.rdd.mapPartitions(fail).count()
    hosts = session._session.master.host_actors()
    left = lambda: [name for host in hosts for name in ray.get(host.__ray_call__.remote(handed_over))]  # noqa: E731
    until(lambda: not left(), 10, left)
