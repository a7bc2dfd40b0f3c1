"""ML vectors, dense and sparse: what they are in Ray, in numpy and in scipy, and that they come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from scipy.sparse import csr_matrix

import raydp_ml
from raydp_ml.exchange import sparse

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark35


def table_of(dataset: ray.data.Dataset) -> pa.Table:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


def numbered(spark: SparkSession, vectors: list, partitions: int = 2) -> DataFrame:
    """The vectors beside their places, in this order."""
    frame = spark.createDataFrame(list(enumerate(vectors)), ["id", "v"])
    return frame.coalesce(partitions)


def random_vectors(rows: int, size: int) -> tuple[list, np.ndarray]:
    """Dense and sparse ones in turns, and the same as a matrix; some are empty."""
    from pyspark.ml.linalg import Vectors

    random = np.random.default_rng(7)
    matrix = random.random((rows, size)) * (random.random((rows, size)) < 0.2)
    made = []
    for place, row in enumerate(matrix):
        held = np.flatnonzero(row)
        made.append(Vectors.dense(row) if place % 3 == 0 else Vectors.sparse(size, held, row[held]))
    return made, matrix


def test_dense_vectors_are_matrices_in_numpy_batches(spark: SparkSession) -> None:
    vectors, matrix = random_vectors(2500, 5)
    dataset = raydp_ml.from_spark(numbered(spark, vectors))
    assert dataset.schema().base_schema.field("v").type == pa.fixed_shape_tensor(pa.float64(), [5])
    batches = [batch["v"] for batch in dataset.iter_batches(batch_size=1000, batch_format="numpy")]
    assert [batch.shape for batch in batches] == [(1000, 5), (1000, 5), (500, 5)]
    assert np.array_equal(np.concatenate(batches), matrix)
    assert np.array_equal(dataset.take(1)[0]["v"], matrix[0])
    shuffled = dataset.random_shuffle(seed=1).take_batch(2500)
    assert np.array_equal(shuffled["v"], matrix[shuffled["id"]])
    assert [list(row["v"]) for row in raydp_ml.to_spark(dataset).orderBy("id").collect()] == matrix.tolist()
    # Lazily read ones, too.
    read = raydp_ml.read_spark(numbered(spark, vectors)).take_batch(2500)
    assert np.array_equal(read["v"], matrix[read["id"]])


def test_a_null_among_vectors_makes_lists_of_all_blocks(spark: SparkSession) -> None:
    from pyspark.ml.linalg import Vectors

    frame = (
        spark.range(0, 8, 1, 4)
        .selectExpr("id")
        .rdd.map(lambda row: (row.id, None if row.id == 7 else Vectors.dense([float(row.id), 1.0])))
    )
    frame = spark.createDataFrame(frame, numbered(spark, [Vectors.dense([0.0])]).schema)
    dataset = raydp_ml.from_spark(frame, parallelism=4)
    assert dataset.num_blocks() == 4
    assert {str(ray.get(ref).schema.field("v").type) for ref in dataset.to_arrow_refs()} == {
        "fixed_size_list<item: double>[2]"
    }
    rows = [[float(i), 1.0] for i in range(7)] + [None]
    assert [row["v"] for row in dataset.take_all()] == rows
    assert [row["v"] for row in raydp_ml.to_spark(dataset).orderBy("id").collect()] == rows
    with pytest.raises(Exception, match=r"columns \['v'\] have vectors that are null.*vectors='list'"):
        raydp_ml.read_spark(frame).take_all()
    assert [row["v"] for row in raydp_ml.read_spark(frame, vectors="list").sort("id").take_all()] == rows


def test_mixed_vectors_cross_as_what_they_hold(spark: SparkSession) -> None:
    from pyspark.ml.linalg import SparseVector

    vectors, matrix = random_vectors(2500, 40)
    frame = numbered(spark, [*vectors, None])
    dataset = raydp_ml.from_spark(frame, vectors="sparse")
    field = dataset.schema().base_schema.field("v")
    assert field.equals(sparse.sparse_field("v"), check_metadata=True)
    table = table_of(dataset)
    assert table.schema.field("v").equals(field, check_metadata=True)
    assert table["v"].null_count == 1
    assert table["v"][1].as_py() == {
        "size": 40,
        "indices": np.flatnonzero(matrix[1]).tolist(),
        "values": matrix[1][matrix[1] != 0].tolist(),
    }
    assert table["v"][0].as_py()["indices"] == list(range(40))
    found = sparse.to_csr(table["v"].slice(0, 2500))
    assert isinstance(found, csr_matrix)
    assert found.nnz == sum(40 if place % 3 == 0 else np.count_nonzero(row) for place, row in enumerate(matrix))
    assert np.array_equal(found.toarray(), matrix)
    back = raydp_ml.to_spark(dataset)
    assert back.schema["v"].dataType == frame.schema["v"].dataType
    rows = [row["v"] for row in back.orderBy("id").collect()]
    assert rows == [*vectors, None]
    assert all(isinstance(row, SparseVector) for row in rows[:-1])
    # And once more, as columns that come from Ray.
    again = table_of(raydp_ml.from_spark(back, vectors="sparse"))
    assert again.sort_by("id")["v"].combine_chunks().equals(table["v"].combine_chunks())
    read = table_of(raydp_ml.read_spark(frame, vectors="sparse").sort("id"))
    assert read["v"].combine_chunks().equals(table["v"].combine_chunks())


def test_sparse_vectors_are_features_of_spark_ml(spark: SparkSession) -> None:
    from pyspark.ml.feature import HashingTF

    words = spark.range(0, 60, 1, 3).selectExpr("id", "array('w' || id, 'w' || (id % 7), 'same') as words")
    hashed = HashingTF(inputCol="words", outputCol="v").transform(words).select("id", "v")
    dataset = raydp_ml.from_spark(hashed, vectors="sparse")
    table = table_of(dataset)
    assert table.nbytes < 60 * 100
    assert sparse.to_csr(table["v"]).shape == (60, 2**18)
    pairs = raydp_ml.to_spark(dataset).join(hashed.withColumnRenamed("v", "before"), "id").collect()
    assert len(pairs) == 60 and all(row["v"] == row["before"] for row in pairs)


def test_csr_of_chunks_slices_and_none() -> None:
    matrix = csr_matrix(np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3], [0, 0, 4]]))
    column = sparse.from_csr(matrix)
    for cut in (slice(0, 4), slice(1, 4), slice(2, 3), slice(0, 0)):
        taken = column[cut]
        assert np.array_equal(sparse.to_csr(taken, 3).toarray(), matrix[cut].toarray())
        chunked = pa.chunked_array([taken, column], column.type)
        assert np.array_equal(sparse.to_csr(chunked).toarray(), np.vstack([matrix[cut].toarray(), matrix.toarray()]))
    shared = sparse.to_csr(column)
    assert shared.data.ctypes.data == column.field("values").values.buffers()[1].address
    assert sparse.to_csr(pa.chunked_array([], column.type), 5).shape == (0, 5)
    unsorted = csr_matrix((np.array([1.0, 2.0, 3.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    assert sparse.from_csr(unsorted).to_pylist() == [{"size": 3, "indices": [0, 2], "values": [2.0, 4.0]}]
    assert unsorted.indices.tolist() == [2, 0, 2]


def test_what_is_no_matrix_is_refused() -> None:
    column = sparse.from_csr(csr_matrix(np.eye(2)))
    with pytest.raises(raydp_ml.InvalidTypeError, match="type list<item: double> is none of sparse vectors"):
        sparse.to_csr(pa.array([[1.0]]))
    with pytest.raises(raydp_ml.InvalidValueError, match="1 of 3 sparse vectors are null"):
        sparse.to_csr(pa.chunked_array([column, pa.nulls(1, column.type)]))
    with pytest.raises(raydp_ml.InvalidValueError, match="lengths from 2 to 7, and the length 7 is needed"):
        sparse.to_csr(column, 7)
    wider = sparse.from_csr(csr_matrix(np.eye(3)))
    with pytest.raises(raydp_ml.InvalidValueError, match="lengths from 2 to 3, and one length is needed"):
        sparse.to_csr(pa.chunked_array([column, wider]))


def test_bad_forms_are_refused(spark: SparkSession) -> None:
    vectors, _ = random_vectors(2, 3)
    with pytest.raises(raydp_ml.InvalidValueError, match="vectors='csr' must be 'tensor', 'list' or 'sparse'"):
        raydp_ml.from_spark(numbered(spark, vectors), vectors="csr")
    with pytest.raises(
        raydp_ml.InvalidValueError, match=r"vector_sizes names \['v'\], but sparse vectors need no size"
    ):
        raydp_ml.from_spark(numbered(spark, vectors), vectors="sparse", vector_sizes={"v": 3})
