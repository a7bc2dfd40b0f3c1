"""read_spark: a lazy Ray Dataset whose consumer has Spark compute one partition after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import ray
import ray.data
from ray.actor import ActorHandle
from ray.data.block import BlockMetadata

from raydp_ml.errors import BlockLostError, InvalidValueError, SessionStoppedError
from raydp_ml.exchange.blocks import Piece, StagedPartition, all_as_tensors, fetch, with_vectors
from raydp_ml.exchange.context import forget_unused
from raydp_ml.exchange.exportable import ExportableFrame, VectorForm
from raydp_ml.exchange.ray_client import require_cluster_driver
from raydp_ml.exchange.ray_seam import read_without_cpu
from raydp_ml.exchange.recompute import AT_ONCE

if TYPE_CHECKING:
    import pyspark.sql


def read_spark(
    df: pyspark.sql.DataFrame, *, vectors: VectorForm = "tensor", vector_sizes: dict[str, int] | None = None
) -> ray.data.Dataset:
    """Read a Spark DataFrame as a lazy Ray Dataset: Spark computes a partition when the consumer comes to it.

    Rows that have been consumed are let go, so data larger than the object store can be trained on: no more than a few partitions
    are in memory at the same time. Every epoch reads the partitions again; persist the frame to have Spark keep what is expensive.
    (:func:`from_spark` converts everything at once, and reads after that cost nothing.)

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of :func:`raydp_ml.init_spark`. Shuffles that it needs are done when this function is called.
    vectors : "tensor", "list" or "sparse", default "tensor"
        How ML vectors arrive, as in :func:`from_spark`; with "tensor" none may be null.
    vector_sizes : dict, optional
        Array columns whose rows all have the given length, which then arrive as fixed-size lists. The lengths of ML vector
        columns are found out from the frame's metadata, else from its first row.

    Returns
    -------
    ray.data.Dataset
        One read task per partition. It can be read until ``stop_spark()``.

    Raises
    ------
    InvalidTypeError
        When ``df`` is no Spark DataFrame, or a column has a type that Arrow has no counterpart for.
    InvalidValueError
        When the frame's session was not started by ``init_spark``.
    SessionStoppedError
        When the frame's session is stopped.

    Examples
    --------
    >>> import raydp_ml
    >>> spark = raydp_ml.init_spark("doc", 1, 1, "512m")  # doctest: +SKIP
    >>> raydp_ml.read_spark(spark.range(3)).take_all()  # doctest: +SKIP
    [{'id': 0}, {'id': 1}, {'id': 2}]
    """
    require_cluster_driver("read_spark")
    frame = ExportableFrame.of(df, vector_sizes, vectors)
    context = frame.context
    if context is None:
        raise InvalidValueError(
            "read_spark needs a frame of a session of init_spark; from_spark takes frames of others"
        )
    forget_unused(context)
    export_id = context.new_id("export")
    exporter = frame.exporter(export_id)
    partitions = exporter.partitions()
    sizes = frame.sizes | {name: size for name in frame.vectors if (size := _vector_size(frame.df, name)) is not None}
    tensors = tuple(name for name in frame.tensors if name in sizes)
    empty = with_vectors(pa.ipc.open_stream(bytes(exporter.arrowSchema())).schema.empty_table(), sizes)
    schema = all_as_tensors(empty, tensors).schema
    # Held before it is known, so that a conversion in another thread does not find it unused.
    (hold,) = ray.get(context.owner.hold.remote(export_id))
    context.streamed.add(export_id)
    context.exports[export_id] = exporter
    source = _SparkSource(_Reader(export_id, context.owner, hold, sizes, tensors), partitions, schema)
    # Each read that runs has one partition computed; more would wait for Spark with their partitions staged.
    at_once = min(AT_ONCE, context.spark.sparkContext.defaultParallelism + 1, max(1, partitions))
    return read_without_cpu(source, blocks=max(1, partitions), concurrency=at_once)


def _vector_size(df: pyspark.sql.DataFrame, name: str) -> int | None:
    """Length of the vectors in a column, None when it has none."""
    from pyspark.sql import functions as F

    told = df.schema[name].metadata.get("ml_attr", {}).get("num_attrs")
    if told is not None:
        return int(told)
    first = df.select(F.col(f"`{name.replace('`', '``')}`").alias("v")).where("v IS NOT NULL").head()
    return None if first is None else len(first.v)


@dataclass(frozen=True)
class _Reader:
    """Travels to the tasks that read: whom to ask, and for what.

    ``hold`` is an object of the owner. While anybody refers to it, here or in a copy of the Dataset, the export is in use.
    """

    export_id: str
    owner: ActorHandle
    hold: ray.ObjectRef
    sizes: dict[str, int]
    tensors: tuple[str, ...]

    def read(self, partition: int, schema: pa.Schema) -> Iterator[pa.Table]:
        """Have Spark compute a partition, and take its rows."""
        node_id = ray.get_runtime_context().get_node_id()
        try:
            staged: StagedPartition = ray.get(self.owner.recompute.remote(self.export_id, partition, None))
        except (BlockLostError, ray.exceptions.RayActorError) as error:
            raise SessionStoppedError(f"the frame behind read_spark can no longer be read: {error}") from error
        for index in range(len(staged.files)):
            table = fetch(Piece(staged, index), self.sizes, node_id)
            if table is None:
                raise BlockLostError(f"partition {partition} was lost with its executor before it was read")
            yield all_as_tensors(table, self.tensors)
        if not staged.files:
            yield schema.empty_table()


class _SparkSource(ray.data.Datasource):
    """One read task per partition of an executed frame."""

    def __init__(self, reader: _Reader, partitions: int, schema: pa.Schema) -> None:
        super().__init__()
        self._reader = reader
        self._partitions = partitions
        self._schema = schema

    def get_name(self) -> str:
        """Name in Ray Data's progress and plans."""
        return "Spark"

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before Spark has computed the rows."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ray.data.ReadTask]:
        """One task per partition, whatever parallelism is asked for."""
        return [self._task(partition, per_task_row_limit) for partition in range(self._partitions)]

    def _task(self, partition: int, limit: int | None) -> ray.data.ReadTask:
        reader, schema = self._reader, self._schema

        def read() -> Iterable[pa.Table]:
            return reader.read(partition, schema)

        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
        return ray.data.ReadTask(read, metadata, schema=schema, per_task_row_limit=limit)
